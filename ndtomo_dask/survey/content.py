"""Which axis of an array is which dimension, by what the array holds."""

from collections.abc import Mapping

import h5py
import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.variables import ANGLE, CHANNEL, TRANSLATION

Float64 = NDArray[np.float64]

READ = 64 * MB
"""Bytes that are read of an array to see which axis is which."""
CLEAR = 2.0
"""Factor between two axes from which on they count as different."""


def dims_by_content(
    dataset: h5py.Dataset, lengths: Mapping[str, int], *, third: str = CHANNEL
) -> tuple[tuple[str, ...] | None, str]:
    """Tell the axes of a sinogram apart, and say by what; None where they are too much alike.

    Over the angles, the intensity of a projection stays the same; over the translations it rises
    and falls once; over the channels it has peaks. ``lengths`` are those of the known axes, and
    ``third`` is what is neither angle nor translation.
    """
    names = (ANGLE, TRANSLATION, third)[: dataset.ndim]
    if dataset.ndim not in (2, 3):
        return None, f"{dataset.shape} has {dataset.ndim} axes: only two or three are told apart"
    sums = _sums(dataset)
    varies = [_variation(one) for one in sums]
    rough = [_roughness(one) for one in sums]
    free = [*range(dataset.ndim)]
    shape = dataset.shape
    allowed = {
        name: [axis for axis in free if lengths.get(name, shape[axis]) == shape[axis]]
        for name in names
    }
    only = [axis for axis in free if third in lengths and axis in allowed[third]]
    if len(only) == 1:
        allowed = {name: [axis for axis in axes if axis not in only or name == third]
                   for name, axes in allowed.items()}  # fmt: skip
    told = ", ".join(f"{v:.2f}" for v in varies)
    evidence = f"sums over the other axes vary by {told} along the axes of {dataset.shape}"
    angle = _least(allowed[ANGLE], varies)
    if angle is None:
        return None, f"{evidence}: none is much steadier than the others"
    rest = [axis for axis in free if axis != angle]
    across = _least([axis for axis in allowed[TRANSLATION] if axis in rest], rough)
    if across is None:
        return None, f"{evidence}: the steadiest is the angle, but the others are alike"
    order = {angle: ANGLE, across: TRANSLATION}
    dims = tuple(order.get(axis, third) for axis in free)
    if dataset.ndim == 3:
        spread = ", ".join(f"{value:.1f}" for value in rough)
        evidence += f"; they rise and fall {spread} times"
    return dims, f"{evidence}: so they are {', '.join(dims)}"


def _least(axes: list[int], values: list[float]) -> int | None:
    """Return the axis with the smallest value, if it is much smaller than the next one."""
    ordered = sorted(axes, key=lambda axis: values[axis])
    if len(ordered) < 2:
        return ordered[0] if ordered else None
    first, second = (values[axis] for axis in ordered[:2])
    return ordered[0] if first * CLEAR < second else None


def _sums(dataset: h5py.Dataset) -> list[Float64]:
    """Sum a sample over all axes but one, for each of them; whole entries of the first are read."""
    entry = int(np.prod(dataset.shape[1:])) * max(dataset.dtype.itemsize, 4)
    per_chunk = dataset.chunks[0] if dataset.chunks else 1
    count = max(8, READ // max(1, entry * per_chunk))
    chosen = np.unique(np.linspace(0, dataset.shape[0] - 1, min(count, dataset.shape[0])).round())
    sums = [np.zeros(size) for size in (chosen.size, *dataset.shape[1:])]
    for number, index in enumerate(chosen.astype(int)):
        values = np.nan_to_num(np.asarray(dataset[index], dtype=np.float64), posinf=0, neginf=0)
        sums[0][number] = values.sum()
        for axis in range(values.ndim):
            others = tuple(other for other in range(values.ndim) if other != axis)
            sums[axis + 1] += values.sum(axis=others)
    return sums


def _variation(values: Float64) -> float:
    mean = float(np.abs(values.mean()))
    return float(values.std()) / mean if mean else 0.0


def _roughness(values: Float64) -> float:
    """How often values rise and fall: 1 for a single hill."""
    smooth = np.convolve(values, np.ones(3) / 3, mode="valid") if values.size > 6 else values
    span = float(np.ptp(smooth))
    return float(np.abs(np.diff(smooth)).sum() / (2 * span)) if span else 0.0


def look_exchanged(image: Float64) -> tuple[bool, str]:
    """Say whether (angle, translation) look as if they were named the wrong way round."""
    rows, columns = (_variation(np.nansum(image, axis=axis)) for axis in (1, 0))
    told = f"totals vary by {rows:.2f} along the angles and by {columns:.2f} along the translations"
    return rows > CLEAR**2 * columns and rows > 0.1, told
