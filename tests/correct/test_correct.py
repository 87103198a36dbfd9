import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask import simulate_scan
from ndtomo_dask.errors import OptionError, SchemaError
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error
from tests.tolerances import CENTER, CENTER_NOISY, FIT, PHYSICS, ROUNDING

F32 = ROUNDING[np.dtype("float32")]
CENTERED = {"size": 48, "angles": 40, "channels": 30, "center_offset": 0.0, "jitter": 0.0,
            "noise": "none"}  # fmt: skip
CHUNKS = [{}, {"angle": 7}, {"channel": 13}, {"angle": 11, "channel": 25}]
LAZY = {
    "remove_air": nd.remove_air,
    "remove_air channel": lambda ds: nd.remove_air(ds, width=3, side="first", method="channel"),
    "normalize_projections": nd.normalize_projections,
    "normalize_monitor": nd.normalize_monitor,
    "flat_field edges": nd.flat_field,
    "flat_field flats": lambda ds: nd.flat_field(with_flats(ds)),
}
FIND = {
    "find_air": nd.find_air,
    "find_projection_scale": lambda ds: nd.find_projection_scale(ds, reference="median"),
    "find_rotation_center": nd.find_rotation_center,
    "find_projection_shifts": nd.find_projection_shifts,
}


def with_flats(ds):
    shape = (ds.sizes["translation"], ds.sizes["channel"])
    about = {"units": "count", "long_name": "without sample or beam"}
    flat = xr.DataArray(np.full(shape, 5000.0), dims=("translation", "channel"), attrs=about)
    return ds.assign(flat=flat, dark=xr.full_like(flat, 2.0))


@pytest.fixture
def scan(scan):
    """With a monitor."""
    beam = scan.true_beam * 1e5 * xr.ones_like(scan.translation)
    return scan.assign(monitor=beam.assign_attrs(units="count", long_name="incident flux"))


@pytest.fixture
def stack(scan):
    other = scan.assign(sinogram=scan.sinogram * 0.5 + 3, monitor=scan.monitor * 0.7)
    both = xr.concat([scan[["sinogram", "monitor"]], other[["sinogram", "monitor"]]], "z")
    return both.assign_coords(z=[0.0, 0.1]).assign_attrs(scan.attrs)


@pytest.mark.parametrize("name", LAZY)
def test_corrections_are_lazy(name, scan):
    assert_lazy(LAZY[name], scan.chunk(angle=7, channel=25))


@pytest.mark.parametrize("name", LAZY)
def test_corrections_keep_everything_else(name, scan):
    before = with_flats(scan) if "flats" in name else scan
    before.sinogram.attrs["units"] = "count/s"
    after = LAZY[name](before)
    assert_keeps(before.drop_vars(["flat", "dark"], errors="ignore"), after, name.split()[0])
    expected = "1" if name.startswith("flat_field") else "count/s"
    assert after.sinogram.attrs["units"] == expected
    assert after.sinogram.dtype == before.sinogram.dtype
    assert after.sinogram.dims == before.sinogram.dims


@pytest.mark.parametrize("name", LAZY)
def test_corrections_do_not_write_to_their_input(name, scan):
    before = scan.copy(deep=True)
    LAZY[name](scan)
    xr.testing.assert_identical(scan, before)


@pytest.mark.parametrize("verb", LAZY.values(), ids=LAZY)
def test_corrections_do_not_depend_on_the_chunks(verb, scan):
    assert_chunk_invariant(verb, scan, CHUNKS, tolerance=F32)


@pytest.mark.parametrize("verb", LAZY.values(), ids=LAZY)
def test_corrections_of_a_stack_do_not_depend_on_the_chunks(verb, stack):
    assert_chunk_invariant(verb, stack, [{"z": 1}, {"angle": 9, "channel": 25}], tolerance=F32)


@pytest.mark.parametrize("name", [name for name in LAZY if "monitor" not in name])
def test_slices_are_corrected_as_if_alone(name, stack):
    made = LAZY[name](stack.chunk(z=1, channel=25)).sinogram
    for z in range(2):
        alone = LAZY[name](stack.isel(z=z).chunk(channel=25)).sinogram
        np.testing.assert_array_equal(made.isel(z=z), alone)


@pytest.mark.parametrize("verb", FIND.values(), ids=FIND)
def test_estimates_are_small_computed_and_do_not_depend_on_the_chunks(verb, scan):
    expected = verb(scan)
    assert len(expected.attrs["history"].splitlines()) == 1
    for chunks in CHUNKS:
        found = verb(scan.chunk(chunks))
        assert all(array.chunks is None for array in found.variables.values())
        for name in expected.data_vars:
            tolerance = 1e-9 if name != "air" else F32
            assert relative_error(found[name], expected[name]) <= tolerance


