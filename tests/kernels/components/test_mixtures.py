from functools import reduce

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components import cluster_starts, clusters, mixtures
from ndtomo_dask.kernels.reductions import reduce_array

PEER_LIKELIHOOD = 1e-4
"""Difference of the mean log-likelihood from scikit-learn's: both stop before the end."""


def elongated(rows=6000, seed=0, dtype="float64"):
    """Three clusters of different shapes and sizes, which K-means cuts across."""
    rng = np.random.default_rng(seed)
    shapes = [np.diag([8.0, 0.3, 0.3]), np.diag([0.3, 8.0, 0.3]), np.diag([0.3, 0.3, 0.3])]
    places = np.array([[0, 5, 0], [0, -5, 4], [9, 9, 9]], dtype=float)
    label = rng.choice(3, rows, p=[0.5, 0.4, 0.1])
    noise = rng.standard_normal((rows, 3))
    data = places[label] + np.einsum("rij,rj->ri", np.array(shapes)[label], noise)
    return data.astype(dtype), label


def started(data, count=3):
    start = cluster_starts.start_centers(data.astype(float), count, restarts=4, seed=0)
    centers = clusters.find_centers(reduce_array(data), start, iterations=100).centers
    return mixtures.start_mixture(data.astype(float), centers)


def fitted(data, count=3, iterations=500):
    spread = float(data.var(axis=0).mean())
    return mixtures.find_mixture(
        reduce_array(data), started(data, count), spread, iterations=iterations
    )


def test_likelihood_is_that_of_scikit_learn_from_the_same_start():
    data, label = elongated()
    found, start = fitted(data), started(data)
    peer = GaussianMixture(
        3, weights_init=start.weight, means_init=start.mean, tol=1e-7, max_iter=1000,
        precisions_init=start.factor @ start.factor.transpose(0, 2, 1),
    ).fit(data)  # fmt: skip
    assert found.likelihood / len(data) == pytest.approx(peer.score(data), abs=PEER_LIKELIHOOD)
    shares, density = mixtures.probabilities(data, found.mixture)
    assert density.sum() == pytest.approx(found.likelihood, rel=1e-12)
    assert adjusted_rand_score(label, shares.argmax(axis=1)) > 0.99
    np.testing.assert_array_equal(found.size, np.bincount(shares.argmax(axis=1)))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)


def test_the_criterion_is_that_of_scikit_learn_and_finds_the_number_of_clusters():
    data, _ = elongated()
    criterion = {}
    for count in (2, 3, 4, 5):
        likelihood = fitted(data, count).likelihood
        criterion[count] = mixtures.information_criterion(likelihood, count, 3, len(data))
    assert min(criterion, key=criterion.get) == 3
    peer = GaussianMixture(3, tol=1e-7, max_iter=1000, random_state=0, n_init=3).fit(data)
    assert criterion[3] == pytest.approx(peer.bic(data), rel=1e-4)


def test_likelihood_never_falls_with_iterations():
    data, _ = elongated()
    likelihood = [fitted(data, iterations=count).likelihood for count in (1, 2, 4, 8, 16)]
    assert (np.diff(likelihood) >= -1e-9 * abs(likelihood[0])).all()


@pytest.mark.parametrize(("blocks", "order"), [(3, 1), (17, 1), (17, -1)])
def test_sums_do_not_depend_on_blocks_or_order(blocks, order):
    data, _ = elongated(dtype="float32")
    mixture = started(data)
    whole = mixtures.mixture_partial(data, mixture)
    parts = [mixtures.mixture_partial(part, mixture) for part in np.array_split(data, blocks)]
    split = reduce(mixtures.mixture_combine, parts[::order])
    np.testing.assert_array_equal(split.size, whole.size)
    for got, expected in zip(split, whole, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-6)


def test_rows_with_nan_are_left_out_and_have_no_probability():
    data, _ = elongated()
    spoiled = np.insert(data, [5, 70], np.nan, axis=0)
    mixture = started(data)
    got = mixtures.mixture_partial(spoiled, mixture)
    np.testing.assert_allclose(got.total, mixtures.mixture_partial(data, mixture).total, rtol=1e-9)
    shares, density = mixtures.probabilities(spoiled, mixture)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(shares).any(axis=1)), [5, 71])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(density)), [5, 71])


@pytest.mark.parametrize("data", [np.zeros((50, 3)), np.repeat(np.eye(3), 20, axis=0)])
def test_few_different_rows_are_harmless(data):
    found = fitted(data, 5)
    shares, _ = mixtures.probabilities(data, found.mixture)
    assert np.isfinite(shares).all()
    assert found.size.sum() == len(data)


def test_no_iterations_are_refused():
    with pytest.raises(OptionError, match="iterations=0 must be 1 or more"):
        fitted(elongated()[0], iterations=0)
