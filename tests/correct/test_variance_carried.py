"""What corrections say of the noise they leave, against the scatter of many measurements."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from tests.laws import assert_chunk_invariant, assert_lazy

DRAWS = 600
SCATTER = 5 * np.sqrt(2 / DRAWS)
"""Five standard errors of a variance that is estimated from that many draws."""
RAYS = ("angle", "translation", "channel")

CORRECTIONS = {
    "remove_air": nd.remove_air,
    "normalize_projections": nd.normalize_projections,
    "normalize_monitor": nd.normalize_monitor,
    "flat_field edges": lambda ds: nd.flat_field(ds.drop_vars(["flat", "dark"]), width=3),
    "flat_field flats": nd.flat_field,
}


@pytest.fixture
def expected(rng):
    """Counts expected of a scan whose beam decays, and what was measured beside it."""
    beam = np.linspace(1.0, 0.6, 12)
    counts = 200 + 800 * rng.random((12, 20, 6))
    counts[:, [0, 1, 2, -3, -2, -1]] = 50000.0  # so that an edge's own noise is small
    counts *= beam[:, None, None]
    flat = np.full((20, 6), 60000.0)
    return xr.Dataset(
        {
            "sinogram": (RAYS, counts),
            "sinogram_variance": (RAYS, counts.copy(), {"units": "count^2"}),
            "monitor": (RAYS[:2], np.broadcast_to(beam[:, None] * 1e4, (12, 20)).copy()),
            "flat": (RAYS[1:], flat),
            "dark": (RAYS[1:], flat * 0 + 10.0),
        },
        coords={"angle": np.arange(12.0)},
    )


@pytest.mark.parametrize("name", CORRECTIONS)
def test_variance_is_the_scatter_of_many_measurements(name, expected, rng):
    air = nd.find_air(expected)
    verb = CORRECTIONS[name] if name != "remove_air" else lambda ds: nd.remove_air(ds, air)
    told = verb(expected).sinogram_variance
    counts = rng.poisson(expected.sinogram.values, (DRAWS, *expected.sinogram.shape))
    draws = expected.drop_vars("sinogram_variance").assign(
        sinogram=(("z", *RAYS), counts.astype(float))
    )
    inside = {"translation": slice(3, -3)}
    scatter = verb(draws).sinogram.isel(inside).var("z")
    ratio = scatter / told.isel(inside)
    assert abs(float(ratio.mean()) - 1) < 0.03  # what is neglected: the estimates' own noise
    np.testing.assert_allclose(ratio, 1, atol=SCATTER)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_variance_is_carried_lazily_and_by_any_blocks(name, expected):
    verb = CORRECTIONS[name]
    assert_lazy(verb, expected.chunk(angle=5, channel=2))
    chunks = [{"angle": 5}, {"channel": 4}, {"angle": 3, "channel": 2}]
    assert_chunk_invariant(verb, expected.astype("float32"), chunks, tolerance=1e-6)
    made = verb(expected.astype("float32"))
    assert made.sinogram_variance.dtype == "float32"
    squared = {"1": "1"}.get(made.sinogram.attrs["units"], "count^2")
    assert made.sinogram_variance.attrs["units"] == squared


@pytest.mark.parametrize("name", CORRECTIONS)
def test_variance_is_not_written_and_nan_stays_where_it_is(name, expected):
    before = expected.copy(deep=True)
    reference = CORRECTIONS[name](expected).sinogram_variance
    xr.testing.assert_identical(expected, before)
    expected.sinogram_variance[4, 9, 3] = np.nan
    found = CORRECTIONS[name](expected).sinogram_variance
    expected_nan = reference.copy()
    expected_nan[4, 9, 3] = np.nan
    np.testing.assert_array_equal(found, expected_nan)


def test_variance_is_nan_where_the_correction_has_no_value(expected):
    expected.monitor[2, 5] = 0.0
    expected.sinogram[3, 6, 1] = 4.0
    by_monitor, absorbed = nd.normalize_monitor(expected), nd.flat_field(expected)
    assert np.isnan(by_monitor.sinogram_variance[2, 5]).all()
    for made in (by_monitor, absorbed):
        np.testing.assert_array_equal(np.isnan(made.sinogram), np.isnan(made.sinogram_variance))


def test_a_scan_without_variance_gets_none(expected):
    bare = expected.drop_vars("sinogram_variance")
    for verb in CORRECTIONS.values():
        assert "sinogram_variance" not in verb(bare)
