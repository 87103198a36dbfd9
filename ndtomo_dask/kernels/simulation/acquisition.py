"""In which order, and when, a pencil beam visits the rays of a scan."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Path = Literal["zigzig", "zigzag"]
Fast = Literal["translation", "rotation"]
Motion = Literal["stepped", "fast", "continuous"]
Interlacing = Literal["golden", "binary", "sequential"]

GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Acquisition:
    """How the rays of a scan are visited."""

    angles: int
    translations: int
    path: Path = "zigzag"
    fast: Fast = "translation"
    motion: Motion = "fast"
    passes: int = 1
    interlacing: Interlacing = "golden"
    exposure: float = 0.1
    """Seconds of a point."""
    settle: float = 0.2
    """Seconds that a motor takes to stop and start again."""

    def __post_init__(self) -> None:
        check_choice("path", self.path, ("zigzig", "zigzag"))
        check_choice("fast", self.fast, ("translation", "rotation"))
        check_choice("motion", self.motion, ("stepped", "fast", "continuous"))
        check_choice("interlacing", self.interlacing, ("golden", "binary", "sequential"))
        if min(self.angles, self.translations) < 1 or not 1 <= self.passes <= self.angles:
            raise OptionError(
                f"passes={self.passes} must lie between 1 and the {self.angles} angles, and a "
                f"scan needs an angle and a translation."
            )
        if not self.exposure > 0 or not self.settle >= 0:
            raise OptionError("exposure must be above 0 seconds, and settle not below.")
        if self.motion == "continuous" and self.fast == "rotation":
            raise OptionError("motion='continuous' turns while it translates: fast='translation'.")


class Visits(NamedTuple):
    """Where the beam is, point by point in time; all (point,)."""

    angle: Int64
    translation: Int64
    advance: Float64
    """How far the rotation has gone on towards the next angle, 0 to 1."""
    time: Float64
    """Middle of the exposure, in seconds from the start."""


def interlaced_angles(angles: int, passes: int, interlacing: Interlacing) -> Int64:
    """Order of the angles: pass after pass takes every ``passes``-th one, from another first.

    The first angles of the passes follow the golden ratio, the bit-reversed (van der Corput)
    sequence, so that each halves the widest gap, or one another, as in nDTomo.

    >>> interlaced_angles(8, 4, "binary")
    array([0, 4, 2, 6, 1, 5, 3, 7])
    """
    places = {
        "golden": np.arange(passes) * GOLDEN % 1.0,
        "binary": np.array([_reversed_bits(number) for number in range(passes)]),
        "sequential": np.arange(passes, dtype=np.float64),
    }[interlacing]
    firsts = np.argsort(np.argsort(places))
    return np.concatenate([np.arange(first, angles, passes) for first in firsts])


def _reversed_bits(number: int) -> float:
    """Place of a number in the van der Corput sequence: its bits, mirrored at the point."""
    digits = f"{number:b}"[::-1]
    return int(digits, 2) / 2.0 ** len(digits)


def visit(acquisition: Acquisition) -> Visits:
    """List the rays in the order in which they are measured, and when.

    A line is what is measured along the fast axis without turning back. ``"zigzig"`` measures on
    the way there only, and comes back with the beam off, as fast; ``"zigzag"`` both ways.
    """
    order = interlaced_angles(acquisition.angles, acquisition.passes, acquisition.interlacing)
    steps = np.arange(acquisition.translations)
    slow, fast = (order, steps) if acquisition.fast == "translation" else (steps, order)
    along = np.tile(fast, (slow.size, 1))
    if acquisition.path == "zigzag":
        along[1::2] = along[1::2, ::-1]
    across = np.broadcast_to(slow[:, None], along.shape)
    angle, translation = (across, along) if acquisition.fast == "translation" else (along, across)
    place = (np.arange(fast.size) + 0.5) / fast.size
    turning = acquisition.motion == "continuous"
    advance = np.broadcast_to(place if turning else np.zeros(fast.size), along.shape)
    return Visits(angle.ravel(), translation.ravel(), advance.ravel(), _times(acquisition, along))


def _times(acquisition: Acquisition, along: Int64) -> Float64:
    lines, points = along.shape
    stop = acquisition.settle if acquisition.motion == "stepped" else 0.0
    each = acquisition.exposure + stop
    back = points * acquisition.exposure if acquisition.path == "zigzig" else 0.0
    pause = 0.0 if acquisition.motion == "continuous" else acquisition.settle
    starts = np.arange(lines) * (points * each + back + pause)
    begins = starts[:, None] + np.arange(points) * each
    return np.asarray(begins.ravel() + acquisition.exposure / 2)
