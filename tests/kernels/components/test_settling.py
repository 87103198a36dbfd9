"""Sweeps that pass over rows end where sweeps over all rows end."""

import numpy as np
import pytest

from ndtomo_dask.kernels.components import cluster_starts, clusters
from ndtomo_dask.kernels.components.settling import settle
from ndtomo_dask.kernels.reductions import reduce_array

SAME = 1e-10
"""Relative: sums in another order."""


def overlapping(rows=4000, columns=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (5, columns))[rng.integers(0, 5, rows)] + rng.normal(
        0, 0.8, (rows, columns)
    )


@pytest.mark.parametrize("count", [1, 2, 9])
def test_it_is_lloyds_iteration_sweep_by_sweep(count):
    data = overlapping()
    centers = cluster_starts.start_centers(data, count, restarts=1, seed=3)
    for sweeps in range(1, 25):
        sums = clusters.lloyd_partial(data, centers)
        found, inertia, done = settle(data, centers[0], still=-1.0, iterations=1)
        assert done == 1
        assert inertia == pytest.approx(sums.inertia[0], rel=SAME)
        centers = (sums.total / sums.size[..., None]).astype(float)
        np.testing.assert_allclose(found, centers[0], atol=SAME)
        start = cluster_starts.start_centers(data, count, restarts=1, seed=3)[0]
        many, _, _ = settle(data, start, still=-1.0, iterations=sweeps)
        np.testing.assert_allclose(many, centers[0], atol=SAME)


def test_an_empty_cluster_is_put_at_the_farthest_row():
    data = overlapping()
    data[77] = 40
    start = np.stack([np.full(7, 1e3), np.zeros(7)])
    found, inertia, _ = settle(data, start, still=1e-6, iterations=50)
    np.testing.assert_allclose(found[0], 40)
    rest = np.delete(data, 77, axis=0)
    assert inertia == pytest.approx(np.square(rest - rest.mean(axis=0)).sum(), rel=SAME)


def test_rows_that_are_all_alike_stand_still():
    found, inertia, done = settle(np.ones((9, 3)), np.ones((4, 3)), still=1e-6, iterations=5)
    assert (inertia, done) == (0.0, 1)
    np.testing.assert_array_equal(found, np.ones((4, 3)))


def test_the_best_start_does_not_depend_on_threads_and_is_as_good_as_any(monkeypatch):
    data = overlapping(9000)
    many = {"restarts": 6, "seed": 0, "iterations": 100}
    found = {}
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found[threads] = cluster_starts.best_start(data, 5, **many)
    np.testing.assert_array_equal(found["1"], found["3"])
    starts = cluster_starts.start_centers(data, 5, restarts=6, seed=0)
    best = clusters.find_centers(reduce_array(data), starts, iterations=100).inertia
    assert clusters.lloyd_partial(data, found["1"][None]).inertia[0] < 1.001 * best
