import numpy as np
import pytest
from scipy.optimize import lsq_linear, nnls

from ndtomo_dask.kernels.components.reference_fit import (
    ReferenceStatus,
    dependent_component,
    design_matrix,
    fit_amounts,
)
from tests.tolerances import STATISTICAL

EXACT = 1e-8
"""Of the largest amount: normal equations square the condition number of the references."""
PULL, ROBUST_PULL = 0.06, 0.15
"""Of the scatter over the standard error, from 3000 fits: 1.3 % by chance. A robust error rests on
the few residuals under a reference's peaks, and scatters itself by some 30 % here."""
AXIS = np.linspace(1.0, 3.0, 120)


def references(count, rng):
    centers = rng.uniform(1.0, 3.0, (count, 6, 1))
    heights = rng.random((count, 6, 1))
    return (heights * np.exp(-(((AXIS - centers) / 0.05) ** 2))).sum(axis=1) + 0.02


def mixtures(known, pixels, rng):
    amounts = 40 * rng.random((pixels, len(known))) * (rng.random((pixels, len(known))) < 0.6)
    return amounts, rng.poisson(amounts @ known + 2).astype(float)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_amounts_are_those_of_scipy_pixel_by_pixel(count, rng):
    known = references(count, rng)
    data = mixtures(known, 80, rng)[1]
    found = fit_amounts(data, design_matrix(known, AXIS))
    expected = np.array([nnls(known.T, row)[0] for row in data])
    np.testing.assert_allclose(found.amount, expected, atol=EXACT * expected.max())
    assert count == 1 or (expected == 0).any()
    assert (found.status == ReferenceStatus.FITTED).all()


def test_a_background_may_be_negative_and_amounts_may_not(rng):
    known = references(3, rng)
    data = mixtures(known, 60, rng)[1] - 30 + 4 * AXIS
    design = design_matrix(known, AXIS, background=1)
    found = fit_amounts(data, design)
    bounds = (np.where(design.free, -np.inf, 0.0), np.inf)
    for row, amount in zip(data, found.amount, strict=True):
        peer = lsq_linear(design.rows.T, row, bounds=bounds, tol=1e-14).x / design.norm
        np.testing.assert_allclose(amount, peer[:3], atol=1e-5 * peer.max())
    shifted = fit_amounts(data + 100 - 7 * AXIS, design)
    np.testing.assert_allclose(shifted.amount, found.amount, atol=EXACT * found.amount.max())


def test_no_amount_could_be_better(rng):
    known = references(6, rng)
    data = mixtures(known, 200, rng)[1] - 3
    amount = fit_amounts(data, design_matrix(known, AXIS)).amount
    slope = (data - amount @ known) @ known.T / np.linalg.norm(known, axis=1)
    scale = np.linalg.norm(data, axis=1, keepdims=True)
    assert (np.abs(slope)[amount > 0] <= 1e-10 * scale.max()).all()
    assert (slope <= 1e-10 * scale)[amount == 0].all()


def test_without_a_bound_it_is_plain_least_squares(rng):
    known = references(4, rng)
    data = rng.standard_normal((50, AXIS.size))
    design = design_matrix(known, AXIS, nonnegative=False)
    expected = np.linalg.lstsq(known.T, data.T, rcond=None)[0].T
    found = fit_amounts(data, design, uniform=True)
    np.testing.assert_allclose(found.amount, expected, atol=EXACT)
    residual = ((data - expected @ known) ** 2).sum(axis=1) / (AXIS.size - 4)
    np.testing.assert_allclose(found.reduced_chi_square, residual, rtol=EXACT)
    spread = np.outer(residual, np.diag(np.linalg.inv(known @ known.T)))
    np.testing.assert_allclose(found.error, np.sqrt(spread), rtol=EXACT)


@pytest.mark.parametrize("case", ["robust", "uniform", "weighted", "gaps"])
def test_errors_are_the_scatter_of_the_amounts(case, rng):
    known = references(3, rng) * 400
    truth = np.array([5.0, 3.0, 4.0])
    mean = truth @ known + 20
    design = design_matrix(known, AXIS, background=0)
    counts = rng.poisson(mean, (3000, AXIS.size)).astype(float)
    if case == "uniform":
        counts = mean + 9 * rng.standard_normal(counts.shape)
    if case == "gaps":
        counts[:, 10:20] = np.nan
    variance = np.broadcast_to(mean, counts.shape) if case == "weighted" else None
    found = fit_amounts(counts, design, variance=variance, uniform=case == "uniform")
    pulls = (found.amount - truth) / found.error
    assert (abs(pulls.mean(axis=0)) < STATISTICAL / np.sqrt(len(pulls))).all()
    pull = ROBUST_PULL if case in ("robust", "gaps") else PULL
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=pull)
    variances = (found.error**2).mean(axis=0) / found.amount.var(axis=0)
    np.testing.assert_allclose(variances, 1, atol=2 * PULL)


