import dask
import numpy as np
import pytest
import xarray as xr

from benchmarks.five_phases import five_phases
from ndtomo_dask import save
from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.compress import compress_channels, expand_channels, find_spectral_basis
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.io import open_scan
from ndtomo_dask.kernels.filters import filter_sinogram
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.solvers import sirt
from ndtomo_dask.mixing import check_linear, reconstruct_compressed
from tests.laws import assert_keeps, assert_lazy, relative_error
from tests.tolerances import ROUNDING

F64 = ROUNDING[np.dtype("float64")]
KEPT = 0.95
"""Share of a minority phase that must be recovered; LOST is what is left without the search."""
LOST = 0.3
LAYOUTS = [{"channel": 17}, {"angle": 13}, {"channel": 60, "angle": 25}]
GEOMETRY = ParallelGeometry.centered(np.pi * np.arange(150) / 150, 96)


def fbp_block(block, *, geometry):
    A = load_projector("cpu", geometry)
    return A.T(filter_sinogram(np.ascontiguousarray(block), weights=geometry.weights))


def fbp(array):
    """Filtered back-projection of any lazy sinogram, by its number of angles and translations."""
    angles, size = array.sizes["angle"], array.sizes["translation"]
    geometry = ParallelGeometry.centered(np.pi * np.arange(angles) / angles, size)
    return apply_kernel(
        fbp_block, array, core=["angle", "translation"], out={"y": size, "x": size},
        geometry=geometry,
    )  # fmt: skip


def volume_of(scan, basis):
    return reconstruct_compressed(scan.sinogram, basis, fbp)[0]


@pytest.fixture(scope="module", params=[0.0, 0.005], ids=["still", "shifting peaks"])
def scene(request):
    return five_phases(strain=request.param, seed=1)


@pytest.fixture
def small():
    """A scan of 32 x 32 pixels and 100 channels with two phases' worth of structure, float64."""
    made = five_phases(32, 48, 100, width=5, seed=3).scan
    return made.assign(sinogram=made.sinogram.astype("float64").assign_attrs(made.sinogram.attrs))


def test_a_phase_in_twelve_pixels_is_kept_and_would_be_lost(scene):
    full = fbp_block(scene.scan.sinogram.values, geometry=GEOMETRY)
    common = fbp_block(scene.common, geometry=GEOMETRY)
    basis = find_spectral_basis(scene.scan)
    assert basis.attrs["suggested_rank"] >= 5
    assert basis.sizes["component"] < 40
    amount = scene.amount(full, common)
    assert scene.amount(volume_of(scene.scan, basis), common) >= KEPT * amount
    blind = find_spectral_basis(scene.scan, threshold=np.inf)
    assert not blind.kept_channel.any()
    assert abs(scene.amount(volume_of(scene.scan, blind), common)) <= LOST * amount


def test_compression_lowers_the_noise(scene):
    truth = fbp_block(scene.clean, geometry=GEOMETRY)
    full = fbp_block(scene.scan.sinogram.values, geometry=GEOMETRY)
    made = volume_of(scene.scan, find_spectral_basis(scene.scan))
    assert relative_error(made, truth) < 0.5 * relative_error(full, truth)


def test_kept_channels_are_reconstructed_in_full(scene):
    basis = find_spectral_basis(scene.scan)
    kept = basis.kept_channel.values
    assert kept[scene.peak].all()
    assert kept.sum() < 40
    full = fbp_block(scene.scan.sinogram.values[..., kept], geometry=GEOMETRY)
    made = volume_of(scene.scan, basis).values[..., kept]
    assert relative_error(made, full) < ROUNDING[np.dtype("float32")]


def test_all_components_give_back_the_full_reconstruction(small):
    basis = find_spectral_basis(small, rank=100)
    full = fbp(small.sinogram)
    assert relative_error(volume_of(small, basis), full) < 1e-10
    assert basis.sizes["component"] == 100 + int(basis.kept_channel.sum())


def sirt_block(block, *, geometry):
    return sirt(load_projector("cpu", geometry), block, iterations=10)


def test_sirt_commutes_with_mixing_and_a_bound_does_not(small):
    geometry = ParallelGeometry.centered(np.pi * np.arange(48) / 48, 32)
    basis = find_spectral_basis(small, rank=100, threshold=np.inf)

    def images(array):
        return apply_kernel(
            sirt_block, array, core=["angle", "translation"], out={"y": 32, "x": 32},
            geometry=geometry,
        )  # fmt: skip

    made = reconstruct_compressed(small.chunk(channel=30).sinogram, basis, images)[0]
    full = images(small.sinogram)
    assert relative_error(made.compute(), full) < 1e-10
    bounded = reconstruct_compressed(small.sinogram, basis, lambda a: images(a).clip(min=0))[0]
    assert relative_error(bounded, full.clip(min=0)) > 0.01


