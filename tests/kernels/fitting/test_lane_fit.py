"""Laws of fits side by side in lanes: each is what it would be alone."""

import numpy as np
import pytest

from ndtomo_dask.kernels.fitting import least_squares
from ndtomo_dask.kernels.fitting.lanes import LANES
from ndtomo_dask.kernels.fitting.least_squares import FitStatus, fit_model
from ndtomo_dask.kernels.fitting.peak_model import PeakModel, background_rows
from ndtomo_dask.kernels.fitting.peaks import evaluate_peak
from tests.tolerances import FIT_PEER

SHAPES = ("pseudo_voigt", "gaussian")
PARTS = ("values", "errors", "at_bound", "reduced_chi_square", "iterations", "status")


def counts(rng, pixels, peaks, channels, degree=1):
    """Poisson counts of peaks 12 channels apart, some weak, on a polynomial."""
    x = np.arange(channels, dtype=float)
    middle = (channels - 1) / 2 + 12 * (np.arange(peaks) - (peaks - 1) / 2)
    expected = np.full((pixels, channels), 40.0) + 0.1 * x * (degree > 0)
    for at in middle:
        one = {"area": rng.uniform(100, 20_000, (pixels, 1)),
               "position": at + rng.uniform(-1.5, 1.5, (pixels, 1)),
               "fwhm": rng.uniform(4, 9, (pixels, 1)),
               "fraction": rng.uniform(0, 1, (pixels, 1))}  # fmt: skip
        expected = expected + evaluate_peak(x, **one)
    model = PeakModel({f"p{k}": SHAPES[k] for k in range(peaks)}, degree)
    bounds = {f"p{k}.position": (at - 5, at + 5) for k, at in enumerate(middle)}
    return rng.poisson(expected).astype(float), x, model, bounds


def assert_same(fit, other, rows=slice(None)):
    for part in PARTS:
        np.testing.assert_array_equal(getattr(fit, part)[rows], getattr(other, part), part)


@pytest.mark.parametrize(
    ("peaks", "channels", "degree", "variance"),
    [(1, 64, 1, None), (1, 61, -1, "counts"), (2, 70, 0, "given"), (2, 79, 2, None)],
)
def test_lanes_find_what_fits_one_by_one_find(peaks, channels, degree, variance, monkeypatch):
    data, x, model, bounds = counts(np.random.default_rng(1), 300, peaks, channels, degree)
    data[7, 3], data[9] = np.nan, data[8]
    variance = data + 1 if variance == "given" else variance
    lanes = fit_model(data, x, model, bounds=bounds, variance=variance)
    monkeypatch.setattr(least_squares, "suits_lanes", lambda _: False)
    alone = fit_model(data, x, model, bounds=bounds, variance=variance)
    np.testing.assert_array_equal(lanes.status, alone.status)
    np.testing.assert_array_equal(lanes.at_bound, alone.at_bound)
    np.testing.assert_allclose(lanes.errors, alone.errors, rtol=FIT_PEER)
    apart = np.abs(lanes.values - alone.values) / lanes.errors
    assert np.nanmax(apart) < FIT_PEER
    assert np.mean(lanes.iterations == alone.iterations) > 0.99


@pytest.mark.parametrize("peaks", [1, 2])
@pytest.mark.parametrize(("channels", "variance"), [(64, None), (90, None), (64, "counts")])
def test_neighbors_order_and_number_do_not_matter(peaks, channels, variance):
    rng = np.random.default_rng(2)
    data, x, model, bounds = counts(rng, 5 * LANES + 7, peaks, channels)
    data[3], data[5, 20], data[9] = np.nan, np.inf, 40.0

    def fit(rows):
        return fit_model(data[rows], x, model, bounds=bounds, variance=variance)

    whole = fit(slice(None))
    assert set(np.unique(whole.status)) >= {FitStatus.CONVERGED, FitStatus.BAD_INPUT}
    order = rng.permutation(len(data))
    for rows in (order, slice(LANES - 3, None), [0], [5], [11], [100]):
        assert_same(whole, fit(rows), rows)


def test_starts_and_bounds_by_pixel_stay_with_their_pixel():
    rng = np.random.default_rng(3)
    data, x, model, _ = counts(rng, 2 * LANES + 5, 1, 64)
    start = {
        "p0.position": rng.uniform(25, 38, len(data)),
        "p0.fwhm": rng.uniform(3, 12, len(data)),
    }
    bounds = {"p0.area": (0.0, rng.uniform(500, 30_000, len(data)))}
    whole = fit_model(data, x, model, start=start, bounds=bounds)
    assert whole.at_bound[:, 0].any()
    order = rng.permutation(len(data))
    shuffled = fit_model(
        data[order], x, model, start={name: values[order] for name, values in start.items()},
        bounds={"p0.area": (0.0, bounds["p0.area"][1][order])},
    )  # fmt: skip
    assert_same(whole, shuffled, order)


@pytest.mark.parametrize("held", ["area", "position", "fwhm"])
def test_parameters_are_held_in_lanes_too(held, monkeypatch):
    data, x, model, _ = counts(np.random.default_rng(5), LANES + 9, 1, 64)
    bounds = {held: {"area": (9000.0,) * 2, "position": (31.0,) * 2, "fwhm": (6.0,) * 2}[held]}
    lanes = fit_model(data, x, model, bounds=bounds)
    monkeypatch.setattr(least_squares, "suits_lanes", lambda _: False)
    alone = fit_model(data, x, model, bounds=bounds)
    np.testing.assert_array_equal(lanes.status, alone.status)
    fitted = lanes.status[:, 0] <= FitStatus.STALLED
    assert fitted.mean() > 0.8
    assert np.all(lanes[f"p0.{held}"][fitted] == bounds[held][0])
    assert np.nanmax(np.abs(lanes.values - alone.values) / lanes.errors) < FIT_PEER


def test_backgrounds_of_other_spectra_are_fitted_in_lanes_too(monkeypatch):
    data, x, _, _ = counts(np.random.default_rng(4), LANES, 1, 64)
    model = PeakModel({"p0": "pseudo_voigt"}, ["chebyshev:3", np.sin(x / 9)])
    assert len(background_rows(model.background, x)) == 5
    lanes = fit_model(data, x, model)
    monkeypatch.setattr(least_squares, "suits_lanes", lambda _: False)
    alone = fit_model(data, x, model)
    assert np.nanmax(np.abs(lanes.values - alone.values) / lanes.errors) < FIT_PEER
