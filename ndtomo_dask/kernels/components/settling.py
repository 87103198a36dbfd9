"""K-means of rows that are held in memory: only those whose nearest center may change are touched.

For each row two bounds are kept, of the distances to its own center and to the next one, and
widened by how far the centers move (Hamerly, SIAM SDM 2010, 130). Where they do not meet, the row
stays. Its nearest center is the same as if all distances were worked out.
"""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LANES = 8
"""Centers are made up to a multiple of as many: loops over them leave no rest."""


def settle(
    rows: Float, start: Float64, *, still: float, iterations: int
) -> tuple[Float64, float, int]:
    """Iterate from one start, (cluster, column), until the centers stand still.

    They do when the sum of their squared steps is at most ``still`` times the mean squared
    distance to them. An empty cluster is put at the row farthest from its center. Returns the
    centers, the inertia before their last step, and the number of steps.
    """
    centers = np.array(start, dtype=np.float64)
    clusters, columns = centers.shape
    filled = -(-clusters // LANES) * LANES
    table, half = np.zeros((columns, filled)), np.full(filled, np.inf)
    inertia, done = _settle(rows, centers, table, half, still, iterations)
    return centers, inertia, done


@compiled("contract", allocates=True)
def _settle(
    rows: Float, centers: Float64, table: Float64, half: Float64, still: float, iterations: int
) -> tuple[float, int]:
    # (row, column), (cluster, column), (column, filled), (filled,): half of ‖center‖²
    count, (clusters, columns) = rows.shape[0], centers.shape
    label, square = np.full(count, -1), np.empty(count)
    bounds, score = np.empty((2, count)), np.empty(half.size)
    total, size = np.zeros((clusters, columns)), np.zeros(clusters, np.int64)
    step, near = np.zeros(clusters), np.zeros(clusters)
    _lay_out(centers, table, half)
    for row in range(count):
        square[row] = _squared(rows[row])
        _find(rows[row], row, square[row], table, half, score, label, bounds, total, size)
    squares = square.sum()
    inertia = 0.0
    for done in range(1, iterations + 1):
        inertia = max(0.0, squares + _inertia_beside(centers, total, size))
        if _step(rows, centers, label, total, size, step) <= still * inertia / max(1, count):
            return inertia, done
        _lay_out(centers, table, half)
        _half_way(centers, near)
        _sweep(rows, centers, square, table, half, score, label, bounds, total, size, step, near)
    return inertia, iterations


@compiled("contract")
def _sweep(
    rows: Float, centers: Float64, square: Float64, table: Float64, half: Float64, score: Float64,
    label: Int64, bounds: Float64, total: Float64, size: Int64, step: Float64, near: Float64,
) -> None:  # fmt: skip
    """Find the nearest centers again, of rows whose bounds meet after a step."""
    first = step.argmax()
    farthest, others = step[first], 0.0
    for center in range(step.size):
        if center != first:
            others = max(others, step[center])
    for row in range(rows.shape[0]):
        own = label[row]
        bounds[0, row] += step[own]
        bounds[1, row] -= others if own == first else farthest
        apart = max(bounds[1, row], near[own])
        if bounds[0, row] <= apart:
            continue
        bounds[0, row] = np.sqrt(_squared_distance(rows[row], centers[own]))
        if bounds[0, row] > apart:
            _find(rows[row], row, square[row], table, half, score, label, bounds, total, size)


@compiled("contract", inline=True)
def _find(
    values: Float, row: int, square: float, table: Float64, half: Float64, score: Float64,
    label: Int64, bounds: Float64, total: Float64, size: Int64,
) -> None:  # fmt: skip
    """Find the nearest center of a row and the next one: ‖x - c‖² = ‖x‖² + 2 score."""
    for center in range(half.size):
        score[center] = half[center]
    pairs = values.size - values.size % 2
    for column in range(0, pairs, 2):  # two at a time: scores are loaded and stored half as often
        one, two = values[column], values[column + 1]
        for center in range(half.size):
            score[center] -= one * table[column, center] + two * table[column + 1, center]
    for column in range(pairs, values.size):
        for center in range(half.size):
            score[center] -= values[column] * table[column, center]
    best, least, second = 0, score[0], np.inf
    for center in range(1, size.size):  # without branches, which would be guessed wrong
        value = score[center]
        less = value < least
        other = least if less else value
        second = min(second, other)
        best = center if less else best
        least = value if less else least
    bounds[0, row] = np.sqrt(max(0.0, square + 2 * least))
    bounds[1, row] = np.sqrt(max(0.0, square + 2 * second))
    before = label[row]
    if best == before:
        return
    label[row] = best
    size[best] += 1
    for column in range(values.size):
        total[best, column] += values[column]
    if before >= 0:
        size[before] -= 1
        for column in range(values.size):
            total[before, column] -= values[column]


@compiled("contract")
def _step(
    rows: Float, centers: Float64, label: Int64, total: Float64, size: Int64, step: Float64
) -> float:
    """Move the centers to the means of their rows; the sum of the squared steps."""
    missing, moved = -1, 0.0
    for center in range(size.size - 1, -1, -1):
        missing = center if size[center] == 0 else missing
    farthest = _farthest(rows, centers, label) if missing >= 0 else 0
    for center in range(size.size):
        square = 0.0
        for column in range(centers.shape[1]):
            place = centers[center, column]
            if size[center] > 0:
                place = total[center, column] / size[center]
            elif center == missing:
                place = rows[farthest, column]
            square += (place - centers[center, column]) ** 2
            centers[center, column] = place
        step[center] = np.sqrt(square)
        moved += square
    return moved


@compiled("contract")
def _farthest(rows: Float, centers: Float64, label: Int64) -> int:
    """Row that is farthest from its center."""
    farthest, most = 0, -1.0
    for row in range(rows.shape[0]):
        square = _squared_distance(rows[row], centers[label[row]])
        if square > most:
            farthest, most = row, square
    return farthest


@compiled("contract")
def _half_way(centers: Float64, near: Float64) -> None:
    """Half the distance of each center to the next one: rows that are nearer are its own."""
    for center in range(near.size):
        least = np.inf
        for other in range(near.size):
            if other != center:
                least = min(least, _squared_distance(centers[center], centers[other]))
        near[center] = 0.5 * np.sqrt(least)


@compiled("contract")
def _lay_out(centers: Float64, table: Float64, half: Float64) -> None:
    """Lay centers side by side, (cluster, column) -> (column, cluster), with half their squares."""
    for center in range(centers.shape[0]):
        half[center] = 0.5 * _squared(centers[center])
        for column in range(centers.shape[1]):
            table[column, center] = centers[center, column]


@compiled("contract")
def _inertia_beside(centers: Float64, total: Float64, size: Int64) -> float:
    """Inertia less the squares of all rows: Σ n ‖c‖² - 2 c · Σ x."""
    beside = 0.0
    for center in range(size.size):
        for column in range(centers.shape[1]):
            place = centers[center, column]
            beside += place * (size[center] * place - 2 * total[center, column])
    return beside


@compiled("contract", "reassoc", inline=True)
def _squared(values: Float) -> float:
    square = 0.0
    for column in range(values.size):
        square += float(values[column]) ** 2
    return square


@compiled("contract", "reassoc", inline=True)
def _squared_distance(first: Float, second: Float) -> float:
    square = 0.0
    for column in range(second.size):
        apart = first[column] - second[column]
        square += apart * apart
    return square
