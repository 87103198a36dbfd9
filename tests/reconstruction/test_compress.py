import dask
import numpy as np
import pytest
import xarray as xr

from benchmarks.five_phases import five_phases
from ndtomo_dask import (
    compress_channels,
    expand_channels,
    find_spectral_basis,
    open_scan,
    reconstruct,
    save,
)
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from tests.laws import assert_keeps, assert_lazy, relative_error
from tests.tolerances import ROUNDING

F64 = ROUNDING[np.dtype("float64")]
KEPT = 0.95
"""Share of a minority phase that must be recovered; LOST is what is left without the search."""
LOST = 0.3
LAYOUTS = [{"channel": 17}, {"angle": 13}, {"channel": 60, "angle": 25}]


def volume_of(scan, basis=None, **options):
    return reconstruct(scan, basis, **options).volume


def images_of(samples, scan):
    """Filtered back-projection of an array, as if the scan had measured it."""
    return volume_of(scan.assign(sinogram=scan.sinogram.copy(data=samples))).values


@pytest.fixture(scope="module", params=[0.0, 0.005], ids=["still", "shifting peaks"])
def scene(request):
    return five_phases(strain=request.param, seed=1)


@pytest.fixture
def small():
    """A scan of 32 x 32 pixels and 100 channels with two phases' worth of structure, float64."""
    made = five_phases(32, 48, 100, width=5, seed=3).scan
    return made.assign(sinogram=made.sinogram.astype("float64").assign_attrs(made.sinogram.attrs))


def test_a_phase_in_twelve_pixels_is_kept_and_would_be_lost(scene):
    full, common = volume_of(scene.scan).values, images_of(scene.common, scene.scan)
    basis = find_spectral_basis(scene.scan)
    assert basis.attrs["suggested_rank"] >= 5
    assert basis.sizes["component"] < 40
    amount = scene.amount(full, common)
    assert scene.amount(volume_of(scene.scan, basis), common) >= KEPT * amount
    blind = find_spectral_basis(scene.scan, threshold=np.inf)
    assert not blind.kept_channel.any()
    assert abs(scene.amount(volume_of(scene.scan, blind), common)) <= LOST * amount


def test_compression_lowers_the_noise(scene):
    truth, full = images_of(scene.clean, scene.scan), volume_of(scene.scan).values
    made = volume_of(scene.scan, find_spectral_basis(scene.scan))
    assert relative_error(made, truth) < 0.5 * relative_error(full, truth)


def test_kept_channels_are_reconstructed_in_full(scene):
    basis = find_spectral_basis(scene.scan)
    kept = basis.kept_channel.values
    assert kept[scene.peak].all()
    assert kept.sum() < 40
    full = volume_of(scene.scan.isel(channel=kept)).values
    made = volume_of(scene.scan, basis).values[..., kept]
    assert relative_error(made, full) < ROUNDING[np.dtype("float32")]


def test_all_components_give_back_the_full_reconstruction(small):
    basis = find_spectral_basis(small, rank=100)
    full = volume_of(small)
    assert relative_error(volume_of(small, basis), full) < 1e-10
    assert basis.sizes["component"] == 100 + int(basis.kept_channel.sum())


@pytest.mark.parametrize("method", ["sirt", "os_sirt", "sart"])
def test_iterative_methods_commute_with_mixing(small, method):
    basis = find_spectral_basis(small, rank=100, threshold=np.inf)
    options = {"method": method, "iterations": 10}
    made = volume_of(small.chunk(channel=30), basis, **options)
    assert relative_error(made.compute(), volume_of(small, **options)) < 1e-10


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
    expected = reconstruct(small, basis)
    lazy = assert_lazy(lambda ds: reconstruct(ds, basis), small.chunk(chunks))
    made = lazy.compute()
    for name in ("volume", "spectral_map"):
        assert relative_error(made[name], expected[name]) < 100 * F64
    np.testing.assert_array_equal(made.missing_samples, expected.missing_samples)
    assert int(made.missing_samples[30]) == 1


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
    alone = volume_of(small.isel(channel=[30]))
    assert relative_error(volume[..., 30], alone[..., 0]) < 100 * F64
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
    factored = reconstruct(small.chunk(channel=30), basis).drop_vars(["sinogram", "volume"])
    volume = assert_lazy(expand_channels, factored)
    assert_keeps(factored, volume, "expand_channels")
    assert volume.volume.dims == ("y", "x", "channel")
    assert relative_error(volume.volume.compute(), volume_of(small, basis)) < 100 * F64


def test_a_stored_factored_volume_is_looked_at_channel_by_channel(small, tmp_path):
    basis = find_spectral_basis(small)
    kept = ["spectral_map", "spectral_basis", "kept_channel"]
    save(reconstruct(small.chunk(channel=30), basis)[kept], tmp_path / "maps.zarr")
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


def test_what_does_not_commute_is_refused_with_the_reason(small):
    def refused(method, why, **options):
        with pytest.raises(OptionError, match=f"spectral_rank is not for method='{method}'.*{why}"):
            reconstruct(small, method=method, spectral_rank="auto", **options)

    refused("cgls", "because its step lengths depend on the data: pass method='fbp' or 'sirt'")
    refused("mlem", "because its result is not a weighted sum of the samples")
    refused("tv", "because its result is not a weighted sum", regularization=1.0)
    refused("sirt", "with nonnegative, because a bound does not commute", nonnegative=True)
    refused("sirt", "with stop, because channels stop by their own", stop={"change": 0.1})
    refused("sirt", "with weighted, because channels have weights", weighted=True)
    refused("fbp", "with variance, because noise is left out", variance=True)
    basis = find_spectral_basis(small, rank=2)
    with pytest.raises(OptionError, match="given a basis and spectral_rank=2: pass one"):
        reconstruct(small, basis, spectral_rank=2)
    with pytest.raises(SchemaError, match="reconstruct was given a basis of 100 channels"):
        reconstruct(small.isel(channel=slice(50)), basis)
    with pytest.raises(OptionError, match="rank='atuo' must be 'auto'"):
        reconstruct(small, spectral_rank="atuo")


def test_a_rank_makes_its_own_basis_and_nothing_is_mixed_by_default(scene):
    made = reconstruct(scene.scan, spectral_rank="auto")
    found = find_spectral_basis(scene.scan)
    np.testing.assert_array_equal(made.spectral_basis, found.spectral_basis)
    np.testing.assert_array_equal(made.volume, volume_of(scene.scan, found))
    assert found.attrs["digest"] in made.attrs["history"].splitlines()[-1]
    assert "spectral_map" not in reconstruct(scene.scan)
    three = reconstruct(scene.scan, spectral_rank=3)
    assert three.sizes["component"] == 3 + int(three.kept_channel.sum())
