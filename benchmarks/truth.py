"""Data whose truth is known by formula, so that no program is tested with its own model."""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Density, half axes, center (x, y) in units of half the field of view, tilt in degrees: the head
# phantom of Shepp & Logan (1974), with the contrast of Toft (1996).
ELLIPSES = np.array([
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
])  # fmt: skip
FINE = 8
"""Points or rays per pixel edge, over which truth and sinogram are averaged."""


def head_image(size: int, center: float | None = None) -> Float64:  # -> (y, x, ellipse)
    """Each ellipse of density 1 on the grid, every pixel the mean of 8 × 8 points.

    The axis of rotation is at index ``center`` of rows, columns and translations; by default in
    the middle, at (size - 1)/2.
    """
    axis = _points(size, center).ravel()
    x, y = axis[None, :], axis[:, None]
    images = np.empty((size, size, len(ELLIPSES)))
    for number, (_, a, b, x0, y0, tilt) in enumerate(ELLIPSES):
        cos, sin = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        along, across = (x - x0) * cos + (y - y0) * sin, (y - y0) * cos - (x - x0) * sin
        inside = (along / a) ** 2 + (across / b) ** 2 <= 1
        images[..., number] = inside.reshape(size, FINE, size, FINE).mean(axis=(1, 3))
    return images


def head_sinogram(
    angles: Float64, size: int, center: float | None = None
) -> Float64:  # -> (angle, translation, ellipse)
    """Line integrals of each ellipse by formula, in pixels, each the mean of 8 rays of a strip.

    A point (x, y) projects onto u = x cos θ - y sin θ, as in `ndtomo_dask.geometry`.
    """
    u = _points(size, center)
    theta = angles[:, None, None]
    rays = np.empty((angles.size, size, len(ELLIPSES)))
    for number, (_, a, b, x0, y0, tilt) in enumerate(ELLIPSES):
        turned = theta + np.deg2rad(tilt)
        width = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
        offset = u - (x0 * np.cos(theta) - y0 * np.sin(theta))
        chord = 2 * a * b * np.sqrt(np.clip(width - offset**2, 0, None)) / width
        rays[..., number] = chord.mean(axis=2) * size / 2
    return rays


def _points(size: int, center: float | None) -> Float64:  # -> (pixel, point)
    middle = (size - 1) / 2 if center is None else center
    fine = (np.arange(FINE) - (FINE - 1) / 2) / FINE
    return np.asarray((np.arange(size)[:, None] - middle + fine) * 2 / size)


def head_channels(channels: int) -> Float64:  # -> (ellipse, channel)
    """Densities of the ellipses in each channel: the phantom's, ever more of its details."""
    contrast = np.linspace(0.5, 1.5, channels)
    growth = np.where(np.arange(len(ELLIPSES))[:, None] < 2, 1.0, contrast)
    return np.asarray(growth * ELLIPSES[:, :1])


def circle(size: int, center: float | None = None) -> NDArray[np.bool_]:
    """Pixels that every projection sees."""
    axis = _points(size, center).mean(axis=1)
    return np.asarray(np.hypot(axis[:, None], axis) <= 1 - 4 / size)


def relative_rmse(found: Float64, expected: Float64, inside: NDArray[np.bool_]) -> float:
    """Root of the mean square difference over the root of the mean square truth."""
    difference = (np.asarray(found, dtype=float) - expected)[inside]
    return float(np.sqrt(np.mean(difference**2) / np.mean(expected[inside] ** 2)))


def pseudo_voigt(
    x: Float64, area: Float64, position: Float64, fwhm: Float64, fraction: Float64
) -> Float64:
    """Sum of a Lorentzian and a Gaussian of the same width and of unit area, times ``area``."""
    t = 2 * (x - position) / fwhm
    lorentzian = 2 / (np.pi * fwhm) / (1 + t**2)
    gaussian = 2 / fwhm * np.sqrt(np.log(2) / np.pi) * np.exp(-np.log(2) * t**2)
    return np.asarray(area * (fraction * lorentzian + (1 - fraction) * gaussian))


def noisy_peaks(count: int, channels: int, seed: int = 0) -> tuple[Float64, Float64, Float64]:
    """Poisson counts of a pseudo-Voigt peak on a sloping line: spectra, axis and true parameters.

    # -> (spectrum, channel), (channel,), (spectrum, [area, position, fwhm, fraction])
    """
    rng = np.random.default_rng(seed)
    x = np.linspace(3.0, 3.2, channels)
    true = np.column_stack([
        rng.uniform(2.0, 40.0, count),
        rng.uniform(3.08, 3.12, count),
        rng.uniform(0.02, 0.05, count),
        rng.uniform(0.1, 0.9, count),
    ])  # fmt: skip
    slope = rng.uniform(-100, 100, (count, 1)) * (x - 3.1)
    expected = pseudo_voigt(x, *true.T[..., None]) + 50 + slope
    return np.asarray(rng.poisson(expected), dtype=float), x, true


def mixed_spectra(
    pixels: int, channels: int, components: int, seed: int = 0
) -> tuple[Float64, Float64]:
    """Poisson counts of sums of few patterns, and the expected counts, (pixel, channel) each."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, channels)
    places, widths = rng.uniform(0, 1, (components, 8, 1)), rng.uniform(0.005, 0.02, (8, 1))
    patterns = np.exp(-(((x - places) / widths) ** 2)).sum(axis=1) + 0.05
    amounts = rng.gamma(0.5, 40.0, (pixels, components))
    expected = amounts @ patterns
    return rng.poisson(expected).astype(np.float32), expected
