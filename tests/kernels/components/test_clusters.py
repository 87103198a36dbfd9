from functools import reduce

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components import cluster_starts as starts
from ndtomo_dask.kernels.components import clusters as kernel
from ndtomo_dask.kernels.reductions import reduce_array

PEER_INERTIA = 1.001
"""Of scikit-learn's best of as many starts: both end in local minima."""


def groups(rows=6000, columns=8, clusters=5, spread=0.3, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 2, (clusters, columns))
    label = rng.integers(0, clusters, rows)
    return (centers[label] + spread * rng.standard_normal((rows, columns))).astype(dtype), label


def fitted(data, clusters=5, restarts=4, iterations=100):
    start = starts.start_centers(data.astype(float), clusters, restarts=restarts, seed=0)
    return kernel.find_centers(reduce_array(data), start, iterations=iterations)


@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_inertia_is_as_low_as_that_of_scikit_learn(spread):
    data, _ = groups(spread=spread)
    peer = KMeans(5, n_init=4, random_state=0).fit(data)
    found = fitted(data)
    assert found.inertia < PEER_INERTIA * peer.inertia_
    assert found.size.sum() == len(data)
    assert (np.diff(found.size) <= 0).all()


def test_separate_groups_are_found_again():
    data, label = groups()
    labels = kernel.nearest_centers(data, fitted(data).centers)
    assert adjusted_rand_score(label, labels) == 1


def test_inertia_never_rises_with_iterations():
    data, _ = groups(spread=1.5)
    inertia = [fitted(data, iterations=count).inertia for count in (1, 2, 4, 8, 16)]
    assert (np.diff(inertia) <= 1e-12 * inertia[0]).all()


@pytest.mark.parametrize(("blocks", "order"), [(3, 1), (17, 1), (17, -1)])
def test_sums_do_not_depend_on_blocks_or_order(blocks, order):
    data, _ = groups()
    centers = starts.start_centers(data.astype(float), 5, restarts=3, seed=0)
    whole = kernel.lloyd_partial(data, centers)
    parts = [kernel.lloyd_partial(part, centers) for part in np.array_split(data, blocks)]
    split = reduce(kernel.lloyd_combine, parts[::order])
    np.testing.assert_array_equal(split.size, whole.size)
    np.testing.assert_array_equal(split.row, whole.row)
    np.testing.assert_allclose(split.total, whole.total, rtol=1e-12)


def test_an_empty_cluster_is_put_at_the_farthest_row():
    data, _ = groups()
    data[77] = 40
    start = np.concatenate([np.full((1, 1, 8), 1e3), np.zeros((1, 1, 8))], axis=1)
    found = kernel.find_centers(reduce_array(data), start, iterations=50)
    np.testing.assert_array_equal(found.size, [5999, 1])
    np.testing.assert_allclose(found.centers[1], 40)


def test_rows_with_nan_are_left_out():
    data, _ = groups()
    spoiled = data.copy()
    spoiled[[3, 999], [0, 7]] = np.nan, np.inf
    kept = np.delete(data, [3, 999], axis=0)
    start = starts.start_centers(kept.astype(float), 5, restarts=2, seed=0)
    found = kernel.find_centers(reduce_array(spoiled), start, iterations=20)
    expected = kernel.find_centers(reduce_array(kept), start, iterations=20)
    np.testing.assert_allclose(found.centers, expected.centers, rtol=1e-12)
    labels = kernel.nearest_centers(spoiled, found.centers)
    np.testing.assert_array_equal(np.flatnonzero(labels < 0), [3, 999])


def test_more_clusters_than_different_rows_are_harmless():
    data = np.repeat(np.eye(3, 4, dtype="float32"), 10, axis=0)
    found = fitted(data, clusters=6)
    assert found.inertia < 1e-12
    assert np.isfinite(found.centers).all()
    assert found.size.sum() == 30


def test_starts_that_end_alike_on_a_sample_go_on_as_one():
    rows = groups()[0].astype(float)
    many, settled = {"restarts": 6, "seed": 0}, {"still": 1e-7, "most": 6}
    some = starts.start_centers(rows, 5, **many)
    kept = starts.settled_starts(rows, some, **settled, iterations=50)
    assert kept.shape == (1, 5, 8)
    found = kernel.find_centers(reduce_array(rows), kept, iterations=50)
    assert found.iterations <= 2
    vague = groups(spread=1.5)[0].astype(float)
    some = starts.start_centers(vague, 9, **many)
    several = starts.settled_starts(vague, some, **settled, iterations=300)
    assert 1 < len(several) <= 6
    inertia = [kernel.lloyd_partial(vague, one[None]).inertia[0] for one in several]
    assert inertia[0] == min(inertia)
    assert max(inertia) <= 1.03 * min(inertia)


def test_columns_beyond_those_of_the_centers_do_not_count():
    data, _ = groups()
    wider = np.concatenate([data, np.full((len(data), 1), 1e6, "float32")], axis=1)
    centers = starts.start_centers(data.astype(float), 5, restarts=2, seed=0)
    for got, expected in zip(
        kernel.lloyd_partial(wider, centers), kernel.lloyd_partial(data, centers), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    assert kernel.rest_partial(np.array([[1.0, 2.0], [np.nan, 4.0]])) == (2, 1, 2.0)


def test_no_iterations_are_refused():
    with pytest.raises(OptionError, match="iterations=0 must be 1 or more"):
        fitted(groups()[0], iterations=0)
