"""The start of one spectrum's fit: bounds and templates in its units, areas by linear algebra."""

import math

import numpy as np

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fit_work import Float64, Work
from ndtomo_dask.kernels.levenberg_marquardt import (
    build_normal,
    combine,
    find_step,
    sweep,
    take_step,
)
from ndtomo_dask.kernels.likelihoods import GAUSSIAN
from ndtomo_dask.kernels.peak_problem import Problem
from ndtomo_dask.kernels.peak_shapes import GAUSSIAN_WIDTH, THOMPSON_COX_HASTINGS
from ndtomo_dask.kernels.starts import copy, estimate_noise, find_starts, remove_background


@compiled()
def set_bounds(problem: Problem, work: Work, scale: float, pixel: int) -> bool:
    """Write the bounds in units of t, of all parameters and of the free ones."""
    least, most, low, high = work.least, work.most, work.low, work.high
    row, top = min(pixel, problem.low.shape[0] - 1), min(pixel, problem.high.shape[0] - 1)
    for i in range(least.size):
        unit = problem.unit[i] * (scale if problem.of_data[i] else 1.0)
        least[i] = (problem.low[row, i] - problem.origin[i]) / unit
        most[i] = (problem.high[top, i] - problem.origin[i]) / unit
    tie, tied, coefficient = problem.tie, problem.tied, problem.coefficient
    possible = True
    for j in range(low.size - 1):
        low[j], high[j] = -np.inf, np.inf
        for e in range(tie[j], tie[j + 1]):
            i = tied[e]
            if problem.single[i] and coefficient[e] != 0.0:
                shift = problem.offset[i] / (scale if problem.of_data[i] else 1.0)
                a, b = (least[i] - shift) / coefficient[e], (most[i] - shift) / coefficient[e]
                low[j], high[j] = max(low[j], min(a, b)), min(high[j], max(a, b))
        possible &= low[j] <= high[j]
    return possible


@compiled()
def choose_templates(problem: Problem, work: Work, pixel: int) -> float:
    """Choose each peak's template among those that its bounds or its start allow; return the noise.

    Peaks of the same shape and bounds are numbered by position.
    """
    filled, templates, chosen = work.filled, problem.templates, work.chosen
    row = min(pixel, problem.start.shape[0] - 1)
    remove_background(filled, templates.basis)
    noise = max(estimate_noise(filled, work.scratch), problem.rounding)
    lows, highs = work.lows, work.highs
    for k in range(chosen.size):
        i = problem.first[k] + 1
        lows[k], highs[k] = work.least[i], work.most[i]
        given = problem.start[row, i]
        if math.isfinite(given):
            lows[k] = (given - problem.origin[i]) / problem.unit[i]
            highs[k] = lows[k]
    find_starts(filled, templates, lows, highs, chosen, work.heights, work.scores)
    for k in range(chosen.size):
        for j in range(k):
            alike = problem.alike[j] == problem.alike[k] and min(chosen[j], chosen[k]) >= 0
            if alike and templates.position[chosen[j]] > templates.position[chosen[k]]:
                _swap(work, j, k)
    return noise


@compiled()
def _swap(work: Work, j: int, k: int) -> None:
    chosen, heights, scores = work.chosen, work.heights, work.scores
    chosen[j], chosen[k] = chosen[k], chosen[j]
    heights[j], heights[k] = heights[k], heights[j]
    scores[j], scores[k] = scores[k], scores[j]


@compiled()
def set_start(problem: Problem, work: Work, n: int, scale: float, pixel: int) -> None:
    """Start at the templates, areas and background solved for linearly.

    A peak of no area has no other derivatives than that by area, so one undamped step does it.
    """
    current, goal, low, high = work.current, work.saved, work.low, work.high
    _place_peaks(problem, work, scale)
    _take_given(problem, work, scale, pixel)
    for j in range(current.size - 1):
        current[j] = min(max(current[j], low[j]), high[j])
        goal[j] = current[j]
        current[j] = 0.0 if problem.areas[j] else current[j]
    found = _solve_areas(problem, work, n, scale)
    several = problem.codes.size > 1
    for j in range(current.size - 1):
        if problem.areas[j] and (not found or current[j] <= 0.0):
            current[j] = goal[j] * (0.1 if several else 1.0)
        current[j] = min(max(current[j], low[j]), high[j])
    _take_given(problem, work, scale, pixel)
    for j in range(current.size - 1):
        current[j] = min(max(current[j], low[j]), high[j])


