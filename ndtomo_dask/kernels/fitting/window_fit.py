"""Peaks of several windows, fitted to the spectra of one block in one go."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.least_squares import ModelFit, fit_model
from ndtomo_dask.kernels.fitting.peak_model import EXPONENTIAL, PeakModel, background_rows
from ndtomo_dask.kernels.fitting.peak_problem import default_bounds, lay_out
from ndtomo_dask.kernels.fitting.peak_shapes import thompson_cox_hastings
from ndtomo_dask.kernels.fitting.peaks import PARAMETERS, SHAPES, Float64, Values

KEPT = (*PARAMETERS, "asymmetry", "gaussian_square", "lorentzian_fwhm")
"""Parameters of peaks, in the order of the bits of ``at_bound``."""
OUTCOMES = ("reduced_chi_square", "iterations", "status", "at_bound")


class Beside(NamedTuple):
    """A value that is one of the maps handed in beside a block."""

    number: int


Value = float | Beside


@dataclass(frozen=True)
class WindowModel:
    """The channels of a window, and what is fitted to them."""

    first: int
    last: int
    """The channel behind the window."""
    model: PeakModel
    numbers: tuple[int, ...]
    """Which of all peaks the model's are."""
    bounds: Mapping[str, tuple[Value, Value]] = field(default_factory=dict)
    start: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """Where the results of all windows stand in one row."""

    parameters: tuple[str, ...]
    peaks: int
    windows: int
    terms: int
    """Coefficients of a background, or 1."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is kept of a peak: a column for every peak of each."""
        return (*self.parameters, *(f"{name}_error" for name in self.parameters), *OUTCOMES)

    @property
    def count(self) -> int:
        """Columns of all peaks, and of all backgrounds behind them."""
        return len(self.names) * self.peaks + self.windows * self.terms

    def of(self, name: str) -> slice:
        """Columns of one quantity, peak by peak."""
        begin = self.names.index(name) * self.peaks
        return slice(begin, begin + self.peaks)

    def background(self, window: int) -> slice:
        """Columns of the coefficients of one window."""
        begin = len(self.names) * self.peaks + window * self.terms
        return slice(begin, begin + self.terms)


def columns_for(shapes: Sequence[str], windows: int, terms: int) -> Columns:
    """Lay out the columns for peaks of the given shapes.

    >>> columns_for(["gaussian", "split_pseudo_voigt"], 1, 2).parameters[-1]
    'asymmetry'
    """
    have = {name for shape in shapes for name in SHAPES[shape].parameters}
    parameters = tuple(name for name in KEPT if name in have or name in PARAMETERS)
    return Columns(parameters, len(shapes), windows, max(1, terms))


def fit_windows(
    block: NDArray[np.generic],
    *beside: NDArray[np.generic],
    axis: Float64,
    windows: Sequence[WindowModel],
    columns: Columns,
    likelihood: str = "gaussian",
    noise: str = "unknown",
    significance: float = 6.0,
    backend: str = "cpu",
) -> Values:
    """Fit the peaks of every window to every spectrum.

    ``beside`` are the variances where ``noise`` is ``"given"``, then maps that bounds and starts
    speak of. Where a map is NaN there is no bound, or the start is sought. Nothing is fitted where
    the lowest value of one is more than the highest.

    # (..., channel), (...,) -> (..., column)
    """
    pixels, maps = block.reshape(-1, block.shape[-1]), list(beside)
    variance: NDArray[np.generic] | None = maps.pop(0) if noise == "given" else None
    if variance is not None:
        variance = variance.reshape(-1, variance.shape[-1])
    flat = [np.asarray(one, dtype=np.float64).reshape(-1 if one.ndim else ()) for one in maps]
    dtype = block.dtype if block.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    table = np.full((len(pixels), columns.count), np.nan, dtype=dtype)
    for number, window in enumerate(windows):
        inside = slice(window.first, window.last)
        spectra = np.array(pixels[:, inside], dtype=dtype, order="C")
        bounds = _bounds(window, axis[inside], flat, spectra)
        start = {name: _value(value, flat) for name, value in window.start.items()}
        known = "counts" if noise == "counts" else None
        spread = known if variance is None else variance[:, inside]
        fit = fit_model(
            spectra, axis[inside], window.model, bounds=bounds, start=start, likelihood=likelihood,
            variance=spread, significance=significance, backend=backend,
        )  # fmt: skip
        _write(table, fit, number, window, columns)
    return table.reshape(*block.shape[:-1], columns.count)


