"""Batched, bounded Levenberg-Marquardt fits of peaks: one compiled minimization per spectrum.

Every spectrum is scaled, started from the templates that fit it best, and minimized on its own, in
float64, so no result depends on neighbors, order or threads. `fit_model` fits any number of peaks
of any shape with ties between their parameters; `fit_peak` is its short form for one peak.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import OptionError, SchemaError, check_choice, nearest
from ndtomo_dask.kernels.fitting.batched_fit import check_backend, fit_batched
from ndtomo_dask.kernels.fitting.fit_work import Results, allocate_work
from ndtomo_dask.kernels.fitting.lane_fit import fit_lanes
from ndtomo_dask.kernels.fitting.lane_work import allocate_lanes, suits_lanes
from ndtomo_dask.kernels.fitting.levenberg_marquardt import FitStatus
from ndtomo_dask.kernels.fitting.likelihoods import LIKELIHOODS
from ndtomo_dask.kernels.fitting.peak_model import PeakModel
from ndtomo_dask.kernels.fitting.peak_problem import Bounds, Problem, build_problem
from ndtomo_dask.kernels.fitting.peaks import PARAMETERS, SHAPES, SINGLE, Float64, Values
from ndtomo_dask.kernels.fitting.pixel_fit import fit_spectra
from ndtomo_dask.kernels.threads import run_threaded

__all__ = ["FitStatus", "ModelFit", "PeakFit", "fit_model", "fit_peak"]

PIECE = 1024
"""Spectra that one thread takes at a time."""


@dataclass(frozen=True)
class ModelFit:
    """What `fit_model` found; NaN where nothing could be fitted."""

    names: tuple[str, ...]
    """Of all parameters: of peaks, background, and unknowns that only ties name."""
    values: Values
    """(pixel, parameter)"""
    errors: Values
    """Standard errors; NaN where a parameter is fixed or at its bound."""
    at_bound: NDArray[np.bool_]
    """Where a parameter that is varied ended at one of its bounds."""
    reduced_chi_square: Values
    """The cost over degrees of freedom; in data units squared where the fit is unweighted."""
    iterations: NDArray[np.int16]
    status: NDArray[np.uint8]
    """Values of `FitStatus`. (pixel, peak)"""
    width_errors: Values
    """Of fwhm and fraction, if these follow from other widths; else of no peak. (pixel, peak, 2)"""

    def __getitem__(self, name: str) -> Values:
        """Return one parameter of all pixels, such as ``fit["Ni 111.area"]``."""
        return self.values[:, self.names.index(name)]

    def error(self, name: str) -> Values:
        """Return the standard error of one parameter."""
        return self.errors[:, self.names.index(name)]


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


def fit_model(
    spectra: ArrayLike,
    axis: ArrayLike,
    model: PeakModel,
    *,
    bounds: Mapping[str, Bounds] | None = None,
    start: Mapping[str, ArrayLike] | None = None,
    likelihood: str = "gaussian",
    variance: ArrayLike | str | None = None,
    significance: float = 4.0,
    iterations: int = 60,
    tolerance: float = 1e-4,
    backend: str = "cpu",
) -> ModelFit:
    """Fit peaks on a background to every spectrum of a window.

    Channels that are not finite have weight zero. A spectrum needs two finite channels more than
    free parameters, and is fitted where the best of a set of templates stands out from the noise.
    Of several peaks, those without which the fit is worse by less than ``significance``² are left
    out, and the others fitted without them.

    # (pixel, channel), (channel,) -> (pixel, parameter)

    Parameters
    ----------
    spectra
        One spectrum per row, float32 or float64 (integers become float32). Results have the same
        dtype.
    axis
        Finite and strictly monotonic, either way; need not be uniform.
    model
        Peaks, background and ties.
    bounds
        Lowest and highest value by parameter, in axis units, each a number or one per pixel: of one
        peak (``"Ni 111.fwhm"``) or of all (``"fwhm"``); equal numbers fix it. By default area >= 0,
        position in the window, fwhm from one channel to the window's width.
    start
        Where to begin, by parameter, each a number or one per pixel (NaN: to be found).
    likelihood
        ``"gaussian"``: unweighted least squares. ``"weighted"``: by 1/variance. ``"poisson"``: of
        raw counts. ``"huber"``, ``"cauchy"``: least squares that outliers hardly move.
    variance
        Of the noise, (pixel, channel) or (channel,). Without it, errors of an unweighted fit are
        √(s² (JᵀJ)⁻¹), right for noise alike in all channels; with it, or with ``"counts"`` (the
        variance is the model), they are those of the sandwich (JᵀJ)⁻¹ JᵀVJ (JᵀJ)⁻¹.
    significance
        Height of the best template in units of the noise below which nothing is fitted.
    iterations
        Most steps tried per spectrum.
    tolerance
        Drop of the cost, in units of it per degree of freedom, below which a step does not matter:
        at 1e-4 parameters are right to a hundredth of their standard errors.
    backend
        ``"cpu"``, or ``"torch"``: all spectra together on a CUDA device, if there is one; fits that
        are not plain are done on the CPU.

    Raises
    ------
    OptionError
        For a shape, background, bound, start, tie or likelihood that cannot be.
    SchemaError
        For arrays that do not match, an axis that is not monotonic, or too few channels.

    >>> from ndtomo_dask.kernels.fitting.peaks import evaluate_peak
    >>> x = np.linspace(3.0, 3.2, 61)
    >>> y = evaluate_peak(x, area=2.0, position=3.08, fwhm=0.03, fraction=0.0)
    >>> y = y + evaluate_peak(x, area=1.0, position=3.12, fwhm=0.03, fraction=0.0)
    >>> fit = fit_model(y[np.newaxis], x, PeakModel({"a": "gaussian", "b": "gaussian"}))
    >>> float(fit["a.area"][0]), float(fit["b.position"][0])
    (2.00, 3.12)
    """
    data, x = _check_arrays(spectra, axis)
    noise = _check_variance(likelihood, variance, data.shape)
    _check_limits(significance, iterations)
    problem, layout = build_problem(
        x, model, bounds=bounds or {}, start=start or {}, pixels=len(data),
        kind=LIKELIHOODS[likelihood], counts=isinstance(variance, str), given=noise.size > 0,
        rounding=max(2 * float(np.finfo(data.dtype).eps), 1e-13), significance=float(significance),
        iterations=int(iterations), tolerance=float(tolerance),  # another type is compiled again
    )  # fmt: skip
    out = _empty_results(len(data), len(layout.names), model, data.dtype)
    if check_backend(backend, problem) == "torch":
        done = fit_batched(data, problem, out)
        _fit_rows(data, noise, problem, out, np.flatnonzero(~done))
    else:
        _fit_all(data, noise, problem, out)
    return ModelFit(
        layout.names, out.values, out.errors, out.at_bound, out.cost, out.iterations, out.status,
        out.width_errors,
    )  # fmt: skip


def _fit_rows(
    data: Values, noise: Float64, problem: Problem, out: Results, rows: NDArray[np.intp]
) -> None:
    """Fit some of the spectra by the compiled kernel."""
    low, high, start = (table[rows] if len(table) > 1 else table
                        for table in (problem.low, problem.high, problem.start))  # fmt: skip
    own = out.rows(rows)
    spread = noise[rows] if len(noise) > 1 else noise
    _fit_all(data[rows], spread, problem._replace(low=low, high=high, start=start), own)
    for name in Results._fields:
        getattr(out, name)[rows] = getattr(own, name)


def _fit_all(data: Values, noise: Float64, problem: Problem, out: Results) -> None:
    in_lanes = suits_lanes(problem)

    def fit_piece(piece: slice) -> None:
        mine = problem._replace(
            low=_rows(problem.low, piece), high=_rows(problem.high, piece),
            start=_rows(problem.start, piece),
        )  # fmt: skip
        work, own = allocate_work(mine), out.rows(piece)
        # Arrays of float32, or that are read-only, would be types to compile everything for again.
        spectra, spread = data[piece].astype(np.float64), _rows(noise, piece).copy()
        found = own.in_float64()
        if in_lanes:
            fit_lanes(spectra, spread, mine, work, allocate_lanes(mine), found)
        else:
            fit_spectra(spectra, spread, mine, work, found)
        own.take(found)

    run_threaded(fit_piece, [slice(i, i + PIECE) for i in range(0, len(data), PIECE)])


def _rows(table: Float64, piece: slice) -> Float64:
    return table[piece] if len(table) > 1 else table


def fit_peak(
    spectra: ArrayLike,
    axis: ArrayLike,
    *,
    shape: str = "pseudo_voigt",
    background: int = 1,
    bounds: Mapping[str, Bounds] | None = None,
    likelihood: str = "gaussian",
    variance: ArrayLike | str | None = None,
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

    >>> from ndtomo_dask.kernels.fitting.peaks import evaluate_peak
    >>> x = np.linspace(3.0, 3.2, 41)
    >>> y = 10 + evaluate_peak(x, area=2.0, position=3.09, fwhm=0.03, fraction=0.4)
    >>> fit = fit_peak(y[np.newaxis], x)
    >>> float(fit.area[0]), float(fit.position[0]), float(fit.fwhm[0])
    (2.00, 3.09, 0.03)
    """
    _check_peak(shape, bounds or {})
    model = PeakModel({"peak": shape}, background)
    fit = fit_model(
        spectra, axis, model, bounds=bounds, likelihood=likelihood, variance=variance,
        significance=significance, iterations=iterations,
    )  # fmt: skip
    return _peak_fit(fit, shape)


