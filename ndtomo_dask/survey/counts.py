"""What the counts say: which are no numbers, cut off or all the same, and how the flux was."""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.survey.finding import Finding, some, undetermined
from ndtomo_dask.survey.sample import Sample

Float64 = NDArray[np.float64]

CUT_OFF = 10
"""Samples with the largest value of all from which on it looks like a limit."""
STEEP = 5.0
"""…if they are so many times those in the 5 % below it, and those with the next smaller value: few
counts repeat by chance, but the larger the rarer."""
LOSES = 0.05
"""Scatter of the flux from which on projections are to be normalized."""


def survey_counts(
    sample: Sample, monitor: Float64 | None, *, stored: np.dtype | None = None
) -> list[Finding]:
    """Answer what the counts and the monitor, (row, translation) or None, settle."""
    return [
        _not_finite(sample),
        _saturated(sample, stored),
        _dead(sample),
        _negative(sample),
        survey_monitor(monitor),
        _flux(sample, monitor),
    ]


def _not_finite(sample: Sample) -> Finding:
    rows = np.flatnonzero(sample.not_finite)
    count = int(sample.not_finite.sum())
    figures = {"not_finite": count}
    if not rows.size:
        return Finding("NaN", "none", f"in {sample.words}", "fine", figures)
    where = some(sample.rows[rows])
    return Finding("NaN", f"{count} samples", f"in projections {where}: {count / sample.count:.2%} "
                   f"of what was read", "alarm", figures)  # fmt: skip


def _saturated(sample: Sample, stored: np.dtype | None) -> Finding:
    question = "saturated points"
    if not sample.largest.size:
        return undetermined(question, "no finite sample was read")
    top, at_top = float(sample.largest[-1]), int(sample.times[-1])
    below = int(sample.times[:-1][sample.largest[:-1] >= 0.95 * top].sum())
    below = max(below, int(sample.times[-2]) if sample.times.size > 1 else 0)
    figures = {"largest": top, "at_largest": at_top}
    limit = np.iinfo(stored).max if stored is not None and stored.kind in "iu" else None
    if limit is not None and top >= limit:
        return Finding(question, f"{at_top} or more samples", f"they hold {top:g}, the largest "
                       f"number of {stored}: cut off, or a gap of the detector", "alarm",
                       figures)  # fmt: skip
    several = at_top >= CUT_OFF and at_top > STEEP * max(below, 1)
    if several and sample.largest.size > 2:
        return Finding(question, f"{at_top} or more samples", f"they hold exactly the largest "
                       f"value, {top:g}; {below} lie in the 5 % below it or at the next value",
                       "alarm", figures)  # fmt: skip
    return Finding(question, "none", f"the largest value, {top:.6g}, is there {at_top} times",
                   "fine", figures)  # fmt: skip


def _dead(sample: Sample) -> Finding:
    """Entries of an axis that never change, between others that do."""
    found = []
    for dim, name in (("angle", "projections"), ("translation", "translations"),
                      ("channel", "channels")):  # fmt: skip
        numbers = {"angle": sample.rows, "channel": sample.channels}.get(dim)
        still = still_inside(sample.lowest[dim], sample.highest[dim])
        if still.size:
            found.append(f"{name} {some(still if numbers is None else numbers[still])}")
    if not found:
        return Finding("dead points", "none", "no projection, translation or channel has one value "
                       "throughout, between others that vary", "fine", {"dead": 0.0})  # fmt: skip
    return Finding("dead points", "; ".join(found), "they have one value throughout, though their "
                   "neighbors vary", "alarm", {"dead": float(len(found))})  # fmt: skip


def still_inside(low: Float64, high: Float64) -> NDArray[np.intp]:
    """Find entries with one value only that lie between entries with several.

    >>> still_inside(np.array([0.0, 1, 3, 1, 0]), np.array([0.0, 5, 3, 5, 0]))
    array([2])
    """
    still = high == low
    moving = np.flatnonzero(high > low)
    if not moving.size:
        return np.zeros(0, dtype=np.intp)
    inside = np.arange(low.size)
    return np.asarray(inside[still & (inside > moving[0]) & (inside < moving[-1])])


def _negative(sample: Sample) -> Finding:
    share = sample.negative / max(sample.count, 1)
    figures = {"negative": share}
    if not sample.negative:
        return Finding("negative values", "none", f"in {sample.words}", "fine", figures)
    return Finding("negative values", f"{share:.2%}", "counts are never negative: a background was "
                   "subtracted, or gaps are marked so", "look", figures)  # fmt: skip


def survey_monitor(monitor: Float64 | None) -> Finding:
    """Say whether there is a monitor, and whether it is whole."""
    if monitor is None:
        return Finding("monitor", "none", "the scan names none; nd.open_scan(..., monitor=...) "
                       "takes one", "look")  # fmt: skip
    values = np.asarray(monitor, dtype=float)
    usable = np.isfinite(values) & (values > 0)
    figures = {"unusable": float((~usable).sum()), "scatter": _scatter(values[usable])}
    if not usable.all():
        bad = int((~usable).sum())
        return Finding("monitor", f"{bad} of {values.size} are missing", "they are zero, negative "
                       "or no number: the beam was off, or the monitor is short", "alarm",
                       figures)  # fmt: skip
    if np.ptp(values) == 0:
        return Finding("monitor", "constant", f"it is {values.flat[0]:g} throughout: it says "
                       f"nothing", "look", figures)  # fmt: skip
    return Finding("monitor", "present", f"it scatters by {figures['scatter']:.1%}", "fine",
                   figures)  # fmt: skip


def _scatter(values: Float64) -> float:
    return float(np.std(values) / np.mean(values)) if values.size and np.mean(values) else 0.0


def _flux(sample: Sample, monitor: Float64 | None) -> Finding:
    """Say how much the projections' totals vary, with the monitor divided out where it is there."""
    question = "flux"
    totals = np.nansum(sample.image, axis=1)
    if (totals <= 0).any():
        return undetermined(question, "some projections have no intensity")
    scatter = _scatter(totals)
    figures = {"scatter": scatter}
    told = f"totals of projections scatter by {scatter:.1%}"
    if monitor is not None and np.isfinite(monitor).all() and (monitor > 0).all():
        rowwise = monitor[:, None] if monitor.ndim == 1 else monitor
        divided = np.nansum(sample.image / rowwise, axis=1)
        figures["after_monitor"] = _scatter(divided)
        told += f", divided by the monitor by {figures['after_monitor']:.1%}"
    rest = figures.get("after_monitor", scatter)
    if rest > LOSES:
        return Finding(question, "varies", f"{told}; a sample that stays in the beam keeps its "
                       f"total", "alarm", figures)  # fmt: skip
    return Finding(question, "steady", told, "fine", figures)
