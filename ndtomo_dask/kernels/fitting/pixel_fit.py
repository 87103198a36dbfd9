"""The fit of one spectrum from its data to its results: load, start, minimize, judge, write."""

import math

import numpy as np

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.fit_errors import estimate_errors
from ndtomo_dask.kernels.fitting.fit_starts import (
    choose_templates,
    remove_spots,
    set_bounds,
    set_start,
)
from ndtomo_dask.kernels.fitting.fit_work import Float64, Results, Work
from ndtomo_dask.kernels.fitting.levenberg_marquardt import (
    CONVERGED,
    EXACT_STOP,
    SINGULAR,
    STALLED,
    FitStatus,
    build,
    expand,
    minimize,
    sweep,
)
from ndtomo_dask.kernels.fitting.likelihoods import CAUCHY, GAUSSIAN, HUBER, POISSON
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peak_shapes import EXPONENTIAL
from ndtomo_dask.kernels.fitting.starts import copy, largest

STARTS = 3
"""Most starts of a fit of several peaks."""
WIDE = 2.0
"""Ratio of two widths beyond which the wider peak may have covered a third."""
BAD_INPUT, INSIGNIFICANT = int(FitStatus.BAD_INPUT), int(FitStatus.INSIGNIFICANT)


@compiled()
def fit_spectra(
    data: Float64, variance: Float64, problem: Problem, work: Work, out: Results
) -> None:
    """Fit every spectrum on its own.

    # (pixel, channel), (pixel or 1 or 0, channel)
    """
    for pixel in range(data.shape[0]):
        fit_pixel(data, variance, problem, work, out, pixel)


@compiled()
def fit_pixel(
    data: Float64, variance: Float64, problem: Problem, work: Work, out: Results, pixel: int
) -> None:
    """Fit one spectrum, from loading it to writing what was found."""
    n, scale = load_again(data, variance, problem, work, pixel)
    if n < problem.rows.size + 1:
        out.status[pixel] = BAD_INPUT
        return
    status, tried, cost = _fit_loaded(problem, work, n, scale, pixel)
    out.iterations[pixel] = tried
    out.status[pixel] = status
    if status in (CONVERGED, STALLED):
        square = scale * scale if problem.kind == GAUSSIAN else 1.0
        out.cost[pixel] = cost * square
        write_results(problem, work, out, pixel, scale)


@compiled()
def load_again(
    data: Float64, variance: Float64, problem: Problem, work: Work, pixel: int
) -> tuple[int, float]:
    """Load one spectrum; a call, where `load_spectrum` is copied to where it is used."""
    return load_spectrum(data[pixel], variance, min(pixel, variance.shape[0] - 1), problem, work)


@compiled(inline=True)
def load_spectrum(
    row: Float64, variance: Float64, place: int, problem: Problem, work: Work
) -> tuple[int, float]:
    """Copy the usable channels, scaled to 1 and along ascending t, to ``work``.

    Returns how many there are, and the scale: the largest magnitude. Infinite and NaN channels are
    left out, and those whose variance is not positive; a spectrum with negative counts is refused
    where the likelihood is Poisson's.
    """
    t, abscissa, y, filled, channel = problem.t, work.t, work.y, work.filled, work.channel
    if work.loaded[0] == t.size and not problem.given and is_finite(row):
        return _load_whole(row, problem, work)
    n, scale, last, negative = 0, 0.0, -1, False
    for i in range(t.size):
        k = t.size - 1 - i if problem.descending else i
        value = row[k]
        if not math.isfinite(value):
            continue
        if problem.given and not 0.0 < variance[place, k] < np.inf:
            continue
        abscissa[n], y[n], channel[n] = t[i], value, i
        n += 1
        scale = max(scale, abs(value))
        negative |= value < 0.0
        before = value if last < 0 else filled[last]
        for j in range(last + 1, i):
            filled[j] = value + (before - value) * (i - j) / (i - last)
        filled[i] = value
        last = i
    if negative and problem.kind == POISSON:
        return 0, 0.0
    for j in range(max(last, 0), t.size):
        filled[j] = filled[max(last, 0)]
    if scale > 0.0:
        factor = 1.0 / scale
        for j in range(n):
            y[j] *= factor
        for j in range(t.size):
            filled[j] *= factor
    _load_rows(variance, place, problem, work, n, scale)
    return n, scale


