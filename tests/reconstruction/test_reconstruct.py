import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import reconstruct, set_rotation_center, simulate_scan
from ndtomo_dask.errors import BackendError, OptionError, PlanError, SchemaError
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error
from tests.tolerances import ROUNDING

METHODS = {
    "fbp": {"method": "fbp"},
    "fbp hann": {"method": "fbp", "filter": "hann"},
    "sirt": {"method": "sirt", "iterations": 4, "nonnegative": True},
    "os_sirt": {"method": "os_sirt", "iterations": 2, "subsets": 4},
    "sart": {"method": "sart", "iterations": 1, "support": "circle"},
    "cgls": {"method": "cgls", "iterations": 3},
    "mlem": {"method": "mlem", "iterations": 5},
    "osem": {"method": "osem", "iterations": 2, "subsets": 5},
    "tv": {"method": "tv", "iterations": 20, "regularization": 5.0},
}
COUPLED = {
    "vectorial_tv": {"method": "vectorial_tv", "iterations": 10, "regularization": 20.0},
    "nuclear": {"method": "nuclear", "iterations": 10, "regularization": 20.0},
}
RECOVERED = 0.25
"""Relative L2 of an image of 32 x 32 pixels from 40 projections against truth with sharp edges."""


@pytest.fixture
def stack(scan):
    other = scan.sinogram.copy(data=np.roll(scan.sinogram, 3, axis=1))
    both = xr.concat([scan.sinogram, other], "z").assign_coords(z=[0.0, 0.1])
    return both.to_dataset().assign_attrs(scan.attrs)


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def verb(request):
    return lambda ds: reconstruct(ds, **request.param)


def test_reconstructing_is_lazy(verb, scan):
    made = assert_lazy(verb, scan.chunk(channel=20))
    assert made.volume.dims == ("y", "x", "channel")
    assert made.volume.dtype == "float32"


def test_the_volume_does_not_depend_on_the_chunks(verb, scan):
    assert_chunk_invariant(
        verb, scan, [{}, {"channel": 7}, {"channel": 1}], tolerance=ROUNDING[np.dtype("float32")]
    )


def test_a_stack_is_the_slices_bit_by_bit(verb, stack):
    whole = verb(stack.chunk(z=1, channel=20))
    for z in range(2):
        alone = verb(stack.isel(z=z).chunk(channel=20))
        for name in ("volume", "missing_samples"):
            np.testing.assert_array_equal(whole[name].isel(z=z), alone[name])
    np.testing.assert_array_equal(whole.volume, verb(stack).volume)
    np.testing.assert_array_equal(whole.volume, verb(stack.chunk(z=2, channel=20)).volume)


def test_labels_survive(verb, scan):
    scan.sinogram.attrs["units"] = "photon"
    made = verb(scan)
    assert_keeps(scan, made, "reconstruct")
    assert made.volume.attrs["units"] == "photon/mm"
    assert "self-absorption" in made.volume.attrs["assumed"]
    assert {"tth", "q", "d"} <= set(made.volume.xindexes)
    assert made.y.attrs["units"] == "mm"
    np.testing.assert_allclose(made.x, scan.translation, atol=1e-12)


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_the_true_density_is_recovered_per_mm(options):
    ds = simulate_scan(
        size=32,
        angles=40,
        channels=40,
        grains=5,
        seed=1,
        noise="none",
        air=0.0,
        decay=1.0,
        center_offset=0.7,
    ).load()
    ds = ds.assign_coords(projection_shift=ds.true_projection_shift)
    ds = set_rotation_center(ds, float(ds.true_rotation_center))
    enough = {"sirt": 60, "cgls": 12, "mlem": 30, "osem": 6, "os_sirt": 10, "sart": 4, "tv": 150}
    options = options | (
        {"iterations": enough[options["method"]]} if options["method"] in enough else {}
    )
    volume = reconstruct(ds, **options).volume
    # The sum over the sample times its area is that of each projection: counts are conserved.
    total = ds.sinogram.sum("translation").mean("angle") * 0.02
    sample = np.hypot(ds.x, ds.y) < 0.47 * 32 * 0.02
    np.testing.assert_allclose(volume.where(sample, 0).sum(["y", "x"]) * 0.02**2, total, rtol=0.1)
    spectra = volume.values.reshape(-1, 40)
    basis = ds.true_phase_map.values.reshape(-1, 5)
    fitted = basis @ np.linalg.lstsq(basis, spectra)[0]
    inside = basis.sum(axis=1) > 0
    assert relative_error(spectra[inside], fitted[inside]) < RECOVERED + 0.1


