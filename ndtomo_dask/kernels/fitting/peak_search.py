"""Peaks of one spectrum: where they are, how wide, and how much they stand out."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Float64 = NDArray[np.float64]

NOISES, LEAST_SHARE = 6.0, 0.01
"""Least prominence, unless given: in standard deviations of the noise, in shares of the range."""
LEAST_HALF_WINDOW = 4.0
"""Channels that a window has on either side, at least: a fit must have more than its unknowns."""


class FoundPeaks(NamedTuple):
    """Peaks of a spectrum, in channel numbers, with fractions of a channel."""

    position: Float64
    left: Float64
    """Where the peak has fallen to half its prominence, before it."""
    right: Float64
    height: Float64
    prominence: Float64
    first: Float64
    """Where its window begins."""
    last: Float64
    least_prominence: float


def noise_of(spectrum: Float64) -> float:
    """Noise of a spectrum from its second differences: 1.4826 · median / √6.

    >>> round(noise_of(np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])), 3)
    1.211
    """
    bends = np.abs(np.diff(spectrum, 2))
    return float(1.4826 * np.median(bends) / np.sqrt(6)) if bends.size else 0.0


def search_peaks(
    spectrum: Float64,
    *,
    prominence: float | None = None,
    width: float = 3.0,
    most: int | None = None,
) -> FoundPeaks:
    """Find what stands out of a spectrum by its prominence; channels with NaN are bridged.

    # (channel,) -> fields of (peak,)
    """
    y = bridged(np.asarray(spectrum, dtype=np.float64))
    least = max(NOISES * noise_of(y), LEAST_SHARE * float(np.ptp(y)))
    least = least if prominence is None else prominence
    # Above 0 by a hair, because in a flat spectrum the least prominence is 0 and all is a peak.
    found, about = signal.find_peaks(y, prominence=max(least, np.finfo(np.float64).tiny))
    kept = np.sort(np.argsort(-about["prominences"], kind="stable")[:most])
    found = found[kept]
    bases = tuple(about[name][kept] for name in ("prominences", "left_bases", "right_bases"))
    _, _, left, right = signal.peak_widths(y, found, rel_height=0.5, prominence_data=bases)

    position, height = _vertex(y, found)
    first, last = _windows(y, found, position, np.maximum(width * (right - left), 0))
    return FoundPeaks(position, left, right, height, bases[0], first, last, least)


def bridged(spectrum: Float64) -> Float64:
    """Interpolate samples that are not finite between those that are."""
    finite = np.isfinite(spectrum)
    channel = np.arange(spectrum.size)
    return spectrum if finite.all() else np.interp(channel, channel[finite], spectrum[finite])


def _vertex(y: Float64, found: NDArray[np.intp]) -> tuple[Float64, Float64]:
    """Highest point of the parabola through a peak's channel and its neighbors."""
    before, here, after = y[found - 1], y[found], y[found + 1]
    bend = before - 2 * here + after
    step = np.divide(before - after, 2 * bend, out=np.zeros_like(here), where=bend < 0)
    step = step.clip(-0.5, 0.5)
    return found.astype(np.float64) + step, here - (before - after) * step / 4


def _windows(
    y: Float64, found: NDArray[np.intp], position: Float64, reach: Float64
) -> tuple[Float64, Float64]:
    """Place each window as far as it may reach, but not beyond the valley to a neighbor."""
    valleys = [a + int(np.argmin(y[a : b + 1])) for a, b in pairwise(found)]
    low = np.array([0, *valleys], dtype=np.float64)[: found.size]
    high = np.array([*valleys, y.size - 1], dtype=np.float64)[: found.size]
    first = np.minimum(np.maximum(position - reach, low), position - LEAST_HALF_WINDOW)
    last = np.maximum(np.minimum(position + reach, high), position + LEAST_HALF_WINDOW)
    return first.clip(0, y.size - 1), last.clip(0, y.size - 1)
