"""Where frames go: from positions of motors, or from the order of a scan, to cells of a grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.variables import ANGLE, COORDINATES, TRANSLATION, Z

AXES = (Z, ANGLE, TRANSLATION)
"""Axes of a grid, in the order of the data model; ``z`` may be absent."""
CORE = (ANGLE, TRANSLATION)
NO_FRAME = -1
_APART = 0.3
"""Positions closer than this part of a step are one position that was reached twice."""
_MOST_EMPTY = 0.5
"""Of a grid whose cells are emptier, the axes were probably misread."""


@dataclass(frozen=True)
class FrameGrid:
    """Which frames make which sample of the sinogram."""

    axes: Mapping[str, np.ndarray]
    """Positions along each axis, in degrees and mm, in the order of the data model."""
    numbers: np.ndarray
    """Frames of each cell, by number, the last axis being as long as a cell has frames at most."""
    weights: np.ndarray
    """What each of them counts; zero where there is none."""

    @property
    def fast(self) -> str:
        """The axis along which neighbors were measured one after the other."""
        first = self.numbers[..., 0].astype(float)
        first[first == NO_FRAME] = np.nan
        steps = {}
        for number, name in enumerate(self.axes):
            apart = np.abs(np.diff(first, axis=number))
            known = apart[np.isfinite(apart)]
            steps[name] = np.median(known) if known.size else np.inf
        return str(min(reversed(list(steps)), key=steps.__getitem__))

    @property
    def empty(self) -> np.ndarray:
        """Cells without a frame."""
        return np.asarray((self.numbers == NO_FRAME).all(axis=-1))

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """Average a number per frame over the frames of each cell; NaN where there is none."""
        taken = np.where(self.numbers == NO_FRAME, 0.0, values[self.numbers])
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (taken * self.weights).sum(axis=-1) / self.weights.sum(axis=-1)
        return np.asarray(mean)


def grid_in_order(
    frames: np.ndarray, axes: Mapping[str, np.ndarray], *, fast: str, snake: bool
) -> FrameGrid:
    """Lay frames out in the order in which they were taken, ``fast`` along every line.

    With ``snake`` every other line was scanned backwards.
    """
    if fast not in CORE:
        raise OptionError(f"fast={fast!r} is not known: pass 'angle' or 'translation'.")
    axes = {name: np.asarray(axes[name], dtype=float) for name in AXES if name in axes}
    count = int(np.prod([values.size for values in axes.values()]))
    if count != frames.size:
        sizes = " × ".join(f"{values.size} {name}" for name, values in axes.items())
        raise SchemaError(
            f"the grid has {sizes} = {count} positions, but there are {frames.size} frames: give "
            f"the positions of all, or leave frames out with frames.isel(frame=...)."
        )
    order = [name for name in axes if name != fast] + [fast]
    numbers = frames.reshape([axes[name].size for name in order]).copy()
    if snake:
        lines = numbers.reshape(-1, axes[fast].size)
        lines[1::2] = lines[1::2, ::-1]
    numbers = np.moveaxis(numbers, range(len(order)), [list(axes).index(name) for name in order])
    return FrameGrid(axes, numbers[..., None], np.ones((*numbers.shape, 1)))


def grid_of_positions(
    frames: np.ndarray, positions: Mapping[str, np.ndarray], *, repeats: str, where: str
) -> FrameGrid:
    """Find the grid that frames were measured on, however they were ordered on it."""
    positions = {name: positions[name] for name in AXES if name in positions}
    levels = {name: _levels(values) for name, values in positions.items()}
    axes = {name: middle for name, (middle, _) in levels.items()}
    shape = tuple(middle.size for middle in axes.values())
    cells = np.ravel_multi_index([place for _, place in levels.values()], shape)
    if np.unique(cells).size < (1 - _MOST_EMPTY) * np.prod(shape):
        sizes = " × ".join(f"{size} {name}" for name, size in zip(axes, shape, strict=True))
        raise SchemaError(
            f"the positions of {where} lie on no grid: {frames.size} frames at {sizes} different "
            f"ones. Say on which grid to bin them: integrate(frames, calibration, "
            f"angles=np.arange(0, 180, 1), translations=np.arange(-1, 1, 0.02))."
        )
    if repeats == "refuse":
        _refuse_repeats(frames, cells, positions, where)
    order = np.argsort(cells, kind="stable")
    return _gathered(axes, cells[order], frames[order], np.ones(frames.size))


def _levels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell the different positions apart: their mean, and which of them each value is."""
    ordered = np.sort(values)
    gaps = np.diff(ordered)
    spread = ordered[-1] - ordered[0]
    large = gaps[gaps > 1e-6 * spread] if spread else gaps[:0]
    step = _step(large)
    starts = np.concatenate([[True], gaps > _APART * step]) if step else _first_only(values.size)
    edges = ordered[starts]
    place = np.searchsorted(edges, values, side="right") - 1
    counts = np.bincount(place, minlength=edges.size)
    return np.bincount(place, weights=values, minlength=edges.size) / counts, place