def test_a_given_rank_is_taken(small):
    basis = find_spectral_basis(small, rank=3, threshold=np.inf)
    assert basis.sizes["component"] == 3
    assert basis.attrs["rank"] == 3
    assert basis.spectral_basis.attrs["units"] == "1"
    assert len(basis.attrs["history"].splitlines()) == 1


@pytest.mark.parametrize("chunks", LAYOUTS, ids=str)
def test_a_basis_does_not_depend_on_the_chunks(small, chunks):
    expected = find_spectral_basis(small)
    found = find_spectral_basis(small.chunk(chunks))
    for name in ("spectral_basis", "spectral_weight", "singular_value"):
        scale = float(np.abs(expected[name]).max())
        np.testing.assert_allclose(found[name], expected[name], atol=1e-9 * scale)
    np.testing.assert_array_equal(found.kept_channel, expected.kept_channel)
    np.testing.assert_allclose(found.residual_score, expected.residual_score, rtol=1e-8)


@pytest.mark.parametrize("chunks", LAYOUTS, ids=str)
def test_a_volume_does_not_depend_on_the_chunks(small, chunks):
    small.sinogram[3, 5, 30] = np.nan
    basis = find_spectral_basis(small)
    expected, maps = reconstruct_compressed(small.sinogram, basis, fbp)
    lazy, lazy_maps = reconstruct_compressed(small.chunk(chunks).sinogram, basis, fbp)
    assert lazy.chunks[2] == small.chunk(chunks).sinogram.chunks[2]
    assert relative_error(lazy.compute(), expected) < 100 * F64
    assert relative_error(lazy_maps.compute(), maps) < 100 * F64


def test_slices_are_searched_together_and_reconstructed_alone(small):
    other = small.assign(sinogram=small.sinogram * 0.5)
    stack = xr.concat([small, other], "z", data_vars="all").transpose("z", ...)
    basis = find_spectral_basis(stack.chunk(z=1, channel=25))
    volume = volume_of(stack.chunk(z=1, channel=25), basis).compute()
    assert volume.dims == ("z", "y", "x", "channel")
    for z in range(2):
        alone = volume_of(stack.isel(z=z), basis)
        assert relative_error(volume[z], alone) < 100 * F64


def test_a_channel_with_nan_is_kept_and_spoils_no_other(small):
    expected = find_spectral_basis(small.drop_isel(channel=[30, 50]))
    small.sinogram[3, 5, 30] = np.nan
    small.sinogram[:, :, 50] = np.nan
    basis = find_spectral_basis(small)
    infinite = find_spectral_basis(small.fillna(np.inf))
    np.testing.assert_array_equal(infinite.spectral_basis, basis.spectral_basis)
    assert basis.attrs["incomplete_channels"] == 2
    assert basis.kept_channel.values[[30, 50]].all()
    others = np.delete(np.arange(100), [30, 50])
    volume = volume_of(small, basis)
    assert np.isfinite(volume[..., others]).all()
    assert np.isnan(volume[..., 50]).all()
    assert np.isnan(volume[..., 30]).any()
    np.testing.assert_allclose(basis.singular_value, expected.singular_value, rtol=1e-9)


def test_samples_missing_in_all_channels_leave_them_together(small):
    small.sinogram[7] = np.nan
    small.sinogram[9, 3] = np.nan
    basis = find_spectral_basis(small.chunk(channel=30))
    assert basis.attrs["incomplete_channels"] == 0
    mixed = compress_channels(small, basis).spectral_sinogram
    gone = np.isnan(mixed).all("component")
    assert gone[7].all()
    assert int(gone.sum()) == 33
    assert int(np.isnan(mixed).any("component").sum()) == 33


def test_as_many_missing_samples_in_each_channel_but_others_are_noticed(small):
    for channel in range(100):
        small.sinogram[channel % 48, channel % 32, channel] = np.nan
    basis = find_spectral_basis(small)
    assert basis.kept_channel.all()
    assert basis.attrs["incomplete_channels"] == 100


def test_masked_projections_are_left_out_and_masked_channels_kept(small):
    angles = xr.DataArray(np.arange(48) == 5, dims="angle")
    bad = small.copy(deep=True)
    bad.sinogram[5] = 1e9
    found = find_spectral_basis(bad.assign(mask=angles))
    expected = find_spectral_basis(small.isel(angle=np.arange(48) != 5))
    np.testing.assert_array_equal(found.spectral_basis, expected.spectral_basis)
    channels = xr.DataArray(np.arange(100) == 8, dims="channel")
    assert bool(find_spectral_basis(small.assign(mask=channels)).kept_channel[8])


