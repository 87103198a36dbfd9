"""Fluorescence that the sample absorbs, simulated on smaller pixels than it is corrected on."""

import dask
import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error

SIZE, STEP, FINE = 32, 0.0625, 2
MU, RATIO = 0.5, [3.0, 1.0, 3.0]  # 1/mm, for a sample 1.6 mm wide; three channels
TAKEN_BACK = 0.9
"""Share of the error that the correction must take back, as of every correction."""


def places(size, step):
    return (np.arange(size) - (size - 1) / 2) * step


def sample():
    """Grains of two elements in a disk that absorbs more in the middle."""
    place = places(SIZE * FINE, STEP / FINE)
    y, x = np.meshgrid(place, place, indexing="ij")
    radius = np.hypot(x, y)
    inside = radius < 0.8
    body = inside * (1 + 0.5 * (radius < 0.3))
    grains = inside * (np.sin(11 * x + 3) * np.cos(9 * y) > 0.3)
    channels = np.stack([inside * 1.0, grains, inside * (x > y)], axis=-1).astype(np.float32)
    ds = xr.Dataset({"volume": (("y", "x", "channel"), channels)}, {"y": place, "x": place})
    return ds.assign(attenuation=(("y", "x"), MU * body, {"units": "1/mm", "long_name": "μ"}))


@pytest.fixture(scope="module")
def scan():
    fine = sample().assign_coords(angle=np.arange(0, 180, 6.0), translation=places(SIZE, STEP))
    made = (
        nd.simulate_fluorescence(fine, ratio=RATIO).load().drop_vars("attenuation", errors="ignore")
    )
    coarse = fine[["attenuation"]].coarsen(y=FINE, x=FINE).mean()
    ds = made.assign(attenuation=coarse.attenuation)
    return ds.assign(
        sinogram_variance=(ds.sinogram + 1).assign_attrs(units="count^2", long_name="v")
    )


def correct(ds, **options):
    return nd.self_absorption_correction(ds, **{"ratio": RATIO, "iterations": 1} | options)


def image_error(sinogram, scan):
    images = [
        nd.reconstruct(scan.assign(sinogram=one)).volume for one in (sinogram, scan.true_sinogram)
    ]
    return relative_error(*images)


def test_corrected_images_are_those_of_what_was_emitted(scan):
    spoiled = image_error(scan.sinogram, scan)
    left = image_error(nd.self_absorption_correction(scan, ratio=RATIO).sinogram, scan)
    assert spoiled > 0.5
    assert left < (1 - TAKEN_BACK) * spoiled


def test_the_wrong_side_makes_it_no_better(scan):
    right, wrong = (image_error(correct(scan, detector=side).sinogram, scan) for side in (90, -90))
    assert wrong > 5 * right


def test_variance_is_divided_by_the_square(scan):
    made = correct(scan)
    share = scan.sinogram / made.sinogram
    expected = (scan.sinogram_variance / share**2).where(scan.sinogram > 0, 1.0)
    found = made.sinogram_variance.where(scan.sinogram > 0, 1.0)
    assert relative_error(found, expected) < 1e-5
    assert (made.sinogram >= scan.sinogram).all()
    alone = scan.drop_vars("sinogram_variance").assign_attrs(history="made")
    assert_keeps(alone, correct(alone), "self_absorption_correction")


def test_it_is_lazy_and_does_not_depend_on_the_chunks(scan):
    scan = scan.isel(angle=slice(0, None, 5))
    before = scan.copy(deep=True)
    assert_lazy(correct, scan.chunk(channel=1))
    assert_chunk_invariant(correct, scan, [{"channel": 2}, {"channel": 1}])
    stack = xr.concat([scan, scan.assign(attenuation=scan.attenuation * 2)], "z")
    stack = stack.assign(sinogram_variance=stack.sinogram_variance * 2)
    assert_chunk_invariant(correct, stack, [{"z": 1, "channel": 2}, {"z": 2}])
    made = correct(stack)
    xr.testing.assert_equal(made.sinogram[0], correct(scan).sinogram)
    assert float(made.sinogram[1].sum()) > 1.1 * float(made.sinogram[0].sum())
    xr.testing.assert_identical(scan, before)


def test_without_attenuation_nothing_changes_by_a_bit(scan):
    made = correct(scan.assign(attenuation=scan.attenuation * 0))
    np.testing.assert_array_equal(made.sinogram, scan.sinogram)
    assert made.sinogram.dtype == np.float32
    double = scan.assign(sinogram=scan.sinogram.astype(float), attenuation=scan.attenuation * 0)
    np.testing.assert_array_equal(correct(double).sinogram, double.sinogram)