@pytest.mark.parametrize(
    ("apply", "find"),
    [("remove_air", "find_air"), ("normalize_projections", "find_projection_scale")],
)
def test_a_correction_given_its_estimate_does_the_same(apply, find, scan):
    scan = scan.chunk(channel=20)
    found = getattr(nd, find)(scan)
    given = assert_lazy(lambda ds: getattr(nd, apply)(ds, found), scan)
    assert relative_error(given.sinogram, getattr(nd, apply)(scan).sinogram) <= F32


def test_what_is_left_without_air_is_the_sample(clean_scan):
    bare, removed = simulate_scan(**CENTERED, air=0.0), simulate_scan(**CENTERED, air=30.0)
    assert relative_error(nd.remove_air(removed).sinogram, bare.sinogram) < FIT


def test_normalizing_undoes_the_beam():
    scan = nd.remove_air(simulate_scan(**CENTERED)).compute()
    scale = nd.find_projection_scale(scan).projection_scale
    beam = scan.true_beam / scan.true_beam.max()
    np.testing.assert_allclose(scale / scale.mean(), beam / beam.mean(), rtol=PHYSICS)
    totals = nd.normalize_projections(scan).sinogram.sum(["translation", "channel"])
    np.testing.assert_allclose(totals, float(totals[0]), rtol=1e-5)


@pytest.mark.parametrize("chunks", [{"angle": 5}, {"angle": 7, "channel": 11}])
def test_corrections_follow_one_another_without_estimates(scan, chunks):
    def chain(ds):
        return nd.normalize_projections(nd.remove_air(nd.remove_air(ds)))

    assert_chunk_invariant(chain, scan, [chunks], tolerance=F32)


def test_the_monitor_undoes_the_beam(clean_scan):
    beam = clean_scan.true_beam * xr.ones_like(clean_scan.translation)
    ds = nd.normalize_monitor(clean_scan.assign(monitor=beam))
    expected = clean_scan.sinogram / (clean_scan.true_beam / clean_scan.true_beam.max())
    assert relative_error(ds.sinogram, expected) < 1e-6


@pytest.mark.parametrize("name", LAZY)
def test_counts_as_integers_become_float32_and_say_so(name, scan):
    counts = scan.assign(sinogram=scan.sinogram.astype("uint16"))
    made = LAZY[name](counts.chunk(channel=20)).sinogram
    assert made.dtype == made.compute().dtype == "float32"
    assert relative_error(made, LAZY[name](scan).sinogram) <= F32


def test_a_monitor_without_flux_makes_its_own_points_nan(scan):
    scan.monitor[3, 4] = 0.0
    scan.monitor[5, 6] = np.nan
    bad = ~np.isfinite(nd.normalize_monitor(scan).sinogram.values)
    assert bad[3, 4].all()
    assert bad[5, 6].all()
    assert bad.sum() == 2 * scan.sizes["channel"]
    with pytest.raises(SchemaError, match="the monitor has no positive value"):
        nd.normalize_monitor(scan.assign(monitor=scan.monitor * 0))


def test_the_absorbance_of_a_wedge_is_its_thickness():
    thickness = np.linspace(0, 2, 8)[None, :, None] * np.ones((3, 1, 5))
    ds = xr.Dataset({"sinogram": (("angle", "translation", "channel"), 1000 * np.exp(-thickness))})
    ds = nd.flat_field(ds, width=1, side="first")
    np.testing.assert_allclose(ds.sinogram, thickness, atol=1e-12)
    assert ds.sinogram.attrs["long_name"] == "absorbance"


@pytest.mark.parametrize("name", ["remove_air", "flat_field edges", "normalize_monitor"])
def test_a_bad_value_damages_only_its_own_projection_and_channel(name, scan):
    scan = scan.astype("float64")
    expected = LAZY[name](scan).sinogram
    scan.sinogram[4, 10, 7] = np.nan
    made = LAZY[name](scan).sinogram
    assert np.isnan(made[4, 10, 7])
    same = np.arange(40) != 4
    np.testing.assert_array_equal(made[same], expected[same])
    np.testing.assert_array_equal(np.isnan(made).sum() - np.isnan(expected).sum(), 1)


def test_a_dead_projection_becomes_nan_and_leaves_the_others_alone(scan):
    expected = nd.normalize_projections(scan).sinogram
    dead = scan.copy(deep=True)
    dead.sinogram[5] = np.nan
    dead.sinogram[6] = 0.0
    made = nd.normalize_projections(dead).sinogram
    assert np.isnan(made[5:7]).all()
    np.testing.assert_array_equal(made[8:], expected[8:])