@compiled(inline=True)
def _load_whole(row: Float64, problem: Problem, work: Work) -> tuple[int, float]:
    """Load a spectrum without gaps after another: only its values differ."""
    channels, y, filled = problem.t.size, work.y, work.filled
    scale, least = 0.0, 0.0
    for i in range(channels):
        value = row[i]
        scale, least = max(scale, abs(value)), min(least, value)
    if least < 0.0 and problem.kind == POISSON:
        return 0, 0.0
    factor = 1.0 / scale if scale > 0.0 else 1.0
    if problem.descending:
        for i in range(channels):
            y[i] = row[channels - 1 - i] * factor
    else:
        for i in range(channels):
            y[i] = row[i] * factor
    copy(y, filled)
    return channels, scale


@compiled("reassoc")
def is_finite(row: Float64) -> bool:
    """Tell whether all values are finite: 0 times any other is NaN."""
    total = 0.0
    for i in range(row.size):
        total += row[i] * 0.0
    return total == 0.0


@compiled(inline=True)
def _load_rows(
    variance: Float64, place: int, problem: Problem, work: Work, n: int, scale: float
) -> None:
    """Copy the background and the inverse variances of the channels that are used."""
    channel, loaded = work.channel, work.loaded
    if problem.given:
        for j in range(n):
            k = problem.t.size - 1 - channel[j] if problem.descending else channel[j]
            work.base[j] = scale * scale / variance[place, k]
    if n == problem.t.size and loaded[0] == n:
        return
    begin = problem.first[problem.codes.size]
    for k in range(problem.background.shape[0]):
        row, whole = work.columns[begin + k], problem.background[k]
        for j in range(n):
            row[j] = whole[channel[j]]
    loaded[0] = n


@compiled()
def _fit_loaded(
    problem: Problem, work: Work, n: int, scale: float, pixel: int
) -> tuple[int, int, float]:
    """Fit the loaded spectrum; return status, steps tried and cost over degrees of freedom."""
    if not set_bounds(problem, work, scale, pixel):
        return BAD_INPUT, 0, 0.0
    robust = problem.kind in (HUBER, CAUCHY)
    noise = choose_templates(problem, work, pixel, remove_spots(work, n) if robust else 0.0)
    if scale == 0.0 or largest(work.scores, work.scores.size) < problem.significance * noise:
        return INSIGNIFICANT, 0, 0.0
    if not problem.given:
        work.base[:n] = 1.0 / (noise * noise)
    exact = EXACT_STOP * n
    if problem.kind != GAUSSIAN:
        exact *= scale if problem.kind == POISSON else largest(work.base, n)
    status, tried, cost = _minimize_best(problem, work, n, scale, pixel, exact)
    if status not in (CONVERGED, STALLED):
        return status, tried, 0.0
    if not any_peak(problem, work):
        return INSIGNIFICANT, tried, 0.0
    regular, reduced = estimate_errors(problem, work, cost, n, scale)
    if problem.codes.size > 1:
        regular, reduced, more = _drop_weak(problem, work, n, scale, exact, regular, reduced, cost)
        tried += more
        if not any_peak(problem, work):
            return INSIGNIFICANT, tried, 0.0
    return (status if regular else SINGULAR), tried, reduced


