"""Projection of a volume: pixels are added line by line to the samples that see them.

The work is cut into square tiles of pixels by lanes of channels. A tile is gathered into a small
scratch, by rows for rays that are steeper than 45° and by columns for others, so that such a ray
sees two or three pixels next to one another in every line. For each angle, places and weights are
worked out for a few lines, and each sample's sum over them stays in registers for all lanes. The
few lines stay in the first cache while angles go by.

A channel is summed in the same order whatever its neighbors, the lanes and the threads. Compiled
functions call none of another file but the inlined ones of `vectors`, because numba's cache notices
a change only in the file of the outermost one.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.projectors.vectors import collect, locate

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]
Index = NDArray[np.int64]
Place = NDArray[np.uint32]

TILE = 32
"""Pixels along the edge of a tile: with its sums it stays in the second cache."""
LINES = 8
"""Lines that share one load and one store of a sample."""
LEFT, RIGHT = 2, 3
"""Zeros beside a gathered line, for the rays that see its ends."""
PITCH = LEFT + TILE + RIGHT
"""Pixels from line to line of a gathered tile."""
SPAN = math.ceil(TILE * math.sqrt(2)) + 4
"""Samples that a tile can touch at any angle, with one to spare on either side."""
ROOM = 48
"""Samples that `LINES` lines of a tile can touch, in whole vectors: 36 at most."""
TWO_PIXELS = 1 + 1e-9
"""Reach of a pixel in pixels along a line, up to which a sample sees two of the line, ..."""
THREE_PIXELS = math.sqrt(2) * TWO_PIXELS
"""... and up to which it sees three."""


@compiled("contract", allocates=True)
def _aligned(size: int, like: Block) -> Block:
    """Zeros that begin on a cache line; loads that straddle two lines cost a third of the speed."""
    scratch = np.zeros(size + 64, dtype=like.dtype)
    skip = (-scratch.ctypes.data % 64) // scratch.itemsize
    return scratch[skip : skip + size]


@compiled("contract", allocates=True)
def _first_sample(u: float, cos: float, sin: float) -> int:
    """Lowest translation index that a tile touches, less one for rounding; u is at its corner."""
    return math.floor(u + min(0.0, (TILE - 1) * cos) + min(0.0, (1 - TILE) * sin)) - 1


@compiled("contract", allocates=True)
def _gather(
    pixels: Block, volume: Block, row: int, column: int, channel: int, lanes: int, by_rows: bool
) -> None:
    """Copy a tile by lines along its rows or columns, with zeros where it ends."""
    height, width, channels = volume.shape
    rows, columns = min(TILE, height - row), min(TILE, width - column)
    count = min(lanes, channels - channel)
    lines, length = (rows, columns) if by_rows else (columns, rows)
    for n in range(lines):
        line = pixels[n * PITCH * lanes : (n + 1) * PITCH * lanes]
        line[: LEFT * lanes] = 0.0
        line[(LEFT + length) * lanes :] = 0.0
        for i in range(length):
            r, c = (n, i) if by_rows else (i, n)
            target = line[(LEFT + i) * lanes : (LEFT + i) * lanes + count]
            # A slice: an index of each lane would be checked for its sign, and not vectorized.
            source = volume[row + r, column + c, channel : channel + count]
            for lane in range(count):
                target[lane] = source[lane]


@compiled("contract", allocates=True)
def _weigh(weights: Block, slot: int, reach: float, three: bool) -> None:
    """Turn fractions into the weights of two or three pixels, by a triangle of this reach."""
    one, zero = weights.dtype.type(1), weights.dtype.type(0)
    slope, more = weights.dtype.type(1 / reach), weights.dtype.type(reach - 1)
    nearest = weights[slot * ROOM : (slot + 1) * ROOM]
    middle = weights[(LINES + slot) * ROOM : (LINES + slot + 1) * ROOM]
    last = weights[(2 * LINES + slot) * ROOM : (2 * LINES + slot + 1) * ROOM]
    for sample in range(ROOM):
        away = nearest[sample] + more
        nearest[sample] = max(zero, one - slope * abs(away))
        middle[sample] = max(zero, one - slope * abs(away - one))
        if three:
            last[sample] = max(zero, one - slope * abs(away - one - one))


@compiled("contract", allocates=True)
def _collect(
    sums: Block, pixels: Block, first: Place, weights: Block, place: int, entry: int, lines: int,
    three: bool, lanes: int,
) -> None:  # fmt: skip
    if lanes == 64 and three:
        collect(sums, pixels, first, weights, place, entry, lines, ROOM, LINES * ROOM, 3, 64)
    elif lanes == 64:
        collect(sums, pixels, first, weights, place, entry, lines, ROOM, LINES * ROOM, 2, 64)
    elif three:
        collect(sums, pixels, first, weights, place, entry, lines, ROOM, LINES * ROOM, 3, 16)
    else:
        collect(sums, pixels, first, weights, place, entry, lines, ROOM, LINES * ROOM, 2, 16)


@compiled("contract", allocates=True)
def _add_lines(
    sums: Block, pixels: Block, first: Place, weights: Block, low: Index, high: Index, u: float,
    along: float, across: float, reach: float, lines: int, length: int, lanes: int,
) -> None:  # fmt: skip
    """Add some lines of a tile to the samples of one angle; the first pixel projects onto u.

    The next one of its line is at u + along, and that of the next line at u + across. The lines
    are taken in the order in which samples meet them.
    """
    step, begin = (1, 0) if across >= 0 else (-1, lines - 1)
    lower, upper = min(0.0, (length - 1) * along), max(0.0, (length - 1) * along)
    inverse = 1 / along
    wide = reach * abs(inverse)
    three = wide > TWO_PIXELS
    for n in range(lines):
        near = u + (begin + n * step) * across
        low[n], high[n] = math.floor(near + lower - reach) + 1, math.ceil(near + upper + reach)
        # Of a sample at q pixels from the first, the pixels seen begin behind q - wide.
        place = (low[0] - near) * inverse - wide + 1 + LEFT
        locate(weights, first, n, place, inverse, (begin + n * step) * PITCH * lanes, lanes, ROOM)
        _weigh(weights, n, wide, three)
    from_line = to_line = 0
    for sample in range(low[0], high[lines - 1]):
        while to_line < lines and low[to_line] <= sample:
            to_line += 1
        while from_line < to_line and high[from_line] <= sample:
            from_line += 1
        if from_line < to_line:
            entry = from_line * ROOM + sample - low[0]
            _collect(
                sums, pixels, first, weights, sample * lanes, entry, to_line - from_line, three,
                lanes,
            )  # fmt: skip


@compiled("contract", allocates=True)
def _scatter_tile(
    sums: Block, pixels: Block, u: float, across: float, down: float, reach: float, rows: int,
    columns: int, lanes: int,
) -> None:  # fmt: skip
    """Add a whole tile of small pixels, any number of which may fall on one sample."""
    slope = 1 / reach
    for row in range(rows):
        for column in range(columns):
            position = u + column * across - row * down
            sample = math.floor(position)
            fraction = sums.dtype.type(max(0.0, 1 - (sample + 1 - position) * slope))
            rest = sums.dtype.type(max(0.0, 1 - (position - sample) * slope))
            near, far = sums[sample * lanes :], sums[(sample + 1) * lanes :]
            pixel = pixels[(row * PITCH + LEFT + column) * lanes :]
            for lane in range(lanes):
                near[lane] += rest * pixel[lane]
                far[lane] += fraction * pixel[lane]


@compiled("contract", allocates=True)
def _flush(
    sinogram: Block, sums: Block, angle: int, start: int, high: float, channel: int, lanes: int
) -> None:
    """Add a tile's sums to its samples of one projection, from ``start`` on."""
    count, factor = min(lanes, sinogram.shape[2] - channel), sums.dtype.type(high)
    for sample in range(max(0, -start), min(SPAN, sinogram.shape[1] - start)):
        total = sums[sample * lanes : sample * lanes + count]
        target = sinogram[angle, start + sample, channel : channel + count]
        for lane in range(count):
            target[lane] += factor * total[lane]


