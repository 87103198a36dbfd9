"""Standard errors of a fit: of least squares, its sandwich, maximum likelihood, robust costs."""

import math

import numpy as np

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.fit_work import Booleans, Float64, Integers, Work
from ndtomo_dask.kernels.fitting.levenberg_marquardt import (
    build_weighted,
    combine,
    factorize,
    sweep,
)
from ndtomo_dask.kernels.fitting.likelihoods import CAUCHY, GAUSSIAN, HUBER, robust_factor
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peak_shapes import THOMPSON_COX_HASTINGS, thompson_cox_hastings


@compiled()
def estimate_errors(
    problem: Problem, work: Work, cost: float, n: int, scale: float
) -> tuple[bool, float]:
    """Write standard errors of all parameters that are not at a bound, and NaN for the others.

    A bound that stopped one parameter does not make the others more certain: the matrix is that of
    all that are varied, unless only that of the others is regular. Returns whether there is a
    regular one, and the cost over degrees of freedom. An
    unweighted fit has s² (JᵀJ)⁻¹, or the sandwich where the variance of the noise is known; a
    weighted or Poisson fit the inverse of its normal matrix; a robust one Huber's correction.
    """
    free, current, low, high = work.free, work.current, work.low, work.high
    robust = problem.kind in (HUBER, CAUCHY)
    sandwich = problem.kind == GAUSSIAN and (problem.counts or problem.given)
    factor = 1.0
    if robust or sandwich:
        sweep(problem, work, current, n, scale, problem.kind)
        combine(problem, work.columns, n)
        factor = _weigh_noise(problem, work, n, scale, robust)
    freedom = n
    for a in range(free.size - 1):
        inside = low[a] < current[a] < high[a]
        absent = problem.areas[a] and current[a] == 0.0
        free[a] = low[a] < high[a] and work.normal[a, a] > 1e-200 and not absent
        freedom -= 1 if free[a] and inside else 0
    size = factorize(work.normal, free, work.order, work.factor, 0.0)
    if size < 0:
        for a in range(free.size - 1):
            free[a] = free[a] and low[a] < current[a] < high[a]
        size = factorize(work.normal, free, work.order, work.factor, 0.0)
    if problem.kind == GAUSSIAN and not sandwich:
        factor = cost / freedom
    _write_inverse(size, work)
    if sandwich:
        _build_noise(problem, work, n)
        _write_sandwich(size, work)
    _write_errors(problem, work, size, factor)
    for k in range(problem.codes.size):
        if problem.codes[k] == THOMPSON_COX_HASTINGS:
            _write_width_errors(problem, work, k, factor)
    return size >= 0, cost / freedom


@compiled()
def estimate_plain(
    normal: Float64, free: Booleans, order: Integers, factor: Float64, inverse: Float64,
    current: Float64, low: Float64, high: Float64, areas: Booleans, rows: Integers, errors: Float64,
    cost: float, n: int,
) -> tuple[bool, float]:  # fmt: skip
    """Do what `estimate_errors` does, for an unweighted fit without ties, from the diagonal alone.

    Returns False where `estimate_errors` has to look closer.
    """
    freedom = n
    for a in range(free.size - 1):
        absent = areas[a] and current[a] == 0.0
        free[a] = low[a] < high[a] and normal[a, a] > 1e-200 and not absent
        freedom -= 1 if free[a] and low[a] < current[a] < high[a] else 0
    size, reduced = factorize(normal, free, order, factor, 0.0), cost / freedom
    for i in range(errors.size):
        errors[i] = np.nan
    for j in range(size):
        factor[j, j] = 1.0 / factor[j, j]
    for j in range(size):
        inverse[j, j] = factor[j, j]
        total = inverse[j, j] * inverse[j, j]
        for i in range(j + 1, size):
            value = 0.0
            for k in range(j, i):
                value -= factor[i, k] * inverse[j, k]
            inverse[j, i] = value * factor[i, i]
            total += inverse[j, i] * inverse[j, i]
        a = order[j]
        if low[a] < current[a] < high[a]:
            errors[rows[a]] = math.sqrt(reduced * total)
    return size >= 0, reduced


@compiled(inline=True)
def _weigh_noise(problem: Problem, work: Work, n: int, scale: float, robust: bool) -> float:
    """Write the variance of each channel as its weight, or rebuild the matrix of a robust fit."""
    residual = work.columns[work.parameters.size, :n]
    weight, base = work.weight[:n], work.base[:n]
    if robust:
        factor = robust_factor(problem.kind, residual, base, weight, problem.rows.size - 1)
        pull = work.columns[work.parameters.size + 1, :n]
        build_weighted(problem.rows, work.columns, base, pull, work.scratch, work.normal, n)
        return float(factor)
    for i in range(n):
        model = work.y[i] - residual[i]
        weight[i] = max(model, 0.0) / scale if problem.counts else 1.0 / base[i]
    return 1.0


@compiled(inline=True)
def _build_noise(problem: Problem, work: Work, n: int) -> None:
    """Overwrite the normal matrix by JᵀVJ."""
    pull = work.columns[work.parameters.size, :n]
    build_weighted(problem.rows, work.columns, work.weight[:n], pull, work.scratch, work.normal, n)


