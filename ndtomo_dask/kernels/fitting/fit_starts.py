"""The start of one spectrum's fit: bounds and templates in its units, areas by linear algebra."""

import math

import numpy as np

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.fit_work import Booleans, Float64, Integers, Work
from ndtomo_dask.kernels.fitting.levenberg_marquardt import (
    build_normal,
    combine,
    find_step,
    sweep,
    take_step,
)
from ndtomo_dask.kernels.fitting.likelihoods import CAUCHY, GAUSSIAN, HUBER
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peak_shapes import (
    EXPONENTIAL,
    GAUSSIAN_WIDTH,
    THOMPSON_COX_HASTINGS,
)
from ndtomo_dask.kernels.fitting.starts import (
    bound_noise,
    copy,
    estimate_noise,
    find_starts,
    largest,
    remove_background,
    select,
)


@compiled(inline=True)
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


@compiled(inline=True)
def choose_templates(problem: Problem, work: Work, pixel: int, noise: float) -> float:
    """Choose each peak's template among those that its bounds or its start allow; return the noise.

    Of peaks that stand out anyway it is only a bound. Peaks of the same shape and bounds are
    numbered by position.
    """
    filled, templates, chosen = work.filled, problem.templates, work.chosen
    row = min(pixel, problem.start.shape[0] - 1)
    remove_background(filled, templates.basis)
    kept, bound = work.columns[work.parameters.size + 1], noise
    if noise == 0.0:
        bound = bound_noise(filled)
        copy(filled, kept)
    lows, highs = work.lows, work.highs
    for k in range(chosen.size):
        i = problem.first[k] + 1
        lows[k], highs[k] = work.least[i], work.most[i]
        given = problem.start[row, i]
        if math.isfinite(given):
            lows[k] = (given - problem.origin[i]) / problem.unit[i]
            highs[k] = lows[k]
    spare = work.columns[work.parameters.size]
    work.width[0] = find_starts(
        filled, templates, lows, highs, spare, chosen, work.heights, work.scores
    )
    for k in range(chosen.size):
        for j in range(k):
            alike = problem.alike[j] == problem.alike[k] and min(chosen[j], chosen[k]) >= 0
            if alike and templates.position[chosen[j]] > templates.position[chosen[k]]:
                _swap(work, j, k)
    if noise == 0.0:  # most peaks stand out from what the noise cannot exceed
        noise = bound
        if largest(work.scores, chosen.size) < problem.significance * noise:
            noise = estimate_noise(kept, work.scratch)
    return max(noise, problem.rounding)


@compiled(inline=True)
def _swap(work: Work, j: int, k: int) -> None:
    chosen, heights, scores = work.chosen, work.heights, work.scores
    chosen[j], chosen[k] = chosen[k], chosen[j]
    heights[j], heights[k] = heights[k], heights[j]
    scores[j], scores[k] = scores[k], scores[j]


@compiled(inline=True)
def set_start(problem: Problem, work: Work, n: int, scale: float, pixel: int, again: int) -> None:
    """Start at the templates, areas and background solved for linearly.

    A peak of no area has no other derivatives than that by area, so one undamped step does it.
    Several peaks start with one width, because the widest template may cover two of them; when
    they start ``again``, with less.
    """
    current, goal, low, high = work.current, work.saved, work.low, work.high
    place_peaks(problem, work, scale, again)
    take_given(problem, work, scale, pixel)
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
    take_given(problem, work, scale, pixel)
    for j in range(current.size - 1):
        current[j] = min(max(current[j], low[j]), high[j])


@compiled(inline=True)
def _solve_areas(problem: Problem, work: Work, n: int, scale: float) -> bool:
    """Solve for areas and background, all else being held; return whether they are determined.

    A robust fit takes the spectrum without spots for it.
    """
    robust = problem.kind in (HUBER, CAUCHY)
    if robust:
        _exchange(work.y, work.weight, n)
    current, trial, lows, highs = work.current, work.trial, work.open_low, work.open_high
    cost = sweep(problem, work, current, n, scale, GAUSSIAN)
    if robust:
        _exchange(work.y, work.weight, n)
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


@compiled(inline=True)
def place_peaks(problem: Problem, work: Work, scale: float, again: int) -> None:
    """Write the free parameters that templates tell, the weakest peak first.

    So of several peaks that share a parameter the strongest decides.
    """
    work.current[:] = 0.0
    done = work.tested
    done[:] = False
    for _ in range(done.size):
        weakest, least = int(done.size), 0.0
        for k in range(done.size):
            score = work.scores[k] if problem.sought[k] else -1.0
            if not done[k] and (weakest == done.size or score < least):
                weakest, least = k, score
        done[weakest] = True
        _place_peak(problem, work, scale, weakest, again)


