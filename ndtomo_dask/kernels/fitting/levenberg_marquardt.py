"""Bounded Levenberg-Marquardt for one spectrum: normal equations and active-set step.

Damping after Nielsen (1999, "Damping parameter in Marquardt's method"). Bounds are kept by an
active set rather than by clipping the step, which stalls at a fraction of 0 or 1. The stop is
statistical: a fit ends when its next step would lower the cost by less than 1e-4 of what it is per
degree of freedom. What is minimized over are the free parameters; those of the peaks follow from
them by a linear map.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.fit_work import Work
from ndtomo_dask.kernels.fitting.likelihoods import GAUSSIAN, weigh
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peak_shapes import subtract_peak
from ndtomo_dask.kernels.fitting.peaks import Float64
from ndtomo_dask.kernels.fitting.starts import copy, dot
from ndtomo_dask.kernels.outcomes import Outcome

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class FitStatus(Outcome):
    """Why a fit ended as it did; only CONVERGED and STALLED carry values."""

    CONVERGED = 0, "the next step would not matter beside the noise"
    STALLED = 1, "no step lowers the sum of squares, at the limit of rounding"
    ITERATION_LIMIT = 2, "still improving when the iterations were used up"
    SINGULAR = 3, "the spectrum does not determine all parameters"
    BAD_INPUT = 4, "too few finite channels to fit"
    INSIGNIFICANT = 5, "no peak stands out from the noise"
    MASKED = 6, "left out by a mask, and never fitted"


CONVERGED, STALLED = int(FitStatus.CONVERGED), int(FitStatus.STALLED)
ITERATION_LIMIT, SINGULAR = int(FitStatus.ITERATION_LIMIT), int(FitStatus.SINGULAR)

EXACT_STOP = 1e-28
"""The same per channel, for data scaled to 1 without noise: the square of 50 rounding errors."""
ROUNDING_STOP = 1e-15
"""Predicted drop, in sums of squares, that rounding hides."""
LARGEST_DAMPING = 1e12
SMALLEST_PIVOT = 1e-13
"""Share of a diagonal element that must be left for the normal matrix to count as regular."""


@compiled("contract")
def evaluate(
    t: Float64, y: Float64, columns: Float64, parameters: Float64, codes: Integers, first: Integers,
    terms: int,
) -> float:  # fmt: skip
    """Fill the residual and derivative columns at ``parameters``; return the sum of squares.

    The rows of the background must be in place: they never change. Rows are cut to the data one by
    one: a cut matrix is not contiguous, its loops would not be vectorized.
    """
    n, peaks = t.size, codes.size
    residual = columns[parameters.size, :n]
    begin = first[peaks]
    for i in range(n):
        residual[i] = y[i]
    for k in range(begin, begin + terms):
        row, coefficient = columns[k, :n], parameters[k]
        for i in range(n):
            residual[i] -= coefficient * row[i]
    for k in range(peaks):
        a, b = first[k], first[k + 1]
        subtract_peak(codes[k], t, parameters[a:b], residual, columns[a:b])
    return float(dot(residual, residual))


@compiled()
def expand(
    free: Float64, offset: Float64, of_data: Booleans, inverse: float, tie: Integers,
    tied: Integers, coefficient: Float64, least: Float64, parameters: Float64,
) -> bool:  # fmt: skip
    """Write all parameters that follow from the free ones; return whether they can be."""
    for i in range(parameters.size):
        parameters[i] = offset[i] * (inverse if of_data[i] else 1.0)
    for j in range(tie.size - 1):
        for e in range(tie[j], tie[j + 1]):
            parameters[tied[e]] += coefficient[e] * free[j]
    possible = True
    for i in range(parameters.size):
        possible &= parameters[i] > least[i]
    return possible


@compiled(inline=True)
def sweep(problem: Problem, work: Work, free: Float64, n: int, scale: float, kind: int) -> float:
    """Evaluate the model at the free parameters; return its cost, infinite where it cannot be."""
    parameters, columns = work.parameters, work.columns
    if not expand(
        free, problem.offset, problem.of_data, 1.0 / scale, problem.tie, problem.tied,
        problem.coefficient, problem.least, parameters,
    ):  # fmt: skip
        return np.inf
    t, y, terms = work.t[:n], work.y[:n], problem.background.shape[0]
    cost = evaluate(t, y, columns, parameters, problem.codes, problem.first, terms)
    if kind == GAUSSIAN:
        return cost
    residual, pull = columns[parameters.size, :n], columns[parameters.size + 1, :n]
    return weigh(kind, y, residual, work.base[:n], scale, work.weight[:n], pull)


@compiled("contract", inline=True)
def combine(problem: Problem, columns: Float64, n: int) -> None:
    """Add up the derivatives of tied parameters, into rows of their own."""
    tie, tied, coefficient, rows = problem.tie, problem.tied, problem.coefficient, problem.rows
    for j in range(rows.size - 1):
        if rows[j] < problem.unit.size:
            continue
        total = columns[rows[j], :n]
        for i in range(n):
            total[i] = 0.0
        for e in range(tie[j], tie[j + 1]):
            row, share = columns[tied[e], :n], coefficient[e]
            for i in range(n):
                total[i] += share * row[i]


@compiled()
def build_normal(rows: Integers, columns: Float64, normal: Float64, n: int) -> None:
    """Multiply all rows with each other: JᵀJ, and the gradient in the last row."""
    last = rows.size - 1
    for a in range(0, rows.size, 2):
        c = min(a + 1, last)
        left, right = columns[rows[a], :n], columns[rows[c], :n]
        for b in range(0, c + 1, 2):
            multiply_pairs(left, right, rows, columns, normal, a, c, b, n)


@compiled("contract", "reassoc")
def multiply_pairs(
    left: Float64, right: Float64, rows: Integers, columns: Float64, normal: Float64, a: int,
    c: int, b: int, n: int,
) -> None:  # fmt: skip
    """Write the products of two rows, a and c, with two others, b and the next, either way round.

    Four sums at once read each row half as often. A pair that is not full repeats its last row.
    """
    d = min(b + 1, rows.size - 1)
    above, below = columns[rows[b], :n], columns[rows[d], :n]
    ab = ad = cb = cd = 0.0
    for i in range(n):
        ab += left[i] * above[i]
        ad += left[i] * below[i]
        cb += right[i] * above[i]
        cd += right[i] * below[i]
    normal[a, b], normal[b, a] = ab, ab
    normal[a, d], normal[d, a] = ad, ad
    normal[c, b], normal[b, c] = cb, cb
    normal[c, d], normal[d, c] = cd, cd


@compiled("contract")
def build_weighted(
    rows: Integers, columns: Float64, weight: Float64, pull: Float64, scratch: Float64,
    normal: Float64, n: int,
) -> None:  # fmt: skip
    """Multiply them with weights: JᵀWJ, and Jᵀ·pull in the last row."""
    last = rows.size - 1
    for a in range(0, last, 2):
        c = min(a + 1, last - 1)
        left, right = scratch[:n], scratch[n : 2 * n]
        weigh_row(columns[rows[a], :n], weight, left)
        weigh_row(columns[rows[c], :n], weight, right)
        for b in range(0, c + 1, 2):
            multiply_pairs(left, right, rows[:last], columns, normal, a, c, b, n)
    for a in range(last):
        product = dot(columns[rows[a], :n], pull)
        normal[last, a] = product
        normal[a, last] = product


@compiled()
def weigh_row(row: Float64, weight: Float64, out: Float64) -> None:
    """Multiply a row with the weights."""
    for i in range(out.size):
        out[i] = weight[i] * row[i]


@compiled(inline=True)
def build(problem: Problem, work: Work, n: int, kind: int) -> None:
    """Build the normal matrix of the point that was evaluated last."""
    columns, rows, parameters = work.columns, problem.rows, work.parameters.size
    combine(problem, columns, n)
    if kind == GAUSSIAN:
        build_normal(rows, columns, work.normal, n)
    else:
        pull = columns[parameters + 1, :n]
        build_weighted(rows, columns, work.weight[:n], pull, work.scratch, work.normal, n)


@compiled()
def factorize(
    normal: Float64,
    free: Booleans,
    order: Integers,
    factor: Float64,
    damping: float,
) -> int:
    """Cholesky-factorize A + damping·diag(A) over the free set; return its size, or -1."""
    size = 0
    for a in range(free.size - 1):
        if free[a]:
            order[size] = a
            for b in range(size + 1):
                factor[size, b] = normal[a, order[b]]
            size += 1
    for j in range(size):
        diagonal = factor[j, j]
        total = diagonal * (1.0 + damping)
        for k in range(j):
            total -= factor[j, k] * factor[j, k]
        if not total > SMALLEST_PIVOT * diagonal:
            return -1
        factor[j, j] = math.sqrt(total)
        for i in range(j + 1, size, 4):
            _eliminate(factor, i, j, size - 1)
    return size


@compiled(inline=True)
def _eliminate(factor: Float64, i: int, j: int, last: int) -> None:
    """Work out column j of four rows at once: one sum would wait for itself at every step."""
    second, third, fourth = min(i + 1, last), min(i + 2, last), min(i + 3, last)
    w, x, y, z = factor[i, j], factor[second, j], factor[third, j], factor[fourth, j]
    for k in range(j):
        share = factor[j, k]
        w -= factor[i, k] * share
        x -= factor[second, k] * share
        y -= factor[third, k] * share
        z -= factor[fourth, k] * share
    inverse = 1.0 / factor[j, j]
    factor[i, j], factor[second, j] = w * inverse, x * inverse
    factor[third, j], factor[fourth, j] = y * inverse, z * inverse


@compiled()
def solve_free(
    normal: Float64, free: Booleans, order: Integers, factor: Float64,
    solution: Float64, step: Float64, damping: float,
) -> bool:  # fmt: skip
    """Solve for the step of the free set, the steps of all others being given."""
    size = factorize(normal, free, order, factor, damping)
    if size < 0:
        return False
    last = free.size - 1
    for i in range(size):
        total = normal[last, order[i]]
        if size < last:
            for b in range(last):
                total -= 0.0 if free[b] else normal[order[i], b] * step[b]
        for k in range(i):
            total -= factor[i, k] * solution[k]
        solution[i] = total / factor[i, i]
    for i in range(size - 1, -1, -1):
        total = solution[i]
        for k in range(i + 1, size):
            total -= factor[k, i] * solution[k]
        solution[i] = total / factor[i, i]
        step[order[i]] = solution[i]
    return True


@compiled()
def find_step(
    normal: Float64, free: Booleans, order: Integers, factor: Float64, solution: Float64,
    step: Float64, current: Float64, low: Float64, high: Float64, damping: float,
) -> tuple[bool, float]:  # fmt: skip
    """Find the damped step within the bounds; return whether there is one, and its drop.

    Parameters at a bound with the gradient outward are frozen, and so are those without effect.
    Whatever would leave the box is set to its bound, and the rest is solved again. Arrays come
    one by one because counting references to the fields of `Work` costs as much as the algebra.
    """
    count = free.size - 1
    for a in range(count):
        gradient = normal[count, a]
        outward = gradient < 0.0 and current[a] <= low[a]
        outward |= gradient > 0.0 and current[a] >= high[a]
        free[a] = normal[a, a] > 1e-200 and not outward
        step[a] = 0.0
    leaving, clipped = True, False
    while leaving:
        if not solve_free(normal, free, order, factor, solution, step, damping):
            return False, 0.0
        leaving = False
        for a in range(count):
            goal = current[a] + step[a]
            if free[a] and not low[a] <= goal <= high[a]:
                step[a] = (low[a] if goal < low[a] else high[a]) - current[a]
                free[a] = False
                leaving = clipped = True
    drop = 0.0
    for a in range(count):
        if not clipped:  # the step solves its equations: sᵀAs = gᵀs - damping Σ A_aa s_a²
            drop += step[a] * (normal[count, a] + damping * normal[a, a] * step[a])
            continue
        pull = 2.0 * normal[count, a]
        for b in range(count):
            pull -= normal[a, b] * step[b]
        drop += step[a] * pull
    return True, drop


@compiled()
def take_step(step: Float64, current: Float64, low: Float64, high: Float64, trial: Float64) -> None:
    """Write ``trial``: the free parameters after the step, exactly within their bounds."""
    for a in range(current.size - 1):
        trial[a] = min(max(current[a] + step[a], low[a]), high[a])


@compiled()
def minimize(
    problem: Problem, work: Work, n: int, scale: float, exact: float
) -> tuple[int, int, float]:
    """Minimize the cost from ``work.current``, in place.

    Returns the `FitStatus`, the steps tried and the cost; leaves the normal matrix of the last
    point in ``work``. ``exact`` is a drop that rounding hides.
    """
    normal, free, order, factor = work.normal, work.free, work.order, work.factor
    solution, step, current, trial = work.solution, work.step, work.current, work.trial
    low, high, kind = work.low, work.high, problem.kind
    cost = sweep(problem, work, current, n, scale, kind)
    if not math.isfinite(cost):
        return SINGULAR, 0, cost
    build(problem, work, n, kind)
    freedom = n - (problem.rows.size - 1)
    damping, growth = 1e-3, 2.0
    for tried in range(1, problem.iterations + 1):
        found, drop = find_step(
            normal, free, order, factor, solution, step, current, low, high, damping
        )
        if damping > LARGEST_DAMPING:
            return (STALLED if found else SINGULAR), tried, cost
        if not found or drop < 0.0:
            damping *= 10.0
            continue
        enough = drop <= max(problem.tolerance * cost / freedom, exact) and damping <= 1.0
        take_step(step, current, low, high, trial)
        new = sweep(problem, work, trial, n, scale, kind)
        if new < cost:
            ratio = min((cost - new) / max(drop, 1e-300), 2.0)
            damping *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
            growth = 2.0
            copy(trial, current)
            cost = new
            build(problem, work, n, kind)
        elif not enough and drop <= ROUNDING_STOP * cost:
            return STALLED, tried, cost
        else:
            damping *= growth
            growth *= 2.0
        if enough:
            return CONVERGED, tried, cost
    return ITERATION_LIMIT, problem.iterations, cost
