"""Bins: counts are conserved, variances are those of sums, and labels go along."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_lazy, relative_error
from tests.tolerances import PHYSICS

CHUNKS = [{"angle": 7}, {"channel": 13}, {"angle": 11, "channel": 25}]
BINS = [{"angle": 2}, {"channel": 4}, {"angle": 3, "translation": 2, "channel": 5}]
DRAWS = 600
SCATTER = 5 * np.sqrt(2 / DRAWS)
"""Five standard errors of a variance that is estimated from that many draws."""


@pytest.fixture
def scan(scan):
    flux = xr.DataArray(np.full((40, 32), 1000.0), dims=("angle", "translation"))
    spread = scan.sinogram.clip(min=1).assign_attrs(units="count^2")
    return scan.assign(sinogram_variance=spread, monitor=flux.assign_attrs(units="count"))


@pytest.mark.parametrize("bins", BINS, ids=str)
def test_counts_are_conserved_and_means_are_means(bins, scan):
    total, mean = nd.rebin(scan, **bins), nd.rebin(scan, **bins, reduce="mean")
    expected = scan.coarsen(bins, boundary="trim")
    np.testing.assert_allclose(total.sinogram, expected.sum().sinogram, rtol=1e-6)
    np.testing.assert_allclose(mean.sinogram, expected.mean().sinogram, rtol=1e-6)
    np.testing.assert_allclose(total.sinogram_variance, expected.sum().sinogram_variance, rtol=1e-6)
    samples = np.prod(list(bins.values()))
    spread = expected.mean().sinogram_variance / samples
    np.testing.assert_allclose(mean.sinogram_variance, spread, rtol=1e-6)
    for dim in set(bins) & {"angle", "translation"}:
        np.testing.assert_allclose(total[dim], expected.mean()[dim])
    np.testing.assert_allclose(total.tth, nd.rebin(scan.drop_vars(["q", "d"]), **bins).tth)
    q = nd.derive_axes(total.drop_vars(["q", "d"])).q
    np.testing.assert_array_equal(total.q, q)
    assert set(total.xindexes) == set(scan.xindexes)
    assert total.sinogram.attrs == scan.sinogram.attrs


@pytest.mark.parametrize("bins", BINS, ids=str)
def test_bins_do_not_depend_on_the_chunks_and_the_input_stays(bins, scan):
    before = scan.copy(deep=True)
    assert_lazy(lambda ds: nd.rebin(ds, **bins), scan.chunk(angle=7, channel=13))
    xr.testing.assert_identical(scan, before)
    assert_chunk_invariant(lambda ds: nd.rebin(ds, **bins), scan, CHUNKS)
    stack = xr.concat([scan[["sinogram"]], scan[["sinogram"]] * 2], "z", join="exact")
    np.testing.assert_array_equal(
        nd.rebin(stack.chunk(z=1, angle=9), **bins).sinogram[0], nd.rebin(scan, **bins).sinogram
    )


def test_variance_of_a_bin_is_the_scatter_of_many(rng):
    expected = rng.uniform(20, 200, (6, 8, 10))
    expected[2, 3, 4] = np.nan
    rays = ("angle", "translation", "channel")
    told = xr.Dataset({"sinogram": (rays, expected, {"units": "count"}),
                       "sinogram_variance": (rays, expected)})  # fmt: skip
    counts = rng.poisson(np.nan_to_num(expected), (DRAWS, 6, 8, 10)).astype(float)
    counts[:, 2, 3, 4] = np.nan
    draws = xr.Dataset({"sinogram": (("z", *rays), counts, {"units": "count"})})
    for reduce in ("sum", "mean"):
        made = nd.rebin(told, angle=2, channel=5, reduce=reduce).sinogram_variance
        scatter = nd.rebin(draws, angle=2, channel=5, reduce=reduce).sinogram.var("z")
        np.testing.assert_allclose(scatter / made, 1, atol=SCATTER)


def test_what_is_missing_is_made_up_for(scan):
    flat = scan.assign(sinogram=(scan.sinogram * 0 + 6).assign_attrs(units="count"))
    flat.sinogram[4, 5, 6] = np.nan
    flat.sinogram[8:10, 5, 8:10] = np.nan
    mask = xr.zeros_like(flat.sinogram[..., 0], dtype=bool).drop_vars(["angle", "translation"])
    mask[20, 7] = mask[22:24, 9] = True
    flat = flat.assign(mask=mask)
    flat.sinogram[20, 7] = flat.sinogram[22:24, 9] = 1e6
    made = nd.rebin(flat, angle=2, channel=2)
    known = np.isfinite(made.sinogram)
    assert (made.sinogram.values[known] == 24).all()
    assert (~known).sum() == 1 + 30  # one bin, and one that is masked in every channel
    np.testing.assert_array_equal(np.argwhere(made.mask.values), [[11, 9]])
    np.testing.assert_array_equal(np.isnan(made.sinogram_variance), ~known)


def test_the_rotation_axis_stays_where_it_is(clean_scan):
    placed = nd.set_rotation_center(clean_scan, 14.3)
    binned = nd.rebin(placed, translation=2)
    position = np.interp(14.3, np.arange(32), placed.translation)
    again = np.interp(float(binned.rotation_center), np.arange(16), binned.translation)
    assert abs(position - again) < 1e-9


def test_a_volume_of_means_is_the_volume_with_larger_pixels(clean_scan):
    bare = nd.remove_air(clean_scan)[["sinogram"]]
    scan = nd.set_rotation_center(bare, 15.5).chunk()
    fine = nd.reconstruct(scan).volume
    coarse = nd.reconstruct(nd.rebin(scan, translation=2, reduce="mean")).volume
    expected = nd.rebin(nd.reconstruct(scan)[["volume"]], y=2, x=2).volume
    assert expected.shape == coarse.shape == (16, 16, 60)
    assert relative_error(coarse.mean(["y", "x"]), fine.mean(["y", "x"])) < PHYSICS
    assert relative_error(coarse, expected) < 10 * PHYSICS


def test_bad_bins_are_refused(scan):
    with pytest.raises(OptionError, match="angle=41 samples cannot be binned: the data have 40"):
        nd.rebin(scan, angle=41)
    with pytest.raises(OptionError, match="channel=0 samples cannot be binned"):
        nd.rebin(scan, channel=0)
    with pytest.raises(OptionError, match="reduce='median' is not known"):
        nd.rebin(scan, channel=2, reduce="median")


@pytest.mark.parametrize("axis", ["tth", "q", "d"])
def test_another_axis_conserves_counts(axis, scan):
    made = nd.rebin_axis(scan, axis, points=45)
    assert made.sinogram.sizes["channel"] == 45
    steps = np.diff(made[axis])
    np.testing.assert_allclose(steps, steps[0])
    total = scan.sinogram.sum("channel", dtype="float64")
    inside = made.sinogram.sum("channel", dtype="float64")
    # The new bins reach as far as the old ones, but for parts of those at the ends.
    edge = scan.sinogram[..., [0, 1, -2, -1]].sum("channel")
    assert float(np.abs(total - inside).max()) <= float(edge.max()) + 1e-6
    assert {"tth", "q", "d"} <= set(made.xindexes)


def test_the_same_axis_gives_the_same_counts_and_variance(scan):
    for reduce in ("sum", "mean"):
        same = nd.rebin_axis(scan, "q", values=scan.q.values, reduce=reduce)
        np.testing.assert_allclose(same.sinogram, scan.sinogram, rtol=1e-6)
        np.testing.assert_allclose(same.sinogram_variance, scan.sinogram_variance, rtol=1e-6)
        np.testing.assert_allclose(same.tth, scan.tth)


def test_a_line_stays_a_line_on_a_mean_axis(scan):
    slope = (2 * scan.q + 1).astype("float32")
    ds = scan.assign(sinogram=scan.sinogram * 0 + slope).drop_vars("sinogram_variance")
    made = nd.rebin_axis(ds, "q", points=30, reduce="mean")
    expected = 2 * made.q.values + 1
    np.testing.assert_allclose(made.sinogram[0, 0, 1:-1], expected[1:-1], rtol=0.01)


def test_variance_on_another_axis_is_the_scatter_of_many(scan, rng):
    expected = scan.sinogram.isel(angle=[0, 9], translation=slice(8, 20)).clip(min=5)
    told = nd.rebin_axis(
        expected.to_dataset().assign(sinogram_variance=expected), "q", points=37
    ).sinogram_variance
    counts = rng.poisson(expected.values, (DRAWS, *expected.shape)).astype("float64")
    draws = expected.astype("float64").expand_dims(z=DRAWS).copy(data=counts).to_dataset()
    scatter = nd.rebin_axis(draws, "q", points=37).sinogram.var("z")
    np.testing.assert_allclose(scatter / told, 1, atol=1.1 * SCATTER)


def test_another_axis_does_not_depend_on_the_chunks(scan):
    scan.sinogram[4, 5, 6] = np.nan
    mask = xr.DataArray(np.arange(60) == 20, dims="channel")
    ds = scan.assign(mask=mask)
    assert_lazy(lambda ds: nd.rebin_axis(ds, "q", points=37), scan.chunk(angle=7))
    assert_chunk_invariant(lambda ds: nd.rebin_axis(ds, "q", points=37), scan, [{"angle": 7}])
    made, clean = nd.rebin_axis(ds, "q", points=37), nd.rebin_axis(scan, "q", points=37)
    assert np.isfinite(made.sinogram).sum() >= made.sinogram.size - 2
    far = np.abs(made.q.values - float(scan.q[20])) > 0.2
    np.testing.assert_array_equal(made.sinogram[..., far], clean.sinogram[..., far])
    assert made.sinogram.dtype == "float32"


def test_bad_axes_are_refused(scan):
    with pytest.raises(OptionError, match="axis='energies' is not one of tth, q, d, energy"):
        nd.rebin_axis(scan, "energies", points=9)
    with pytest.raises(SchemaError, match="rebin_axis was asked for axis 'energy', but the data"):
        nd.rebin_axis(scan, "energy", points=9)
    with pytest.raises(OptionError, match="takes points=1000 or values="):
        nd.rebin_axis(scan, "q")
    with pytest.raises(OptionError, match="must be numbers in order"):
        nd.rebin_axis(scan, "q", values=[1.0, 3.0, 2.0])
    with pytest.raises(SchemaError, match="rebin_axis needs whole spectra"):
        nd.rebin_axis(scan.chunk(channel=20), "q", points=9)


def test_a_recipe_bins_and_is_planned_with_the_new_sizes(scan, tmp_path):
    nd.save(scan[["sinogram"]].chunk(angle=10), tmp_path / "scan.zarr")
    steps = [{"rebin": {"angle": 2, "translation": 2}}, {"rebin_axis": {"axis": "q", "points": 40}},
             "reconstruct", {"rebin": {"y": 2, "x": 2}}]  # fmt: skip
    content = {"input": str(tmp_path / "scan.zarr"), "output": str(tmp_path / "out.zarr"),
               "steps": steps[:-1], "save": ["sinogram", "volume"]}  # fmt: skip
    recipe = make_recipe(content)
    plans = {plan.step: plan for plan in plan_recipe(recipe)}
    made = run_recipe(recipe)
    typed = nd.rebin_axis(nd.rebin(scan[["sinogram"]], angle=2, translation=2), "q", points=40)
    np.testing.assert_array_equal(made.sinogram, typed.sinogram)
    np.testing.assert_array_equal(made.volume, nd.reconstruct(typed).volume)
    assert made.volume.nbytes == plans["save volume"].written_bytes
    plan_recipe(make_recipe({**content, "steps": steps}))
