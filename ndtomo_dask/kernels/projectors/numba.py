"""The compiled projector for CPUs: one set of interpolation weights for a vector of channels.

The work is cut into square tiles of pixels by lanes of channels. What a tile sees of the sinogram
is first gathered into a small scratch, zero beside the detector, so that the inner loop has neither
edges nor long strides. There, weights meet all lanes at once, and a sum is loaded and stored once
for several taps: a pixel for four angles, a sample for two lines of pixels. A channel is summed in
the same order whatever its neighbors, the lanes and the threads. All compiled functions stand in
this one file, because numba's cache notices a change only in the file of the outermost one.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import check_block
from ndtomo_dask.kernels.threads import run_threaded

TILE = 32
"""Pixels along the edge of a tile: its lanes stay in the second cache, its weights in the first."""
PITCH = TILE + 1
"""Pixels from row to row of a gathered tile; a power of two would crowd a column in the cache."""
WIDE, NARROW = 64, 16
"""Channels a pass; both multiples of a cache line, so that no channel is left to a scalar loop."""
GROUP = 4
"""Angles that share one load and one store of a pixel when back-projecting."""
STRIP = 32
"""Angles that share one gathered tile when projecting."""
SPAN = math.ceil(TILE * math.sqrt(2)) + 4
"""Sinogram samples that a tile can touch at any angle, with one to spare on either side."""

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]
Index = NDArray[np.uint64]
Function = TypeVar("Function", bound=Callable[..., object])


def _compiled(function: Function) -> Function:
    # Of fastmath only contraction (a*b + c rounded once), so NaN and the order of sums are kept.
    decorate = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
    return cast(Function, decorate(function))


class NumbaProjector:
    """Pixel-driven linear interpolation on the CPU, adjoint to rounding; float32 or float64."""

    def __init__(self, geometry: ParallelGeometry) -> None:
        self.geometry = geometry
        self._rays = (np.cos(geometry.angles), np.sin(geometry.angles), geometry.origins)

    def __call__(self, volume: Block) -> Block:  # (y, x, ...) -> (angle, translation, ...)
        """Project a volume."""
        geometry = self.geometry
        check_block(volume, geometry.shape, "volume")
        pixels = _channels_last(volume)
        shape = (geometry.angles.size, geometry.translations)
        sinogram = np.zeros((*shape, pixels.shape[2]), dtype=volume.dtype)

        def project(piece: tuple[int, tuple[int, int]]) -> None:
            angle, (channel, lanes) = piece
            _project_strip(pixels, *self._rays, sinogram, angle, channel, lanes)

        run_threaded(project, product(range(0, shape[0], STRIP), _lanes(pixels.shape[2])))
        return sinogram.reshape(*shape, *volume.shape[2:])

    @property
    def T(self) -> Callable[[Block], Block]:
        """The adjoint: back-projects a sinogram, unfiltered."""
        return self._back_project

    def _back_project(self, sinogram: Block) -> Block:  # (angle, translation, ...) -> (y, x, ...)
        geometry = self.geometry
        check_block(sinogram, (geometry.angles.size, geometry.translations), "sinogram")
        rays = _channels_last(sinogram)
        volume = np.empty((*geometry.shape, rays.shape[2]), dtype=sinogram.dtype)

        def back_project(piece: tuple[int, tuple[int, int]]) -> None:
            row, (channel, lanes) = piece
            _back_project_strip(rays, *self._rays, volume, row, channel, lanes)

        run_threaded(
            back_project, product(range(0, geometry.shape[0], TILE), _lanes(rays.shape[2]))
        )
        return volume.reshape(*geometry.shape, *sinogram.shape[2:])


def _channels_last(block: Block) -> Block:
    return np.ascontiguousarray(block).reshape(*block.shape[:2], math.prod(block.shape[2:]))


def _lanes(channels: int) -> list[tuple[int, int]]:
    """First channel and width of each pass; a short rest takes narrow lanes."""
    wide = channels // WIDE * WIDE
    rest = channels - wide
    passes = [(channel, WIDE) for channel in range(0, wide, WIDE)]
    if rest > 2 * NARROW:
        return [*passes, (wide, WIDE)]
    return [*passes, *((channel, NARROW) for channel in range(wide, channels, NARROW))]


@_compiled
def _aligned(size: int, like: Block) -> Block:
    """Zeros that begin on a cache line; loads that straddle two lines cost a third of the speed."""
    scratch = np.zeros(size + 64, dtype=like.dtype)
    skip = (-scratch.ctypes.data % 64) // scratch.itemsize
    return scratch[skip : skip + size]


@_compiled
def _first_sample(u: float, cos: float, sin: float, rows: int, columns: int) -> int:
    """Lowest translation index that a tile touches, less one for rounding; u is at its corner."""
    return math.floor(u + min(0.0, (columns - 1) * cos) + min(0.0, (1 - rows) * sin)) - 1


@_compiled
def _locate(
    first: Index, low: Block, high: Block, slot: int, u: float, cos: float, columns: int, lanes: int
) -> None:
    """Write where a row of pixels falls in the scratch, where u counts from, and its weights."""
    line = slice(slot * TILE, slot * TILE + columns)  # views spare the check for negative indices
    where, below, above = first[line], low[line], high[line]
    for column in range(columns):
        position = u + column * cos
        sample = math.floor(position)
        fraction = position - sample
        where[column] = (slot * SPAN + sample) * lanes
        below[column] = 1.0 - fraction
        above[column] = fraction


@_compiled
def _gather(
    taps: Block, slot: int, sinogram: Block, angle: int, start: int, channel: int, lanes: int
) -> None:
    """Copy the samples from ``start`` on of one projection, and zeros beside the detector."""
    count = min(lanes, sinogram.shape[2] - channel)
    for sample in range(SPAN):
        offset = (slot * SPAN + sample) * lanes
        tap = taps[offset : offset + count]
        translation = start + sample
        if 0 <= translation < sinogram.shape[1]:
            source = sinogram[angle, translation, channel : channel + count]
            for lane in range(count):
                tap[lane] = source[lane]
        else:
            for lane in range(count):
                tap[lane] = 0.0


@_compiled
def _accumulate(
    pixels: Block, taps: Block, first: Index, low: Block, high: Block, columns: int, lanes: int
) -> None:
    """Add four angles to a row of pixels; unsigned offsets spare the check for negative ones."""
    wide = np.uint64(lanes)
    for column in range(columns):
        c0, c1, c2, c3 = column, column + TILE, column + 2 * TILE, column + 3 * TILE
        i0, i1, i2, i3 = first[c0], first[c1], first[c2], first[c3]
        a0, a1, a2, a3 = low[c0], low[c1], low[c2], low[c3]
        b0, b1, b2, b3 = high[c0], high[c1], high[c2], high[c3]
        pixel = np.uint64(column) * wide
        for lane in range(lanes):
            k = np.uint64(lane)
            total = pixels[pixel + k]
            total = total + a0 * taps[i0 + k]
            total = total + b0 * taps[i0 + wide + k]
            total = total + a1 * taps[i1 + k]
            total = total + b1 * taps[i1 + wide + k]
            total = total + a2 * taps[i2 + k]
            total = total + b2 * taps[i2 + wide + k]
            total = total + a3 * taps[i3 + k]
            total = total + b3 * taps[i3 + wide + k]
            pixels[pixel + k] = total


@_compiled
def _locate_rays(
    first: Index, weights: Block, slot: int, u: float, step: float, count: int, stride: int
) -> None:
    """Write which three pixels of a line each of ``count`` samples sees, and their weights.

    The first pixel projects onto u, the next onto u + step; with 0.7 <= abs(step) <= 1, no more
    than three lie within one sample. ``stride`` is the distance of two pixels in the scratch.
    """
    where = first[slot * SPAN : slot * SPAN + count]
    weight = weights[3 * slot * SPAN : 3 * (slot + 1) * SPAN]
    before, middle, after = weight[:SPAN], weight[SPAN : 2 * SPAN], weight[2 * SPAN :]
    inverse = 1 / step
    reach = abs(inverse)
    for sample in range(count):
        pixel = math.floor((sample - u) * inverse - reach) + 1
        pixel = min(max(pixel, 0), TILE - 3)
        offset = u + pixel * step - sample
        where[sample] = pixel * stride
        before[sample] = max(0.0, 1.0 - abs(offset))
        middle[sample] = max(0.0, 1.0 - abs(offset + step))
        after[sample] = max(0.0, 1.0 - abs(offset + 2 * step))


@_compiled
def _collect(
    taps: Block,
    line: Block,
    following: Block,
    first: Index,
    weights: Block,
    count: int,
    stride: int,
    lanes: int,
) -> None:
    """Add two lines of pixels to the samples they fall on; a sum is loaded and stored once."""
    wide, one, two = np.uint64(lanes), np.uint64(stride), np.uint64(2 * stride)
    for sample in range(count):
        i, j = first[sample], first[sample + SPAN]
        a0, a1, a2 = weights[sample], weights[sample + SPAN], weights[sample + 2 * SPAN]
        b0, b1, b2 = (
            weights[sample + 3 * SPAN],
            weights[sample + 4 * SPAN],
            weights[sample + 5 * SPAN],
        )
        tap = np.uint64(sample) * wide
        for lane in range(lanes):
            k = np.uint64(lane)
            total = taps[tap + k]
            total = total + a0 * line[i + k]
            total = total + a1 * line[i + one + k]
            total = total + a2 * line[i + two + k]
            total = total + b0 * following[j + k]
            total = total + b1 * following[j + one + k]
            total = total + b2 * following[j + two + k]
            taps[tap + k] = total


@_compiled
def _back_project_tile(
    pixels: Block,
    taps: Block,
    first: Index,
    low: Block,
    high: Block,
    corners: Float64,
    cos: Float64,
    sin: Float64,
    rows: int,
    columns: int,
    lanes: int,
) -> None:
    """Add one group of angles to a tile; ``corners`` is where its first pixel falls in the taps."""
    for row in range(rows):
        for slot in range(cos.size):
            u = corners[slot] - row * sin[slot]
            _locate(first, low, high, slot, u, cos[slot], columns, lanes)
        line = pixels[row * TILE * lanes : (row + 1) * TILE * lanes]
        if lanes == WIDE:  # a constant trip count is unrolled whole
            _accumulate(line, taps, first, low, high, columns, WIDE)
        else:
            _accumulate(line, taps, first, low, high, columns, NARROW)


@_compiled
def _back_project_strip(
    sinogram: Block,
    cos: Float64,
    sin: Float64,
    origins: Float64,
    volume: Block,
    row: int,
    channel: int,
    lanes: int,
) -> None:
    """Fill one row of tiles of the volume, for the channels of one pass."""
    height, width, channels = volume.shape
    rows = min(TILE, height - row)
    count = min(lanes, channels - channel)
    taps = _aligned(GROUP * SPAN * lanes, volume)
    pixels = _aligned(TILE * TILE * lanes, volume)
    first = np.zeros(GROUP * TILE, dtype=np.uint64)
    low, high = _aligned(GROUP * TILE, volume), _aligned(GROUP * TILE, volume)
    corners = np.zeros(GROUP)
    y = row - (height - 1) / 2
    for column in range(0, width, TILE):
        columns = min(TILE, width - column)
        x = column - (width - 1) / 2
        pixels[:] = 0.0
        for group in range(0, cos.size, GROUP):
            slots = min(GROUP, cos.size - group)
            if slots < GROUP:
                first[:] = 0
                low[:] = 0.0
                high[:] = 0.0
                taps[:] = 0.0
            for slot in range(slots):
                a = group + slot
                u = origins[a] + x * cos[a] - y * sin[a]
                start = _first_sample(u, cos[a], sin[a], rows, columns)
                corners[slot] = u - start
                _gather(taps, slot, sinogram, a, start, channel, lanes)
            angles = slice(group, group + slots)
            _back_project_tile(
                pixels,
                taps,
                first,
                low,
                high,
                corners,
                cos[angles],
                sin[angles],
                rows,
                columns,
                lanes,
            )
        for r in range(rows):
            for c in range(columns):
                offset = (r * TILE + c) * lanes
                for lane in range(count):
                    volume[row + r, column + c, channel + lane] = pixels[offset + lane]


@_compiled
def _project_tile(
    taps: Block,
    pixels: Block,
    first: Index,
    weights: Block,
    u: float,
    cos: float,
    sin: float,
    lanes: int,
) -> None:
    """Add a whole tile to the samples of one angle, by lines along its flatter axis."""
    along, across = (cos, -sin) if abs(cos) >= abs(sin) else (-sin, cos)
    stride, pitch = (lanes, PITCH * lanes) if abs(cos) >= abs(sin) else (PITCH * lanes, lanes)
    for n in range(0, TILE, 2):
        near = u + n * across
        low = math.floor(min(near, near + across) + min(0.0, (TILE - 1) * along))
        high = math.floor(max(near, near + across) + max(0.0, (TILE - 1) * along))
        count = high - low + 2
        _locate_rays(first, weights, 0, near - low, along, count, stride)
        _locate_rays(first, weights, 1, near + across - low, along, count, stride)
        seen, line, following = taps[low * lanes :], pixels[n * pitch :], pixels[(n + 1) * pitch :]
        if lanes == WIDE:  # a constant trip count is unrolled whole
            _collect(seen, line, following, first, weights, count, stride, WIDE)
        else:
            _collect(seen, line, following, first, weights, count, stride, NARROW)


@_compiled
def _project_strip(
    volume: Block,
    cos: Float64,
    sin: Float64,
    origins: Float64,
    sinogram: Block,
    angle: int,
    channel: int,
    lanes: int,
) -> None:
    """Fill some whole projections of the sinogram, for the channels of one pass."""
    height, width, channels = volume.shape
    count = min(lanes, channels - channel)
    taps = _aligned(SPAN * lanes, volume)
    pixels = _aligned(TILE * PITCH * lanes, volume)
    first = np.zeros(2 * SPAN, dtype=np.uint64)
    weights = _aligned(6 * SPAN, volume)
    for row, column in _tiles(height, width):
        x, y = column - (width - 1) / 2, row - (height - 1) / 2
        if row + TILE > height or column + TILE > width:
            pixels[:] = 0.0
        for r in range(min(TILE, height - row)):
            for c in range(min(TILE, width - column)):
                offset = (r * PITCH + c) * lanes
                pixel = pixels[offset : offset + count]
                for lane in range(count):
                    pixel[lane] = volume[row + r, column + c, channel + lane]
        for a in range(angle, min(angle + STRIP, cos.size)):
            taps[:] = 0.0
            u = origins[a] + x * cos[a] - y * sin[a]
            start = _first_sample(u, cos[a], sin[a], TILE, TILE)
            _project_tile(taps, pixels, first, weights, u - start, cos[a], sin[a], lanes)
            for sample in range(max(0, -start), min(SPAN, sinogram.shape[1] - start)):
                tap = taps[sample * lanes : sample * lanes + count]
                for lane in range(count):
                    sinogram[a, start + sample, channel + lane] += tap[lane]


@_compiled
def _tiles(height: int, width: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(0, height, TILE) for column in range(0, width, TILE)]
