"""Batched, bounded Levenberg-Marquardt fits of peaks: one compiled minimization per spectrum.

Every spectrum is scaled, started from the template that fits it best, and minimized on its own, in
float64, so no result depends on neighbors, order or threads.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import OptionError, SchemaError, check_choice, nearest
from ndtomo_dask.kernels.levenberg_marquardt import (
    CONVERGED,
    SINGULAR,
    STALLED,
    FitStatus,
    Work,
    allocate_work,
    build_normal,
    estimate_errors,
    evaluate,
    find_step,
    load_spectrum,
    minimize,
    take_step,
)
from ndtomo_dask.kernels.peaks import (
    GAUSSIAN_WIDTH,
    PARAMETERS,
    SHAPES,
    Float64,
    Templates,
    Values,
    build_templates,
    find_start,
    scale_axis,
)
from ndtomo_dask.kernels.threads import run_threaded

Bounds = tuple[float, float]

BAD_INPUT, INSIGNIFICANT = int(FitStatus.BAD_INPUT), int(FitStatus.INSIGNIFICANT)

PIECE = 1024
"""Spectra that one thread takes at a time."""


@dataclass(frozen=True)
class PeakFit:
    """What `fit_peak` found, one entry per pixel; NaN where nothing could be fitted."""

    area: Values
    """Integral of the peak over the axis, in data units times axis units."""
    position: Values
    fwhm: Values
    fraction: Values
    background: Values
    """Coefficients of t^0, t^1, ..., with t from `peaks.scale_axis`. (pixel, term)"""
    area_error: Values
    """Standard error; NaN (as the others') where the parameter is fixed or at its bound."""
    position_error: Values
    fwhm_error: Values
    fraction_error: Values
    background_error: Values
    reduced_chi_square: Values
    """Sum of squares over degrees of freedom: the residual variance, in data units squared."""
    iterations: NDArray[np.int16]
    status: NDArray[np.uint8]
    """Values of `FitStatus`."""
    at_bound: NDArray[np.uint8]
    """Bit i is set where parameter i of `peaks.PARAMETERS` ended at one of its bounds."""


def fit_peak(
    spectra: ArrayLike,
    axis: ArrayLike,
    *,
    shape: str = "pseudo_voigt",
    background: int = 1,
    bounds: Mapping[str, Bounds] | None = None,
    significance: float = 4.0,
    iterations: int = 60,
) -> PeakFit:
    """Fit one peak on a polynomial background to every spectrum of a window.

    Minimizes Σ (data - model)², unweighted, over the finite channels. Standard errors are the roots
    of the diagonal of s² (JᵀJ)⁻¹ over the parameters that are free at the solution, s² being the
    residual variance: right for noise that is alike in all channels, as in reconstructed voxels,
    too small under strong peaks of raw counts. A spectrum needs two finite channels more than
    parameters, and is fitted where the best of a set of templates stands out from the noise.

    # (pixel, channel), (channel,) -> (pixel,)

    Parameters
    ----------
    spectra
        One spectrum per row, float32 or float64 (integers become float32); NaN and infinite
        channels have weight zero. Results have the same dtype.
    axis
        Finite and strictly monotonic, either way; need not be uniform.
    shape
        One of `peaks.SHAPES`.
    background
        Degree of the background polynomial, from -1 (none) to 2.
    bounds
        Lowest and highest value by parameter, in axis units; equal values fix it. By default
        area >= 0, position in the window, fwhm from one channel to the window's width, and
        fraction from 0 to 1.
    significance
        Height of the best template in units of its noise below which nothing is fitted.
    iterations
        Most steps tried per spectrum.

    Raises
    ------
    OptionError
        For a shape, background, bound, significance or iterations that cannot be.
    SchemaError
        For arrays that do not match, an axis that is not monotonic, or too few channels.

    >>> from ndtomo_dask.kernels.peaks import evaluate_peak
    >>> x = np.linspace(3.0, 3.2, 41)
    >>> y = 10 + evaluate_peak(x, area=2.0, position=3.09, fwhm=0.03, fraction=0.4)
    >>> fit = fit_peak(y[np.newaxis], x)
    >>> float(fit.area[0]), float(fit.position[0]), float(fit.fwhm[0])
    (2.00, 3.09, 0.03)
    """
    data, x = _check_arrays(spectra, axis)
    _check_options(shape, background, significance, iterations)
    checked = _check_bounds(x, shape, bounds or {})
    rounding = max(2 * float(np.finfo(data.dtype).eps), 1e-13)
    problem = _build_problem(x, shape, background + 1, checked, rounding, significance, iterations)
    parameters = problem.low.size + problem.terms
    out = _empty_results(len(data), parameters, data.dtype)

    def fit_piece(piece: slice) -> None:
        work = allocate_work(x.size, parameters, problem.varied)
        _fit_spectra(data[piece], problem, work, out.rows(piece))

    run_threaded(fit_piece, [slice(i, i + PIECE) for i in range(0, len(data), PIECE)])
    return _peak_fit(out)


def _check_arrays(spectra: ArrayLike, axis: ArrayLike) -> tuple[Values, Float64]:
    data, x = np.asarray(spectra), np.asarray(axis, dtype=np.float64)
    if data.ndim != 2 or x.shape != data.shape[1:]:
        raise SchemaError(
            f"fit_peak needs spectra of shape (pixel, channel) and one axis value per channel, "
            f"not spectra of shape {data.shape} with an axis of shape {x.shape}."
        )
    steps = np.diff(x)
    if not (np.isfinite(x).all() and ((steps > 0).all() or (steps < 0).all())):
        raise SchemaError(
            "the axis of a fit must be finite and strictly increasing or decreasing; "
            "sort the channels and drop those that repeat a value."
        )
    dtype = data.dtype if data.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    return np.ascontiguousarray(data, dtype=dtype), x


def _check_options(shape: str, background: int, significance: float, iterations: int) -> None:
    check_choice("shape", shape, SHAPES)
    if background not in (-1, 0, 1, 2):
        raise OptionError(
            f"background={background!r} is not a degree of polynomial: "
            "expected -1 (none), 0 (constant), 1 (line) or 2 (parabola)."
        )
    if not significance >= 0:
        raise OptionError(f"significance={significance!r} must be a number, 0 or more.")
    if not 1 <= iterations <= np.iinfo(np.int16).max:
        raise OptionError(f"iterations={iterations!r} must lie between 1 and 32767.")


def _default_bounds(x: Float64, shape: str) -> dict[str, Bounds]:
    fixed = SHAPES[shape].fraction
    return {
        "area": (0.0, math.inf),
        "position": (float(x.min()), float(x.max())),
        "fwhm": (float(np.median(np.abs(np.diff(x)))), float(np.ptp(x))),
        "fraction": (0.0, 1.0) if "fraction" in SHAPES[shape].free else (fixed, fixed),
    }


def _check_bounds(x: Float64, shape: str, bounds: Mapping[str, Bounds]) -> dict[str, Bounds]:
    allowed = _default_bounds(x, shape)
    channel, width = allowed["fwhm"]
    limits = allowed | {"fwhm": (1e-3 * channel, 1e3 * width)}
    for name, bound in bounds.items():
        if name not in SHAPES[shape].free:
            known = nearest(str(name), SHAPES[shape].free)
            raise OptionError(f"bounds={name!r} is not a parameter of a {shape} peak. {known}")
        pair = np.asarray(bound, dtype=np.float64)
        least, most = limits[name]
        if pair.shape != (2,) or not least <= pair[0] <= pair[1] <= most:
            raise OptionError(
                f"bounds[{name!r}]={bound!r} must be (lowest, highest) "
                f"within {least:.6g} to {most:.6g}."
            )
        allowed[name] = (float(pair[0]), float(pair[1]))
    return allowed


class Problem(NamedTuple):
    """What all spectra of a window share, in the scaled abscissa t."""

    t: Float64
    """Ascending, from -1 to 1."""
    descending: bool
    """Whether channels run against t."""
    origin: Float64
    """Value of each peak parameter, in axis units, that is 0 in units of t."""
    unit: Float64
    """Size of each peak parameter's unit of t, in axis units."""
    low: Float64
    """Lower bound of every peak parameter, in axis units; area in data times axis units."""
    high: Float64
    terms: int
    varied: NDArray[np.int64]
    """Indices of the parameters that are fitted."""
    fraction: float
    """Where the fraction starts, or stays."""
    templates: Templates
    rounding: float
    """Rounding errors to expect in data scaled to 1."""
    significance: float
    iterations: int


def _build_problem(
    x: Float64, shape: str, terms: int, checked: Mapping[str, Bounds], rounding: float,
    significance: float, iterations: int,
) -> Problem:  # fmt: skip
    low, high = np.array([checked[name] for name in PARAMETERS]).T.copy()
    varied = np.append(np.flatnonzero(low < high), len(PARAMETERS) + np.arange(terms))
    if x.size < varied.size + 2:
        raise SchemaError(
            f"a window of {x.size} channels cannot determine {varied.size} parameters: it needs "
            f"{varied.size + 2}. Widen the window, or lower background={terms - 1}."
        )
    descending = bool(x[0] > x[-1])
    t, center, half_range = scale_axis(np.ascontiguousarray(x[::-1]) if descending else x)
    origin = np.array([0.0, center, 0.0, 0.0])
    unit = np.array([half_range, half_range, half_range, 1.0])
    box = np.stack([low - origin, high - origin], axis=1) / unit[:, np.newaxis]
    fraction = min(max(SHAPES[shape].fraction, low[3]), high[3])
    return Problem(
        t, descending, origin, unit, low, high, terms, varied, fraction,
        build_templates(t, terms, tuple(box[1].tolist()), tuple(box[2].tolist())),
        rounding, float(significance), int(iterations),
    )  # fmt: skip


class _Results(NamedTuple):
    """One row per spectrum; `PeakFit` is made of its columns."""

    values: Values
    errors: Values
    variance: Values
    iterations: NDArray[np.int16]
    status: NDArray[np.uint8]
    at_bound: NDArray[np.uint8]

    def rows(self, piece: slice) -> "_Results":
        values, errors, variance, iterations, status, at_bound = self
        return _Results(
            values[piece], errors[piece], variance[piece],
            iterations[piece], status[piece], at_bound[piece],
        )  # fmt: skip


def _empty_results(pixels: int, parameters: int, dtype: np.dtype[np.floating]) -> _Results:
    return _Results(
        np.full((pixels, parameters), np.nan, dtype=dtype),
        np.full((pixels, parameters), np.nan, dtype=dtype),
        np.full(pixels, np.nan, dtype=dtype),
        np.zeros(pixels, dtype=np.int16),
        np.zeros(pixels, dtype=np.uint8),
        np.zeros(pixels, dtype=np.uint8),
    )


def _peak_fit(out: _Results) -> PeakFit:
    count = len(PARAMETERS)
    values = {name: out.values[:, i] for i, name in enumerate(PARAMETERS)}
    errors = {f"{name}_error": out.errors[:, i] for i, name in enumerate(PARAMETERS)}
    return PeakFit(
        **values, background=out.values[:, count:],
        **errors, background_error=out.errors[:, count:],
        reduced_chi_square=out.variance, iterations=out.iterations, status=out.status,
        at_bound=out.at_bound,
    )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _fit_spectra(data: Values, problem: Problem, work: Work, out: _Results) -> None:
    parameters, errors = work.parameters, work.errors
    origin, unit, low, high = problem.origin, problem.unit, problem.low, problem.high
    for pixel in range(data.shape[0]):
        n, scale = load_spectrum(data[pixel], problem.t, problem.descending, work)
        if n < problem.varied.size + 2:
            out.status[pixel] = BAD_INPUT
            continue
        status, tried, variance = _fit_loaded(problem, work, n, scale)
        out.status[pixel] = status
        out.iterations[pixel] = tried
        if status not in (CONVERGED, STALLED):
            continue
        out.variance[pixel] = variance * scale * scale
        for i in range(parameters.size):
            value, size = parameters[i], scale if i == 0 or i >= unit.size else 1.0
            if i < unit.size:
                size *= unit[i]
                if low[i] < high[i] and not work.low[i] < value < work.high[i]:
                    out.at_bound[pixel] |= 1 << i
                value = min(max(origin[i] + value * size, low[i]), high[i])
            else:
                value *= size
            out.values[pixel, i] = value
            out.errors[pixel, i] = errors[i] * size


@njit(nogil=True, cache=True, error_model="numpy")
def _fit_loaded(problem: Problem, work: Work, n: int, scale: float) -> tuple[int, int, float]:
    """Fit the loaded spectrum; return status, steps tried and scaled residual variance."""
    best, height, significance = find_start(
        work.filled, problem.templates, problem.rounding, work.scratch
    )
    if scale == 0.0 or significance < problem.significance:
        return INSIGNIFICANT, 0, 0.0
    _set_bounds(problem, work, scale)
    _set_start(problem, work, n, best, height)
    status, tried, cost = minimize(work, problem.terms, n, problem.iterations)
    if work.parameters[0] <= 0.0:
        return INSIGNIFICANT, tried, 0.0
    if status not in (CONVERGED, STALLED):
        return status, tried, 0.0
    regular, variance = estimate_errors(work, cost, n)
    return (status if regular else SINGULAR), tried, variance


@njit(nogil=True, cache=True, error_model="numpy")
def _set_bounds(problem: Problem, work: Work, scale: float) -> None:
    work.low[:] = -np.inf
    work.high[:] = np.inf
    for i in range(problem.low.size):
        unit = problem.unit[i] * (scale if i == 0 else 1.0)
        work.low[i] = (problem.low[i] - problem.origin[i]) / unit
        work.high[i] = (problem.high[i] - problem.origin[i]) / unit


@njit(nogil=True, cache=True, error_model="numpy")
def _set_start(problem: Problem, work: Work, n: int, best: int, height: float) -> None:
    """Start at the best template, its area and background solved for linearly.

    A peak of no area has no other derivatives than that by area, so one undamped step does it.
    """
    first = problem.low.size
    for k in range(problem.terms):
        power, below = work.columns[first + k], work.columns[first + k - 1]
        for i in range(n):
            power[i] = 1.0 if k == 0 else below[i] * work.t[i]
    parameters, low, high, trial = work.parameters, work.low, work.high, work.trial
    fwhm = problem.templates.fwhm[best]
    parameters[:] = 0.0
    parameters[1] = min(max(problem.templates.position[best], low[1]), high[1])
    parameters[2] = min(max(fwhm, low[2]), high[2])
    parameters[3] = problem.fraction
    least, most = low[0], high[0]
    low[0], high[0] = -np.inf, np.inf
    evaluate(work.t[:n], work.y[:n], work.columns, parameters, problem.terms)
    build_normal(work.used, work.columns, work.normal, n)
    found, _ = find_step(
        work.used, work.normal, work.free, work.order, work.factor, work.solution, work.step,
        parameters, low, high, 0.0,
    )  # fmt: skip
    if found:
        take_step(work.used, work.step, parameters, low, high, trial)
        parameters[:] = trial
    if parameters[0] <= 0.0:
        parameters[0] = height * fwhm * GAUSSIAN_WIDTH
    low[0], high[0] = least, most
    parameters[0] = min(max(parameters[0], least), most)
