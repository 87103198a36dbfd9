"""Bounded Levenberg-Marquardt for one spectrum: normal equations, active-set step, covariance.

Damping after Nielsen (1999, "Damping parameter in Marquardt's method"). Bounds are kept by an
active set rather than by clipping the step, which stalls at a fraction of 0 or 1. The stop is
statistical: a fit ends when its next step would lower the sum of squares by less than 1e-4 of the
residual variance. Nothing here knows how many peaks there are beyond four parameters each.
"""

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ndtomo_dask.kernels.peaks import Float64, Values, dot, subtract_peak

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class FitStatus(IntEnum):
    """Why a fit ended as it did; only CONVERGED and STALLED carry values."""

    CONVERGED = 0, "the next step would not matter beside the noise"
    STALLED = 1, "no step lowers the sum of squares, at the limit of rounding"
    ITERATION_LIMIT = 2, "still improving when the iterations were used up"
    SINGULAR = 3, "the spectrum does not determine all parameters"
    BAD_INPUT = 4, "too few finite channels to fit"
    INSIGNIFICANT = 5, "no peak stands out from the noise"
    MASKED = 6, "left out by a mask, and never fitted"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "FitStatus":
        """Attach to each value the sentence that explains it."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


CONVERGED, STALLED = int(FitStatus.CONVERGED), int(FitStatus.STALLED)
ITERATION_LIMIT, SINGULAR = int(FitStatus.ITERATION_LIMIT), int(FitStatus.SINGULAR)

STATISTICAL_STOP = 1e-4
"""Predicted drop, in residual variances, below which a step no longer matters."""
EXACT_STOP = 1e-28
"""The same per channel, for data scaled to 1 without noise: the square of 50 rounding errors."""
ROUNDING_STOP = 1e-15
"""Predicted drop, in sums of squares, that rounding hides."""
LARGEST_DAMPING = 1e12
SMALLEST_PIVOT = 1e-13
"""Share of a diagonal element that must be left for the normal matrix to count as regular."""


class Work(NamedTuple):
    """Arrays of one thread, overwritten from spectrum to spectrum."""

    t: Float64
    y: Float64
    """Data scaled to a largest magnitude of 1, finite channels only."""
    filled: Float64
    """The same on all channels, gaps bridged by straight lines."""
    scratch: Float64
    columns: Float64
    """Derivatives by every parameter, then the residual. (parameter + 1, channel)"""
    used: Integers
    """Rows of ``columns`` that enter: those of varied parameters, then the residual."""
    normal: Float64
    """Products of the used rows: JᵀJ bordered by the gradient Jᵀr. (varied + 1, varied + 1)"""
    factor: Float64
    order: Integers
    free: Booleans
    step: Float64
    solution: Float64
    parameters: Float64
    trial: Float64
    low: Float64
    high: Float64
    errors: Float64


def allocate_work(channels: int, parameters: int, varied: Integers) -> Work:
    """Allocate the arrays for spectra of ``channels`` and models of ``parameters``."""
    used = np.append(varied, parameters)
    m = used.size
    line, vector = (np.zeros(channels) for _ in range(4)), (np.zeros(parameters) for _ in range(5))
    t, y, filled, scratch = line
    current, trial, low, high, errors = vector
    return Work(
        t, y, filled, scratch, np.zeros((parameters + 1, channels)), used, np.zeros((m, m)),
        np.zeros((m, m)), np.zeros(m, dtype=np.int64), np.zeros(m, dtype=np.bool_), np.zeros(m),
        np.zeros(m), current, trial, low, high, errors,
    )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def load_spectrum(row: Values, t: Float64, descending: bool, work: Work) -> tuple[int, float]:
    """Copy the finite channels, scaled to 1 and along ascending t, to ``work``.

    Returns how many there are, and the scale: the largest magnitude.
    """
    abscissa, y, filled = work.t, work.y, work.filled
    n, scale, last = 0, 0.0, -1
    for i in range(t.size):
        value = float(row[t.size - 1 - i] if descending else row[i])
        if not math.isfinite(value):
            continue
        abscissa[n] = t[i]
        y[n] = value
        n += 1
        scale = max(scale, abs(value))
        before = value if last < 0 else filled[last]
        for k in range(last + 1, i):
            filled[k] = value + (before - value) * (i - k) / (i - last)
        filled[i] = value
        last = i
    for k in range(max(last, 0), t.size):
        filled[k] = filled[max(last, 0)]
    if scale > 0.0:
        factor = 1.0 / scale
        for k in range(n):
            y[k] *= factor
        for k in range(t.size):
            filled[k] *= factor
    return n, scale


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def evaluate(t: Float64, y: Float64, columns: Float64, parameters: Float64, terms: int) -> float:
    """Fill the residual and derivative columns at ``parameters``; return the sum of squares.

    The rows of the background, the powers of t, must be in place: they never change. Rows are cut
    to the data one by one: a cut matrix is not contiguous, its loops would not be vectorized.
    """
    n = t.size
    residual = columns[parameters.size, :n]
    first = parameters.size - terms
    for i in range(n):
        residual[i] = y[i]
    for k in range(first, parameters.size):
        power, coefficient = columns[k, :n], parameters[k]
        for i in range(n):
            residual[i] -= coefficient * power[i]
    for k in range(0, first, 4):
        subtract_peak(t, parameters[k : k + 4], residual, columns[k : k + 4])
    return float(dot(residual, residual))


@njit(nogil=True, cache=True, error_model="numpy")
def build_normal(used: Integers, columns: Float64, normal: Float64, n: int) -> None:
    """Multiply all used columns with each other: JᵀJ, and the gradient in the last row."""
    for a in range(used.size):
        column = columns[used[a], :n]
        for b in range(a + 1):
            product = dot(column, columns[used[b], :n])
            normal[a, b] = product
            normal[b, a] = product


@njit(nogil=True, cache=True, error_model="numpy")
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
        inverse = 1.0 / factor[j, j]
        for i in range(j + 1, size):
            total = factor[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = total * inverse
    return size


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def find_step(
    used: Integers, normal: Float64, free: Booleans, order: Integers, factor: Float64,
    solution: Float64, step: Float64, parameters: Float64, low: Float64, high: Float64,
    damping: float,
) -> tuple[bool, float]:  # fmt: skip
    """Find the damped step within the bounds; return whether there is one, and its drop.

    Parameters at a bound with the gradient outward are frozen, and so are those without effect.
    Whatever would leave the box is set to its bound, and the rest is solved again. Arrays come
    one by one because counting references to the fields of `Work` costs as much as the algebra.
    """
    count = used.size - 1
    for a in range(count):
        i, gradient = used[a], normal[count, a]
        outward = gradient < 0.0 and parameters[i] <= low[i]
        outward |= gradient > 0.0 and parameters[i] >= high[i]
        free[a] = normal[a, a] > 1e-200 and not outward
        step[a] = 0.0
    leaving = True
    while leaving:
        if not solve_free(normal, free, order, factor, solution, step, damping):
            return False, 0.0
        leaving = False
        for a in range(count):
            i = used[a]
            goal = parameters[i] + step[a]
            if free[a] and not low[i] <= goal <= high[i]:
                step[a] = (low[i] if goal < low[i] else high[i]) - parameters[i]
                free[a] = False
                leaving = True
    drop = 0.0
    for a in range(count):
        pull = 2.0 * normal[count, a]
        for b in range(count):
            pull -= normal[a, b] * step[b]
        drop += step[a] * pull
    return True, drop


@njit(nogil=True, cache=True, error_model="numpy")
def take_step(
    used: Integers, step: Float64, parameters: Float64, low: Float64, high: Float64, trial: Float64
) -> None:
    """Write ``trial``: the parameters after the step, exactly within their bounds."""
    for i in range(parameters.size):
        trial[i] = parameters[i]
    for a in range(used.size - 1):
        i = used[a]
        trial[i] = min(max(parameters[i] + step[a], low[i]), high[i])


@njit(nogil=True, cache=True, error_model="numpy")
def minimize(work: Work, terms: int, n: int, iterations: int) -> tuple[int, int, float]:
    """Minimize the sum of squares from ``work.parameters``, in place.

    Returns the `FitStatus`, the steps tried and the sum of squares; leaves the normal matrix of
    the last point in ``work``.
    """
    t, y, columns, used, normal = work.t[:n], work.y[:n], work.columns, work.used, work.normal
    free, order, factor, solution = work.free, work.order, work.factor, work.solution
    parameters, trial, step, low, high = work.parameters, work.trial, work.step, work.low, work.high
    cost = evaluate(t, y, columns, parameters, terms)
    build_normal(used, columns, normal, n)
    freedom = n - (used.size - 1)
    damping, growth = 1e-3, 2.0
    for tried in range(1, iterations + 1):
        found, drop = find_step(
            used, normal, free, order, factor, solution, step, parameters, low, high, damping
        )
        if damping > LARGEST_DAMPING:
            return (STALLED if found else SINGULAR), tried, cost
        if not found or drop < 0.0:
            damping *= 10.0
            continue
        enough = drop <= max(STATISTICAL_STOP * cost / freedom, EXACT_STOP * n) and damping <= 1.0
        take_step(used, step, parameters, low, high, trial)
        new = evaluate(t, y, columns, trial, terms)
        if new < cost:
            ratio = min((cost - new) / max(drop, 1e-300), 2.0)
            damping *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
            growth = 2.0
            parameters[:] = trial
            cost = new
            build_normal(used, columns, normal, n)
        elif not enough and drop <= ROUNDING_STOP * cost:
            return STALLED, tried, cost
        else:
            damping *= growth
            growth *= 2.0
        if enough:
            return CONVERGED, tried, cost
    return ITERATION_LIMIT, iterations, cost


@njit(nogil=True, cache=True, error_model="numpy")
def estimate_errors(work: Work, cost: float, n: int) -> tuple[bool, float]:
    """Write standard errors √(s² (JᵀJ)⁻¹) of the parameters strictly within their bounds.

    Returns whether the matrix is regular, and s², the sum of squares over degrees of freedom.
    """
    used, free, order, errors = work.used, work.free, work.order, work.errors
    parameters, low, high = work.parameters, work.low, work.high
    for a in range(used.size - 1):
        free[a] = low[used[a]] < parameters[used[a]] < high[used[a]]
    errors[:] = np.nan
    factor, column = work.factor, work.solution
    size = factorize(work.normal, free, order, factor, 0.0)
    variance = cost / (n - max(size, 0))
    for j in range(size):
        total = 0.0
        for i in range(j, size):
            value = 1.0 if i == j else 0.0
            for k in range(j, i):
                value -= factor[i, k] * column[k]
            column[i] = value / factor[i, i]
            total += column[i] * column[i]
        errors[used[order[j]]] = math.sqrt(variance * total)
    return size >= 0, variance
