"""Which channels of the spectra count, and how their noise is made alike."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.components.spectral_rank import FLOOR, noise_scale
from ndtomo_dask.kernels.reductions import reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Preparation:
    """What is done to spectra before anything is summed; the same for all blocks."""

    used: Bool
    """Channels that count, (channel,)."""
    scale: Float64 | None = None
    """What the used channels are divided by, (used,): the roots of their means, or nothing."""
    average: float = 1.0
    """Mean of all spectra and used channels."""

    def __call__(self, rows: Float) -> Float:
        """Prepare spectra, (pixel, channel) -> (pixel, used)."""
        some = rows if self.used.all() else rows[:, self.used]
        if self.scale is None:
            return some
        with np.errstate(invalid="ignore", over="ignore"):
            mean = some.mean(axis=1, dtype=np.float64)
            factor = 1 / np.sqrt(np.maximum(mean / self.average, FLOOR))
            scaled = some * (1 / self.scale).astype(some.dtype)
            scaled *= factor[:, None].astype(some.dtype)
        return np.asarray(scaled)


class Sums(NamedTuple):
    """Sum of the finite spectra."""

    count: int  # type: ignore[assignment]  # hides tuple.count
    total: Float64


def sums_partial(rows: Float, used: Bool) -> Sums:
    """Sum the spectra of one block that are finite in the used channels."""

    def sums(strand: Float) -> Sums:
        some = strand if used.all() else strand[:, used]
        whole = np.isfinite(some).all(axis=1)
        return Sums(int(whole.sum()), some[whole].sum(axis=0, dtype=np.float64))

    return reduce_strands(sums, sums_combine, rows)


def sums_combine(first: Sums, second: Sums) -> Sums:
    """Merge the sums of two blocks."""
    return Sums(first.count + second.count, first.total + second.total)


def counting_noise(sums: Sums, used: Bool) -> Preparation:
    """Scale spectra so that counting noise is alike everywhere (Keenan & Kotula 2004).

    Spectra are divided by the root of their mean, channels by the root of theirs, since the
    variance of a count is its mean (Surf. Interface Anal. 36, 203). Means below one percent of
    their average are raised to it.
    """
    mean = sums.total / max(1, sums.count)
    scale = noise_scale(mean, np.ones(mean.size, dtype=bool))
    least = np.where(scale.channel > 0, scale.channel, 1.0)
    return Preparation(used, least, scale.average)
