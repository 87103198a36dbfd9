"""Bounded Levenberg-Marquardt steps of several spectra at once, one in each lane.

The active set of `levenberg_marquardt`: what is held has a row and a column of the unit matrix,
so that all lanes go through the same arithmetic, each with a set of its own.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.lanes import LANES, entry
from ndtomo_dask.kernels.fitting.levenberg_marquardt import SMALLEST_PIVOT

Float64 = NDArray[np.float64]


@compiled()
def freeze(
    current: Float64, low: Float64, high: Float64, gradient: Float64, diagonal: Float64,
    free: Float64,
) -> None:  # fmt: skip
    """Write 0 where a parameter is at a bound, the gradient outward, or without effect; else 1.

    # (lane,)
    """
    for lane in range(LANES):
        pull, at = gradient[lane], current[lane]
        outward = (pull < 0.0) & (at <= low[lane]) | (pull > 0.0) & (at >= high[lane])
        free[lane] = 0.0 if outward | (not diagonal[lane] > 1e-200) else 1.0


@compiled("contract")
def subtract_products(a: Float64, b: Float64, count: int, out: Float64) -> None:
    """Subtract Σ a·b of the first rows, (row, lane), (row, lane) -> out (lane,)."""
    for k in range(0, count * LANES, LANES):
        for lane in range(LANES):
            out[lane] -= a[k + lane] * b[k + lane]


@compiled("contract")
def mask_entry(value: Float64, one: Float64, other: Float64, out: Float64) -> None:
    """Write an element of the matrix, 0 where one of its parameters is held."""
    for lane in range(LANES):
        out[lane] = value[lane] * (one[lane] * other[lane])


@compiled("contract")
def damp_entry(value: Float64, free: Float64, damping: Float64, out: Float64) -> None:
    """Write an element of the diagonal, 1 where its parameter is held."""
    for lane in range(LANES):
        out[lane] = value[lane] * (1.0 + damping[lane]) if free[lane] > 0.0 else 1.0


@compiled()
def invert_pivot(value: Float64, free: Float64, pivot: Float64, regular: Float64) -> None:
    """Replace a pivot by the inverse of its root; note where it is lost to rounding."""
    for lane in range(LANES):
        least = SMALLEST_PIVOT * value[lane] if free[lane] > 0.0 else 0.0
        good = pivot[lane] > least
        regular[lane] = regular[lane] if good else 0.0
        pivot[lane] = 1.0 / math.sqrt(pivot[lane] if good else 1.0)


@compiled()
def scale_entry(entry_lanes: Float64, factor: Float64) -> None:
    """Multiply in place."""
    for lane in range(LANES):
        entry_lanes[lane] *= factor[lane]


@compiled()
def factorize_lanes(
    normal: Float64, parameters: int, free: Float64, damping: Float64, factor: Float64,
    regular: Float64,
) -> None:  # fmt: skip
    """Cholesky-factorize A + damping·diag(A) over the free set; diagonals are inverse.

    # normal (entry, lane), free (parameter, lane) -> factor (entry, lane), regular (lane,)
    """
    for lane in range(LANES):
        regular[lane] = 1.0
    for i in range(parameters):
        row, mine = factor[entry(i, 0) :], free[i * LANES :]
        for j in range(i):
            out, above = row[j * LANES :], factor[entry(j, 0) :]
            mask_entry(normal[entry(i, j) :], mine, free[j * LANES :], out)
            subtract_products(row, above, j, out)
            scale_entry(out, above[j * LANES :])
        out = row[i * LANES :]
        damp_entry(normal[entry(i, i) :], mine, damping, out)
        subtract_products(row, row, i, out)
        invert_pivot(normal[entry(i, i) :], mine, out, regular)


@compiled("contract")
def solve_lanes(
    factor: Float64, parameters: int, free: Float64, right: Float64, step: Float64
) -> None:
    """Solve for the steps of the free set; all others are 0.

    # factor (entry, lane), (parameter, lane)
    """
    for i in range(parameters):
        out = step[i * LANES : (i + 1) * LANES]
        mine, wanted = free[i * LANES :], right[i * LANES :]
        for lane in range(LANES):
            out[lane] = wanted[lane] if mine[lane] > 0.0 else 0.0
        row = factor[entry(i, 0) :]
        subtract_products(row, step, i, out)
        scale_entry(out, row[i * LANES :])
    for i in range(parameters - 1, -1, -1):
        out = step[i * LANES : (i + 1) * LANES]
        for k in range(i + 1, parameters):
            subtract_products(factor[entry(k, i) :], step[k * LANES :], 1, out)
        scale_entry(out, factor[entry(i, i) :])


@compiled("contract")
def add_drop(
    step: Float64, gradient: Float64, diagonal: Float64, damping: Float64, drop: Float64
) -> None:
    """Add the share of one free parameter to the drop of the cost."""
    for lane in range(LANES):
        one = step[lane]
        drop[lane] += one * (gradient[lane] + damping[lane] * diagonal[lane] * one)


@compiled()
def note_leaving(
    current: Float64, step: Float64, low: Float64, high: Float64, leaving: Float64
) -> None:
    """Note where one parameter would leave the box."""
    for lane in range(LANES):
        goal = current[lane] + step[lane]
        inside = (low[lane] <= goal) & (goal <= high[lane])
        leaving[lane] = leaving[lane] if inside else 1.0


@compiled()
def find_lane_steps(
    normal: Float64, parameters: int, current: Float64, low: Float64, high: Float64,
    damping: Float64, factor: Float64, free: Float64, step: Float64, leaving: Float64,
    drop: Float64, regular: Float64,
) -> None:  # fmt: skip
    """Find the damped steps, the drops of the cost that they promise, and which leave the box.

    # normal (entry, lane), (parameter, lane), (lane,)
    """
    last = parameters
    for a in range(parameters):
        i = a * LANES
        freeze(current[i:], low[i:], high[i:], normal[entry(last, a) :], normal[entry(a, a) :],
               free[i:])  # fmt: skip
    factorize_lanes(normal, parameters, free, damping, factor, regular)
    solve_lanes(factor, parameters, free, normal[entry(last, 0) :], step)
    for lane in range(LANES):
        drop[lane], leaving[lane] = 0.0, 0.0
    for a in range(parameters):
        i = a * LANES
        add_drop(step[i:], normal[entry(last, a) :], normal[entry(a, a) :], damping, drop)
        note_leaving(current[i:], step[i:], low[i:], high[i:], leaving)