def test_a_wrong_center_is_worse(clean_scan):
    placed = set_rotation_center(clean_scan, clean_scan.true_rotation_center)
    negative = [
        float((v := reconstruct(ds).volume).where(v < 0, 0).std()) for ds in (placed, clean_scan)
    ]
    assert negative[0] < 0.8 * negative[1]


def test_a_bad_channel_damages_no_other(verb, scan):
    expected = verb(scan)
    bad = scan.copy(deep=True)
    bad.sinogram[4, 10, 7] = np.nan
    bad.sinogram[:, :, 9] = np.inf
    bad.sinogram[5, :, 11] = np.nan
    made = verb(bad)
    touched = [7, 9, 11]
    others = np.delete(np.arange(60), touched)
    np.testing.assert_array_equal(made.volume[..., others], expected.volume[..., others])
    assert np.isnan(made.volume[..., 9]).all()
    assert np.isfinite(made.volume[..., [7, 11]]).all()
    assert relative_error(made.volume[..., 7], expected.volume[..., 7]) < 0.5


def test_missing_samples_are_counted_per_channel(scan):
    scan.sinogram[4, 10:13, 7] = np.nan
    scan.sinogram[6, 3, 7] = -np.inf
    counted = reconstruct(scan.chunk(channel=20)).missing_samples
    assert counted.dims == ("channel",)
    assert int(counted[7]) == int(counted.sum()) == 4
    assert counted.attrs["units"] == "1"


@pytest.mark.parametrize("name", ["fbp", "fbp hann", "sirt", "cgls", "mlem"])
def test_a_dead_projection_is_as_if_it_were_not_there(name, scan):
    # Subsets of fewer projections are other subsets, and total variation takes other steps.
    def verb(ds):
        return reconstruct(ds, **METHODS[name])

    dead = scan.copy(deep=True)
    dead.sinogram[5] = np.nan
    without = scan.isel(angle=np.arange(40) != 5)
    np.testing.assert_array_equal(verb(dead).volume, verb(without).volume)


@pytest.mark.parametrize("dims", [("translation",), ("angle", "translation"), ("channel",)])
def test_a_masked_sample_is_as_if_it_were_not_measured(dims, verb, scan, rng):
    mask = xr.DataArray(rng.random([scan.sizes[dim] for dim in dims]) < 0.1, dims=dims)
    lost = scan.assign(sinogram=scan.sinogram.where(~mask))
    masked = scan.copy(deep=True).assign(mask=mask)
    masked["sinogram"] = masked.sinogram.where(~mask, 1e6)
    for name in ("volume", "missing_samples"):
        np.testing.assert_array_equal(verb(masked)[name], verb(lost)[name])


def test_a_masked_projection_is_as_if_it_were_not_there(verb, scan):
    mask = xr.DataArray(np.arange(40) == 5, dims="angle")
    without = scan.isel(angle=np.arange(40) != 5)
    made = verb(scan.assign(mask=mask).chunk(channel=20))
    np.testing.assert_array_equal(made.volume, verb(without.chunk(channel=20)).volume)
    assert made.sizes["angle"] == 40


def test_backends_agree(scan):
    scan = scan.isel(channel=slice(4))
    expected = reconstruct(scan, backend="reference").volume
    assert relative_error(reconstruct(scan, backend="cpu").volume, expected) < 1e-5


def test_one_angle_and_double_precision_work(scan):
    assert reconstruct(scan.isel(angle=[3])).volume.shape == (32, 32, 60)
    made = reconstruct(scan.astype("float64")).volume
    assert made.dtype == "float64"
    assert relative_error(reconstruct(scan).volume, made) < 1e-5


