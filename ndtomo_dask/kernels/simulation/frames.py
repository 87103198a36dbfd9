"""Simulated detector frames: rings of a pattern on a detector, spots of crystals, counts."""

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from ndtomo_dask.kernels.instrument import UNITS, geometry_of

FrameNoise = Literal["poisson", "none"]
SPOT_SIZE = 2
"""Pixels from the middle of a spot to its edge."""


@lru_cache(maxsize=2)
def _geometry(calibration: tuple[tuple[str, str], ...]) -> Any:
    return geometry_of(calibration)


def frame_of_pattern(
    pattern: np.ndarray,
    axis: np.ndarray,
    *,
    calibration: tuple[tuple[str, str], ...],
    unit: str,
    shape: tuple[int, int],
    solid_angle: bool = True,
    polarization: float | None = None,
) -> np.ndarray:
    """Return the expected counts of every pixel for a pattern of counts per pixel, by pyFAI.

    Beyond the ends of ``axis`` the pattern goes on as it ends.
    """
    made = _geometry(calibration).calcfrom1d(
        axis, np.maximum(pattern, 0), shape=shape, dim1_unit=UNITS[unit],
        correctSolidAngle=solid_angle, polarization_factor=polarization,
    )  # fmt: skip
    return np.asarray(made, dtype=np.float64)


def with_spots(
    frame: np.ndarray, rng: np.random.Generator, *, spots: int, counts: float
) -> np.ndarray:
    """Add bright spots of single crystals at random pixels, each ``counts`` in every pixel."""
    made = frame.copy()
    for _ in range(spots):
        row, column = (int(rng.integers(size)) for size in frame.shape)
        rows = slice(max(0, row - SPOT_SIZE), row + SPOT_SIZE + 1)
        made[rows, max(0, column - SPOT_SIZE) : column + SPOT_SIZE + 1] += counts
    return made


def counted(
    expected: np.ndarray, rng: np.random.Generator, noise: FrameNoise, dtype: np.dtype[Any]
) -> np.ndarray:
    """Return what a detector counts, Poisson distributed or rounded; never its dead value."""
    counts = rng.poisson(expected) if noise == "poisson" else np.rint(expected)
    return np.asarray(np.minimum(counts, np.iinfo(dtype).max - 1).astype(dtype))