def test_errors_of_counts_as_if_uniform_are_wrong(rng):
    """What the robust errors are for: a strong reference has strong noise under its peaks."""
    known = references(3, rng) * 400
    counts = rng.poisson(np.array([5.0, 3.0, 4.0]) @ known + 20, (2000, AXIS.size)).astype(float)
    found = fit_amounts(counts, design_matrix(known, AXIS, background=0), uniform=True)
    assert (found.amount.std(axis=0) > 1.2 * found.error.mean(axis=0)).any()


def test_an_amount_at_zero_has_the_error_that_it_would_have_if_free(rng):
    known = references(3, rng)
    data = 50 * known[0] - 20 * known[2] + rng.standard_normal((40, AXIS.size))
    found = fit_amounts(data, design_matrix(known, AXIS), uniform=True)
    zero = (found.amount[:, 2] == 0) & (found.amount[:, 1] > 0)
    assert zero.sum() > 5
    expected = np.sqrt(found.reduced_chi_square * np.linalg.inv(known @ known.T)[2, 2])
    np.testing.assert_allclose(found.error[zero, 2], expected[zero], rtol=EXACT)


def test_a_gap_has_no_weight_and_is_in_its_own_spectrum_only(rng):
    known = references(4, rng)
    data = mixtures(known, 60, rng)[1]
    clean = fit_amounts(data, design_matrix(known, AXIS))
    gaps = data.copy()
    gaps[7, 20:40], gaps[9, 3] = np.nan, np.inf
    found = fit_amounts(gaps, design_matrix(known, AXIS))
    kept = np.isfinite(gaps[7])
    expected = nnls(known[:, kept].T, data[7, kept])[0]
    np.testing.assert_allclose(found.amount[7], expected, atol=EXACT * expected.max())
    others = np.delete(np.arange(60), [7, 9])
    for name in found._fields:
        np.testing.assert_array_equal(getattr(found, name)[others], getattr(clean, name)[others])


def test_weights_are_those_of_scaled_equations(rng):
    known = references(4, rng)
    data, variance = mixtures(known, 30, rng)[1], rng.uniform(0.5, 4, (30, AXIS.size))
    variance[3, 5] = 0.0
    found = fit_amounts(data, design_matrix(known, AXIS), variance=variance)
    weights = np.where(variance > 0, 1 / np.sqrt(np.maximum(variance, 1e-9)), 0.0)
    for row, weight, amount in zip(data, weights, found.amount, strict=True):
        expected = nnls((known * weight).T, row * weight)[0]
        np.testing.assert_allclose(amount, expected, atol=EXACT * expected.max())


@pytest.mark.parametrize("uniform", [True, False])
def test_the_order_and_number_of_spectra_change_no_bit(uniform, rng, monkeypatch):
    known = references(5, rng)
    data = mixtures(known, 700, rng)[1]
    data[::50, 4] = np.nan
    design = design_matrix(known, AXIS, background=2)
    whole = fit_amounts(data, design, uniform=uniform)
    order = rng.permutation(700)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for chosen in (order, order[:13], order[:1]):
        part = fit_amounts(data[chosen], design, uniform=uniform)
        for name in part._fields:
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[chosen])


def test_scaled_data_have_scaled_amounts_and_nothing_else(rng):
    known = references(4, rng)
    data = mixtures(known, 40, rng)[1]
    found, scaled = (fit_amounts(d, design_matrix(known, AXIS)) for d in (data, 1024 * data))
    np.testing.assert_array_equal(scaled.amount, 1024 * found.amount)
    np.testing.assert_array_equal(scaled.error, 1024 * found.error)


def test_spectra_that_determine_nothing_are_a_status(rng):
    known = references(3, rng)
    data = mixtures(known, 4, rng)[1]
    data[0], data[1, 3:] = np.nan, np.nan
    data[2, known[1] > known[1].min() * 1.5] = np.nan
    known[1] = np.where(known[1] > known[1].min() * 1.5, known[1], 0.0)
    found = fit_amounts(data, design_matrix(known, AXIS))
    assert found.status.tolist() == [1, 1, 2, 0]
    assert np.isnan(found.amount[:3]).all()
    assert np.isnan(found.error[:3]).all()


def test_an_empty_spectrum_has_amounts_of_zero(rng):
    found = fit_amounts(np.zeros((2, AXIS.size)), design_matrix(references(3, rng), AXIS))
    np.testing.assert_array_equal(found.amount, 0)
    np.testing.assert_array_equal(found.error, 0)


def test_dependent_references_are_named(rng):
    known = references(3, rng)
    assert dependent_component(design_matrix(known, AXIS, background=1)) is None
    twice = np.vstack([known, 2 * known[0] - known[1]])
    assert dependent_component(design_matrix(twice, AXIS)) == 3
    assert dependent_component(design_matrix([np.ones(120)], AXIS, background=0)) == 1
