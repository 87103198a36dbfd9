"""Outliers: spots and hot samples go, the sample's own reflections stay."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy

VERBS = {
    "angle": nd.remove_outliers,
    "nan": lambda ds: nd.remove_outliers(ds, fill="nan", kind="both"),
    "percentile": lambda ds: nd.remove_outliers(ds, method="percentile", percentiles=(0, 99)),
}


@pytest.fixture(scope="module")
def clean():
    made = nd.simulate_scan(
        size=48, angles=90, channels=40, air=0.0, decay=1.0, jitter=0.0, grains=30, seed=5
    )
    return made.load()


@pytest.fixture(scope="module")
def spots():
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 90), rng.integers(8, 40), rng.integers(0, 40)) for _ in range(60)]


@pytest.fixture(scope="module")
def spotted(clean, spots):
    bad = clean.copy(deep=True)
    top = float(clean.sinogram.max())
    for place in spots:
        bad.sinogram[place] += 2 * top
    return bad.assign(sinogram_variance=bad.sinogram.clip(min=1).assign_attrs(units="count^2"))


def test_spots_are_found_and_little_else(spotted, clean, spots):
    made = nd.remove_outliers(spotted)
    replaced = (made.sinogram != spotted.sinogram).values
    assert all(replaced[place] for place in spots)
    assert replaced.sum() - len(set(spots)) < 1e-4 * replaced.size
    error = [np.sqrt(float(((ds.sinogram - clean.sinogram) ** 2).mean())) for ds in (made, spotted)]
    assert error[0] < 0.03 * error[1]
    assert int(made.replaced_samples.sum()) == replaced.sum()
    np.testing.assert_array_equal(made.replaced_samples, replaced.sum((0, 1)))


def test_small_grains_are_not_outliers():
    """A grain one translation wide crosses each ray in a projection or two."""
    angle = np.linspace(0, np.pi, 90, endpoint=False)[:, None]
    center = 23.5 + 20 * np.cos(angle)
    grain = np.exp(-0.5 * ((np.arange(48) - center) / 0.5) ** 2)
    noise = np.random.default_rng(0).normal(0, 0.01, grain.shape)
    ds = xr.Dataset({"sinogram": (("angle", "translation", "channel"), (grain + noise)[..., None])})
    assert int(nd.remove_outliers(ds).replaced_samples.sum()) <= 1


def test_variance_of_what_was_replaced_is_nan(spotted):
    made = nd.remove_outliers(spotted)
    replaced = (made.sinogram != spotted.sinogram).values
    np.testing.assert_array_equal(np.isnan(made.sinogram_variance), replaced)
    kept = made.sinogram_variance.values[~replaced]
    np.testing.assert_array_equal(kept, spotted.sinogram_variance.values[~replaced])


def test_filled_with_nan_or_an_estimate_the_same_samples_are_replaced(spotted):
    estimate, blank = nd.remove_outliers(spotted), nd.remove_outliers(spotted, fill="nan")
    assert np.isfinite(estimate.sinogram).all()
    np.testing.assert_array_equal(np.isnan(blank.sinogram), estimate.sinogram != spotted.sinogram)
    np.testing.assert_array_equal(blank.replaced_samples, estimate.replaced_samples)


def test_low_samples_are_found_where_asked_for(clean):
    bad = clean.copy(deep=True)
    bad.sinogram[30, 24] = -1e4
    found = nd.remove_outliers(bad, kind="low").sinogram
    assert (found[30, 24] > 0).all()
    assert (nd.remove_outliers(bad, kind="high").sinogram[30, 24] == -1e4).all()


def test_percentiles_are_those_of_each_channel(spotted):
    made = nd.remove_outliers(spotted, method="percentile", percentiles=(2, 98)).sinogram
    low, high = np.percentile(spotted.sinogram, (2, 98), axis=(0, 1))
    np.testing.assert_allclose(made.min(["angle", "translation"]), low, rtol=1e-6)
    np.testing.assert_allclose(made.max(["angle", "translation"]), high, rtol=1e-6)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_outliers_do_not_depend_on_the_chunks_and_the_input_stays(verb, spotted):
    before = spotted.copy(deep=True)
    made = assert_lazy(verb, spotted.chunk(channel=7))
    xr.testing.assert_identical(spotted, before)
    assert_keeps(spotted.drop_vars("sinogram_variance"), made, "remove_outliers")
    assert_chunk_invariant(verb, spotted, [{"channel": 7}, {"channel": 1}])
    both = xr.concat([spotted, spotted * 2], "z", coords="minimal", compat="override", join="exact")
    stacked = verb(both[["sinogram", "sinogram_variance"]].chunk(z=1))
    np.testing.assert_array_equal(stacked.sinogram[0], verb(spotted).sinogram)
    assert stacked.replaced_samples.dims == ("z", "channel")


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_bad_sample_stays_in_its_channel(verb, spotted):
    reference = verb(spotted).sinogram
    bad = spotted.copy(deep=True)
    bad.sinogram[10, 20, 3] = np.nan
    bad.sinogram[60] = np.nan
    masked = xr.zeros_like(bad.sinogram[..., 0], dtype=bool)
    masked[40, 20] = True
    made = verb(bad.assign(mask=masked.drop_vars(list(masked.coords)))).sinogram
    assert np.isnan(made[10, 20, 3])
    assert np.isnan(made[60]).all()
    np.testing.assert_array_equal(made[40, 20], bad.sinogram[40, 20])
    far = [*range(36), *range(44, 56), *range(65, 90)]
    others = [channel for channel in range(40) if channel != 3]
    if verb is nd.remove_outliers:
        same = made[far][..., others] == reference[far][..., others]
        assert float(same.mean()) > 0.9999  # a ray's scatter is that of all its angles


def test_counts_become_float32_and_float64_stays(spotted):
    counts = spotted.assign(sinogram=spotted.sinogram.astype("uint32"))
    made = nd.remove_outliers(counts)
    assert made.sinogram.dtype == "float32"
    assert int(made.replaced_samples.sum()) >= 50
    assert nd.remove_outliers(spotted.astype("float64")).sinogram.dtype == "float64"


def test_few_counts_are_not_outliers(rng):
    counts = rng.poisson(0.05, (180, 20, 10)).astype("float32")
    ds = xr.Dataset({"sinogram": (("angle", "translation", "channel"), counts)})
    assert float(nd.remove_outliers(ds).replaced_samples.sum()) < 0.003 * counts.size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "angles"}, "method='angles' is not known. Did you mean 'angle'"),
        ({"fill": "NaN"}, "fill='NaN' is not known"),
        ({"kind": "bright"}, "kind='bright' is not known"),
        ({"width": 0}, "width=0 and threshold=6.0 must be 1 angle or more"),
        ({"percentiles": (99, 1)}, r"percentiles=\(99, 1\) must be two numbers, in order"),
    ],
)
def test_bad_options_are_refused(options, message, spotted):
    with pytest.raises(OptionError, match=message):
        nd.remove_outliers(spotted, **options)
    with pytest.raises(SchemaError, match="remove_outliers needs whole images"):
        nd.remove_outliers(spotted.chunk(angle=10))


def test_a_recipe_takes_the_variance_along(spotted, tmp_path):
    scan = spotted[["sinogram", "sinogram_variance"]]
    nd.save(scan.chunk(angle=20), tmp_path / "scan.zarr")
    content = {
        "input": str(tmp_path / "scan.zarr"),
        "output": str(tmp_path / "out.zarr"),
        "steps": [{"rebin": {"channel": 2}}, "find_projection_scale", "normalize_projections",
                  "remove_outliers"],
        "save": ["sinogram", "sinogram_variance", "replaced_samples"],
    }  # fmt: skip
    made = run_recipe(make_recipe(content))
    typed = nd.rebin(scan, channel=2)
    typed = nd.normalize_projections(typed, nd.find_projection_scale(typed))
    typed = nd.remove_outliers(typed)
    for name in content["save"]:
        np.testing.assert_array_equal(made[name], typed[name], name)
