"""How far each projection has strayed: centers of mass, the sine they follow, and what deviates.

Everything here works on one small image ``(angle, translation)``, in float64. Angles are in
radians, lengths in translation steps. A point (x, y) of the sample projects at angle θ onto
translation index ``center + x cos θ - y sin θ + shift(θ)``, and so does the center of mass.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import SchemaError

Float64 = NDArray[np.float64]

HUBER = 1.345
"""Residuals beyond this many standard deviations lose weight (95 % efficient, Huber 1964)."""


@dataclass(frozen=True, eq=False)
class SineFit:
    """The path center + a cos θ + b sin θ that a centre of mass follows."""

    center: float
    amplitude_cos: float
    amplitude_sin: float
    residual: Float64
    """Centre of mass minus the path, per angle; NaN where the centre of mass is."""
    error: float
    """Standard error of the centre, were the residuals independent."""
    misfit: float
    """Weighted mean of the squared residual."""
    stiffness: float
    """Rise of the misfit for a centre one step off, the amplitudes refitted."""


def center_of_mass(image: NDArray[np.floating]) -> Float64:
    """Mean translation index of each projection, weighted by its intensity: Σ u I / Σ I.

    Samples that are not finite are bridged linearly from their neighbors: left out, they would
    pull the mean away from themselves. A projection without a positive sum, or with fewer than
    two finite samples, has no centre of mass and gives NaN.

    >>> center_of_mass(np.array([[0.0, 1.0, 3.0]]))
    array([1.75])
    """
    filled = bridged(image)
    total = filled.sum(axis=1)
    moment = filled @ np.arange(filled.shape[1], dtype=np.float64)
    return moment / np.where(total > 0, total, np.nan)


def fit_sine(com: ArrayLike, angles: ArrayLike) -> SineFit:
    """Fit com = c + a cos θ + b sin θ by robust linear least squares.

    The centre of mass of a sample that stays in the field of view follows this path exactly
    (first Helgason-Ludwig condition). The weights are Huber's, iterated; angles are in radians and
    may come in any order. Raises `SchemaError` for fewer than three distinct usable angles.

    >>> theta = np.linspace(0, np.pi, 20)
    >>> round(fit_sine(45.4 + 3 * np.cos(theta), theta).center, 6)
    45.4
    """
    path, theta = np.asarray(com, dtype=np.float64), np.asarray(angles, dtype=np.float64)
    check_angles(theta[known := np.isfinite(path)])
    design = np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], axis=1)
    weights = known.astype(np.float64)
    for _ in range(30):
        normal = design.T @ (weights[:, None] * design)
        solution = np.linalg.solve(normal, design.T @ (weights * np.where(known, path, 0.0)))
        residual = path - design @ solution
        scale = 1.4826 * float(np.median(np.abs(residual[known]))) + 1e-12
        ratio = HUBER * scale / np.maximum(np.abs(residual), HUBER * scale)
        weights = np.where(known, ratio, 0.0)
    total, freedom = float(weights.sum()), max(float(weights.sum()) - 3, 1.0)
    squares = float(np.sum(weights[known] * residual[known] ** 2))
    inverse = float(np.linalg.inv(normal)[0, 0])
    center, cosine, sine = (float(value) for value in solution)
    error = float(np.sqrt(squares / freedom * inverse))
    return SineFit(center, cosine, sine, residual, error, squares / total, 1 / (inverse * total))


def projection_shifts(image: NDArray[np.floating], angles: ArrayLike) -> tuple[Float64, float]:
    """Shift of each projection off the sine path of its centre of mass, and the rotation centre.

    ``shift(θ) = com(θ) - (center + a cos θ + b sin θ)``, in translation steps, in the order of
    ``angles``; NaN for a projection without a centre of mass. The background, taken as the median
    of the outermost translations, is subtracted first. Shifts that themselves follow a cosine, a
    sine or a constant cannot be told from a sample mounted elsewhere, and are not found.
    """
    fit = fit_sine(center_of_mass(leveled(bridged(image))), angles)
    return fit.residual, fit.center


def shift_rows(image: NDArray[np.floating], shifts: ArrayLike) -> Float64:
    """Move each projection back by its shift, in translation steps, by linear interpolation."""
    place = np.arange(image.shape[1], dtype=np.float64)
    rows = zip(image, np.asarray(shifts, dtype=np.float64), strict=True)
    return np.stack([np.interp(place + shift, place, row) for row, shift in rows])


def check_angles(theta: Float64) -> None:
    """Raise `SchemaError` for fewer than three distinct angles, which cannot fix a center."""
    if (distinct := np.unique(np.round(np.mod(theta, 2 * np.pi), 6)).size) < 3:
        raise SchemaError(
            f"a rotation center needs at least 3 distinct projection angles with data, "
            f"not {distinct}. "
            "Check 'angle' and the mask."
        )


def bridged(image: NDArray[np.floating]) -> Float64:
    """Fill samples that are not finite along the translation; a row without two stays NaN."""
    filled = np.array(image, dtype=np.float64)
    if filled.ndim != 2:
        raise SchemaError(
            f"centering needs one image (angle, translation), not {filled.ndim} dimensions. "
            "Sum or select the channels first."
        )
    finite = np.isfinite(filled)
    index = np.arange(filled.shape[1])
    for row in np.flatnonzero(~finite.all(axis=1)):
        good = finite[row]
        filled[row] = np.interp(index, index[good], filled[row, good]) if good.sum() > 1 else np.nan
    return filled


def leveled(image: Float64) -> Float64:
    """Subtract the background: the median of the outermost translations of all projections."""
    width = max(1, image.shape[1] // 50)
    border = np.concatenate([image[:, :width], image[:, -width:]], axis=1)
    border = border[np.isfinite(border)]
    return image - (np.median(border) if border.size else 0.0)