@compiled(inline=True)
def is_at_bound(problem: Problem, current: Float64, work: Work) -> bool:
    """Tell whether a position or width ended at a bound, or an area at none."""
    for k in range(problem.codes.size):
        for i in range(problem.first[k], min(problem.first[k] + 3, problem.first[k + 1])):
            free = problem.source[i]
            if free >= 0 and not work.low[free] < current[free] < work.high[free]:
                return True
    return False


@compiled(inline=True)
def _minimize_best(
    problem: Problem, work: Work, n: int, scale: float, pixel: int, exact: float
) -> tuple[int, int, float]:
    """Fit from up to `STARTS` starts, while what was found is doubtful; keep the best fit.

    Several peaks whose starts are not all given start again where one ended at a bound, or is much
    wider than another: it may have covered a neighbor.
    """
    best, status, tried, cost, kept = work.best, 0, 0, np.inf, 0
    starts = STARTS if problem.codes.size > 1 and not all_given(problem, pixel) else 1
    for attempt in range(starts):
        set_start(problem, work, n, scale, pixel, attempt)
        ended, steps, found = minimize(problem, work, n, scale, exact)
        if attempt == 0 or (ended <= STALLED and (status > STALLED or found < cost)):
            status, tried, cost, kept = ended, steps, found, attempt
            copy(work.current, best)
        doubtful = status > STALLED or is_at_bound(problem, best, work) or is_wide(problem, best)
        if not doubtful or attempt == starts - 1:
            break
    if kept != attempt:
        copy(best, work.current)
        cost = sweep(problem, work, work.current, n, scale, problem.kind)
        build(problem, work, n, problem.kind)
    return status, tried, cost


@compiled(inline=True)
def all_given(problem: Problem, pixel: int) -> bool:
    """Tell whether a start is given of every position and width."""
    row = min(pixel, problem.start.shape[0] - 1)
    for k in range(problem.codes.size):
        for i in range(problem.first[k] + 1, min(problem.first[k] + 3, problem.first[k + 1])):
            if problem.source[i] >= 0 and not math.isfinite(problem.start[row, i]):
                return False
    return True


@compiled(inline=True)
def is_wide(problem: Problem, current: Float64) -> bool:
    """Tell whether a peak is more than `WIDE` times as wide as another, widths being free."""
    least, most = np.inf, 0.0
    for k in range(problem.codes.size):
        if not problem.sought[k]:
            continue
        free = problem.source[problem.first[k] + 2]
        if free >= 0:
            least, most = min(least, current[free]), max(most, current[free])
    return most > WIDE * least


@compiled(inline=True)
def any_peak(problem: Problem, work: Work) -> bool:
    """Tell which peaks have an area; return whether any has."""
    found = False
    for k in range(problem.codes.size):
        free = problem.source[problem.first[k]]
        work.present[k] = free < 0 or work.current[free] > 0.0
        found |= work.present[k] and problem.codes[k] != EXPONENTIAL
    return found


@compiled()
def _drop_weak(
    problem: Problem, work: Work, n: int, scale: float, exact: float, regular: bool,
    reduced: float, cost: float,
) -> tuple[bool, float, int]:  # fmt: skip
    """Leave out, the weakest first, peaks without which the fit is hardly worse.

    Hardly means: by less than the square of the significance, in units of the noise.
    """
    current, saved, tested, more = work.current, work.saved, work.tested, 0
    tested[:] = False
    for _ in range(problem.codes.size):
        weak = find_weakest(problem, work)
        if weak < 0:
            break
        tested[weak] = True
        free = problem.source[problem.first[weak]]
        unit = cost / (n - problem.rows.size + 1) if problem.kind == GAUSSIAN else 1.0
        low, high = work.low[free], work.high[free]
        copy(current, saved)
        work.low[free], work.high[free], current[free] = 0.0, 0.0, 0.0
        status, tried, without = minimize(problem, work, n, scale, exact)
        more += tried
        if status > STALLED or without - cost > problem.significance**2 * unit:
            work.low[free], work.high[free] = low, high
            copy(saved, current)
            sweep(problem, work, current, n, scale, problem.kind)
            build(problem, work, n, problem.kind)
        else:
            cost = without
        any_peak(problem, work)
        regular, reduced = estimate_errors(problem, work, cost, n, scale)
    return regular, reduced, more