def test_missing_samples_stay_alone_and_have_no_say(scan):
    scan = scan.drop_vars("sinogram_variance")
    holes = scan.copy(deep=True)
    holes.sinogram[4, 15:18, 1] = np.nan
    made, whole = correct(holes), correct(scan)
    bad = np.isnan(made.sinogram.values)
    assert bad[4, 15:18, 1].all()
    assert bad.sum() == 3
    np.testing.assert_array_equal(made.sinogram[..., 0], whole.sinogram[..., 0])
    hot = scan.copy(deep=True)
    hot.sinogram[4, 15:18, 1] = 1e6
    marked = np.zeros(hot.sinogram.shape, dtype=bool)
    marked[4, 15:18, 1] = True
    masked = correct(hot.assign(mask=(hot.sinogram.dims, marked)))
    unmasked = ~marked
    np.testing.assert_array_equal(masked.sinogram.values[unmasked], made.sinogram.values[unmasked])
    assert float(masked.sinogram[4, 16, 1]) > 1e6


def test_a_map_of_its_own_stands_for_a_ratio(scan):
    light = scan[["attenuation"]] * 3
    light.attenuation.attrs["units"] = "1/mm"
    one, other = correct(scan, ratio=1.0, emitted=light), correct(scan, ratio=3.0)
    assert relative_error(one.sinogram, other.sinogram) < 1e-6
    edges = (scan.attenuation * STEP).assign_attrs(units="1/pixel")
    per_pixel = scan[["attenuation"]].assign(attenuation=edges)
    again = correct(scan, ratio=3.0, attenuation=per_pixel)
    assert relative_error(again.sinogram, other.sinogram) < 1e-6


def test_a_block_that_would_not_fit_is_cut_along_the_channels(scan):
    with dask.config.set({"ndtomo_dask.allowed_mem": "16.07MB"}):
        made = correct(scan.chunk())
    assert made.sinogram.chunks[-1] == (1, 1, 1)
    np.testing.assert_array_equal(made.sinogram, correct(scan).sinogram)
    with (
        dask.config.set({"ndtomo_dask.allowed_mem": "1MB"}),
        pytest.raises(PlanError, match=r"self_absorption\S* would hold"),
    ):
        correct(scan.chunk())


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ("attenuation", {}, "needs 'attenuation', which the dataset does not have"),
        (None, {"ratio": [1, 2]}, r"takes one ratio of 0 or more, or one for each of 3 channels"),
        (None, {"ratio": -1.0}, r"takes one ratio of 0 or more"),
        (None, {"iterations": 0}, "iterations=0 of self_absorption_correction must be 1 or more"),
        (None, {"opening": 200.0}, "are not a direction"),
    ],
)
def test_what_cannot_be_is_refused(scan, change, options, words):
    with pytest.raises((SchemaError, OptionError), match=words):
        correct(scan.drop_vars(change or []), **options)


def test_maps_that_do_not_fit_are_refused(scan):
    with pytest.raises(SchemaError, match="needs both maps on one grid"):
        correct(scan, emitted=scan[["attenuation"]].isel(x=slice(1, None)))
    with pytest.raises(SchemaError, match="in 1/mm, but its unit is 'count/mm'"):
        correct(scan.assign(attenuation=scan.attenuation.assign_attrs(units="count/mm")))
    with pytest.raises(SchemaError, match="with 2 entries along 'z', but the data have none"):
        correct(scan, attenuation=xr.concat([scan[["attenuation"]]] * 2, "z"))
    with pytest.raises(SchemaError, match="whole images, but 'sinogram' is split along 'angle'"):
        correct(scan.chunk(angle=4))


def test_simulated_fluorescence_is_drawn_lazily_whatever_the_chunks():
    ds = sample().isel(y=slice(0, None, 2), x=slice(0, None, 2))

    def simulate(ds):
        return nd.simulate_fluorescence(ds, ratio=RATIO, angles=np.arange(0, 180, 20.0))

    assert_lazy(simulate, ds.chunk(channel=1))
    assert_chunk_invariant(simulate, ds, [{"channel": 1}])
    made = simulate(ds)
    clear = simulate(ds.assign(attenuation=ds.attenuation * 0))
    np.testing.assert_array_equal(clear.sinogram, clear.true_sinogram)
    np.testing.assert_array_equal(made.true_sinogram, clear.true_sinogram)
    lost = 1 - made.sinogram.sum(["angle", "translation"]) / made.true_sinogram.sum(
        ["angle", "translation"]
    )
    assert (lost > 0.2).all()
    assert float(lost[1]) < float(lost[0])
