"""Integrating the frames of a block: each is read once, in the order of the disk, and added up."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ndtomo_dask.frames.grid import NO_FRAME
from ndtomo_dask.kernels.instrument import Instrument
from ndtomo_dask.kernels.integration import Average, table_of

LOGGER = logging.getLogger("ndtomo_dask")
MOMENTS = 2
"""A pattern and its variance."""


class Reader(Protocol):
    """What reads frames by their numbers, in any process."""

    count: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    together: int

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield each number with its frame, or with something that has a ``reason``."""

    def name(self, number: int) -> str:
        """Say where a frame lies."""


def integrate_block(
    numbers: np.ndarray,
    weights: np.ndarray,
    *,
    reader: Reader,
    instrument: Instrument,
    average: Average,
) -> np.ndarray:
    """Patterns of cells and their variance, (angle, translation, entry) twice -> (…, 2, channel).

    Frames are read and added in the order of their numbers, so that the sums do not depend on how
    the scan is cut into blocks.
    """
    table = table_of(instrument)
    cells = numbers.reshape(-1, numbers.shape[-1])
    shares = weights.reshape(cells.shape)
    sums = np.zeros((3, len(cells), instrument.points))
    wanted = np.unique(cells[cells != NO_FRAME])
    unread: dict[str, list[int]] = {}
    for number, frame in reader.read(wanted.tolist()):
        if not isinstance(frame, np.ndarray):
            unread.setdefault(frame.reason, []).append(number)
            continue
        pattern = table.integrate(frame, average)
        seen = np.isfinite(pattern.intensity)
        for cell, entry in zip(*np.nonzero(cells == number), strict=True):
            share = shares[cell, entry]
            sums[0, cell, seen] += share * pattern.intensity[seen]
            sums[1, cell, seen] += share**2 * pattern.variance[seen]
            sums[2, cell, seen] += share
    for reason, lost in unread.items():
        others = f" and {len(lost) - 1} other frames" if len(lost) > 1 else ""
        LOGGER.warning("%s%s cannot be read: %s", reader.name(lost[0]), others, reason)
    return _means(sums).reshape(*numbers.shape[:-1], MOMENTS, instrument.points)


def _means(sums: np.ndarray) -> np.ndarray:
    """Weighted means and their variance, NaN where nothing was seen; ``sums`` are used up."""
    intensity, variance, weight = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity /= weight
        variance /= np.square(weight, out=weight)
    return np.stack([intensity, variance], axis=1, dtype=np.float32, casting="same_kind")
