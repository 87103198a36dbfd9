"""Unweighted fits of pseudo-Voigts, several spectra at once: each takes a lane until it is done.

A lane goes its own way: it is loaded, takes a linear step to areas and background, then steps of
its own damping until its own stop, and is given the next spectrum. Whatever is out of the ordinary
(channels without a value, doubtful or weak peaks, singular matrices) is left to `pixel_fit`, from
the beginning, so that it does not depend on the spectra that were fitted beside it.
"""

import math

import numpy as np

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.fit_errors import estimate_errors, estimate_plain
from ndtomo_dask.kernels.fitting.fit_starts import (
    choose_templates,
    place_peaks,
    set_bounds,
    take_given,
)
from ndtomo_dask.kernels.fitting.fit_work import Float64, Results, Work
from ndtomo_dask.kernels.fitting.lane_steps import find_lane_steps
from ndtomo_dask.kernels.fitting.lane_work import Lanes
from ndtomo_dask.kernels.fitting.lanes import LANES, PEAK, entry, sweep_lanes
from ndtomo_dask.kernels.fitting.levenberg_marquardt import (
    CONVERGED,
    EXACT_STOP,
    LARGEST_DAMPING,
    ROUNDING_STOP,
    STALLED,
    expand,
    find_step,
)
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.pixel_fit import (
    INSIGNIFICANT,
    all_given,
    any_peak,
    find_weakest,
    fit_pixel,
    is_at_bound,
    is_wide,
    load_again,
    load_spectrum,
    write_results,
)
from ndtomo_dask.kernels.fitting.starts import largest

EMPTY, LOADED, STEPPING = range(3)
"""What a lane waits for: a spectrum, the sums at its start, a step."""
GOING, ODD = -1, -2
"""Ends of a lane beside those of `FitStatus`: none yet, and what is left to `pixel_fit`."""


@compiled()
def fit_lanes(
    data: Float64, variance: Float64, problem: Problem, work: Work, lanes: Lanes, out: Results
) -> None:
    """Fit every spectrum on its own, `LANES` at a time.

    # (pixel, channel), (pixel or 1 or 0, channel)
    """
    # counted down, because a function that is called with a constant is compiled for it
    count, left, phase = lanes.current.size // LANES, data.shape[0], lanes.phase
    for lane in range(LANES):
        phase[lane] = EMPTY
    while True:
        _propose(problem, work, lanes, count)
        busy = False
        for lane in range(LANES):
            if phase[lane] != EMPTY and lanes.ended[lane] != GOING:
                pixel, phase[lane] = lanes.pixel[lane], EMPTY
                if not _finish(data, variance, problem, work, lanes, lane, pixel, count, out):
                    fit_pixel(data, variance, problem, work, out, pixel)
            while phase[lane] == EMPTY and left > 0:
                pixel = data.shape[0] - left
                left -= 1
                if not _load_lane(data, variance, problem, work, lanes, lane, pixel, out):
                    fit_pixel(data, variance, problem, work, out, pixel)
            busy |= phase[lane] != EMPTY
        if not busy:
            break
        sweep_lanes(
            lanes.t, problem.t.size, lanes.background, problem.codes.size, lanes.trial, lanes.y,
            lanes.rows, lanes.factors, lanes.sums,
        )  # fmt: skip
        _judge(problem, work, lanes, count)


@compiled(inline=True)
def _load_lane(
    data: Float64, variance: Float64, problem: Problem, work: Work, lanes: Lanes, lane: int,
    pixel: int, out: Results,
) -> bool:  # fmt: skip
    """Give a spectrum to a lane, to begin at its start; return whether it suits one."""
    row = min(pixel, variance.shape[0] - 1)
    n, scale = load_spectrum(data[pixel], variance, row, problem, work)
    if n < problem.t.size or not set_bounds(problem, work, scale, pixel):
        return False
    noise = choose_templates(problem, work, pixel, min(scale, 0.0))
    if scale == 0.0 or largest(work.scores, work.scores.size) < problem.significance * noise:
        out.status[pixel] = INSIGNIFICANT
        return True
    place_peaks(problem, work, scale, 0)
    take_given(problem, work, scale, pixel)
    current = work.current
    for j in range(current.size - 1):
        current[j] = min(max(current[j], work.low[j]), work.high[j])
    expand(
        current, problem.offset, problem.of_data, 1.0 / scale, problem.tie, problem.tied,
        problem.coefficient, problem.least, work.parameters,
    )  # fmt: skip
    y, source = work.y, lanes.y
    for i in range(n):
        source[i * LANES + lane] = y[i]
    _set_lane(problem, work, lanes, lane, scale, pixel)
    return True