@pytest.mark.parametrize("span", [180, 360])
def test_the_center_is_found(span):
    options = {"size": 48, "angles": 90, "channels": 30, "span": span, "jitter": 0.0, "air": 0.0}
    ds = simulate_scan(**options, noise="none", decay=1.0, center_offset=-3.4)
    found = nd.find_rotation_center(ds)
    assert abs(float(found.rotation_center - ds.true_rotation_center)) < CENTER
    assert found.rotation_center_error > 0
    assert float(found.score.idxmin()) == pytest.approx(float(found.rotation_center), abs=0.6)
    placed = nd.set_rotation_center(ds, found)
    assert float(placed.rotation_center) == float(found.rotation_center)
    assert_keeps(ds, placed, "set_rotation_center")


def test_the_center_is_found_in_noise_and_a_dead_projection(scan):
    clean = nd.normalize_projections(nd.remove_air(scan))
    clean.sinogram[11] = np.nan
    found = nd.find_rotation_center(clean)
    assert abs(float(found.rotation_center - scan.true_rotation_center)) < CENTER_NOISY[180]


def test_shifts_are_found_and_carried_by_the_geometry():
    options = {"size": 48, "angles": 90, "channels": 30, "jitter": 0.5, "air": 0.0, "decay": 1.0}
    ds = simulate_scan(**options, noise="none")
    found = nd.find_projection_shifts(ds)
    # A constant and the sine of the sample's own path cannot be told from shifts.
    design = np.stack([np.ones(90), np.cos(np.deg2rad(ds.angle)), np.sin(np.deg2rad(ds.angle))], 1)
    truth = ds.true_projection_shift.values
    truth = truth - design @ np.linalg.lstsq(design, truth)[0]
    np.testing.assert_allclose(found.projection_shift, truth, atol=CENTER)
    aligned = nd.align_projections(ds, found)
    assert_keeps(ds, aligned, "align_projections")
    assert aligned.projection_shift.attrs["units"] == "1"


def test_a_dead_projection_has_no_shift(scan):
    scan.sinogram[3] = np.nan
    found = nd.find_projection_shifts(scan)
    assert np.isnan(found.projection_shift[3])
    assert float(nd.align_projections(scan, found).projection_shift[3]) == 0.0


def test_bad_input_is_refused_in_words(scan):
    first = scan.chunk(translation=8)
    with pytest.raises(
        SchemaError, match=r"remove_air needs whole images.*'translation'.*layout='im"
    ):
        nd.remove_air(first)
    with pytest.raises(SchemaError, match=r"find_air needs whole images"):
        nd.find_air(first)
    with pytest.raises(
        OptionError, match=r"method='seperable' is not known. Did you mean 'separable'"
    ):
        nd.find_air(scan, method="seperable")
    with pytest.raises(OptionError, match=r"width=20 edge translations cannot be taken from 32"):
        nd.find_air(scan, width=20)
    with pytest.raises(OptionError, match=r"reference='maximum' is not known"):
        nd.find_projection_scale(scan, reference="maximum")
    with pytest.raises(SchemaError, match=r"normalize_monitor needs 'monitor'"):
        nd.normalize_monitor(scan.drop_vars("monitor"))
    with pytest.raises(SchemaError, match=r"no projection has a positive total"):
        nd.find_projection_scale(scan.assign(sinogram=scan.sinogram * 0))
    with pytest.raises(OptionError, match=r"method='masss' is not known. Did you mean 'mass'"):
        nd.find_rotation_center(scan, method="masss")
    with pytest.raises(SchemaError, match=r"find_rotation_center needs projection angles"):
        nd.find_rotation_center(scan.drop_vars("angle"))
    with pytest.raises(SchemaError, match=r"rotation_center 40 lies outside the translations, ind"):
        nd.set_rotation_center(scan, 40.0)
    with pytest.raises(SchemaError, match=r"was given 40 shifts, but the scan has 12 angles"):
        nd.align_projections(scan.isel(angle=slice(12)), nd.find_projection_shifts(scan))


def test_an_estimate_of_another_scan_is_refused(scan):
    air = nd.find_air(scan)
    with pytest.raises(SchemaError, match=r"given 'air' with 40 entries along 'angle', but the"):
        nd.remove_air(scan.isel(angle=slice(12)), air)
    with pytest.raises(SchemaError, match=r"normalize_projections needs 'projection_scale'"):
        nd.normalize_projections(scan, air)
    with pytest.raises(SchemaError, match=r"set_rotation_center needs 'rotation_center'"):
        nd.set_rotation_center(scan, air)


@pytest.mark.parametrize("dims", [("angle",), ("angle", "translation"), ("channel",)])
def test_estimates_do_not_count_what_is_masked(dims, scan, rng):
    mask = xr.DataArray(rng.random([scan.sizes[dim] for dim in dims]) < 0.1, dims=dims)
    lost = scan.assign(sinogram=scan.sinogram.where(~mask))
    spoilt = scan.assign(sinogram=scan.sinogram.where(~mask, 1e6), mask=mask)
    for find in (nd.find_air, nd.find_projection_scale, nd.find_rotation_center):
        for name, found in find(lost).data_vars.items():
            np.testing.assert_array_equal(find(spoilt)[name], found)