def _value(value: Value, maps: Sequence[Float64]) -> float | Float64:
    if not isinstance(value, Beside):
        return float(value)
    found = maps[value.number]
    return np.where(np.isfinite(found), found, np.nan)


def _bounds(
    window: WindowModel, x: Float64, maps: Sequence[Float64], spectra: Values
) -> dict[str, tuple[float | Float64, float | Float64]]:
    """Bring maps of bounds to what can be; mark spectra whose bounds cross as not to be fitted."""
    pairs: dict[str, tuple[float | Float64, float | Float64]] = {}
    for name, pair in window.bounds.items():
        if not any(isinstance(side, Beside) for side in pair):
            pairs[name] = (_value(pair[0], maps), _value(pair[1], maps))
            continue
        low, high = (np.asarray(_value(side, maps)) for side in pair)
        least, most = _widest(name, window.model, x)
        low = np.clip(np.where(np.isnan(low), least[0], low), *least[1])
        high = np.clip(np.where(np.isnan(high), most[0], high), *most[1])
        if len(spectra):
            spectra[np.broadcast_to(low > high, len(spectra))] = np.nan
        pairs[name] = (np.where(low > high, least[0], low), np.where(low > high, most[0], high))
    return pairs


def _widest(
    name: str, model: PeakModel, x: Float64
) -> tuple[tuple[float, tuple[float, float]], tuple[float, tuple[float, float]]]:
    """Return the bounds that a parameter has without any given, each with what it may be."""
    layout = lay_out(model, len(background_rows(model.background, x)))
    place = layout.names.index(name) if name in layout.names else layout.kinds.index(name)
    low, high = (float(bound[place]) for bound in default_bounds(x, layout, model))
    if layout.kinds[place] != "fwhm":
        return (low, (low, high)), (high, (low, high))
    within = 1e-3 * float(np.median(np.abs(np.diff(x)))), 1e3 * float(np.ptp(x))
    return (low, within), (high, within)


def _write(
    table: Values, fit: ModelFit, number: int, window: WindowModel, columns: Columns
) -> None:
    first = 0
    behind = columns.background(number)
    terms = len(fit.names) - len(window.model.peak_parameters) - len(window.model.unknowns)
    table[:, behind] = 0.0
    for k, shape in enumerate(window.model.peaks.values()):
        own = SHAPES[shape].parameters
        if shape == EXPONENTIAL:  # left out where it has no amplitude
            found = np.nan_to_num(fit.values[:, first : first + 2])
            table[:, behind.start + terms : behind.start + terms + 2] = found
            first += 2
            continue
        span = slice(first, first + len(own))
        bits = np.array([1 << KEPT.index(name) for name in own])
        kept: dict[str, NDArray[np.generic]] = {
            "reduced_chi_square": np.where(
                np.isnan(fit.values[:, first]), np.nan, fit.reduced_chi_square
            ),
            "iterations": fit.iterations,
            "status": fit.status[:, k],
            "at_bound": fit.at_bound[:, span] @ bits,
        }
        for place, name in enumerate(own, first):
            kept[name], kept[f"{name}_error"] = fit.values[:, place], fit.errors[:, place]
        if shape == "thompson_cox_hastings":
            kept |= _voigt_parts(kept["gaussian_square"], kept["lorentzian_fwhm"])
            kept |= dict(
                zip(("fwhm_error", "fraction_error"), fit.width_errors[:, k].T, strict=True)
            )
        for name, column in kept.items():
            table[:, columns.of(name).start + window.numbers[k]] = column
        first += len(own)
    table[:, behind.start : behind.start + terms] = fit.values[:, first : first + terms]
    table[~np.isfinite(fit.reduced_chi_square), behind] = np.nan


def _voigt_parts(square: NDArray[np.generic], width: NDArray[np.generic]) -> dict[str, Float64]:
    """Return the fwhm and fraction that follow from the widths of a Voigt's parts."""
    parts = np.full((2, len(square)), np.nan)
    _convert_widths(np.asarray(square, np.float64), np.asarray(width, np.float64), parts)
    return {"fwhm": parts[0], "fraction": parts[1]}


@compiled()
def _convert_widths(square: Float64, width: Float64, parts: Float64) -> None:
    for i in range(square.size):
        if math.isfinite(square[i]):
            found = thompson_cox_hastings(square[i], width[i])
            parts[0, i], parts[1, i] = found[0], found[1]
