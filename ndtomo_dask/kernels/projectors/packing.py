"""Rays made ready for back-projection: filtered or copied, turned, weighted, with zeros between.

Packed rays are flat, (part, projection, sample, lane): a part has the ``width`` lanes that are
back-projected together and begins with `GAP` zeros; `GAP` zeros follow each projection. Zeros are
never written, so the array must begin as zeros and keep its layout.
"""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.projectors.tiles import GAP
from ndtomo_dask.kernels.projectors.vectors import ROWS, TAPS, combine, product

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]
Index = NDArray[np.int64]


def aligned_zeros(size: int, dtype: np.dtype[np.floating]) -> Block:
    """Zeros that begin on a line of the cache."""
    scratch: Block = np.zeros(size + 64 // dtype.itemsize, dtype=dtype)
    skip = (-scratch.ctypes.data % 64) // dtype.itemsize
    return scratch[skip : skip + size]


def aligned_volume(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Block:
    """Return an array to be filled, which begins on a line of the cache."""
    size = int(np.prod(shape))
    volume: Block = np.empty(size + 64 // dtype.itemsize, dtype=dtype)
    skip = (-volume.ctypes.data % 64) // dtype.itemsize
    return volume[skip : skip + size].reshape(shape)


def folded_panels(
    impulse: Float64, translations: int, lines: int, dtype: np.dtype[np.floating]
) -> tuple[Block, Block]:
    """Matrices of a symmetric filter between even and between odd parts, as `product` reads them.

    ``lines`` is how many samples are written about the middle of the ``translations`` read.
    """
    half, rows = (translations + 1) // 2, (lines + 1) // 2
    t = np.arange(rows)[:, None] - (lines - translations) // 2
    k = np.arange(half)
    near, far = impulse[np.abs(t - k)] / 2, impulse[np.abs(t - (translations - 1 - k))] / 2
    if translations % 2:
        near[:, -1] /= 2  # the one in the middle is its own mirror image
        far[:, -1] /= 2
    return _panels(near + far, dtype), _panels(near - far, dtype)


def _panels(matrix: Float64, dtype: np.dtype[np.floating]) -> Block:  # -> (block, column, row)
    rows, columns = matrix.shape
    blocks = -(-rows // ROWS)
    whole = np.zeros((blocks * ROWS, columns))
    whole[:rows] = matrix
    panels = aligned_zeros(whole.size, dtype).reshape(blocks, columns, ROWS)
    panels[:] = whole.reshape(blocks, ROWS, columns).transpose(0, 2, 1)
    return panels


@compiled("contract", allocates=True)
def _aligned(size: int, like: Block) -> Block:
    scratch = np.zeros(size + 64, dtype=like.dtype)
    skip = (-scratch.ctypes.data % 64) // scratch.itemsize
    return scratch[skip : skip + size]


@compiled("contract", allocates=True)
def copy_projections(
    packed: Block, rays: Block, first: int, order: Index, mirrored: Index, factors: Float64,
    width: int, share: int, channel: int, lanes: int,
) -> None:  # fmt: skip
    """Pack projections as they are; the n-th is ``rays[order[n]]`` and becomes number first + n."""
    samples = rays.shape[1]
    for n in range(order.size):
        begin, factor = GAP + (first + n) * (samples + GAP), packed.dtype.type(factors[n])
        for part in range(0, min(lanes, rays.shape[2] - channel), width):
            count = min(width, rays.shape[2] - channel - part)
            for t in range(samples):
                place = begin + (samples - 1 - t if mirrored[n] else t)
                place = part // width * share + place * width
                target = packed[place : place + count]
                source = rays[order[n], t, channel + part : channel + part + count]
                for lane in range(count):
                    target[lane] = factor * source[lane]


@compiled("contract", allocates=True)
def _fold(sums: Block, differences: Block, rays: Block, factor: float, channel: int,
          lanes: int) -> None:  # fmt: skip
    """Write the even and the odd part of a projection about its middle, twice each."""
    translations, count = rays.shape[0], min(lanes, rays.shape[1] - channel)
    scale = sums.dtype.type(factor)
    for k in range((translations + 1) // 2):
        left = rays[k, channel : channel + count]
        right = rays[translations - 1 - k, channel : channel + count]
        total, apart = sums[k * lanes :], differences[k * lanes :]
        for lane in range(count):
            total[lane] = scale * (left[lane] + right[lane])
            apart[lane] = scale * (left[lane] - right[lane])


@compiled("contract", allocates=True)
def _multiply(out: Block, panels: Block, rows: Block, lanes: int) -> None:
    blocks, terms, flat = panels.shape[0], panels.shape[1], panels.reshape(panels.size)
    if lanes == 64:
        product(out, flat, rows, blocks, terms, 64)
    elif lanes == 32:
        product(out, flat, rows, blocks, terms, 32)
    else:
        product(out, flat, rows, blocks, terms, 16)


@compiled("contract", allocates=True)
def _unfold(line: Block, even: Block, odd: Block, samples: int, sign: float, lanes: int) -> None:
    """Write a projection from its even and its odd part; sign -1 turns it round."""
    turn = line.dtype.type(sign)
    for i in range((samples + 1) // 2):
        near, far = line[i * lanes :], line[(samples - 1 - i) * lanes :]
        total, apart = even[i * lanes :], odd[i * lanes :]
        for lane in range(lanes):
            a, b = total[lane], turn * apart[lane]
            near[lane] = a + b
            far[lane] = a - b


@compiled("contract", allocates=True)
def _interpolate(between: Block, line: Block, halves: Block, blocks: int, lanes: int) -> None:
    """Write the sums of halves[k] line[j + k], two k at a time."""
    pairs = halves.size // TAPS
    sources = np.arange(pairs) * (TAPS * lanes)
    if lanes == 64:
        combine(between, line, halves, sources, blocks, pairs, 64)
    elif lanes == 32:
        combine(between, line, halves, sources, blocks, pairs, 32)
    else:
        combine(between, line, halves, sources, blocks, pairs, 16)


@compiled("contract", allocates=True)
def _place(packed: Block, begin: int, step: int, rows: Block, count: int, width: int, share: int,
           lanes: int) -> None:  # fmt: skip
    """Copy rows of lanes to every ``step``-th sample, and cut the lanes into parts."""
    for part in range(0, lanes, width):
        target = packed[part // width * share + begin * width :]
        for i in range(count):
            source, sample = rows[i * lanes + part :], target[i * step * width :]
            for lane in range(width):
                sample[lane] = source[lane]


@compiled("contract", allocates=True)
def filter_projections(
    packed: Block, sinogram: Block, first: int, order: Index, mirrored: Index, factors: Float64,
    even: Block, odd: Block, halves: Block, lines: int, samples: int, width: int, share: int,
    channel: int, lanes: int,
) -> None:  # fmt: skip
    """Filter projections by a symmetric kernel and pack ``samples`` samples about their middle.

    Such a filter maps the part of a projection that is even about its middle to an even one and the
    odd part to an odd one: two matrices of half the size, so half the work. Beside the detector are
    zeros, which a matrix need not touch. It writes ``lines`` samples, one a translation step.
    Another sample halfway between two is the sum of those about it by the weights ``halves``;
    without weights there are none, and ``lines`` is ``samples``.
    """
    half, rows, taps = even.shape[1], even.shape[0] * ROWS, halves.size
    sums, differences = _aligned(half * lanes, packed), _aligned(half * lanes, packed)
    symmetric, opposite = _aligned(rows * lanes, packed), _aligned(rows * lanes, packed)
    blocks = samples // (2 * ROWS) + 1
    line = _aligned((2 * rows + ROWS + taps) * lanes, packed)
    between = _aligned(blocks * ROWS * lanes, packed)
    for n in range(order.size):
        _fold(sums, differences, sinogram[order[n]], factors[n], channel, lanes)
        _multiply(symmetric, even, sums, lanes)
        _multiply(opposite, odd, differences, lanes)
        begin, sign = GAP + (first + n) * (samples + GAP), -1.0 if mirrored[n] else 1.0
        _unfold(line, symmetric, opposite, lines, sign, lanes)
        if taps == 0:
            _place(packed, begin, 1, line, samples, width, share, lanes)
            continue
        _interpolate(between, line, halves, blocks, lanes)
        whole = line[(taps // 2 - 1) * lanes :]
        _place(packed, begin, 2, whole, (samples + 1) // 2, width, share, lanes)
        _place(packed, begin + 1, 2, between, samples // 2, width, share, lanes)