@compiled(inline=True)
def _write_inverse(size: int, work: Work) -> None:
    """Write the inverse of what was factorized, LLᵀ, as the covariance of the free set."""
    lower, inverse, covariance = work.factor, work.covariance, work.covariance
    for j in range(size):
        for i in range(j, size):
            value = 1.0 if i == j else 0.0
            for k in range(j, i):
                value -= lower[i, k] * inverse[j, k]
            inverse[j, i] = value / lower[i, i]
    for i in range(size):  # rows of L⁻ᵀ times their transposes: row i needs rows i and on only
        for j in range(i, size):
            total = 0.0
            for k in range(j, size):
                total += inverse[i, k] * inverse[j, k]
            work.factor[i, j] = total
    for i in range(size):
        for j in range(i, size):
            covariance[i, j] = work.factor[i, j]
            covariance[j, i] = work.factor[i, j]


@compiled(inline=True)
def _write_sandwich(size: int, work: Work) -> None:
    """Replace the covariance A⁻¹ by A⁻¹BA⁻¹, B being the normal matrix."""
    covariance, product, order, noise = work.covariance, work.factor, work.order, work.normal
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(size):
                total += covariance[i, k] * noise[order[k], order[j]]
            product[i, j] = total
    row = work.solution
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(size):
                total += product[i, k] * covariance[k, j]
            row[j] = total
        for j in range(size):
            product[i, j] = row[j]
    for i in range(size):
        for j in range(size):
            covariance[i, j] = product[i, j]


@compiled(inline=True)
def _write_errors(problem: Problem, work: Work, size: int, factor: float) -> None:
    """Write the roots of the diagonal of M C Mᵀ, M being the map from free to all parameters."""
    errors, order, covariance = work.errors, work.order, work.covariance
    place = work.solution
    place[:] = -1.0
    for a in range(size):
        place[order[a]] = a
    errors[:] = 0.0
    tie, tied, coefficient = problem.tie, problem.tied, problem.coefficient
    for j in range(tie.size - 1):
        a = int(place[j])
        for e in range(tie[j], tie[j + 1]):
            i = tied[e]
            if problem.single[i]:
                known = a >= 0 and work.low[j] < work.current[j] < work.high[j]
                errors[i] = coefficient[e] ** 2 * covariance[a, a] if known else np.nan
            elif a >= 0:
                errors[i] += coefficient[e] * _cross(problem, work, i, a)
    for i in range(errors.size):
        known = problem.source[i] >= 0 and errors[i] > 0.0
        errors[i] = math.sqrt(factor * errors[i]) if known else np.nan


@compiled()
def _cross(problem: Problem, work: Work, parameter: int, a: int) -> float:
    """Sum the covariances of a free parameter with all that a parameter depends on."""
    total = 0.0
    for k in range(problem.tie.size - 1):
        b = int(work.solution[k])
        for f in range(problem.tie[k], problem.tie[k + 1]):
            if b >= 0 and problem.tied[f] == parameter:
                total += problem.coefficient[f] * work.covariance[a, b]
    return total


@compiled()
def _write_width_errors(problem: Problem, work: Work, k: int, factor: float) -> None:
    """Write the errors of a Thompson-Cox-Hastings peak's fwhm and fraction, to first order.

    They follow from the covariance of its two widths through the derivatives by these.
    """
    square = problem.first[k] + 2
    g, w, at_bound = _width(problem, work, square), _width(problem, work, square + 1), False
    slopes = thompson_cox_hastings(g, w)
    for i in (square, square + 1):
        free = problem.source[i]
        if problem.single[i] and not work.low[free] < work.current[free] < work.high[free]:
            at_bound = True
    of_square = _covariance(problem, work, square, square)
    of_width = _covariance(problem, work, square + 1, square + 1)
    of_both = _covariance(problem, work, square, square + 1)
    for part in range(2):
        a, b = slopes[2], slopes[3]
        if part == 1:
            a, b = slopes[4], slopes[5]
        variance = factor * (a * a * of_square + b * b * of_width + 2.0 * a * b * of_both)
        known = variance > 0.0 and not (part == 1 and at_bound)
        work.width_errors[2 * k + part] = math.sqrt(variance) if known else np.nan


@compiled()
def _width(problem: Problem, work: Work, parameter: int) -> float:
    """Return a width, in units of t, from the free parameters."""
    value = problem.offset[parameter]
    for k in range(problem.tie.size - 1):
        for e in range(problem.tie[k], problem.tie[k + 1]):
            if problem.tied[e] == parameter:
                value += problem.coefficient[e] * work.current[k]
    return float(value)


@compiled()
def _covariance(problem: Problem, work: Work, first: int, second: int) -> float:
    """Return the covariance of two parameters, through those that they depend on."""
    total = 0.0
    for k in range(problem.tie.size - 1):
        a = int(work.solution[k])
        for e in range(problem.tie[k], problem.tie[k + 1]):
            if a >= 0 and problem.tied[e] == first:
                total += problem.coefficient[e] * _cross(problem, work, second, a)
    return total
