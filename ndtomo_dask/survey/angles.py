"""What the angles say: their unit, their span, their order, which are missing or there twice."""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.survey.finding import Finding, some, undetermined

Float64 = NDArray[np.float64]

TURNS = {"half": 180.0, "full": 360.0}
NEAR = 1.5
"""Steps by which a span may miss a half or a full turn."""
GAP = 1.6
"""Median steps beyond which projections are missing."""
TWICE = 0.02
"""Median steps below which two projections are one angle."""
LARGEST_SPAN = 1e4
"""Degrees beyond which numbers are motor steps, and no angles."""
WANDERS = 0.05
"""Median steps by which even angles may be off."""


def survey_angles(angles: Float64, *, unit_given: bool) -> list[Finding]:
    """Answer all questions that the angles settle by themselves; degrees unless they say not."""
    angles = np.asarray(angles, dtype=float)
    finite = angles[np.isfinite(angles)]
    if finite.size < 3:
        return [undetermined("angle unit", f"{finite.size} angles are too few")]
    steps = np.diff(np.sort(finite))
    moved = steps[steps > TWICE * np.median(steps)] if np.median(steps) > 0 else steps[steps > 0]
    if not moved.size:
        same = f"all {finite.size} angles are {finite[0]:g}"
        return [Finding("angle span", "none", f"{same}: map the motor that turned", "alarm")]
    step = float(np.median(moved))
    findings = [_unit(finite, step, unit_given)]
    if findings[0].answer == "radian":
        finite, step = np.rad2deg(finite), float(np.rad2deg(step))
    findings.append(_span(finite, step))
    findings += [_order(finite), _missing(finite, step), _twice(finite, step)]
    return findings


def turn_of(angles: Float64, step: float) -> str | None:
    """Return which turn a scan spans, with its end point or without, or None."""
    span = float(np.ptp(angles))
    if span >= TURNS["full"] - NEAR * step:
        return "full"
    near = -NEAR * step <= span - TURNS["half"] <= NEAR * step
    return "half" if near else None


def _unit(angles: Float64, step: float, given: bool) -> Finding:
    span, n = float(np.ptp(angles)), angles.size
    figures = {"span": span, "step": step}
    told = f"{n} angles span {span:.6g} in steps of {step:.4g}"
    for turn, words in ((np.pi, "half a turn"), (2 * np.pi, "a full turn")):
        if n >= 10 and abs(span - turn) <= NEAR * step and span < 2 * np.pi + step:
            if given:
                return Finding("angle unit", "radian", f"{told}: {words} in radians, though the "
                               f"file says degrees", "alarm", figures)  # fmt: skip
            return Finding("angle unit", "radian", f"{told}: {words} in radians", "look", figures)
    if turn_of(angles, step) is not None and span < LARGEST_SPAN and not given:
        return Finding("angle unit", "degree", f"{told}; the file does not say", "look", figures)
    if span > LARGEST_SPAN and not given:
        return undetermined("angle unit", f"{told}: motor steps or encoder counts, not an angle")
    if given:
        return Finding("angle unit", "degree", f"{told}; the file says so", "fine", figures)
    return undetermined("angle unit", f"{told}, which is no half or full turn in either unit",
                        **figures)  # fmt: skip


def _span(angles: Float64, step: float) -> Finding:
    span, low, high = float(np.ptp(angles)), float(angles.min()), float(angles.max())
    told = f"{low:.6g}° to {high:.6g}° in steps of {step:.4g}°"
    figures = {"span": span, "step": step}
    turn = turn_of(angles, step)
    if turn is None:
        wedge = f"{TURNS['half'] - span:.1f}° are missing" if span < TURNS["half"] else "no turn"
        kind = "limited" if span < TURNS["half"] else "more than half a turn"
        return Finding("angle span", f"{span:.4g}° ({kind})", f"{told}: {wedge}",
                       "alarm" if span < TURNS["half"] else "look", figures)  # fmt: skip
    over = span - TURNS[turn]
    if turn == "full" and span > TURNS["full"] + 0.1 * step:
        turns = span / TURNS["full"]
        return Finding("angle span", f"{turns:.3g} turns", f"{told}", "look", figures)
    if abs(over) < 0.1 * step:
        double = "measured again" if turn == "full" else "measured again, mirrored"
        return Finding("angle span", f"{turn} turn, with its end point",
                       f"{told}: the first projection is {double}", "look", figures)  # fmt: skip
    return Finding("angle span", f"{turn} turn", told, "fine", figures)


def _order(angles: Float64) -> Finding:
    signs = np.sign(np.diff(angles))
    signs = signs[signs != 0]
    up = float((signs > 0).mean())
    if up in (0.0, 1.0):
        return Finding("angle order", "ascending" if up else "descending", "steps of one sign")
    told = f"{up:.0%} of the steps ascend, the others do not; that is allowed"
    return Finding("angle order", "not sorted", told, "look", {"ascending": up})


def _missing(angles: Float64, step: float) -> Finding:
    ordered = np.unique(angles)
    gaps = np.diff(ordered)
    wide = np.flatnonzero(gaps > GAP * step)
    if wide.size:
        lost = int(np.round(gaps[wide] / step - 1).sum())
        return Finding("missing projections", f"{lost}", f"gaps after {some(ordered[wide])}°, the "
                       f"widest {gaps[wide].max() / step:.3g} steps", "alarm",
                       {"missing": lost})  # fmt: skip
    uneven = float(np.abs(gaps[gaps > TWICE * step] / step - 1).max(initial=0.0))
    even = "even" if uneven < WANDERS else f"uneven, by up to {uneven:.2g} steps"
    return Finding("missing projections", "none", f"steps are {even}", "fine",
                   {"missing": 0.0, "uneven": uneven})  # fmt: skip


def _twice(angles: Float64, step: float) -> Finding:
    order = np.argsort(angles, kind="stable")
    close = np.flatnonzero(np.diff(angles[order]) < TWICE * step)
    question = "duplicate projections"
    if not close.size:
        return Finding(question, "none", "no angle is there twice")
    numbers = some(np.sort(np.maximum(order[close], order[close + 1])))
    told, figures = f"projections {numbers} repeat an angle", {"duplicates": float(close.size)}
    return Finding(question, f"{close.size}", told, "alarm", figures)