def test_counts_as_integers_are_reconstructed_as_float32(scan):
    counts = scan.assign(sinogram=scan.sinogram.astype("uint16"))
    for ds in (counts, counts.chunk(channel=20)):
        made = reconstruct(ds).volume.compute()
        assert made.dtype == "float32"
        np.testing.assert_array_equal(made, reconstruct(scan).volume)


def test_blocks_that_would_not_fit_are_cut_into_equal_ones(scan):
    made = reconstruct(scan.chunk(channel=30), allowed_mem="16.2MB").volume
    pieces = made.chunks[2]
    assert max(pieces) < 30
    assert len(set(pieces)) == 1


def test_bad_input_is_refused_in_words(scan):
    with pytest.raises(
        SchemaError, match=r"'sinogram' is split along 'angle' into 4 blocks.*images"
    ):
        reconstruct(scan.chunk(angle=10))
    with pytest.raises(SchemaError, match=r"reconstruct needs data.*no entries along 'angle'"):
        reconstruct(scan.isel(angle=slice(0)))
    with pytest.raises(SchemaError, match=r"needs 'sinogram', which the dataset does not have"):
        reconstruct(scan.drop_vars("sinogram"))
    with pytest.raises(SchemaError, match=r"needs projection angles: ds.assign_coords"):
        reconstruct(scan.drop_vars("angle"))
    with pytest.raises(OptionError, match=r"method='sirtt' is not known. Did you mean 'sirt'"):
        reconstruct(scan, method="sirtt")
    with pytest.raises(OptionError, match=r"filter='ramlak' is not known. Did you mean 'ram-lak'"):
        reconstruct(scan, filter="ramlak")
    with pytest.raises(BackendError, match=r"backend='cpuu' is not known. Did you mean 'cpu'"):
        reconstruct(scan, backend="cpuu")
    with pytest.raises(OptionError, match=r"iterations=0"):
        reconstruct(scan.chunk(), method="sirt", iterations=0)
    with pytest.raises(OptionError, match=r"nonnegative=True is for method=.* not for 'cgls'"):
        reconstruct(scan.chunk(), method="cgls", nonnegative=True)
    with pytest.raises(BackendError, match=r"backend='numbaa' is not known"):
        reconstruct(scan.chunk(), backend="numbaa")
    with pytest.raises(PlanError, match=r"reconstruct \(sirt\) would hold .*allowed_mem is 1 MB"):
        reconstruct(scan, method="sirt", allowed_mem="1MB")
    everything = xr.DataArray(np.ones(40, dtype=bool), dims="angle")
    with pytest.raises(SchemaError, match="'mask' marks every angle"):
        reconstruct(scan.assign(mask=everything))
    slices = xr.DataArray(np.zeros(3, dtype=bool), dims="z")
    with pytest.raises(SchemaError, match=r"'mask' along any of angle, .*, but it has \('z',\)"):
        reconstruct(scan.assign(mask=slices))


def test_a_backend_that_only_the_workers_have_is_not_refused_by_a_lazy_verb(scan):
    lazy = assert_lazy(lambda ds: reconstruct(ds, backend="auto"), scan.chunk(channel=20))
    assert lazy.volume.chunks is not None


def test_coupled_channels_stand_in_one_block(scan):
    for options in COUPLED.values():
        with pytest.raises(SchemaError, match="split along 'channel' into 3 blocks"):
            reconstruct(scan.chunk(channel=20), **options)
        made = reconstruct(scan.chunk(channel=-1), **options).volume
        np.testing.assert_array_equal(made, reconstruct(scan, **options).volume)
        assert np.isfinite(made).all()


def test_a_region_is_that_part_of_the_whole(scan):
    whole = reconstruct(scan).volume
    with pytest.raises(SchemaError, match=r"'true_phase_map' has 32 along 'y': ds.drop_dims"):
        reconstruct(scan, region={"y": (0.0, 0.25)})
    scan = scan.drop_dims(["y", "x"])
    part = reconstruct(scan, region={"x": (-0.1, 0.2), "y": (0.0, 0.25)}).volume
    expected = whole.sel(x=slice(-0.1, 0.2), y=slice(0.0, 0.25))
    assert part.shape == expected.shape
    np.testing.assert_allclose(part.x, expected.x)
    assert relative_error(part.values, expected.values) < 1e-5


