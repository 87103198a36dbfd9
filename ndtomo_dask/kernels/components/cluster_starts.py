"""Where K-means of many rows starts: at centers that stand still on some of the rows.

The rows are chosen by their numbers in the data, so that no block matters, and held in memory.
Starts by k-means++ (Arthur & Vassilvitskii, SODA 2007) stand still on few of them first (after
Bradley & Fayyad, ICML 1998), and the best go on with more. Rows whose nearest center cannot have
changed are passed over.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ndtomo_dask.kernels.components.settling import settle
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

AS_GOOD = 0.02
"""Excess of the inertia over the least, on a sample of thousands, that may be chance."""

ALIKE = 0.01
"""Sum of squared distances between the centers of two starts, over the mean squared distance to
them, below which they have ended alike."""


class Level(NamedTuple):
    """Rows on which starts stand still, and what becomes of these."""

    rows: int
    per_cluster: int
    """The rows are so many for each cluster, if that is more."""
    still: float
    """Sum of the squared steps of the centers, over the mean squared distance to them, that counts
    as standing still: the more rows follow, the more chance there is in where they stand."""
    centers: int
    """Of the starts that go on, all together, at most; one goes on in any case."""

    def count(self, clusters: int) -> int:
        """How many rows there are for so many clusters."""
        return max(self.rows, self.per_cluster * clusters)

    def most(self, clusters: int) -> int:
        """How many starts of so many clusters go on, at most."""
        return max(1, self.centers // clusters)


LEVELS = (
    Level(2048, 64, 1e-5, 120), Level(8192, 256, 1e-5, 60), Level(65_536, 1024, 1e-6, 0),
)  # fmt: skip
"""Ever more rows for ever fewer starts, so that none of them takes much longer than the others."""


def start_centers(rows: Float, clusters: int, *, restarts: int, seed: int) -> Float64:
    """Choose centers by k-means++ among a sample, (row, column) -> (restart, cluster, column)."""
    exact = np.asarray(rows, dtype=np.float64)
    square = np.einsum("rc,rc->r", exact, exact)
    return np.stack([
        _spread_out(exact, square, clusters, np.random.default_rng([seed, restart]))
        for restart in range(restarts)
    ])  # fmt: skip


def _spread_out(rows: Float64, square: Float64, clusters: int, rng: np.random.Generator) -> Float64:
    """Choose each next row with a chance in proportion to its squared distance to those before.

    Of a few candidates the one is taken that leaves the least inertia, as in scikit-learn.
    """
    taken = np.empty(clusters, dtype=np.int64)
    taken[0] = rng.integers(len(rows))
    nearest = _squared_distances(rows, square, taken[:1])[0]
    trials = 2 + int(np.log(clusters))
    for number in range(1, clusters):
        cumulated = np.cumsum(nearest)
        drawn = np.searchsorted(cumulated, rng.random(trials) * cumulated[-1])
        drawn = drawn.clip(max=len(rows) - 1)
        left = np.minimum(nearest, _squared_distances(rows, square, drawn))
        best = left.sum(axis=1).argmin()
        taken[number], nearest = drawn[best], left[best]
    return rows[taken]


def _squared_distances(rows: Float64, square: Float64, some: Int64) -> Float64:
    """Squared distances of all rows to some of them, (row,) -> (some, row)."""
    products = rows[some] @ rows.T
    return np.asarray(np.maximum(0.0, square + square[some, None] - 2 * products))


def best_start(rows: Float, clusters: int, *, restarts: int, seed: int, iterations: int) -> Float64:
    """Let starts stand still on ever more rows of a sample, the best of them; (cluster, column)."""
    start = start_centers(rows[: LEVELS[0].count(clusters)], clusters, restarts=restarts, seed=seed)
    for level in LEVELS:
        start = settled_starts(
            rows[: level.count(clusters)], start, still=level.still, most=level.most(clusters),
            iterations=iterations,
        )  # fmt: skip
    best: Float64 = start[0]
    return best


def settled_starts(
    rows: Float, start: Float64, *, still: float, most: int, iterations: int
) -> Float64:
    """Let starts stand still on all rows, (start, cluster, column); those that go on, best first.

    They are at most so many that are about as good as the best, less those that have ended where a
    better one has: on more rows they would end alike, too.
    """
    centers, inertia = np.empty(start.shape), np.empty(len(start))
    exact = np.asarray(rows, dtype=np.float64)

    def work(number: int) -> None:
        centers[number], inertia[number], _ = settle(
            exact, start[number], still=still, iterations=iterations
        )

    run_threaded(work, range(len(start)))
    kept: list[Float64] = []
    for number in np.argsort(inertia, kind="stable"):
        one, near = centers[number], ALIKE * inertia[number] / len(rows)
        if inertia[number] <= (1 + AS_GOOD) * inertia.min() and all(
            _apart(one, other) > near for other in kept
        ):
            kept.append(one)
    return np.stack(kept[:most])


def _apart(first: Float64, second: Float64) -> float:
    """Sum of the squared distances between centers, each matched to one of the others."""
    table = np.square(first[:, None] - second).sum(axis=2)
    return float(table[linear_sum_assignment(table)].sum())
