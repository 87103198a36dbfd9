"""How far each projection has strayed, judged by the projections of the image that all give.

Everything here works on one small image ``(angle, translation)``, in float64. Angles are in
radians, lengths in translation steps.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.alignment import bridged, check_angles, leveled
from ndtomo_dask.kernels.projectors.numba import NumbaProjector

Float64 = NDArray[np.float64]

ENOUGH = 0.002
"""Root mean square of the changes, in steps, below which the shifts have settled."""
HASTE = 1.4
"""Part of each change that is made: what a blurred image shows of a shift is too little."""
FARTHEST = 0.25
"""Share of the translations by which a projection may be displaced."""


def reprojection_shifts(
    image: NDArray[np.floating],
    angles: ArrayLike,
    *,
    center: float,
    start: ArrayLike | None = None,
    iterations: int = 40,
) -> Float64:
    """Shift of each projection against those of the image that all projections give.

    An image is reconstructed, smoothed and without negative pixels, and projected; each measured
    projection is registered to its own, to a fraction of a step; and again, until the shifts settle
    (Dengler, Ultramicroscopy 30, 337 (1989); Gürsoy et al., Sci. Rep. 7, 11818 (2017)). A
    constant, a cosine and a sine of the angle are taken out of every step: they cannot be told from
    another center or another mounting, and would drift. The sample may leave the field of view.

    Returns the shifts in the order of ``angles``; NaN for a projection without two finite samples.
    Raises `SchemaError` for fewer than three angles with data.
    """
    filled = bridged(image)
    theta = np.asarray(angles, dtype=np.float64)
    alive = np.isfinite(filled).all(axis=1)
    check_angles(theta[alive])
    rows, theta = leveled(filled[alive]), theta[alive]
    if not np.ptp(rows) > 0:
        raise SchemaError("projections of one value everywhere have no shifts: check the channels.")
    rows = rows / np.abs(rows).max()
    begin = np.zeros(image.shape[0]) if start is None else np.nan_to_num(np.asarray(start))
    shifts = _free(begin[alive], theta)
    for _ in range(iterations):
        change, noise = _register(rows, _projected(rows, theta, center, shifts))
        moved = _bounded(shifts + HASTE * change, rows.shape[1])
        moved = _free(moved * _trust(moved, noise), theta)
        settled = np.sqrt(np.mean((moved - shifts) ** 2)) < ENOUGH
        shifts = moved
        if settled:
            break
    found = np.full(alive.shape, np.nan)
    found[alive] = shifts
    return found


def _free(shifts: Float64, theta: Float64) -> Float64:
    """Take out what cannot be told from another center or another mounting of the sample."""
    design = np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], axis=1)
    return np.asarray(shifts - design @ np.linalg.lstsq(design, shifts, rcond=None)[0])


def _trust(shifts: Float64, noise: Float64) -> Float64:
    """Share of each shift to believe: the spread beyond noise over all of it (empirical Bayes)."""
    spread = np.median(np.abs(shifts)) * 1.4826
    jitter = max(spread**2 - float(np.median(noise)), 0.0)
    return np.asarray(jitter / np.maximum(jitter + noise, 1e-300))


def _bounded(shifts: Float64, translations: int) -> Float64:
    return np.clip(shifts, -FARTHEST * translations, FARTHEST * translations)


def _projected(rows: Float64, theta: Float64, center: float, shifts: Float64) -> Float64:
    """Reconstruct, and project what was reconstructed."""
    geometry = ParallelGeometry.centered(
        theta, rows.shape[1], rotation_center=center, shifts=shifts
    )
    volume = NumbaProjector(geometry).fbp(rows[..., None], "hann")
    return np.asarray(NumbaProjector(geometry, "joseph")(np.maximum(volume, 0.0))[..., 0])


def _register(rows: Float64, model: Float64) -> tuple[Float64, Float64]:
    """How far each row lies behind its model, and the variance of that by the noise of the row.

    Whole steps are found by correlation, the rest by slopes.
    """
    level = rows - rows.mean(axis=1, keepdims=True)
    expected = model - model.mean(axis=1, keepdims=True)
    width = rows.shape[1]
    far = max(1, int(FARTHEST * width))
    length = 2 * width
    product = np.fft.rfft(level, length) * np.conj(np.fft.rfft(expected, length))
    likeness = np.roll(np.fft.irfft(product, length), far, axis=1)[:, : 2 * far + 1]
    whole = np.argmax(likeness, axis=1) - far
    place = np.arange(width)
    shifts = whole.astype(np.float64)
    for _ in range(3):
        here = np.stack([np.interp(place - s, place, row)
                         for s, row in zip(shifts, expected, strict=True)])  # fmt: skip
        slope = np.gradient(here, axis=1)
        energy = np.maximum(np.sum(slope**2, axis=1), 1e-300)
        scale = np.sum(here * level, axis=1) / np.maximum(np.sum(here**2, axis=1), 1e-300)
        behind = -np.sum(slope * (level - scale[:, None] * here), axis=1) / energy
        gain = np.where(np.abs(scale) > 0.1, scale, 1.0)
        shifts += np.clip(behind / gain, -0.5, 0.5)
    left = np.mean((level - scale[:, None] * here) ** 2, axis=1)
    return shifts, left / (gain**2 * energy)