@compiled()
def _solve_areas(problem: Problem, work: Work, n: int, scale: float) -> bool:
    """Solve for areas and background, all else being held; return whether they are determined."""
    current, trial, lows, highs = work.current, work.trial, work.open_low, work.open_high
    cost = sweep(problem, work, current, n, scale, GAUSSIAN)
    if not math.isfinite(cost):
        return False
    combine(problem, work.columns, n)
    build_normal(problem.rows, work.columns, work.normal, n)
    for j in range(current.size - 1):
        linear = problem.of_data[problem.tied[problem.tie[j]]]
        lows[j] = -np.inf if linear else current[j]
        highs[j] = np.inf if linear else current[j]
        if problem.areas[j] and problem.codes.size > 1:
            lows[j] = 0.0
    found, _ = find_step(
        work.normal, work.free, work.order, work.factor, work.solution, work.step, current, lows,
        highs, 0.0,
    )  # fmt: skip
    if found:
        take_step(work.step, current, lows, highs, trial)
        copy(trial, current)
    return found


@compiled()
def _place_peaks(problem: Problem, work: Work, scale: float) -> None:
    """Write the free parameters that templates tell, the weakest peak first.

    So of several peaks that share a parameter the strongest decides.
    """
    work.current[:] = 0.0
    done = work.tested
    done[:] = False
    for _ in range(done.size):
        weakest, least = -1, 0.0
        for k in range(done.size):
            score = work.scores[k] if problem.sought[k] else -1.0
            if not done[k] and (weakest < 0 or score < least):
                weakest, least = k, score
        done[weakest] = True
        _place_peak(problem, work, scale, weakest)


@compiled()
def _place_peak(problem: Problem, work: Work, scale: float, k: int) -> None:
    templates, best, first = problem.templates, work.chosen[k], problem.first[k]
    position, fwhm, height = 0.5 * (work.least[first + 1] + work.most[first + 1]), 0.1, 0.0
    if best >= 0:
        position, fwhm, height = templates.position[best], templates.fwhm[best], work.heights[k]
    position = min(max(position, work.least[first + 1]), work.most[first + 1])
    for i in range(first, problem.first[k + 1]):
        _set_parameter(problem, work.current, i, problem.guess[i], scale)
    _set_parameter(problem, work.current, first, height * fwhm * GAUSSIAN_WIDTH, scale)
    _set_parameter(problem, work.current, first + 1, position, scale)
    if problem.codes[k] == THOMPSON_COX_HASTINGS:
        _set_parameter(problem, work.current, first + 2, 0.5 * fwhm * fwhm, scale)
        _set_parameter(problem, work.current, first + 3, 0.4 * fwhm, scale)
    else:
        _set_parameter(problem, work.current, first + 2, fwhm, scale)


@compiled()
def _set_parameter(problem: Problem, current: Float64, i: int, value: float, scale: float) -> None:
    """Set a parameter by the first free one that it depends on."""
    free = problem.source[i]
    if free < 0:
        return
    for e in range(problem.tie[free], problem.tie[free + 1]):
        if problem.tied[e] == i and problem.coefficient[e] != 0.0:
            shift = problem.offset[i] / (scale if problem.of_data[i] else 1.0)
            current[free] = (value - shift) / problem.coefficient[e]


@compiled()
def _take_given(problem: Problem, work: Work, scale: float, pixel: int) -> None:
    """Write the starts that were given over those that were found."""
    row = min(pixel, problem.start.shape[0] - 1)
    for i in range(problem.unit.size):
        given = problem.start[row, i]
        if math.isfinite(given):
            unit = problem.unit[i] * (scale if problem.of_data[i] else 1.0)
            value = (given - problem.origin[i]) / unit
            _set_parameter(problem, work.current, i, value, scale)
