"""Samples that are missing, filled linearly from their neighbors along one axis."""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]


def fill_along(block: Float, kept: Bool, *, axis: int, places: Float | None = None) -> Float:
    """Fill what is not ``kept`` from the nearest kept samples along ``axis``, linearly.

    ``places`` are the positions along the axis, in order; evenly spaced unless given. Before the
    first and after the last kept sample the nearest one is repeated. A line without any stays as it
    is. Any number of axes; the same shape and dtype come back.

    >>> fill_along(np.array([1.0, np.nan, 5.0]), np.array([True, False, True]), axis=0).tolist()
    [1.0, 3.0, 5.0]
    """
    made = block.copy()
    lines, known = np.moveaxis(made, axis, 0), np.moveaxis(kept, axis, 0)
    where = np.arange(len(lines), dtype=np.float64) if places is None else np.asarray(places, float)
    if lines.ndim < 3:
        _fill(lines, known, where)
        return made
    run_threaded(lambda i: _fill(lines[:, i], known[:, i], where), range(lines.shape[1]))
    return made


def _fill(lines: Float, known: Bool, where: Float) -> None:
    """Fill lines along their first axis, in place."""
    gap = ~known & known.any(axis=0)
    if not gap.any():
        return
    size = len(lines)
    index = np.arange(size).reshape((size,) + (1,) * (lines.ndim - 1))
    before = np.maximum.accumulate(np.where(known, index, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, index, size)[::-1], axis=0)[::-1]
    low = np.where(before < 0, np.minimum(after, size - 1), before)
    high = np.where(after >= size, low, after)
    span = where[high] - where[low]
    share = np.divide(
        where.reshape(index.shape) - where[low], span, out=np.zeros(span.shape), where=span != 0
    )
    first, last = (np.take_along_axis(lines, end, 0) for end in (low, high))
    with np.errstate(invalid="ignore"):
        filled = first + share * (last - first)
    lines[gap] = filled[gap]