@compiled()
def remove_spots(work: Work, n: int) -> float:
    """Take the median of five channels where a start is sought; return the noise without it.

    The channels that are used are kept in ``weight``, too.
    """
    noise = estimate_noise(work.filled, work.scratch)
    filled, scratch, five = work.filled, work.scratch, work.columns[work.parameters.size]
    last = filled.size - 1
    for i in range(filled.size):
        for k in range(5):
            five[k] = filled[min(max(i + k - 2, 0), last)]
        scratch[i] = select(five, 5, 2)
    for i in range(filled.size):
        filled[i] = scratch[i]
    for j in range(n):
        work.weight[j] = filled[work.channel[j]]
    return noise


@compiled()
def _exchange(a: Float64, b: Float64, n: int) -> None:
    for i in range(n):
        a[i], b[i] = b[i], a[i]


@compiled(inline=True)
def _place_peak(problem: Problem, work: Work, scale: float, k: int, again: int) -> None:
    templates, best, first = problem.templates, work.chosen[k], problem.first[k]
    least, most = work.least[first + 1], work.most[first + 1]
    position, fwhm, height = 0.5 * (least + most), 0.1, 0.0
    if best >= 0:
        position, fwhm, height = templates.position[best], templates.fwhm[best], work.heights[k]
    fwhm = work.width[0] if work.width[0] > 0.0 else fwhm
    if again > 0:
        position = 0.5 * (least + most) if problem.alone[k] else position
        fwhm = min(fwhm, (0.25 + 0.2 * again) * _distance(problem, work, k, position))
    values = work.parameters
    for i in range(first, problem.first[k + 1]):
        values[i] = problem.guess[i]
    if problem.codes[k] == EXPONENTIAL:
        least, most, position, fwhm, height = -np.inf, np.inf, values[first + 1], 0.0, 0.0
    values[first] = height * fwhm * GAUSSIAN_WIDTH
    values[first + 1] = min(max(position, least), most)
    if problem.codes[k] != EXPONENTIAL:
        values[first + 2] = fwhm
    if problem.codes[k] == THOMPSON_COX_HASTINGS:
        values[first + 2] = 0.5 * fwhm * fwhm
        values[first + 3] = 0.4 * fwhm
    set_free(
        problem.source, problem.tie, problem.tied, problem.coefficient, problem.offset,
        problem.of_data, work.current, values, first, problem.first[k + 1], scale,
    )  # fmt: skip


@compiled(inline=True)
def _distance(problem: Problem, work: Work, k: int, position: float) -> float:
    """Return how far the start of the nearest other peak lies; infinite where there is none."""
    nearest = np.inf
    for j in range(problem.codes.size):
        i, best = problem.first[j] + 1, work.chosen[j]
        if j == k or not problem.sought[j]:
            continue
        other = 0.5 * (work.least[i] + work.most[i])
        if best >= 0 and not problem.alone[j]:
            other = problem.templates.position[best]
        if other != position:
            nearest = min(nearest, abs(other - position))
    return nearest


@compiled()
def set_free(
    source: Integers, tie: Integers, tied: Integers, coefficient: Float64, offset: Float64,
    of_data: Booleans, current: Float64, values: Float64, begin: int, end: int, scale: float,
) -> None:  # fmt: skip
    """Set each parameter that is known by the first free one that it depends on.

    Arrays come one by one, because a call copies every array of a named tuple.
    """
    for i in range(begin, end):
        free = source[i]
        if free < 0 or not math.isfinite(values[i]):
            continue
        for e in range(tie[free], tie[free + 1]):
            if tied[e] == i and coefficient[e] != 0.0:
                shift = offset[i] / (scale if of_data[i] else 1.0)
                current[free] = (values[i] - shift) / coefficient[e]


@compiled(inline=True)
def take_given(problem: Problem, work: Work, scale: float, pixel: int) -> None:
    """Write the starts that were given over those that were found."""
    row, values = min(pixel, problem.start.shape[0] - 1), work.parameters
    for i in range(values.size):
        unit = problem.unit[i] * (scale if problem.of_data[i] else 1.0)
        values[i] = (problem.start[row, i] - problem.origin[i]) / unit
    set_free(
        problem.source, problem.tie, problem.tied, problem.coefficient, problem.offset,
        problem.of_data, work.current, values, 0, values.size, scale,
    )  # fmt: skip
