"""How the lines of a scan were measured: back and forth or not, and how they begin."""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.survey.finding import Finding, some, undetermined
from ndtomo_dask.survey.sample import FIRST, Sample

Float64 = NDArray[np.float64]

NEIGHBORS = 30.0
"""Degrees within which two projections look alike."""
CERTAIN = 4.0
"""Standard errors by which one reading must be better than the other."""
LEAST = 0.005
"""…and by how much at least, as a difference of correlations."""
PAIRS = 4
"""Pairs of lines without which nothing is said."""
SUSPECT, OFF = 10.0, 0.1
"""A first projection is off if it differs by so many times the scatter of the next ones, and by
this share of them."""


def survey_lines(sample: Sample, degrees: Float64) -> list[Finding]:
    """Say whether lines go back and forth, and whether what was measured first is to be dropped."""
    return [
        _zigzag("zigzag", _angle_pairs(sample, degrees)),
        _zigzag("zigzag in angle", _translation_pairs(sample)),
        _first_projections(sample),
        _first_points(sample),
    ]


def turn_back(sample: Sample, findings: list[Finding]) -> None:
    """Undo a zigzag of the projections in the sample, for what is asked next."""
    if any(one.question == "zigzag" and one.level == "alarm" for one in findings):
        odd = sample.rows % 2 == 1
        sample.image[odd] = sample.image[odd, ::-1]


def _angle_pairs(sample: Sample, degrees: Float64) -> tuple[Float64, Float64]:
    """Neighboring projections whose angles are near one another, (pair, translation)."""
    one = np.flatnonzero(np.diff(sample.rows) == 1)
    turned = np.abs(np.diff(degrees)[sample.rows[one]]) if degrees.size > 1 else np.zeros(0)
    near = one[np.abs((turned + 180) % 360 - 180) < NEIGHBORS]
    return sample.image[near], sample.image[near + 1]


def _translation_pairs(sample: Sample) -> tuple[Float64, Float64]:
    """Neighboring translations, (pair, angle)."""
    lines = sample.image[sample.spread].T if sample.spread.size > 3 else np.zeros((0, 4))
    return lines[:-1], lines[1:]


def _zigzag(question: str, pairs: tuple[Float64, Float64]) -> Finding:
    one, other = pairs
    good = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    one, other = one[good], other[good]
    straight, mirrored = correlations(one, other), correlations(one, other[:, ::-1])
    told = np.isfinite(straight) & np.isfinite(mirrored)
    straight, mirrored = straight[told], mirrored[told]
    weight = one[told].std(axis=1) * other[told].std(axis=1)
    weight /= max(float(weight.sum()), 1e-300)
    if told.sum() < PAIRS or (weight**2).sum() * PAIRS > 1:
        return undetermined(question, f"{told.sum()} pairs of neighboring lines with contrast, "
                            f"{PAIRS} are needed that have it alike")  # fmt: skip
    better, error = _weighted(straight - mirrored, weight)
    figures = {"straight": float(weight @ straight), "mirrored": float(weight @ mirrored)}
    evidence = (
        f"neighboring lines correlate by {figures['straight']:.3f} as they are and by "
        f"{figures['mirrored']:.3f} mirrored, mean of {told.sum()} pairs by their contrast"
    )
    if abs(better) < max(CERTAIN * error, LEAST):
        return undetermined(question, evidence, **figures)
    if better > 0:
        return Finding(question, "no", evidence, "fine", figures)
    return Finding(question, "yes, every other line is backward", evidence, "alarm", figures)


def _weighted(values: Float64, weight: Float64) -> tuple[float, float]:
    """Weighted mean and its standard error, by what each value does to it (jackknife).

    Lines beside the sample show noise alone, and are as many as those in it: they do not count.

    >>> _weighted(np.array([1.0, 1.2, 0.8, -9.0]), np.array([1, 1, 1, 0]) / 3)
    (1.0, 0.14)
    """
    mean = float(weight @ values)
    moves = weight * (values - mean) / np.maximum(1 - weight, 1e-300)
    return mean, float(np.sqrt(moves @ moves))


def correlations(one: Float64, other: Float64) -> Float64:
    """Correlation of each row of one array with that of another, NaN without contrast."""
    one, other = (part - part.mean(axis=1, keepdims=True) for part in (one, other))
    norm = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((one * other).sum(axis=1) / np.where(norm > 0, norm, np.nan))


def _first_projections(sample: Sample) -> Finding:
    """Compare the totals of the first projections with those that follow."""
    question = "throw-away first frames"
    first = np.flatnonzero(sample.rows < FIRST)
    totals = np.nansum(sample.image[first], axis=1)
    if first.size < 8:
        return undetermined(question, f"{first.size} projections at the beginning are too few")
    bad: list[int] = []
    for number in range(3):
        rest = totals[number + 1 : number + 8]
        expected = float(np.median(rest))
        scatter = 1.4826 * float(np.median(np.abs(np.diff(rest))))
        off = abs(totals[number] - expected)
        if off > max(SUSPECT * scatter, OFF * abs(expected)):
            bad = list(range(number + 1))
    share = float(totals[0] / np.median(totals[1:8])) if np.median(totals[1:8]) else np.nan
    figures = {"first_over_next": share}
    told = f"the first projection has {share:.1%} of the intensity of the next ones"
    if bad:
        return Finding(question, f"projections {some(bad)}", told, "alarm", figures)
    return Finding(question, "none", told, "fine", figures)


def _first_points(sample: Sample) -> Finding:
    """Compare the first translation with the ones beside it, where the sample has not begun."""
    question = "throw-away first points"
    profile = np.nanmean(sample.image, axis=0) if sample.image.size else np.zeros(0)
    if profile.size < 12:
        return undetermined(question, f"{profile.size} translations are too few")
    inner = profile[1:7]
    off = abs(profile[0] - (2 * inner[0] - inner[1]))
    scatter = float(np.median(np.abs(np.diff(inner, n=2))))
    level = max(abs(float(np.median(inner))), 0.02 * float(np.nanmax(np.abs(profile))))
    share = float(off / level) if level > 0 else 0.0
    if off > max(SUSPECT * scatter, 2 * OFF * level):
        return Finding(question, "translation 0", f"it is {share:.0%} off the line through its "
                       f"neighbors", "alarm", {"off": share})  # fmt: skip
    return Finding(question, "none", f"translation 0 is {share:.1%} off the line through its "
                   f"neighbors", "fine", {"off": share})  # fmt: skip