def test_counts_as_integers_are_compressed_as_float32(small):
    counts = small.assign(sinogram=small.sinogram.astype("uint16"))
    basis = find_spectral_basis(counts)
    made = compress_channels(counts.chunk(channel=30), basis).spectral_sinogram
    assert made.dtype == "float32"
    expected = compress_channels(small, find_spectral_basis(small)).spectral_sinogram
    assert relative_error(np.abs(made.compute()), np.abs(expected)) < 1e-3


def test_compressing_and_expanding_are_lazy_and_keep_labels(small):
    basis = find_spectral_basis(small)
    made = assert_lazy(lambda ds: compress_channels(ds, basis), small.chunk(channel=30))
    assert_keeps(small, made, "compress_channels")
    assert made.spectral_sinogram.dims == ("angle", "translation", "component")
    maps = fbp(made.spectral_sinogram.rename(component="channel")).rename(channel="component")
    maps.attrs = {"units": "count/mm", "long_name": "maps"}
    factored = made.assign(spectral_map=maps.chunk(component=-1))
    volume = assert_lazy(expand_channels, factored)
    assert_keeps(factored, volume, "expand_channels")
    assert volume.volume.dims == ("y", "x", "channel")
    assert relative_error(volume.volume.compute(), volume_of(small, basis)) < 100 * F64


def test_a_stored_factored_volume_is_looked_at_channel_by_channel(small, tmp_path):
    basis = find_spectral_basis(small)
    made = compress_channels(small, basis)
    maps = fbp(made.spectral_sinogram.rename(component="channel")).rename(channel="component")
    keep = made.assign(spectral_map=maps.assign_attrs(units="count/mm", long_name="maps"))
    save(keep[["spectral_map", "spectral_basis", "kept_channel"]], tmp_path / "maps.zarr")
    again = expand_channels(open_scan(tmp_path / "maps.zarr"))
    one = again.volume.isel(channel=17).compute()
    assert relative_error(one, volume_of(small, basis)[..., 17]) < 100 * F64


def test_no_task_holds_the_sinogram(small):
    lazy = small.chunk(channel=10)
    basis = find_spectral_basis(small, rank=2, threshold=np.inf)
    with dask.config.set(scheduler="synchronous"):
        largest = []

        def watch(block):
            largest.append(block.nbytes)
            return block

        seen = lazy.sinogram.copy(data=lazy.sinogram.data.map_blocks(watch, dtype="float64"))
        compress_channels(lazy.assign(sinogram=seen), basis).spectral_sinogram.compute()
    assert max(largest) == lazy.sinogram.nbytes / 10


def test_bad_input_is_refused_in_words(small):
    with pytest.raises(OptionError, match=r"rank=0 must be 'auto' or a number .* from 1 to 100"):
        find_spectral_basis(small, rank=0)
    with pytest.raises(OptionError, match="rank='atuo' must be 'auto'"):
        find_spectral_basis(small, rank="atuo")
    with pytest.raises(OptionError, match="peak_width=1 must be 2 channels or more"):
        find_spectral_basis(small, peak_width=1)
    with pytest.raises(OptionError, match="threshold=-1 must be greater than 0"):
        find_spectral_basis(small, threshold=-1)
    with pytest.raises(SchemaError, match="'sinogram' is split along 'translation' into 4 blocks"):
        find_spectral_basis(small.chunk(translation=8))
    with pytest.raises(PlanError, match=r"find_spectral_basis would hold .* allowed_mem is 1 MB"):
        find_spectral_basis(small, allowed_mem="1MB")
    basis = find_spectral_basis(small)
    with pytest.raises(SchemaError, match="a basis of 100 channels, but 'sinogram' has 50"):
        compress_channels(small.isel(channel=slice(50)), basis)
    with pytest.raises(SchemaError, match="compress_channels needs 'spectral_weight'"):
        compress_channels(small, basis.drop_vars("spectral_weight"))
    with pytest.raises(SchemaError, match="expand_channels needs 'spectral_map'"):
        expand_channels(small)


def test_what_does_not_commute_is_refused_with_the_reason():
    check_linear("fbp")
    check_linear("sirt")
    with pytest.raises(OptionError, match=r"not for method='cgls', because its step lengths"):
        check_linear("cgls")
    with pytest.raises(OptionError, match="not for method='tv', because its result is not a weigh"):
        check_linear("tv")
    with pytest.raises(OptionError, match="method='sirt' with nonnegative=True, which does not"):
        check_linear("sirt", nonlinear="nonnegative=True")
