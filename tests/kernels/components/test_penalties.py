import numpy as np
import pytest

from ndtomo_dask.kernels.components import factors, nmf
from ndtomo_dask.kernels.components.penalties import Penalties, smooth_spectra
from ndtomo_dask.kernels.reductions import reduce_array

EXACT_BASIS = 1e-9
"""Relative error of the objective where the basis holds all of the data."""


def planted(pixels=400, channels=30, seed=0):
    rng = np.random.default_rng(seed)
    axis = np.arange(channels)
    spectra = np.exp(-(((axis - np.array([[6], [15], [23]])) / 3) ** 2)) + 0.02
    weights = rng.random((pixels, 3)) * (rng.random((pixels, 3)) < 0.5)
    return weights @ spectra + 0.02 * rng.standard_normal((pixels, channels))


def compressed(data, rank=None):
    basis = nmf.nmf_basis(factors.moments_partial(data), None, rank or data.shape[1])
    return factors.project_spectra(data, basis.vectors), basis


def factorized(data, **options):
    scores, basis = compressed(data)
    return nmf.nmf_from_sums(reduce_array(scores), basis, 3, **options), basis


def charged(data, spectra, threshold, smoothness):
    """The objective as it is documented, with the amounts that are best for it."""
    rough = np.square(np.diff(spectra, n=2, axis=1)).sum(axis=1)
    ridge = np.sqrt(smoothness * rough)
    tall = np.concatenate([spectra.T, np.diag(ridge)])
    longer = np.concatenate([data, np.zeros((len(data), len(spectra)))], axis=1)
    products = longer @ tall - threshold * spectra.sum(axis=1)
    weights = nmf.nonnegative_rows(products, tall.T @ tall)
    misfit = np.square(data - weights @ spectra).sum()
    energy = np.square(weights).sum(axis=0)
    return misfit + 2 * threshold * (weights @ spectra.sum(axis=1)).sum() + energy @ ridge**2


@pytest.mark.parametrize(("sparsity", "smoothness"), [(0.05, 0.0), (0.0, 5.0), (0.02, 2.0)])
def test_the_objective_reported_is_the_documented_one(sparsity, smoothness):
    data = planted()
    found, basis = factorized(data, sparsity=sparsity, smoothness=smoothness)
    threshold = nmf.penalty_threshold(basis, sparsity)
    expected = charged(data, found.spectra, threshold, smoothness)
    assert found.objective == pytest.approx(expected, rel=EXACT_BASIS)
    assert found.misfit < found.objective


@pytest.mark.parametrize(("sparsity", "smoothness"), [(0.05, 0.0), (0.0, 5.0)])
def test_each_penalty_lowers_what_it_charges_for(sparsity, smoothness):
    data = planted()
    plain, basis = factorized(data)
    found, _ = factorized(data, sparsity=sparsity, smoothness=smoothness)
    threshold = nmf.penalty_threshold(basis, sparsity)
    before = charged(data, plain.spectra, threshold, smoothness)
    assert plain.objective < found.misfit
    assert found.objective < before


@pytest.mark.parametrize("options", [{"sparsity": 0.05}, {"smoothness": 5.0}])
def test_the_objective_never_rises_with_iterations(options):
    data = planted()
    values = [factorized(data, iterations=n, **options)[0].objective for n in (1, 2, 4, 8, 16)]
    assert (np.diff(values) <= 1e-9 * values[0]).all()


def test_no_penalty_gives_the_bits_of_none():
    data = planted()
    scores, basis = compressed(data, 3)
    spectra = np.abs(np.random.default_rng(2).standard_normal((3, 30)))
    plain = nmf.nmf_partial(scores, basis.vectors, spectra)
    zero = nmf.nmf_partial(scores, basis.vectors, spectra, Penalties())
    for one, other in zip(plain, zero, strict=True):
        np.testing.assert_array_equal(one, other)
    assert Penalties().charge(plain.weight, np.diag(plain.gram), spectra) == 0


def test_the_charge_does_not_depend_on_the_scale_of_the_factors():
    rng = np.random.default_rng(3)
    weights, spectra, scale = rng.random((50, 3)), rng.random((3, 20)), np.array([2.0, 0.1, 7.0])
    penalties = Penalties(0.3, 0.7)
    values = [
        penalties.charge(w.sum(axis=0), np.square(w).sum(axis=0), h)
        for w, h in ((weights, spectra), (weights * scale, spectra / scale[:, None]))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_known_spectra_are_not_charged_for_their_shape():
    rough = np.random.default_rng(4).random((2, 20))
    _, ridge = Penalties(0.0, 1.0, fixed=1).of_weights(rough)
    assert ridge[0] == 0
    assert ridge[1] > 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 25])
def test_smooth_spectra_solve_their_least_squares(channels):
    rng = np.random.default_rng(5)
    gram = np.diag([3.0, 2.0]) + 0.2
    wanted = 1 + rng.random((2, channels))
    second = np.diff(np.eye(channels), n=2, axis=0) if channels > 2 else np.zeros((1, channels))
    products = gram @ wanted + 0.5 * np.diag(gram)[:, None] * (wanted @ second.T @ second)
    found = np.ones((2, channels))
    for _ in range(200):
        found = smooth_spectra(products, gram, found, 0.5, 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    kept = smooth_spectra(products, gram, np.full((2, channels), 9.0), 0.5, 1)
    np.testing.assert_array_equal(kept[0], 9)
    assert smooth_spectra(-products, gram, wanted, 0.5, 0).min() >= 0
