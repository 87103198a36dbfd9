"""The arrays that the fits of one thread work in, and those that they write."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peaks import Values

Float64 = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class Work(NamedTuple):
    """Arrays of one thread, overwritten from spectrum to spectrum."""

    t: Float64
    y: Float64
    """Data scaled to a largest magnitude of 1, used channels only."""
    filled: Float64
    """The same on all channels, gaps bridged by straight lines."""
    scratch: Float64
    """Room for two rows."""
    base: Float64
    """Inverse variance of each channel."""
    weight: Float64
    channel: Integers
    """Which channels are used."""
    columns: Float64
    """Derivatives by all parameters, residual, pull, and derivatives by free ones with ties."""
    normal: Float64
    """JᵀWJ over the free parameters, bordered by the gradient. (free + 1, free + 1)"""
    factor: Float64
    covariance: Float64
    order: Integers
    free: Booleans
    step: Float64
    solution: Float64
    current: Float64
    """The free parameters, in units of t."""
    trial: Float64
    saved: Float64
    best: Float64
    open_low: Float64
    open_high: Float64
    low: Float64
    high: Float64
    parameters: Float64
    """All parameters, in units of t."""
    least: Float64
    """Their bounds."""
    most: Float64
    errors: Float64
    width_errors: Float64
    """Of fwhm and fraction of each peak, where they follow from other widths."""
    chosen: Integers
    """Template, height and score of each peak."""
    heights: Float64
    scores: Float64
    width: Float64
    """What several peaks start with."""
    lows: Float64
    """Where its position may be."""
    highs: Float64
    present: Booleans
    """Peaks that are fitted."""
    tested: Booleans
    loaded: Integers
    """For how many channels the rows of the background stand in ``columns``."""


class Results(NamedTuple):
    """One row per spectrum."""

    values: Values
    errors: Values
    at_bound: NDArray[np.bool_]
    cost: Values
    iterations: NDArray[np.int16]
    status: NDArray[np.uint8]
    """(pixel, peak)"""
    width_errors: Values
    """(pixel, peak, 2), or of no peak where none has a fwhm that follows from other widths."""

    def rows(self, piece: slice | NDArray[np.intp]) -> "Results":
        """Return some rows: views of a slice, copies of those that are listed."""
        values, errors, at_bound, cost, iterations, status, width_errors = self
        return Results(values[piece], errors[piece], at_bound[piece], cost[piece],
                       iterations[piece], status[piece], width_errors[piece])  # fmt: skip

    def in_float64(self) -> "Results":
        """Return results whose numbers are copies in float64, as the kernels write them."""
        values, errors, at_bound, cost, iterations, status, width_errors = self
        return Results(values.astype(np.float64), errors.astype(np.float64), at_bound,
                       cost.astype(np.float64), iterations, status,
                       width_errors.astype(np.float64))  # fmt: skip

    def take(self, found: "Results") -> None:
        """Round what was found to these arrays; beyond the largest float32 lies infinity."""
        with np.errstate(over="ignore"):
            for own, values in zip(self, found, strict=True):
                own[...] = values


def allocate_work(problem: Problem) -> Work:
    """Allocate the arrays for the spectra of a window."""
    channels, parameters, peaks = problem.t.size, problem.unit.size, problem.codes.size
    m = problem.rows.size
    t, y, filled, base, weight = _floats(5, channels)
    scratch = np.zeros(2 * channels)
    step, solution, current, trial, saved, best, open_low, open_high, low, high = _floats(10, m)
    values, least, most, errors = _floats(4, parameters)
    heights, scores, width, lows, highs = _floats(5, peaks)
    rows = max(parameters + 2, 1 + int(problem.rows.max()))
    return Work(
        t, y, filled, scratch, base, weight, _integers(channels), np.zeros((rows, channels)),
        np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), _integers(m), _booleans(m), step,
        solution, current, trial, saved, best, open_low, open_high, low, high, values, least, most,
        errors, np.full(2 * peaks, np.nan), _integers(peaks), heights, scores, width, lows,
        highs, _booleans(peaks), _booleans(peaks),
        _integers(1),
    )  # fmt: skip


def _floats(count: int, size: int) -> list[Float64]:
    return [np.zeros(size) for _ in range(count)]


def _integers(size: int) -> Integers:
    return np.zeros(size, dtype=np.int64)


def _booleans(size: int) -> Booleans:
    return np.zeros(size, dtype=np.bool_)