@compiled(inline=True)
def _set_lane(
    problem: Problem, work: Work, lanes: Lanes, lane: int, scale: float, pixel: int
) -> None:
    """Copy start and bounds to a lane."""
    parameters, start = work.parameters, min(pixel, problem.start.shape[0] - 1)
    for i in range(parameters.size):
        place, free = i * LANES + lane, problem.source[i]
        value, area = parameters[i], free >= 0 and problem.areas[free]
        lanes.goal[place] = value
        lanes.trial[place] = 1.0 if area and not value > 0.0 else value
        lanes.low[place] = work.low[free] if free >= 0 else value
        lanes.high[place] = work.high[free] if free >= 0 else value
        unit = problem.unit[i] * (scale if problem.of_data[i] else 1.0)
        lanes.given[place] = (problem.start[start, i] - problem.origin[i]) / unit
    lanes.phase[lane], lanes.pixel[lane], lanes.tried[lane] = LOADED, pixel, 0
    lanes.ended[lane] = GOING
    lanes.scale[lane], lanes.damping[lane], lanes.growth[lane] = scale, 1e-3, 2.0


@compiled(inline=True)
def _propose(problem: Problem, work: Work, lanes: Lanes, count: int) -> None:
    """Find the next step of every lane, and write where it leads as its trial."""
    find_lane_steps(
        lanes.normal, count, lanes.current, lanes.low, lanes.high, lanes.damping, lanes.factor,
        lanes.free, lanes.step, lanes.leaving, lanes.drop, lanes.regular,
    )  # fmt: skip
    current, trial, step, low, high = lanes.current, lanes.trial, lanes.step, lanes.low, lanes.high
    for lane in range(LANES):
        if lanes.phase[lane] != EMPTY and lanes.leaving[lane] > 0.0:
            _stay_inside(problem, work, lanes, lane, count)
    for i in range(step.size):
        trial[i] = min(max(current[i] + step[i], low[i]), high[i])
    for lane in range(LANES):
        if lanes.phase[lane] == STEPPING and lanes.ended[lane] == GOING:
            lanes.tried[lane] += 1
            _end_lane(problem, lanes, lane, count)


@compiled(inline=True)
def _stay_inside(problem: Problem, work: Work, lanes: Lanes, lane: int, count: int) -> None:
    """Find the step of one lane again, which would leave the bounds: most lanes do not."""
    _take_normal(problem, work, lanes, lane, count)
    current, step, low, high = work.current, work.step, work.open_low, work.open_high
    rows = problem.rows
    for a in range(current.size - 1):
        place = rows[a] * LANES + lane
        current[a], low[a], high[a] = lanes.current[place], lanes.low[place], lanes.high[place]
    found, drop = find_step(
        work.normal, work.free, work.order, work.factor, work.solution, step, current, low, high,
        lanes.damping[lane],
    )  # fmt: skip
    lanes.regular[lane], lanes.drop[lane] = (1.0 if found else 0.0), drop
    for a in range(current.size - 1):
        lanes.step[rows[a] * LANES + lane] = step[a] if found else 0.0


@compiled(inline=True)
def _take_normal(problem: Problem, work: Work, lanes: Lanes, lane: int, count: int) -> None:
    """Copy the normal matrix of one lane over the free parameters to ``work``."""
    rows, normal, m = problem.rows, work.normal, problem.rows.size
    for a in range(m):
        i = rows[a] if a < m - 1 else count
        for b in range(a + 1):
            j = rows[b] if b < m - 1 else count
            value = lanes.normal[entry(i, j) + lane]
            normal[a, b], normal[b, a] = value, value