def test_smaller_pixels_show_the_same_densities(clean_scan):
    ds = set_rotation_center(clean_scan, clean_scan.true_rotation_center)
    fine = reconstruct(ds.drop_dims(["y", "x"]), pixel_size=0.01).volume
    assert fine.sizes["x"] == 2 * ds.sizes["translation"]
    coarse = fine.coarsen(y=2, x=2).mean()
    assert relative_error(coarse.values, reconstruct(ds).volume.values) < 0.15


def test_a_warm_start_goes_on_where_the_first_run_ended(scan):
    lazy = scan.chunk(channel=20)
    for method in ("sirt", "mlem"):
        first = reconstruct(lazy, method=method, iterations=3)[["volume"]]
        resumed = reconstruct(lazy, method=method, iterations=4, start=first).volume
        whole = reconstruct(lazy, method=method, iterations=7).volume
        assert relative_error(resumed.values, whole.values) < 1e-5
    with pytest.raises(SchemaError, match="start from a volume of the same scan"):
        reconstruct(lazy, method="sirt", start=first.isel(x=slice(3)))


def test_weights_are_reciprocals_of_the_variance(scan):
    lazy = scan.assign(sinogram_variance=scan.sinogram * 0 + 2.0).chunk(channel=20)
    plain = reconstruct(lazy, method="cgls", iterations=4).volume
    weighted = reconstruct(lazy, method="cgls", iterations=4, weighted=True).volume
    assert relative_error(weighted.values, plain.values) < 1e-4
    bad = lazy.copy()
    kept = xr.DataArray(np.arange(40) != 7, dims="angle")
    bad["sinogram"] = lazy.sinogram.where(kept, 1e6)
    bad["sinogram_variance"] = lazy.sinogram_variance.where(kept)
    without = lazy.assign(mask=~kept)
    left_out = reconstruct(without, method="cgls", iterations=4, weighted=True).volume
    found = reconstruct(bad, method="cgls", iterations=4, weighted=True).volume
    assert relative_error(found.values, left_out.values) < 1e-4
    with pytest.raises(SchemaError, match=r"needs 'sinogram_variance', .* ds.assign"):
        reconstruct(scan, method="sirt", weighted=True)


@pytest.mark.parametrize(
    ("options", "tolerance"), [({}, 0.2), ({"method": "sirt", "iterations": 5}, 0.25)]
)
def test_the_variance_of_the_volume_is_that_of_many_measurements(
    clean_scan, rng, options, tolerance
):
    ds = clean_scan.isel(channel=slice(0, 60, 30))
    ds = ds.assign(sinogram_variance=ds.sinogram + 1).transpose("angle", "translation", ...)
    noise = rng.standard_normal((300, *ds.sinogram.shape)) * np.sqrt(ds.sinogram_variance.values)
    noisy = ds.sinogram.expand_dims(z=300).assign_coords(z=np.arange(300.0)) + noise
    volumes = reconstruct(noisy.astype("float32").to_dataset(name="sinogram"), **options).volume
    told = reconstruct(ds.chunk(channel=1), variance=True, samples=100, **options)
    assert told.volume_variance.attrs["units"] == "count^2/mm^2"
    ratio = told.volume_variance.mean(["y", "x"]) / volumes.var("z").mean(["y", "x"])
    np.testing.assert_allclose(ratio, 1, atol=tolerance)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsets": 4}, "subsets=4 is for method='sirt' or 'os_sirt' or 'osem', not for 'fbp'"),
        ({"method": "sirt", "filter": "hann"}, "filter='hann' is for method='fbp'"),
        ({"method": "tv"}, "needs regularization"),
        ({"method": "sirt", "relaxation": 2.0}, "relaxation=2.0 must be a number between 0 and 2"),
        ({"cutoff": 0.0}, "cutoff=0.0 must be a share"),
        ({"method": "sirt", "stop": {"changed": 1}}, "must say when to stop"),
        ({"method": "cgls", "nonnegative": True}, "nonnegative=True is for method='sirt'"),
    ],
)
def test_an_option_of_another_method_is_refused(scan, options, message):
    with pytest.raises(OptionError, match=message):
        reconstruct(scan, **options)
