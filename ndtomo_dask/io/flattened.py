"""Scans written as one list of points: which grid of angles and translations the points lie on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.variables import ANGLE, TRANSLATION

Float64 = NDArray[np.float64]

SAME_PLACE = 0.5
"""Steps by which a position may differ from line to line: motors overshoot by their direction."""
STANDS_STILL = 0.1
"""Share of its own step by which the slow motor may move within a line."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Lines of points: the slow motor stands still along a line, the fast one moves."""

    slow: str
    fast: str
    positions: dict[str, Float64]
    """Of both motors, in the unit of the data model."""
    backward: NDArray[np.bool_]
    """Lines along which the fast motor went the other way."""
    points: int
    """Of the list; those after the last whole line are left out."""

    @property
    def rows(self) -> int:
        """Number of whole lines."""
        return self.positions[self.slow].size

    @property
    def columns(self) -> int:
        """Points of a line."""
        return self.positions[self.fast].size

    @property
    def words(self) -> str:
        """What was made of the list."""
        zigzag = ", every other one backward" if self.backward.any() else ""
        left = self.points - self.rows * self.columns
        rest = f"; the last {left} points, an incomplete line, are left out" if left else ""
        return (
            f"{self.points} points lie in {self.rows} lines of {self.columns}: {self.fast} is "
            f"fast{zigzag}{rest}"
        )


def is_flattened(shape: tuple[int, ...], angle: Float64, translation: Float64) -> bool:
    """Say whether both motors have one position for each entry of the first axis of the data.

    A square scan, as many angles as translations, has an axis for each: there the translations are
    in order and do not repeat.
    """
    if not shape or not angle.size == translation.size == shape[0] > 1:
        return False
    in_order = abs(np.sign(np.diff(translation)).sum()) == translation.size - 1
    return not in_order or shape[1:2] != shape[:1]


def find_grid(angle: Float64, translation: Float64, *, where: str) -> Grid:
    """Find the grid on which points lie, from the position of both motors at each of them.

    >>> theta, x = np.tile([0.0, 1.0, 2.0], 2), np.repeat([5.0, 6.0], 3)
    >>> find_grid(theta, x, where="data").words
    '6 points lie in 2 lines of 3: angle is fast'

    Raises
    ------
    SchemaError
        The points are on no grid, or in no lines.
    """
    motors = {ANGLE: angle, TRANSLATION: translation}
    reasons = []
    for slow, fast in ((TRANSLATION, ANGLE), (ANGLE, TRANSLATION)):
        columns = _line_length(motors[slow])
        if columns is None:
            continue
        rows = angle.size // columns
        lines = motors[fast][: rows * columns].reshape(rows, columns)
        placed = _placed(lines, turn=360.0 if fast == ANGLE else None)
        if isinstance(placed, str):
            reasons.append(f"{fast} {placed}")
            continue
        backward, fast_positions = placed
        slow_positions = motors[slow][: rows * columns].reshape(rows, columns).mean(axis=1)
        positions = {slow: slow_positions, fast: fast_positions}
        return Grid(slow, fast, positions, backward, angle.size)
    why = reasons[0] if reasons else "neither motor stands still while the other one moves"
    raise SchemaError(
        f"the {angle.size} points of {where} are on no grid of angles and translations: {why}. "
        f"Bin them to a grid first, or map the positions that belong to them."
    )


def _line_length(slow: Float64) -> int | None:
    """Return the points between two moves of the slow motor, if they are as many each time."""
    moves = np.abs(np.diff(slow))
    if moves.max() == 0:
        return None
    ends = np.flatnonzero(moves > STANDS_STILL * moves.max()) + 1
    lengths = np.diff([0, *ends])
    last = slow.size - ends[-1]
    if lengths[0] < 2 or (lengths != lengths[0]).any() or last > lengths[0]:
        return None
    return int(lengths[0]) if slow.size >= 2 * lengths[0] else None


def _placed(lines: Float64, turn: float | None) -> tuple[NDArray[np.bool_], Float64] | str:
    """Turn lines the way of the first one; return which were turned, and the mean positions."""
    first = lines[0]
    step = float(np.median(np.abs(np.diff(first))))
    forward, reversed_ = (_off(one - first, turn) for one in (lines, lines[:, ::-1]))
    backward = reversed_ < forward
    off = np.minimum(forward, reversed_)
    if off.max() > SAME_PLACE * step:
        wrong = int(np.argmax(off > SAME_PLACE * step))
        return f"is off by up to {off[wrong] / max(step, 1e-300):.2g} steps in line {wrong}"
    ordered = np.where(backward[:, None], lines[:, ::-1], lines)
    apart = ordered - first
    whole = 0.0 if turn is None else turn * np.round(apart / turn)
    return backward, first + (apart - whole).mean(axis=0)


def _off(apart: Float64, turn: float | None) -> Float64:
    """Largest distance along each line, whole turns aside."""
    nearest = apart if turn is None else apart - turn * np.round(apart / turn)
    return np.asarray(np.abs(nearest).max(axis=1))
