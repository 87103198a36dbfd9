"""Defects of a measurement, each drawn from a seed of its own so that one does not change another.

What acts on the beam comes before the counting, as in an experiment: flux, absorption, stripes,
spots; what acts on the detector comes after it: hot and dead channels, projections that are lost.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Noise = Literal["poisson", "none"]

NOISE, STRIPES, SPOTS, CHANNELS, MISSING = 1, 2, 3, 4, 5
"""Random streams, one a defect, beside the seed of the scan."""
GOOD, HOT, DEAD = 0, 1, 2
"""What `channel_states` calls a channel."""
DRIFT = 0.5
"""How much of a stripe comes and goes during a scan, relative to what stays."""
SPOT_WIDTH = 1.2
"""Standard deviation of a spot along the channels."""


@dataclass(frozen=True)
class Defects:
    """Which defects a scan has, and how strong they are; none by default."""

    stripes: float = 0.0
    """Standard deviation of the gain of a translation."""
    spots: int = 0
    """Bright reflections of single crystals, in each slice."""
    hot_channels: int = 0
    dead_channels: int = 0
    missing: int = 0
    """Projections without counts."""
    bright: float = 1.0
    """Counts of a bright sample, which spots and hot channels exceed."""
    noise: Noise = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("noise", self.noise, ("poisson", "none"))
        for option in ("stripes", "spots", "hot_channels", "dead_channels", "missing"):
            if not getattr(self, option) >= 0:
                raise OptionError(f"{option}={getattr(self, option)} must be 0 or more.")

    def given(self) -> dict[str, float]:
        """Return the defects that there are, by name."""
        named = ("stripes", "spots", "hot_channels", "dead_channels", "missing")
        return {name: getattr(self, name) for name in named if getattr(self, name)}


class Spots(NamedTuple):
    """Where single crystals reflect in one slice, and how brightly; all (spot,)."""

    angle: Int64
    translation: Int64
    channel: Float64
    height: Float64


def _random(defects: Defects, stream: int, number: int = 0) -> np.random.Generator:
    # Trailing zeros of a seed count for nothing; the one tells these streams from all shorter ones.
    return np.random.default_rng([defects.seed, stream, number, 1])


def stripe_gain(
    defects: Defects, angles: int, translations: int, row: int | slice = slice(None)
) -> Float64:
    """Gain of each translation, which drifts during the scan, (angle, translation) or of one row.

    ``1 + stripes (u(t) + v(t) drift(angle))`` with u and v normal, and a drift that is linear and
    zero in the middle of the scan. It is the same in all slices and channels, and never negative.
    """
    random = _random(defects, STRIPES)
    lasting, coming = random.standard_normal((2, translations))
    drift = (DRIFT * np.linspace(-1.0, 1.0, angles))[row][..., None]
    return np.asarray(np.maximum(1 + defects.stripes * (lasting + drift * coming), 0.0))


@lru_cache(maxsize=4)
def draw_spots(
    defects: Defects, angles: int, translations: int, channels: int, number: int
) -> Spots:
    """Draw the spots of slice ``number``: single projections, rays and narrow lines.

    They lie within the middle 80 % of the translations, and are as high as 1 to 10 bright samples.
    """
    random = _random(defects, SPOTS, number)
    inside = translations // 10, translations - translations // 10
    return Spots(
        angle=random.integers(0, angles, defects.spots),
        translation=random.integers(*inside, defects.spots),
        channel=random.uniform(0, channels - 1, defects.spots),
        height=defects.bright * 10 ** random.uniform(0, 1, defects.spots),
    )


def channel_states(defects: Defects, channels: int) -> NDArray[np.int8]:
    """Say of each channel whether it is good, hot or dead, (channel,)."""
    bad = defects.hot_channels + defects.dead_channels
    if bad > channels:
        raise OptionError(f"{bad} channels cannot be hot or dead: the scan has {channels}.")
    chosen = _random(defects, CHANNELS).permutation(channels)[:bad]
    states = np.full(channels, GOOD, dtype=np.int8)
    states[chosen[: defects.hot_channels]] = HOT
    states[chosen[defects.hot_channels :]] = DEAD
    return states


def missing_projections(defects: Defects, angles: int) -> Bool:
    """Say of each projection whether it was lost, (angle,); the same in all slices."""
    if defects.missing >= angles:
        raise OptionError(
            f"missing={defects.missing} leaves nothing: the scan has {angles} projections."
        )
    lost = np.zeros(angles, dtype=bool)
    lost[_random(defects, MISSING).permutation(angles)[: defects.missing]] = 1
    return lost


def count_projection(
    expected: Float64, defects: Defects, *, number: int, angles: int
) -> Float64 | NDArray[np.int64]:
    """Spoil and count one projection, (translation, channel).

    Parameters
    ----------
    expected
        What would be counted on average, by the flux that this projection had.
    defects
        What goes wrong.
    number
        Number of the projection in the whole scan, ``angles`` to a slice.
    angles
        Projections of a slice.
    """
    piece, row = divmod(number, angles)
    if defects.stripes:
        expected = expected * stripe_gain(defects, angles, len(expected), row)[:, None]
    if defects.spots:
        expected = _with_spots(expected, defects, row, angles, piece)
    random = np.random.default_rng([defects.seed, NOISE, number])
    counted = random.poisson(expected) if defects.noise == "poisson" else expected
    if defects.hot_channels or defects.dead_channels:
        counted = _with_bad_channels(counted, defects, random)
    if defects.missing and missing_projections(defects, angles)[row]:
        counted = np.zeros_like(counted)
    return counted


def _with_spots(
    expected: Float64, defects: Defects, row: int, angles: int, piece: int
) -> Float64:  # (translation, channel)
    spots = draw_spots(defects, angles, *expected.shape, piece)
    channel = np.arange(expected.shape[1])
    spoiled = expected.copy()
    for spot in np.flatnonzero(spots.angle == row):
        line = np.exp(-0.5 * ((channel - spots.channel[spot]) / SPOT_WIDTH) ** 2)
        spoiled[spots.translation[spot]] += spots.height[spot] * line
    return spoiled


def _with_bad_channels(
    counted: Float64 | NDArray[np.int64], defects: Defects, random: np.random.Generator
) -> Float64:
    states = channel_states(defects, counted.shape[1])
    spoiled = counted.astype(np.float64)
    hot = np.flatnonzero(states == HOT)
    levels = _random(defects, CHANNELS, HOT).uniform(1, 5, hot.size)
    spoiled[:, hot] += random.poisson(defects.bright * levels, (len(counted), hot.size))
    spoiled[:, states == DEAD] = 0.0
    return spoiled
