"""Rays made ready for back-projection: filtered or copied, turned, weighted, with zeros between.

Packed rays are flat, (part, projection, sample, lane): a part has the ``width`` lanes that are
back-projected together and begins with `GAP` zeros; `GAP` zeros follow each projection. Zeros are
never written, so the array must begin as zeros and keep its layout.
"""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.projectors.tiles import GAP, compiled
from ndtomo_dask.kernels.projectors.vectors import ROWS, product

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
    impulse: Float64, translations: int, samples: int, fine: int, dtype: np.dtype[np.floating]
) -> tuple[Block, Block]:
    """Matrices of a symmetric filter between even and between odd parts, as `product` reads them.

    Row i is the output ``samples - 1 - i`` samples from the other end, of which there are ``fine``
    a translation step; column k is translation k, and its mirror image.
    """
    half, rows = (translations + 1) // 2, (samples + 1) // 2
    last = fine * (translations - 1)
    t = np.arange(rows)[:, None] - (samples - 1 - last) // 2
    k = fine * np.arange(half)
    near, far = impulse[np.abs(t - k)] / 2, impulse[np.abs(t - (last - k))] / 2
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


@compiled
def _aligned(size: int, like: Block) -> Block:
    scratch = np.zeros(size + 64, dtype=like.dtype)
    skip = (-scratch.ctypes.data % 64) // scratch.itemsize
    return scratch[skip : skip + size]


@compiled
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


@compiled
def filter_projections(
    packed: Block, sinogram: Block, first: int, order: Index, mirrored: Index, factors: Float64,
    even: Block, odd: Block, samples: int, width: int, share: int, channel: int, lanes: int,
) -> None:  # fmt: skip
    """Filter projections by a symmetric kernel and pack ``samples`` samples about their middle.

    Such a filter maps the part of a projection that is even about its middle to an even one and the
    odd part to an odd one: two matrices of half the size, so half the work. Beside the detector are
    zeros, which a matrix need not touch.
    """
    translations, blocks, half = sinogram.shape[1], even.shape[0], even.shape[1]
    count = min(lanes, sinogram.shape[2] - channel)
    sums, differences = _aligned(half * lanes, packed), _aligned(half * lanes, packed)
    symmetric = _aligned(blocks * ROWS * lanes, packed)
    opposite = _aligned(blocks * ROWS * lanes, packed)
    evens, odds = even.reshape(even.size), odd.reshape(odd.size)
    for n in range(order.size):
        factor, rays = packed.dtype.type(factors[n]), sinogram[order[n]]
        for k in range(half):
            left = rays[k, channel : channel + count]
            right = rays[translations - 1 - k, channel : channel + count]
            total, apart = sums[k * lanes :], differences[k * lanes :]
            for lane in range(count):
                total[lane] = factor * (left[lane] + right[lane])
                apart[lane] = factor * (left[lane] - right[lane])
        if lanes == 64:
            product(symmetric, evens, sums, blocks, half, 64)
            product(opposite, odds, differences, blocks, half, 64)
        elif lanes == 32:
            product(symmetric, evens, sums, blocks, half, 32)
            product(opposite, odds, differences, blocks, half, 32)
        else:
            product(symmetric, evens, sums, blocks, half, 16)
            product(opposite, odds, differences, blocks, half, 16)
        begin = GAP + (first + n) * (samples + GAP)
        sign = packed.dtype.type(-1 if mirrored[n] else 1)
        for part in range(0, lanes, width):
            target = packed[part // width * share + begin * width :]
            for i in range((samples + 1) // 2):
                near, far = target[i * width :], target[(samples - 1 - i) * width :]
                total, apart = symmetric[i * lanes + part :], opposite[i * lanes + part :]
                for lane in range(width):
                    a, b = total[lane], sign * apart[lane]
                    near[lane] = a + b
                    far[lane] = a - b
