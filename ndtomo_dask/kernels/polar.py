"""Images in polar coordinates and back, all channels together."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Float64 = NDArray[np.float64]
Real = NDArray[np.floating]


def polar_image(
    image: Real, rows: Float64, columns: Float64, *, order: int
) -> Real:  # (y, x, channel), (radius, azimuth) twice -> (radius, azimuth, channel)
    """Sample an image at fractional rows and columns; NaN outside it.

    ``order`` 1 is linear and keeps bounds; 3 is a cubic spline, which is sharper and may overshoot.
    A NaN spoils the samples of its own channel that it has a part in; of order 3, its channel.
    """
    places = np.stack([rows, columns])
    shape = (*rows.shape, image.shape[2])
    made = np.empty(shape, dtype=image.dtype)
    for channel in range(image.shape[2]):
        plane = np.asarray(image[..., channel], dtype=np.float64)
        made[..., channel] = map_coordinates(plane, places, order=order, cval=np.nan)
    return made


BEYOND = 12
"""Azimuths beyond a full turn, and circles beyond the axis: splines must not know of either."""


def cartesian_image(
    polar: Real, radius: Float64, azimuth: Float64, *, order: int
) -> Real:  # (radius, azimuth, channel), (y, x) twice -> (y, x, channel)
    """Sample a polar image at fractional numbers of circles and azimuths; NaN beyond the last one.

    The azimuths make a full turn. Order, and what a NaN spoils, as in `polar_image`.
    """
    circles, azimuths = polar.shape[:2]
    near = polar[min(BEYOND, circles - 1) : 0 : -1]
    opposite = (np.roll(near, azimuths // 2, axis=1) + np.roll(near, -(azimuths // 2), axis=1)) / 2
    whole = np.concatenate([opposite.astype(polar.dtype), polar])
    turned = np.pad(whole, [(0, 0), (BEYOND, BEYOND), (0, 0)], mode="wrap")
    places = radius + near.shape[0], azimuth % azimuths + BEYOND
    return polar_image(turned, *places, order=order)
