"""K-means of many rows of few columns, with restarts that share every sweep over the data.

Lloyd's iterations from k-means++ starts (Arthur & Vassilvitskii, SODA 2007). The starts are drawn
from a sample of rows that are chosen by their place in the data, so that no block matters, and
stand still on the sample first (after Bradley & Fayyad, ICML 1998). A cluster that is empty is put
at the row farthest from all centers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.reductions import Reduce, reduce_array, reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

STILL = 1e-7
"""Sum of the squared steps of the centers, over the mean squared distance to them, that counts as
standing still: about as in scikit-learn, with 600 channels."""

SLAB = 1024
"""Rows whose distances are worked out together: few enough to stay in the cache."""

AS_GOOD = 0.02
"""Excess of the inertia over the least, on a sample of thousands, that may be chance."""

ALIKE = 0.01
"""Sum of squared distances between the centers of two starts, over the mean squared distance to
them, below which they have ended alike."""


class Rest(NamedTuple):
    """What lies beside the columns in which distances are taken."""

    rows: int
    finite: int
    squares: float
    """Σ ‖x‖² beside these columns, over the finite rows."""


class ClusterSums(NamedTuple):
    """What an iteration needs to know of all rows; one entry per restart."""

    size: Int64
    """Rows nearest to each center, (restart, cluster)."""
    total: Float64
    """Their sum, (restart, cluster, column)."""
    inertia: Float64
    """Sum of squared distances to the nearest center, (restart,)."""
    farthest: Float64
    """Squared distance of the row farthest from its center, (restart,)."""
    row: Float64
    """That row, (restart, column)."""


class Clusters(NamedTuple):
    """The best of all restarts, the largest cluster first."""

    centers: Float64
    """(cluster, column)."""
    size: Int64
    """Rows in each, (cluster,)."""
    inertia: float
    iterations: int


def start_centers(rows: Float64, clusters: int, *, restarts: int, seed: int) -> Float64:
    """Choose centers by k-means++ among a sample, (row, column) -> (restart, cluster, column)."""
    return np.stack([
        _spread_out(rows, clusters, np.random.default_rng([seed, restart]))
        for restart in range(restarts)
    ])  # fmt: skip


def _spread_out(rows: Float64, clusters: int, rng: np.random.Generator) -> Float64:
    """Choose each next row with a chance in proportion to its squared distance to those before.

    Of a few candidates the one is taken that leaves the least inertia, as in scikit-learn.
    """
    centers = np.empty((clusters, rows.shape[1]))
    centers[0] = rows[rng.integers(len(rows))]
    nearest = _squares(rows, centers[0])
    trials = 2 + int(np.log(clusters))
    for number in range(1, clusters):
        cumulated = np.cumsum(nearest)
        drawn = np.searchsorted(cumulated, rng.random(trials) * cumulated[-1])
        left = [
            np.minimum(nearest, _squares(rows, rows[row])) for row in drawn.clip(max=len(rows) - 1)
        ]
        best = int(np.argmin([one.sum() for one in left]))
        centers[number], nearest = rows[drawn.clip(max=len(rows) - 1)[best]], left[best]
    return centers


def _squares(rows: Float64, center: Float64) -> Float64:
    apart = rows - center
    return np.asarray(np.einsum("rc,rc->r", apart, apart))


def rest_partial(rows: Float) -> Rest:
    """Count the rows of one block, those that are finite, and sum the last column of these."""
    whole = np.isfinite(rows).all(axis=1)
    return Rest(len(rows), int(whole.sum()), float(rows[whole, -1].sum(dtype=np.float64)))


def rest_combine(first: Rest, second: Rest) -> Rest:
    """Merge the sums of two blocks."""
    squares = first.squares + second.squares
    return Rest(first.rows + second.rows, first.finite + second.finite, squares)


def lloyd_partial(rows: Float, centers: Float64) -> ClusterSums:
    """Sum the rows nearest to each center, for all restarts at once; rows with NaN are left out.

    (row, column), (restart, cluster, column) -> sums. Columns beyond those of the centers do not
    count.
    """
    restarts, clusters, columns = centers.shape
    flat = np.ascontiguousarray(centers.reshape(-1, columns).T)
    half = 0.5 * np.square(flat).sum(axis=0)

    def sums(strand: Float) -> ClusterSums:
        made = ClusterSums(
            np.zeros((restarts, clusters), dtype=np.int64), np.zeros(centers.shape),
            np.zeros(restarts), np.full(restarts, -1.0), np.zeros((restarts, columns)),
        )  # fmt: skip
        for first in range(0, len(strand), SLAB):
            exact = strand[first : first + SLAB, :columns].astype(np.float64)
            square = np.einsum("rc,rc->r", exact, exact)
            with np.errstate(invalid="ignore"):
                score = half - exact @ flat
            _nearest_sums(exact, square, score, *made)
        return made

    return reduce_strands(sums, lloyd_combine, rows)


def lloyd_combine(first: ClusterSums, second: ClusterSums) -> ClusterSums:
    """Merge the sums of two blocks that were given the same centers."""
    later = second.farthest > first.farthest
    return ClusterSums(
        first.size + second.size,
        first.total + second.total,
        first.inertia + second.inertia,
        np.where(later, second.farthest, first.farthest),
        np.where(later[:, None], second.row, first.row),
    )


@compiled(allocates=True)
def _nearest_sums(
    rows: Float64, square: Float64, score: Float64, size: Int64, total: Float64, inertia: Float64,
    farthest: Float64, farthest_row: Float64,
) -> None:  # fmt: skip
    # (row, column), (row,), (row, restart × cluster): ‖x - c‖² = ‖x‖² + 2 score
    restarts, clusters = size.shape
    for row in range(rows.shape[0]):
        if not np.isfinite(square[row]):
            continue
        for restart in range(restarts):
            first = restart * clusters
            best, least = 0, score[row, first]
            for center in range(1, clusters):
                value = score[row, first + center]
                if value < least:
                    best, least = center, value
            for column in range(rows.shape[1]):
                total[restart, best, column] += rows[row, column]
            distance = max(0.0, square[row] + 2 * least)
            size[restart, best] += 1
            inertia[restart] += distance
            if distance > farthest[restart]:
                farthest[restart] = distance
                farthest_row[restart] = rows[row]


def settled_starts(
    sample: Float64, clusters: int, *, restarts: int, seed: int, iterations: int
) -> Float64:
    """Let starts stand still on a sample, (row, column) -> (start, cluster, column).

    What is left are the best of them and those that are about as good, less those that have ended
    where a better one has: on all rows they would end alike, too.
    """
    start = start_centers(sample, clusters, restarts=restarts, seed=seed)
    centers, inertia, _ = _settled(reduce_array(sample), start, iterations)
    kept: list[Float64] = []
    for number in np.argsort(inertia, kind="stable"):
        one, near = centers[number], ALIKE * inertia[number] / len(sample)
        if inertia[number] <= (1 + AS_GOOD) * inertia.min() and all(
            _apart(one, other) > near for other in kept
        ):
            kept.append(one)
    return np.stack(kept)


def _apart(first: Float64, second: Float64) -> float:
    """Sum of the squared distances between centers, each matched to one of the others."""
    table = np.square(first[:, None] - second).sum(axis=2)
    return float(table[linear_sum_assignment(table)].sum())


def find_centers(reduce: Reduce, start: Float64, *, iterations: int) -> Clusters:
    """Iterate from all starts until their centers stand still, and return the best.

    A restart that stands still is left out of the later sweeps.

    Raises
    ------
    OptionError
        If iterations is below 1.
    """
    if iterations < 1:
        raise OptionError(f"iterations={iterations} must be 1 or more.")
    centers, inertia, done = _settled(reduce, start, iterations)
    best = centers[[inertia.argmin()]]
    sums = reduce(lloyd_partial, lloyd_combine, centers=best)
    order = np.argsort(-sums.size[0], kind="stable")
    return Clusters(best[0][order], sums.size[0][order], float(sums.inertia[0]), done)


def _settled(reduce: Reduce, start: Float64, iterations: int) -> tuple[Float64, Float64, int]:
    """Centers and inertia of all starts when they stand still, and the sweeps that took."""
    centers, inertia = start.copy(), np.full(len(start), np.inf)
    moving, done = np.arange(len(start)), 0
    while moving.size and done < iterations:
        done += 1
        sums = reduce(lloyd_partial, lloyd_combine, centers=centers[moving])
        better = _moved(sums, centers[moving])
        inertia[moving] = sums.inertia
        moved = np.square(better - centers[moving]).sum(axis=(1, 2))
        stands = moved <= STILL * sums.inertia / np.maximum(sums.size.sum(axis=1), 1)
        centers[moving] = better
        moving = moving[~stands]
    return centers, inertia, done


def _moved(sums: ClusterSums, centers: Float64) -> Float64:
    """Move each center to the mean of its rows, the first empty one to the farthest row."""
    size = sums.size[..., None]
    moved = np.where(size > 0, sums.total / np.maximum(size, 1), centers)
    for restart, empty in enumerate(sums.size == 0):
        if empty.any() and sums.farthest[restart] > 0:
            moved[restart, empty.argmax()] = sums.row[restart]
    return moved


def merged_centers(centers: Float64, groups: int) -> tuple[Int64, Float64]:
    """Merge centers into groups by Ward's method; groups are numbered as their first centers come.

    Returns the group of each, (cluster,), and the distances of all merges, (cluster - 1,).

    >>> merged_centers(np.array([[0.0], [9.0], [0.5]]), 2)[0]
    array([0, 1, 0])
    """
    if len(centers) == 1:
        return np.zeros(1, dtype=np.int64), np.zeros(0)
    tree = linkage(centers, "ward")
    label = fcluster(tree, groups, "maxclust")
    _, first, number = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number], tree[:, 2]


def nearest_centers(rows: Float, centers: Float64) -> NDArray[np.int16]:
    """Find the nearest center of each row, (row, column) -> (row,); -1 where not finite."""
    middle = centers.mean(axis=0)
    apart = centers - middle
    half = 0.5 * np.square(apart).sum(axis=1)
    labels = np.empty(rows.shape[0], dtype=np.int16)
    for first in range(0, rows.shape[0], 2048):
        some = rows[first : first + 2048]
        whole: Bool = np.asarray(np.isfinite(some).all(axis=1))
        products = np.where(whole[:, None], some - middle, 0.0) @ apart.T
        labels[first : first + 2048] = np.where(whole, (half - products).argmin(axis=1), -1)
    return labels
