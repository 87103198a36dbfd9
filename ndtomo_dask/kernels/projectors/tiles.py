"""Back-projection of packed rays, tile by tile of pixels, directly or in two levels.

Rays are packed (`ndtomo_dask.kernels.projectors.packing`): between projections lie so many zeros
that no window needs an edge. A tile is a square of pixels, a window what it sees of a projection.
Directly, each pixel interpolates linearly in each window. In two levels, the windows of a group of
neighboring angles are first shifted to the tile's center, one weight for a whole window, and added;
then each pixel interpolates in the sums. See docs/explanation/fast-fbp.md.

A channel is summed in the same order whatever its neighbors, the lanes and the threads. Compiled
functions call none of another file but the inlined ones of `vectors`, because numba's cache notices
a change only in the file of the outermost one.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.projectors.vectors import (
    ROWS,
    TAPS,
    accumulate,
    accumulate_weighted,
    combine,
    locate,
    stream,
)

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]
Index = NDArray[np.int64]
Place = NDArray[np.uint32]

TILE = 32
"""Pixels along the edge of a tile that is back-projected directly."""
SMALL, LARGE = 16, 64
"""The same in two levels, and of the square of tiles whose rays stay in the second cache."""
LANES = 16
"""Channels a pass in two levels: the fewer, the larger the square that fits the cache."""
FINE = 2
"""Samples per translation step in two levels, which interpolate twice."""
ABREAST = 8
"""Windows that share one load and one store of a pixel."""


def _reach(extent: int) -> int:
    """Count samples from the first of a window to its middle, at any angle, with one to spare."""
    return math.ceil((extent - 1) / 2 * math.sqrt(2)) + 1


def _window(extent: int) -> int:
    """Count the samples of a window, in whole blocks of `ROWS`."""
    return -(-(2 * _reach(extent) + 3) // ROWS) * ROWS


REACH = _reach(TILE)
SUMS = _window(FINE * SMALL)
GAP = max(_window(TILE), SUMS) + TAPS + 2
"""Zeros between two projections: a window that sees none of them fits in."""


@compiled("contract", allocates=True)
def _aligned(size: int, like: Block) -> Block:
    """Zeros that begin on a cache line; loads that straddle two lines cost half of the speed."""
    scratch = np.zeros(size + 64, dtype=like.dtype)
    skip = (-scratch.ctypes.data % 64) // scratch.itemsize
    return scratch[skip : skip + size]


@compiled("contract", allocates=True)
def _begin(near: int, reach: int, samples: int) -> int:
    """First sample of a window with ``near`` in its middle; all zeros look the same."""
    return min(max(near - reach, 2 - GAP), samples + 2)


@compiled("contract", allocates=True)
def _add_windows(
    pixels: Block, taps: Block, first: Place, fractions: Block, columns: int, count: int, lanes: int
) -> None:
    if lanes == 64:
        accumulate(pixels, taps, first, fractions, columns, count, TILE, 64)
    elif lanes == 32:
        accumulate(pixels, taps, first, fractions, columns, count, TILE, 32)
    else:
        accumulate(pixels, taps, first, fractions, columns, count, TILE, 16)


@compiled("contract", allocates=True)
def _add_weighted_windows(
    pixels: Block, taps: Block, first: Place, nears: Block, fars: Block, columns: int, count: int,
    lanes: int,
) -> None:  # fmt: skip
    if lanes == 64:
        accumulate_weighted(pixels, taps, first, nears, fars, columns, count, TILE, 64)
    elif lanes == 32:
        accumulate_weighted(pixels, taps, first, nears, fars, columns, count, TILE, 32)
    else:
        accumulate_weighted(pixels, taps, first, nears, fars, columns, count, TILE, 16)


@compiled("contract", allocates=True)
def _weigh_taps(nears: Block, fars: Block, slot: int, narrow: float) -> None:
    """Turn fractions into weights of both taps: a triangle ``narrow`` times as steep."""
    slope, one = nears.dtype.type(narrow), nears.dtype.type(1)
    for column in range(slot * TILE, (slot + 1) * TILE):
        fraction = nears[column]
        nears[column] = max(nears.dtype.type(0), one - fraction * slope)
        fars[column] = max(nears.dtype.type(0), one - (one - fraction) * slope)


@compiled("contract", allocates=True)
def _store(volume: Block, pixels: Block, tile: int, row: int, column: int, channel: int,
           lanes: int) -> None:  # fmt: skip
    """Write a tile; whole cache lines go past the caches, which would have to read them first."""
    height, width, channels = volume.shape
    count, columns = min(lanes, channels - channel), min(tile, width - column)
    flat = volume.reshape(volume.size)
    whole = count == lanes and (channels * volume.itemsize) % 64 == 0
    whole = whole and volume.ctypes.data % 64 == 0
    for r in range(min(tile, height - row)):
        place = ((row + r) * width + column) * channels + channel
        if whole and lanes == 64:
            stream(flat, pixels, place, channels, r * tile * lanes, columns, 64)
        elif whole and lanes == 32:
            stream(flat, pixels, place, channels, r * tile * lanes, columns, 32)
        elif whole:
            stream(flat, pixels, place, channels, r * tile * lanes, columns, 16)
        else:
            source = pixels[r * tile * lanes :]
            for c in range(columns):
                target = flat[place + c * channels : place + c * channels + count]
                for lane in range(count):
                    target[lane] = source[np.uint64(c * lanes + lane)]


@compiled("contract", allocates=True)
def back_project_directly(
    volume: Block, packed: Block, samples: int, rays: Float64, narrow: Float64, y: Float64,
    x: Float64, pixel: float, row: int, channel: int, lanes: int,
) -> None:  # fmt: skip
    """Fill a row of tiles of the volume, for the channels of one pass.

    ``rays`` is (cos, sin, origin) of each projection; origins count from its first sample. A pixel
    weighs samples by a triangle, ``narrow`` times as steep as that of linear interpolation; none
    are given for that one.
    """
    tile, reach = TILE, REACH
    half, pitch = (tile - 1) / 2 * pixel, samples + GAP
    pixels = _aligned(tile * tile * lanes, volume)
    first, fractions = np.zeros(ABREAST * tile, dtype=np.uint32), _aligned(ABREAST * tile, volume)
    fars, weighted = _aligned(ABREAST * tile, volume), narrow.size > 0
    corner, start = np.zeros(ABREAST), np.zeros(ABREAST, dtype=np.int64)
    rows, cos, sin = min(tile, volume.shape[0] - row), rays[0], rays[1]
    for column in range(0, volume.shape[1], tile):
        columns = min(tile, volume.shape[1] - column)
        pixels[:] = 0.0
        for angle in range(0, cos.size, ABREAST):
            count = min(ABREAST, cos.size - angle)
            for slot in range(count):
                a = angle + slot
                u = rays[2, a] + (x[column] + half) * cos[a] - (y[row] + half) * sin[a]
                near = math.floor(u)
                corner[slot] = u - near + reach - half * cos[a] + half * sin[a]
                start[slot] = (slot * pitch + GAP + _begin(near, reach, samples)) * lanes
            taps = packed[angle * pitch * lanes :]
            for r in range(rows):
                for slot in range(count):
                    a = angle + slot
                    u = corner[slot] - r * pixel * sin[a]
                    locate(fractions, first, slot, u, pixel * cos[a], start[slot], lanes, TILE)
                    if weighted:
                        _weigh_taps(fractions, fars, slot, narrow[a])
                line = pixels[r * tile * lanes :]
                if weighted:
                    _add_weighted_windows(line, taps, first, fractions, fars, columns, count, lanes)
                else:
                    _add_windows(line, taps, first, fractions, columns, count, lanes)
        _store(volume, pixels, tile, row, column, channel, lanes)


@compiled("contract", allocates=True)
def _combine_group(
    taps: Block, packed: Block, samples: int, rays: Float64, first: int, last: int, x: float,
    y: float, reach: int, weights: Block, sources: Index,
) -> None:  # fmt: skip
    """Shift the windows of some projections to a tile's center, and add them."""
    blocks, pitch = (2 * reach + 3 + ROWS - 1) // ROWS, samples + GAP
    for slot in range(last - first):
        a = first + slot
        u = rays[2, a] + x * rays[0, a] - y * rays[1, a]
        near = math.floor(u)
        weights[slot * TAPS + 1] = u - near
        weights[slot * TAPS] = 1 - (u - near)
        sources[slot] = (a * pitch + GAP + _begin(near, reach, samples)) * LANES
    combine(taps, packed, weights, sources, blocks, last - first, LANES)


