"""A sample of a scan: whole projections, as many as may be read, and what was seen in them."""

from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.computing import compute_arrays

Float64 = NDArray[np.float64]

BUDGET = 256 * MB
"""Bytes that a survey reads, decompressed."""
CHANNEL_BLOCKS = 6
"""Blocks of channels that are read, where a scan is stored in more."""
FIRST = 12
"""Projections read at the beginning, where acquisitions misbehave."""
LARGEST = 4096
"""Largest values that are kept, to see whether they are cut off."""


@dataclass(eq=False)
class Sample:
    """What was read of a scan: sums over channels, and extremes along each axis."""

    rows: NDArray[np.intp]
    """Numbers of the projections that were read, ascending."""
    projections: int
    """Of the scan."""
    channels: NDArray[np.intp]
    """Numbers of the channels that were read."""
    image: Float64
    """Mean over the finite channels, (row, translation)."""
    spectrum: Float64
    """Mean over what was read, (channel,)."""
    lowest: dict[str, Float64] = field(default_factory=dict)
    highest: dict[str, Float64] = field(default_factory=dict)
    """Smallest and largest sample along each entry of ``angle``, ``translation``, ``channel``."""
    not_finite: Float64 = field(default_factory=lambda: np.zeros(0))
    """Samples that are not finite, per row."""
    negative: int = 0
    count: int = 0
    """Samples read."""
    largest: Float64 = field(default_factory=lambda: np.zeros(0))
    """The largest values, ascending, each once."""
    times: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    """How often each of them is there: exact for the largest, at most `LARGEST` for the others."""
    spread: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    """Which of the rows are evenly spread over the scan."""
    where: str = ""
    """Which slice and frame, where there are several."""

    @property
    def whole(self) -> bool:
        """Whether all projections were read."""
        return self.rows.size == self.projections

    @property
    def words(self) -> str:
        """How much was read."""
        part = "all" if self.whole else f"{self.rows.size} of"
        return (
            f"{part} {self.projections} projections, {self.channels.size} channels"
            f"{self.where}, {self.count:.3g} samples"
        )


def take_sample(ds: xr.Dataset, *, budget: int = BUDGET) -> Sample:
    """Read a sample of a sinogram, one projection's block after the other.

    The middle slice and frame are taken. Projections are read with a neighbor each, evenly spread,
    and the first ones besides.
    """
    array = ds["sinogram"]
    middle = {dim: array.sizes[dim] // 2 for dim in array.dims if dim in ("time", "z")}
    array = array.isel(middle).transpose("angle", "translation", "channel")
    channels = np.arange(array.sizes["channel"]) if array.nbytes <= budget else _channels(array)
    unit = array.sizes["translation"] * channels.size * array.dtype.itemsize
    per_read = _rows_per_block(array)
    blocks = max(1, budget // max(1, unit * per_read))
    rows, spread = _rows(array.sizes["angle"], blocks, per_read)
    where = "".join(f", {dim} {number}" for dim, number in middle.items())
    sample = _read(array, rows, channels, per_read, where)
    sample.spread = np.searchsorted(rows, spread)
    return sample


def _channels(array: xr.DataArray) -> NDArray[np.intp]:
    blocks = array.chunksizes.get("channel", (array.sizes["channel"],))
    begins = np.concatenate([[0], np.cumsum(blocks)])
    chosen = np.unique(np.linspace(0, len(blocks) - 1, CHANNEL_BLOCKS).round().astype(int))
    ranges = [np.arange(begins[block], begins[block + 1]) for block in chosen]
    return np.concatenate(ranges)


def _rows_per_block(array: xr.DataArray) -> int:
    return int(max(array.chunksizes.get("angle", (1,))))


def _rows(count: int, blocks: int, per_block: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose projections of at most so many blocks; return them, and those evenly spread."""
    total = -(-count // per_block)
    if blocks >= total:
        return np.arange(count), np.arange(count)
    together = 1 if per_block > 1 else 2
    first = -(-FIRST // per_block)
    begins = np.linspace(0, total - together, max(2, (blocks - first) // together)).round()
    begins = np.unique(begins.astype(np.intp))
    chosen = np.unique(np.concatenate([begins, begins + together - 1, np.arange(first)]))
    rows = (chosen[:, None] * per_block + np.arange(per_block)).ravel()
    return np.asarray(rows[rows < count]), np.asarray(begins * per_block)


def _read(
    array: xr.DataArray,
    rows: NDArray[np.intp],
    channels: NDArray[np.intp],
    per_block: int,
    where: str,
) -> Sample:
    width = array.sizes["translation"]
    image = np.zeros((rows.size, width))
    total, seen = np.zeros(channels.size), np.zeros(channels.size)
    sample = Sample(rows, array.sizes["angle"], channels, image, total, where=where)
    sample.not_finite = np.zeros(rows.size)
    sizes = {"angle": rows.size, "translation": width, "channel": channels.size}
    sample.lowest = {dim: np.full(size, np.inf) for dim, size in sizes.items()}
    sample.highest = {dim: np.full(size, -np.inf) for dim, size in sizes.items()}
    for block in np.unique(rows // per_block):
        inside = np.flatnonzero(rows // per_block == block)
        chosen = slice(int(rows[inside[0]]), int(rows[inside[-1]]) + 1)
        part = array.isel(angle=chosen)
        part = part if channels.size == array.sizes["channel"] else part.isel(channel=channels)
        (read,) = compute_arrays([part], "survey")
        values = read.values[rows[inside] - chosen.start]
        _add(sample, inside, values, total, seen)
    sample.spectrum = total / np.maximum(seen, 1)
    return sample


def _add(
    sample: Sample,
    inside: NDArray[np.intp],
    values: NDArray[np.floating],
    total: Float64,
    seen: Float64,
) -> None:
    finite = np.isfinite(values)
    clean = np.where(finite, values, 0.0)
    with np.errstate(invalid="ignore"):
        per_ray = clean.sum(axis=2, dtype=np.float64) / finite.sum(axis=2)
    sample.image[inside] = per_ray
    total += clean.sum(axis=(0, 1), dtype=np.float64)
    seen += finite.sum(axis=(0, 1))
    sample.not_finite[inside] = (~finite).sum(axis=(1, 2))
    sample.negative += int((clean < 0).sum())
    sample.count += values.size
    low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    for dim, axes in (("angle", (1, 2)), ("translation", (0, 2)), ("channel", (0, 1))):
        part = inside if dim == "angle" else slice(None)
        sample.lowest[dim][part] = np.minimum(sample.lowest[dim][part], low.min(axis=axes))
        sample.highest[dim][part] = np.maximum(sample.highest[dim][part], high.max(axis=axes))
    _keep_largest(sample, values[finite])


def _keep_largest(sample: Sample, values: NDArray[np.floating]) -> None:
    if not values.size:
        return
    top = values.max()
    rest = values[values < top]
    if rest.size > LARGEST:
        rest = np.partition(rest, rest.size - LARGEST)[-LARGEST:]
    found, times = np.unique(np.append(rest, top), return_counts=True)
    times[-1] = values.size - np.count_nonzero(values < top)
    both = np.concatenate([sample.largest, found.astype(np.float64)])
    levels, place = np.unique(both, return_inverse=True)
    counts = np.bincount(place, weights=np.concatenate([sample.times, times]))
    sample.largest, sample.times = levels[-LARGEST:], counts.astype(np.intp)[-LARGEST:]
