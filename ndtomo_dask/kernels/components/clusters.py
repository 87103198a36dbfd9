"""K-means of many rows of few columns, by sweeps over all of them, wherever they are.

Lloyd's iterations, which restarts share. A cluster that is empty is put at the row farthest from
all centers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.reductions import Reduce, reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

STILL = 1e-6
"""Sum of the squared steps of the centers, over the mean squared distance to them, that counts as
standing still: about as in scikit-learn, with hundreds of channels."""
SLAB = 1024
"""Rows whose distances are worked out together: few enough to stay in the cache."""


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
    dtype = np.result_type(rows.dtype, np.float32)
    flat = np.ascontiguousarray(centers.reshape(-1, columns).T, dtype=dtype)
    half = 0.5 * np.square(centers).sum(axis=2).ravel().astype(dtype)

    def sums(strand: Float) -> ClusterSums:
        made = ClusterSums(
            np.zeros((restarts, clusters), dtype=np.int64), np.zeros(centers.shape),
            np.zeros(restarts), np.full(restarts, -1.0), np.zeros((restarts, columns)),
        )  # fmt: skip
        for first in range(0, len(strand), SLAB):
            some = strand[first : first + SLAB, :columns]
            with np.errstate(invalid="ignore"):
                score = half - some @ flat
            _nearest_sums(some, score, centers, *made)
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


@compiled("contract")
def _nearest_sums(
    rows: Float, score: Float, centers: Float64, size: Int64, total: Float64, inertia: Float64,
    farthest: Float64, farthest_row: Float64,
) -> None:  # fmt: skip
    # (row, column), (row, restart × cluster), (restart, cluster, column); the least score is the
    # nearest center's, and only the distance to that one is worked out in full.
    restarts, clusters = size.shape
    for row in range(rows.shape[0]):
        for restart in range(restarts):
            first = restart * clusters
            best, least = 0, score[row, first]
            for center in range(1, clusters):
                value = score[row, first + center]
                if value < least:
                    best, least = center, value
            distance = 0.0
            for column in range(rows.shape[1]):
                distance += (rows[row, column] - centers[restart, best, column]) ** 2
            if not np.isfinite(distance):
                continue
            for column in range(rows.shape[1]):
                total[restart, best, column] += rows[row, column]
            size[restart, best] += 1
            inertia[restart] += distance
            if distance > farthest[restart]:
                farthest[restart] = distance
                for column in range(rows.shape[1]):
                    farthest_row[restart, column] = rows[row, column]


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