def _peak_fit(fit: ModelFit, shape: str) -> PeakFit:
    own = SHAPES[shape].parameters
    columns: dict[str, Values] = {}
    for name in PARAMETERS:
        for suffix, table in (("", fit.values), ("_error", fit.errors)):
            known = name in own
            columns[name + suffix] = (
                table[:, own.index(name)] if known else np.full(len(table), np.nan, table.dtype)
            )
    bits = (fit.at_bound[:, : len(own)] << np.arange(len(own))).sum(axis=1).astype(np.uint8)
    return PeakFit(
        **columns, background=fit.values[:, len(own) :],
        background_error=fit.errors[:, len(own) :], reduced_chi_square=fit.reduced_chi_square,
        iterations=fit.iterations, status=fit.status[:, 0], at_bound=bits,
    )  # fmt: skip


def _check_peak(shape: str, bounds: Mapping[str, Bounds]) -> None:
    check_choice("shape", shape, SINGLE)
    for name in bounds:
        if name not in SHAPES[shape].free:
            known = nearest(str(name), SHAPES[shape].free)
            raise OptionError(f"bounds={name!r} is not a parameter of a {shape} peak. {known}")


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


def _check_variance(
    likelihood: str, variance: ArrayLike | str | None, shape: tuple[int, ...]
) -> Float64:
    """Return variances as (pixel or 1, channel); without any, of no pixel."""
    check_choice("likelihood", likelihood, LIKELIHOODS)
    if variance is None or isinstance(variance, str):
        if isinstance(variance, str):
            check_choice("variance", variance, ["counts"])
        if likelihood == "weighted":
            raise OptionError(
                "likelihood='weighted' needs variance=, an array; for raw counts, whose "
                "variance is not known but by the model, say likelihood='poisson'."
            )
        return np.zeros((0, shape[1]))
    table = np.atleast_2d(np.asarray(variance, dtype=np.float64))
    if table.shape not in (shape, (1, shape[1])):
        raise SchemaError(
            f"variance needs the shape of the spectra, {shape}, or one value per channel; "
            f"its shape is {np.shape(variance)}."
        )
    return np.ascontiguousarray(table)


def _check_limits(significance: float, iterations: int) -> None:
    if not significance >= 0:
        raise OptionError(f"significance={significance!r} must be a number, 0 or more.")
    if not 1 <= iterations <= np.iinfo(np.int16).max:
        raise OptionError(f"iterations={iterations!r} must lie between 1 and 32767.")


def _empty_results(
    pixels: int, parameters: int, model: PeakModel, dtype: np.dtype[np.floating]
) -> Results:
    peaks = len(model.peaks)
    derived = peaks if "thompson_cox_hastings" in model.peaks.values() else 0
    return Results(
        np.full((pixels, parameters), np.nan, dtype=dtype),
        np.full((pixels, parameters), np.nan, dtype=dtype),
        np.zeros((pixels, parameters), dtype=np.bool_),
        np.full(pixels, np.nan, dtype=dtype),
        np.zeros(pixels, dtype=np.int16),
        np.zeros((pixels, peaks), dtype=np.uint8),
        np.full((pixels, derived, 2), np.nan, dtype=dtype),
    )