@compiled()
def find_weakest(problem: Problem, work: Work) -> int:
    """Find the peak of least area in units of its error, below the significance; else -1."""
    weak, least = -1, problem.significance
    for k in range(problem.codes.size):
        i = problem.first[k]
        free = problem.source[i]
        if work.tested[k] or not work.present[k] or free < 0 or not problem.sought[k]:
            continue
        if work.low[free] > 0.0:
            continue
        ratio = work.current[free] / work.errors[i]
        if not ratio >= least:
            weak, least = k, ratio
    return weak


@compiled(inline=True)
def write_results(problem: Problem, work: Work, out: Results, pixel: int, scale: float) -> None:
    """Write values and errors in axis units; NaN for the peaks that are left out."""
    current, parameters, errors = work.current, work.parameters, work.errors
    expand(
        current, problem.offset, problem.of_data, 1.0 / scale, problem.tie, problem.tied,
        problem.coefficient, problem.least, parameters,
    )  # fmt: skip
    row, top = min(pixel, problem.low.shape[0] - 1), min(pixel, problem.high.shape[0] - 1)
    for i in range(parameters.size):
        low, high, free = problem.low[row, i], problem.high[top, i], problem.source[i]
        size = problem.unit[i] * (scale if problem.of_data[i] else 1.0)
        value = min(max(problem.origin[i] + parameters[i] * size, low), high)
        if problem.single[i] and not work.low[free] < current[free] < work.high[free]:
            out.at_bound[pixel, i] = low < high
            value = low if parameters[i] <= work.least[i] else value
            value = high if parameters[i] >= work.most[i] else value
        out.values[pixel, i] = value
        out.errors[pixel, i] = errors[i] * size
    for k in range(out.width_errors.shape[1]):
        out.width_errors[pixel, k, 0] = (
            work.width_errors[2 * k] * problem.unit[problem.first[k] + 1]
        )
        out.width_errors[pixel, k, 1] = work.width_errors[2 * k + 1]
    for k in range(problem.codes.size):
        if not work.present[k]:
            out.status[pixel, k] = INSIGNIFICANT
            for i in range(problem.first[k], problem.first[k + 1]):
                out.values[pixel, i] = np.nan
                out.errors[pixel, i] = np.nan
                out.at_bound[pixel, i] = False
            if out.width_errors.shape[1]:
                out.width_errors[pixel, k, 0] = out.width_errors[pixel, k, 1] = np.nan
    for k in range(problem.codes.size):
        for j in range(k):
            _order(problem, out, pixel, j, k)


@compiled()
def _order(problem: Problem, out: Results, pixel: int, j: int, k: int) -> None:
    """Exchange two peaks that are alike where their positions do not ascend."""
    a, b = problem.first[j], problem.first[k]
    before, after = out.values[pixel, a + 1], out.values[pixel, b + 1]
    if problem.alike[j] != problem.alike[k] or not (before > after or math.isnan(before)):
        return
    status = out.status[pixel, j]
    out.status[pixel, j], out.status[pixel, k] = out.status[pixel, k], status
    for i in range(problem.first[j + 1] - a):
        for table in (out.values, out.errors):
            value = table[pixel, a + i]
            table[pixel, a + i], table[pixel, b + i] = table[pixel, b + i], value
        bound = out.at_bound[pixel, a + i]
        out.at_bound[pixel, a + i], out.at_bound[pixel, b + i] = out.at_bound[pixel, b + i], bound
    for i in range(2 if out.width_errors.shape[1] else 0):
        value = out.width_errors[pixel, j, i]
        out.width_errors[pixel, j, i] = out.width_errors[pixel, k, i]
        out.width_errors[pixel, k, i] = value
