"""Where the axis is, by estimators independent of one another, and what kind of data it is."""

from contextlib import suppress
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels.alignment import center_of_mass, fit_sine, leveled
from ndtomo_dask.kernels.centering import CenterSearch, Method, checked, find_center
from ndtomo_dask.survey.finding import Finding, undetermined
from ndtomo_dask.survey.lines import correlations
from ndtomo_dask.survey.sample import Sample

Float64 = NDArray[np.float64]

BRIGHT, DARK = 1.15, 0.85
"""Edge over darkest or brightest translation that settles what the sample does to the beam."""
APART = 0.5
"""Translation steps by which two estimates may differ beyond their errors."""
JITTER = 0.15
"""Translation steps of scatter about the sine from which on aligning is worth its while."""
VAGUE = 2.0
"""Translation steps of error beyond which an estimate is none."""
ALIKE = 0.9
"""Correlation of opposite projections below which the angles or the model are in doubt."""


def survey_contrast(sample: Sample, *, flats: bool) -> Finding:
    """Say whether the sample takes intensity away or gives it."""
    question = "contrast"
    profile = np.nanmean(sample.image, axis=0)
    width = max(1, profile.size // 32)
    edge = float(np.nanmedian(np.concatenate([profile[:width], profile[-width:]])))
    low, high = float(np.nanmin(profile)), float(np.nanmax(profile))
    figures = {"edge": edge, "darkest": low, "brightest": high}
    told = f"edges hold {edge:.4g}, the darkest translation {low:.4g}, the brightest {high:.4g}"
    if flats:
        return Finding(question, "absorption", f"{told}; the file has flats: -log by flat_field",
                       "look", figures)  # fmt: skip
    fall = edge / low if low > 0 else np.inf
    rise = edge / high if high > 0 else np.inf
    if edge > 0 and fall > BRIGHT and rise > DARK:
        return Finding(question, "absorption", f"{told}: the sample takes intensity away, so -log "
                       f"by flat_field", "look", figures)  # fmt: skip
    if rise < DARK and (fall < BRIGHT or high - edge > 3 * (edge - low)):
        return Finding(question, "emission", f"{told}: the sample gives intensity, or -log is "
                       f"taken already", "fine", figures)  # fmt: skip
    return undetermined(question, f"{told}: the edges do not stand out", **figures)


def additive(
    image: Float64, contrast: Finding, flat: Float64 | None = None, dark: Float64 | None = None
) -> Float64:
    """Return the image in which what the sample does adds along a ray, (row, translation).

    ``flat`` and ``dark`` (translation,) are there where the file has them.
    """
    if contrast.answer != "absorption":
        return image
    level = 0.0 if dark is None else dark
    width = max(1, image.shape[1] // 32)
    edges = np.concatenate([image[:, :width], image[:, -width:]], axis=1)
    beam = np.nanmean(edges, axis=1)[:, None] if flat is None else flat - level
    with np.errstate(invalid="ignore", divide="ignore"):
        passed = (image - level) / beam
        return np.asarray(-np.log(np.where(passed > 0, passed, np.nan)))


def survey_center(image: Float64, degrees: Float64) -> list[Finding]:
    """Estimate the rotation center twice; say what opposite projections and the stage do.

    Parameters
    ----------
    image
        What adds along a ray, (row, translation).
    degrees
        Angle of each row.
    """
    theta = np.deg2rad(degrees)
    found = _estimates(image, theta)
    return [_center(found), _opposite(image, degrees, found), _stage(image, theta)]


def _estimates(image: Float64, theta: Float64) -> dict[str, CenterSearch]:
    """Estimate by the methods that suit the angles, the last one to check the others.

    A full turn has no need of its first half alone, nor of the center of mass, which air moves.
    Those that fail are left out.
    """
    found: dict[str, CenterSearch] = {}
    methods: tuple[Method, ...] = ("opposite", "fourier", "entropy", "mass")
    for method in methods:
        if "opposite" in found and method != "entropy":
            continue
        with suppress(SchemaError, np.linalg.LinAlgError), np.errstate(all="ignore"):
            one = find_center(image, theta, method=method)
            found |= {method: one} if np.isfinite([one.center, one.error]).all() else {}
    return found


def _center(found: dict[str, CenterSearch]) -> Finding:
    question = "rotation center"
    told = "; ".join(f"{one.center:.2f} ± {one.error:.2f} by {name}" for name, one in found.items())
    figures = {name: one.center for name, one in found.items()}
    if len(found) < 2:
        return undetermined(question, told or "no estimator found any", **figures)
    *first, last = found.values()
    best = reduce(checked, found.values())
    apart = max(abs(one.center - last.center) for one in first)
    figures |= {"center": best.center, "apart": apart}
    if max(one.error for one in found.values()) > VAGUE:
        return undetermined(question, f"{told}: too uncertain", **figures)
    if any(_disagree(one, last) for one in first):
        return Finding(question, "estimates disagree", f"{told}; {apart:.2f} steps apart: the "
                       f"sample leaves the field of view, moves, or the angles are wrong",
                       "alarm", figures)  # fmt: skip
    return Finding(question, f"translation {best.center:.2f}", f"{told}; {apart:.2f} steps apart",
                   "fine", figures)  # fmt: skip


def _disagree(one: CenterSearch, other: CenterSearch) -> bool:
    allowed = APART + 3 * float(np.hypot(one.error, other.error))
    return abs(one.center - other.center) > allowed


def _opposite(image: Float64, degrees: Float64, found: dict[str, CenterSearch]) -> Finding:
    """Say how alike projections half a turn apart are, one of them mirrored about the center."""
    question = "opposite projections"
    one, other = _opposite_pairs(degrees)
    if one.size < 3 or not found:
        return undetermined(question, "the scan has none, so what they tell is not known")
    center = next(iter(found.values())).center
    place = np.arange(image.shape[1], dtype=float)
    filled = np.nan_to_num(leveled(image))
    mirror = np.stack([np.interp(2 * center - place, place, row) for row in filled[other]])
    inside = (2 * center - place >= 0) & (2 * center - place <= place[-1])
    alike = float(np.nanmedian(correlations(filled[one][:, inside], mirror[:, inside])))
    told = f"mirrored about {center:.2f} they correlate by {alike:.3f}, median of {one.size} pairs"
    if alike < ALIKE:
        return Finding(question, "do not agree", f"{told}: the angles are wrong, the sample "
                       f"absorbs what it emits, or noise covers it", "look",
                       {"correlation": alike})  # fmt: skip
    return Finding(question, "agree", told, "fine", {"correlation": alike})


def _opposite_pairs(degrees: Float64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    order = np.sort(degrees)
    step = float(np.median(np.diff(order))) if degrees.size > 1 else 0.0
    apart = np.abs((degrees[:, None] - degrees[None, :]) % 360 - 180)
    nearest = apart.argmin(axis=1)
    near = apart[np.arange(degrees.size), nearest] <= 0.6 * step
    return np.flatnonzero(near), nearest[near]


def _stage(image: Float64, theta: Float64) -> Finding:
    """Say how far the sample strays from the sine that a rotation draws."""
    question = "projection shifts"
    try:
        fit = fit_sine(center_of_mass(leveled(np.nan_to_num(image))), theta)
    except (SchemaError, np.linalg.LinAlgError):
        return undetermined(question, "the center of mass could not be followed")
    scatter = 1.4826 * float(np.nanmedian(np.abs(fit.residual)))
    told = f"the center of mass leaves its sine by {scatter:.2f} steps"
    figures = {"shifts": scatter}
    if scatter > JITTER:
        return Finding(question, "seen", f"{told}: find_projection_shifts and align_projections",
                       "look", figures)  # fmt: skip
    return Finding(question, "none", told, "fine", figures)
