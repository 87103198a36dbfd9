"""Errors of the fwhm and fraction that follow from the two widths of a Voigt."""

import numpy as np
import pytest

from ndtomo_dask.kernels.fitting.least_squares import fit_model
from ndtomo_dask.kernels.fitting.peak_model import PeakModel, same
from ndtomo_dask.kernels.fitting.peak_shapes import thompson_cox_hastings
from ndtomo_dask.kernels.fitting.peaks import evaluate_shape
from tests.tolerances import FIT, STATISTICAL

X = np.linspace(0.0, 63.0, 64)
SHAPE = "thompson_cox_hastings"
WIDTHS = (25.0, 3.0)
ELSEWHERE = 1e-3
"""Of errors taken a hundredth of them away from the minimum."""
PULL = 0.05
"""Of 3000 spectra; their scatter is known to 0.013."""


def derived(values):
    """Fwhm and fraction of rows of peaks."""
    return np.array([thompson_cox_hastings(*row[2:4])[:2] for row in values])


def peak(area, position, widths=WIDTHS):
    return evaluate_shape(SHAPE, X, [area, position, *widths])


@pytest.mark.parametrize("options", [{"likelihood": "poisson"}, {"variance": "counts"}])
def test_scatter_is_what_the_errors_say(options):
    counts = np.random.default_rng(1).poisson(20 + peak(4000.0, 31.3), (3000, X.size)).astype(float)
    fit = fit_model(counts, X, PeakModel({"a": SHAPE}), **options)
    found, truth = derived(fit.values), derived([(0, 0, *WIDTHS)])[0]
    pulls = [(found[:, k] - truth[k]) / fit.width_errors[:, 0, k] for k in range(2)]
    pulls += [(fit["a.area"] - 4000.0) / fit.error("a.area")]
    pulls += [(fit["a.position"] - 31.3) / fit.error("a.position")]
    for pull in pulls:
        assert abs(np.std(pull) - 1) < PULL


def test_a_width_that_ends_at_zero_leaves_the_fwhm_an_error():
    rng = np.random.default_rng(2)
    data = peak(900.0, 31.3, (25.0, 0.0)) + rng.normal(scale=3.0, size=(2000, X.size))
    fit = fit_model(data, X, PeakModel({"a": SHAPE}))
    ended = fit["a.lorentzian_fwhm"] == 0
    assert 0.2 < ended.mean() < 0.8
    assert np.isnan(fit.width_errors[ended, 0, 1]).all()
    assert np.isfinite(fit.width_errors[:, 0, 0]).mean() > 0.99
    pull = (derived(fit.values)[:, 0] - 5.0) / fit.width_errors[:, 0, 0]
    assert np.nanstd(pull) < 1 + PULL


def test_tied_widths_have_one_error_and_exchanged_peaks_keep_theirs():
    rng = np.random.default_rng(3)
    two = peak(4000.0, 20.0) + peak(1000.0, 44.0, (9.0, 2.0))
    noisy = two + rng.normal(scale=4.0, size=(200, X.size))
    free = fit_model(noisy, X, PeakModel(dict.fromkeys("ab", SHAPE)))
    alone = fit_model(noisy, X, PeakModel(dict.fromkeys("ab", SHAPE)),
                      bounds={"a.position": (10, 32), "b.position": (32, 60)})  # fmt: skip
    np.testing.assert_allclose(free.width_errors, alone.width_errors, rtol=ELSEWHERE)
    assert np.median(free.width_errors[:, 0, 0]) < np.median(free.width_errors[:, 1, 0])
    ties = same("gaussian_square", "a", "b") | same("lorentzian_fwhm", "a", "b")
    tied = fit_model(noisy, X, PeakModel(dict.fromkeys("ab", SHAPE), 1, ties))
    np.testing.assert_allclose(tied.width_errors[:, 0], tied.width_errors[:, 1], rtol=FIT)


def test_fits_without_such_a_peak_keep_no_errors_of_widths():
    fit = fit_model(peak(4000.0, 31.3)[np.newaxis], X, PeakModel({"a": "gaussian"}))
    assert fit.width_errors.shape == (1, 0, 2)
    weak = STATISTICAL * np.random.default_rng(4).normal(size=(3, X.size))
    nothing = fit_model(weak, X, PeakModel({"a": SHAPE}), significance=20.0)
    assert np.isnan(nothing.width_errors).all()