@compiled(inline=True)
def _end_lane(problem: Problem, lanes: Lanes, lane: int, count: int) -> None:
    """Take a step that would not matter as the last one, without looking where it led."""
    drop, cost, n = lanes.drop[lane], lanes.cost[lane], problem.t.size
    least = max(problem.tolerance * cost / (n - problem.rows.size + 1), EXACT_STOP * n)
    if lanes.regular[lane] > 0.0 and 0.0 <= drop <= least and lanes.damping[lane] <= 1.0:
        lanes.ended[lane], lanes.cost[lane] = CONVERGED, max(cost - drop, 0.0)
        for i in range(lane, count * LANES, LANES):
            lanes.current[i] = lanes.trial[i]


@compiled(inline=True)
def _solve_linear(problem: Problem, work: Work, lanes: Lanes, lane: int) -> bool:
    """Find areas and background by one linear step from the start; return whether it can be done.

    The sums at its end follow from those at the start.
    """
    linear, sums, several = lanes.linear, lanes.sums, problem.codes.size > 1
    q, last = linear.size, lanes.current.size // LANES
    current, low, high, normal, step = (
        work.current, work.open_low, work.open_high, work.normal, work.step
    )  # fmt: skip
    for a in range(q):
        i = linear[a]
        for b in range(a + 1):
            value = sums[entry(i, linear[b]) + lane]
            normal[a, b], normal[b, a] = value, value
        value = sums[entry(last, i) + lane]
        normal[a, q], normal[q, a] = value, value
        current[a], high[a] = lanes.trial[i * LANES + lane], np.inf
        low[a] = 0.0 if several and problem.areas[problem.source[i]] else -np.inf
    found, _ = find_step(
        normal, work.free[: q + 1], work.order, work.factor, work.solution, step, current, low,
        high, 0.0,
    )  # fmt: skip
    for k in range(problem.codes.size):
        work.heights[k] = 1.0
    for a in range(q):
        i = linear[a]
        place, area = i * LANES + lane, problem.areas[problem.source[i]]
        value = current[a] + (step[a] if found else 0.0)
        if area and (value <= 0.0 or not found):
            value = lanes.goal[place] * (0.1 if several else 1.0)
        if math.isfinite(lanes.given[place]):
            value = lanes.given[place]
        lanes.trial[place] = min(max(value, lanes.low[place]), lanes.high[place])
        step[a] = lanes.trial[place] - current[a]
        if area:
            work.heights[i // PEAK] = lanes.trial[place] / current[a]
    return _move_sums(problem, work, lanes, lane)


@compiled(inline=True)
def _move_sums(problem: Problem, work: Work, lanes: Lanes, lane: int) -> bool:
    """Bring the sums of a lane to where a step of its linear parameters leads, without a sweep.

    The residual changes by the derivatives by these, and a peak's other derivatives grow with
    its area, of which ``work.heights`` has the ratios.
    """
    linear, sums, step, ratio = lanes.linear, lanes.sums, work.step, work.heights
    last, peaks = lanes.current.size // LANES, problem.codes.size
    cost = sums[entry(last, last) + lane]
    for a in range(linear.size):
        cost -= step[a] * sums[entry(last, linear[a]) + lane]
    for i in range(last):
        for a in range(linear.size):
            j = linear[a]
            pull = step[a] * sums[entry(max(i, j), min(i, j)) + lane]
            sums[entry(last, i) + lane] -= pull
    for a in range(linear.size):
        cost -= step[a] * sums[entry(last, linear[a]) + lane]
    for k in range(peaks):
        for i in range(PEAK * k + 1, PEAK * k + PEAK):
            for j in range(i + 1):
                sums[entry(i, j) + lane] *= ratio[k]
            for j in range(i, last + 1):
                sums[entry(j, i) + lane] *= ratio[k]
    lanes.cost[lane] = max(cost, 0.0)
    return math.isfinite(cost)


@compiled(inline=True)
def _judge(problem: Problem, work: Work, lanes: Lanes, count: int) -> None:
    """Accept the trial of every lane or damp its next step more; note which lanes are done."""
    sums, accepted = lanes.sums, lanes.accepted
    for lane in range(LANES):
        accepted[lane] = 0.0
        if lanes.phase[lane] != EMPTY:
            _judge_lane(problem, work, lanes, lane, sums[entry(count, count) + lane])
    for i in range(0, sums.size, LANES):
        take(sums[i:], accepted, lanes.normal[i:])
    for i in range(0, count * LANES, LANES):
        take(lanes.trial[i:], accepted, lanes.current[i:])


@compiled()
def take(source: Float64, accepted: Float64, target: Float64) -> None:
    """Copy the lanes that are accepted."""
    for lane in range(LANES):
        target[lane] = source[lane] if accepted[lane] > 0.0 else target[lane]


@compiled(inline=True)
def _judge_lane(problem: Problem, work: Work, lanes: Lanes, lane: int, new: float) -> None:
    """Do what `levenberg_marquardt.minimize` does after a step."""
    phase, damping, ended = lanes.phase, lanes.damping, lanes.ended
    if phase[lane] == LOADED:
        lanes.accepted[lane], phase[lane] = 1.0, STEPPING
        if not (math.isfinite(new) and _solve_linear(problem, work, lanes, lane)):
            ended[lane] = ODD
        return
    drop, cost = lanes.drop[lane], lanes.cost[lane]
    if not (lanes.regular[lane] > 0.0 and drop >= 0.0):
        damping[lane] *= 10.0
    elif new < cost:
        ratio = min((cost - new) / max(drop, 1e-300), 2.0)
        damping[lane] *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
        lanes.growth[lane] = 2.0
        lanes.accepted[lane], lanes.cost[lane] = 1.0, new
    elif drop <= ROUNDING_STOP * cost:
        ended[lane] = STALLED
    else:
        damping[lane] *= lanes.growth[lane]
        lanes.growth[lane] *= 2.0
    if ended[lane] == GOING and (
        lanes.tried[lane] >= problem.iterations or damping[lane] > LARGEST_DAMPING
    ):
        ended[lane] = ODD


@compiled(inline=True)
def _finish(
    data: Float64, variance: Float64, problem: Problem, work: Work, lanes: Lanes, lane: int,
    pixel: int, count: int, out: Results,
) -> bool:  # fmt: skip
    """Judge what a lane ended with and write it; return False where it is not to be believed."""
    ended, scale = lanes.ended[lane], lanes.scale[lane]
    if ended == ODD:
        return False
    set_bounds(problem, work, scale, pixel)
    _take_normal(problem, work, lanes, lane, count)
    for a in range(work.current.size - 1):
        work.current[a] = lanes.current[problem.rows[a] * LANES + lane]
    doubtful = is_at_bound(problem, work.current, work) or is_wide(problem, work.current)
    if doubtful and problem.codes.size > 1 and not all_given(problem, pixel):
        return False
    out.iterations[pixel] = lanes.tried[lane]
    if not any_peak(problem, work):
        out.status[pixel] = INSIGNIFICANT
        return True
    cost, n = lanes.cost[lane], problem.t.size
    if problem.counts or problem.given:  # the sandwich looks at the spectrum again
        load_again(data, variance, problem, work, pixel)
        regular, reduced = estimate_errors(problem, work, cost, n, scale)
    else:
        regular, reduced = estimate_plain(
            work.normal, work.free, work.order, work.factor, work.covariance, work.current,
            work.low, work.high, problem.areas, problem.rows, work.errors, cost, n,
        )  # fmt: skip
    if problem.codes.size > 1:
        work.tested[:] = False
        if find_weakest(problem, work) >= 0:
            return False
    if not regular:
        return False
    out.status[pixel] = ended
    out.cost[pixel] = reduced * scale * scale
    write_results(problem, work, out, pixel, scale)
    return True
