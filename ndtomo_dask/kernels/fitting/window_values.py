"""Spectra of fitted peaks, from the maps of their parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.fitting.peak_model import Background, background_rows, decays
from ndtomo_dask.kernels.fitting.peaks import SHAPES, Float64, Values, evaluate_shape

Integers = NDArray[np.int64]
SLAB = 4096
"""Spectra that are evaluated at a time."""


@dataclass(frozen=True)
class WindowValues:
    """A window that was fitted, on the channels at hand."""

    number: int
    inside: Integers
    """Channels of the window."""
    own: NDArray[np.bool_]
    """Those that lie nearer to its middle than to another window's."""
    span: tuple[float, float]
    """Ends of the axis that was fitted."""
    shapes: Mapping[str, str]
    background: Background


@dataclass(frozen=True)
class Table:
    """Where parameters stand in a row: those of each peak, then the backgrounds'."""

    parameters: tuple[str, ...]
    peaks: tuple[str, ...]
    terms: int

    def of(self, peak: str, shape: str) -> list[int]:
        """Columns of one peak's parameters."""
        begin = self.peaks.index(peak)
        own = [self.parameters.index(name) for name in SHAPES[shape].parameters]
        return [begin + len(self.peaks) * place for place in own]

    def background(self, window: int, terms: int) -> slice:
        """Columns of the coefficients of one window."""
        begin = len(self.parameters) * len(self.peaks) + window * self.terms
        return slice(begin, begin + terms)


def evaluate_windows(
    rows: Values, *, axis: Float64, windows: Sequence[WindowValues], table: Table, part: str,
    peaks: Sequence[str] = (),
) -> Values:  # fmt: skip
    """Evaluate the model or the background of every window, or some peaks, each by itself.

    NaN outside the windows and where nothing was fitted. A channel of two windows belongs to the
    one whose middle is nearer. A peak that was left out adds nothing to the model.

    # (..., column) -> (..., channel), or (..., peak, channel) of "components"
    """
    flat = rows.reshape(-1, rows.shape[-1])
    lead = (len(peaks),) if part == "components" else ()
    found = np.full((len(flat), *lead, axis.size), np.nan, dtype=rows.dtype)
    for begin in range(0, len(flat), SLAB):
        slab, target = flat[begin : begin + SLAB], found[begin : begin + SLAB]
        for window in windows:
            if part == "components":
                _write_peaks(slab, target, axis, window, table, peaks)
            else:
                values = _values(slab, axis[window.inside], window, table, part)
                target[:, window.inside[window.own]] = values[:, window.own]
    return found.reshape(*rows.shape[:-1], *lead, axis.size)


def _write_peaks(
    slab: Values, target: Values, axis: Float64, window: WindowValues, table: Table,
    peaks: Sequence[str],
) -> None:  # fmt: skip
    for place, peak in enumerate(peaks):
        if peak in window.shapes:
            shape = window.shapes[peak]
            values = evaluate_shape(shape, axis[window.inside], slab[:, table.of(peak, shape)])
            target[:, place, window.inside] = values


def _values(slab: Values, axis: Float64, window: WindowValues, table: Table, part: str) -> Float64:
    terms = background_rows(window.background, axis, window.span)
    whole = slab[:, table.background(window.number, table.terms)].astype(np.float64)
    total = np.repeat(0.0 * whole[:, :1], axis.size, axis=1)  # NaN where nothing was fitted
    total += whole[:, : len(terms)] @ terms
    if decays(window.background):
        amplitude, decay = whole[:, len(terms) : len(terms) + 2].T[..., np.newaxis]
        total += amplitude * np.exp(-decay * (axis - sum(window.span) / 2))
    for peak, shape in window.shapes.items() if part == "model" else ():
        values = slab[:, table.of(peak, shape)]
        fitted = np.isfinite(values[:, 0])
        total[fitted] += evaluate_shape(shape, axis, values[fitted])
    return np.asarray(total)