@compiled("contract", allocates=True)
def project_strip(
    volume: Block, y: Float64, x: Float64, size: float, cos: Float64, sin: Float64,
    origins: Float64, peak: Float64, reach: Float64, sinogram: Block, angle: int, strip: int,
    channel: int, lanes: int,
) -> None:  # fmt: skip
    """Fill some whole projections of the sinogram, for the channels of one pass.

    The footprint of a pixel is a triangle, as high and as wide to either side as ``peak`` and
    ``reach`` say for each angle.
    """
    height, width, _ = volume.shape
    strip = min(strip, cos.size - angle)
    sums, pixels = _aligned(strip * SPAN * lanes, volume), _aligned(TILE * PITCH * lanes, volume)
    first, weights = np.zeros(LINES * ROOM, dtype=np.uint32), _aligned(3 * LINES * ROOM, volume)
    low, high = np.zeros(LINES, dtype=np.int64), np.zeros(LINES, dtype=np.int64)
    across, down = size * cos, size * sin
    flat = np.maximum(np.abs(across), np.abs(down))
    # 0: a line of pixels is a row; 1: it is a column; 2: samples see too many of a line.
    kind = np.where(reach > flat * THREE_PIXELS, 2, np.where(np.abs(across) == flat, 0, 1))
    for row, column in _tiles(height, width):
        rows, columns = min(TILE, height - row), min(TILE, width - column)
        sums[:] = 0.0
        corner = origins + x[column] * cos - y[row] * sin
        for which in range(3):
            some = [a for a in range(angle, angle + strip) if kind[a] == which]
            lines, length = (columns, rows) if which == 1 else (rows, columns)
            if some:
                _gather(pixels, volume, row, column, channel, lanes, which != 1)
            for n in range(0, lines, TILE if which == 2 else LINES):
                for a in some:
                    u = corner[a] - _first_sample(corner[a], across[a], down[a])
                    totals = sums[(a - angle) * SPAN * lanes :]
                    if which == 2:
                        _scatter_tile(totals, pixels, u, across[a], down[a], reach[a], rows,
                                      columns, lanes)  # fmt: skip
                        continue
                    on, off = (-down[a], across[a]) if which == 1 else (across[a], -down[a])
                    _add_lines(
                        totals, pixels[n * PITCH * lanes :], first, weights, low, high,
                        u + n * off, on, off, reach[a], min(LINES, lines - n), length, lanes,
                    )  # fmt: skip
        for a in range(angle, angle + strip):
            start = _first_sample(corner[a], across[a], down[a])
            _flush(sinogram, sums[(a - angle) * SPAN * lanes :], a, start, peak[a], channel, lanes)


@compiled("contract", allocates=True)
def _tiles(height: int, width: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(0, height, TILE) for column in range(0, width, TILE)]