@compiled("contract", allocates=True)
def _add_groups(
    pixels: Block, taps: Block, first: Place, fractions: Block, cos: Float64, sin: Float64,
    reach: Index, pixel: float, rows: int,
) -> None:  # fmt: skip
    """Add the sums of some groups, one window each, to a small tile."""
    half, count = (SMALL - 1) / 2 * pixel, cos.size
    for row in range(rows):
        for slot in range(count):
            u = reach[slot] - half * cos[slot] + (half - row * pixel) * sin[slot]
            begin = slot * SUMS * LANES
            locate(fractions, first, slot, u, pixel * cos[slot], begin, LANES, SMALL)
        line = pixels[row * SMALL * LANES :]
        accumulate(line, taps, first, fractions, SMALL, count, SMALL, LANES)


@compiled("contract", allocates=True)
def back_project_by_groups(
    volume: Block, packed: Block, samples: int, rays: Float64, groups: Index, means: Float64,
    y: Float64, x: Float64, pixel: float, row: int, channel: int,
) -> None:  # fmt: skip
    """Fill `LARGE` rows of the volume, for the `LANES` channels of one pass, in two levels.

    ``rays`` is (cos, sin, origin) of each projection and ``means`` (cos, sin) of each group, in
    samples, of which there are `FINE` a translation step; group g is the projections ``groups[g]``
    to ``groups[g + 1]``.
    """
    half, area = (SMALL - 1) / 2 * pixel, SMALL * SMALL * LANES
    pixels, taps = _aligned(LARGE**2 * LANES, volume), _aligned(ABREAST * SUMS * LANES, volume)
    first, fractions = np.zeros(ABREAST * SMALL, dtype=np.uint32), _aligned(ABREAST * SMALL, volume)
    reach = np.ceil(half * (np.abs(means[0]) + np.abs(means[1]))).astype(np.int64) + 1
    largest = np.max(np.diff(groups))
    weights, sources = _aligned(TAPS * largest, volume), np.zeros(largest, dtype=np.int64)
    bottom = min(row + LARGE, volume.shape[0])
    for left in range(0, volume.shape[1], LARGE):
        right = min(left + LARGE, volume.shape[1])
        tiles = [(r, c) for r in range(row, bottom, SMALL) for c in range(left, right, SMALL)]
        pixels[:] = 0.0
        for group in range(0, groups.size - 1, ABREAST):
            last = min(group + ABREAST, groups.size - 1)
            for number, (r, c) in enumerate(tiles):
                for g in range(group, last):
                    sums = taps[(g - group) * SUMS * LANES :]
                    _combine_group(
                        sums, packed, samples, rays, groups[g], groups[g + 1], x[c] + half,
                        y[r] + half, reach[g], weights, sources,
                    )  # fmt: skip
                _add_groups(
                    pixels[number * area :], taps, first, fractions, means[0, group:last],
                    means[1, group:last], reach[group:last], pixel, min(SMALL, bottom - r),
                )  # fmt: skip
        for number, (r, c) in enumerate(tiles):
            _store(volume, pixels[number * area :], SMALL, r, c, channel, LANES)