def _step(gaps: np.ndarray) -> float:
    """Step of a scan, from the gaps between its sorted positions, most of which may be jitter.

    The gaps are parted where they differ most by ratio; jitter is at least ten times smaller.
    """
    if gaps.size == 0:
        return 0.0
    ordered = np.sort(gaps)
    ratios = ordered[1:] / ordered[:-1]
    if ratios.size and ratios.max() > 5:
        ordered = ordered[int(np.argmax(ratios)) + 1 :]
    return float(np.median(ordered))


def _first_only(size: int) -> np.ndarray:
    return np.asarray(np.arange(size) == 0)


def _refuse_repeats(
    frames: np.ndarray, cells: np.ndarray, positions: Mapping[str, np.ndarray], where: str
) -> None:
    order = np.argsort(cells, kind="stable")
    again = np.flatnonzero(np.diff(cells[order]) == 0)
    if again.size:
        one, two = order[again[0]], order[again[0] + 1]
        raise SchemaError(
            f"frames {frames[one]} and {frames[two]} of {where} lie at one position, "
            f"{_named(positions, two)}, and {again.size} frames repeat a position in all: pass "
            f"repeats='mean' to average them."
        )


def _named(positions: Mapping[str, np.ndarray], number: int) -> str:
    return ", ".join(
        f"{name} {values[number]:g} {COORDINATES[name].units}" for name, values in positions.items()
    )


def grid_of_bins(
    frames: np.ndarray, positions: Mapping[str, np.ndarray], axes: Mapping[str, np.ndarray]
) -> FrameGrid:
    """Share every frame among the cells it lies between, by linear weights along each axis.

    Frames more than a step outside of the grid are left out.
    """
    axes = {name: _even(name, axes[name]) for name in AXES if name in axes}
    shape = tuple(values.size for values in axes.values())
    cells, kept = np.zeros((1, frames.size), dtype=int), np.ones((1, frames.size))
    for name, size in zip(axes, shape, strict=True):
        place = _place(axes[name], positions[name])
        low = np.floor(place).astype(int)
        part = place - low
        both = np.stack([low, low + 1]), np.stack([1 - part, part])
        inside = (both[0] >= 0) & (both[0] < size)
        index, weight = np.where(inside, both[0], 0), np.where(inside, both[1], 0.0)
        cells = (cells[:, None] * size + index).reshape(-1, frames.size)
        kept = (kept[:, None] * weight).reshape(-1, frames.size)
    used = kept > _HAIR
    which = np.broadcast_to(np.arange(frames.size), kept.shape)[used]
    order = np.lexsort((which, cells[used]))
    return _gathered(axes, cells[used][order], frames[which[order]], kept[used][order])


_HAIR = 1e-6
"""Weights below this are the rounding of a position."""


def _even(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    axis = np.atleast_1d(np.asarray(values, dtype=float))
    steps = np.diff(axis)
    if steps.size and (steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=1e-3)):
        raise OptionError(f"{name}s are bins, and must rise in even steps: np.arange(0, 180, 0.5).")
    return axis


def _place(axis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Positions in steps of an axis; of an axis with one entry all lie at it."""
    if axis.size < 2:
        return np.zeros(values.size)
    return np.asarray((values - axis[0]) / (axis[-1] - axis[0]) * (axis.size - 1))


def _gathered(
    axes: Mapping[str, np.ndarray], cells: np.ndarray, frames: np.ndarray, weights: np.ndarray
) -> FrameGrid:
    """Bring the frames of each cell together; ``cells`` are sorted."""
    shape = tuple(values.size for values in axes.values())
    counts = np.bincount(cells, minlength=int(np.prod(shape)))
    depth = max(1, int(counts.max(initial=0)))
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    entry = np.arange(cells.size) - first[cells]
    numbers = np.full((counts.size, depth), NO_FRAME)
    shares = np.zeros((counts.size, depth))
    numbers[cells, entry], shares[cells, entry] = frames, weights
    return FrameGrid(axes, numbers.reshape(*shape, depth), shares.reshape(*shape, depth))
