"""Channels that count what is not there, or nothing."""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
GOOD, HOT, DEAD = 0, 1, 2
"""What a channel is found to be."""


def channel_faults(
    mean: Float64, least: Float64, most: Float64, *, contrast: float = 3.0, neighbors: int = 3
) -> NDArray[np.int8]:
    """Say of each channel whether it is good, hot or dead, from its mean, least and most sample.

    A channel is dead if its samples are all alike, or none is finite. It is hot if its mean and its
    least sample both exceed those of its neighbors (the median of ``neighbors`` on either side)
    ``contrast`` times: a reflection is bright in the sample, but not in the rays beside it.

    >>> mean, least, most = np.array([[5.0, 90, 6, 0], [1, 70, 1, 0], [9, 99, 9, 0]])
    >>> channel_faults(mean, least, most)
    array([0, 1, 0, 2], dtype=int8)
    """
    dead = ~(np.isfinite(mean) & (most > least))
    alive = ~dead
    usual = _of_neighbors(np.where(alive, mean, np.nan), neighbors)
    floor = _of_neighbors(np.where(alive, least, np.nan), neighbors)
    # Where the rays beside the sample are empty, a few counts are no sign of a fault.
    floor = np.maximum(floor, 0.01 * np.abs(usual))
    hot = alive & (mean > contrast * usual) & (least > contrast * floor)
    return np.where(dead, DEAD, np.where(hot, HOT, GOOD)).astype(np.int8)


def _of_neighbors(values: Float64, neighbors: int) -> Float64:
    """Median of what is known on either side, without the value itself; NaN where nothing is."""
    padded = np.pad(values, neighbors, constant_values=np.nan)
    around = np.stack([
        padded[shift : shift + len(values)]
        for shift in range(2 * neighbors + 1) if shift != neighbors
    ])  # fmt: skip
    known = np.isfinite(around).any(axis=0)
    around[:, ~known] = np.nan
    result = np.full(values.shape, np.nan)
    result[known] = np.nanmedian(around[:, known], axis=0)
    return result
