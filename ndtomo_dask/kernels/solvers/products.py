"""Sums over the samples or pixels of each channel, and the steps of a solver in one reading.

Sums are in float64 and always in the same order. NumPy sums a block of one channel in another order
than a block of many, and the last bits would depend on how channels are cut into blocks. Here each
channel is summed sample by sample.
"""

from typing import Any, cast

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.threads import run_threaded

Array = Any
SLAB = 2048
"""Rows that a thread works through at a time."""


def dot(left: Array, right: Array, weights: Array | None = None) -> Array:
    """Sum of w a b over the two leading axes, (a, b, channel) -> (channel,) in float64.

    ``weights`` has the leading axes of the others, and one channel or as many.

    >>> dot(np.ones((2, 3, 1), "float32"), np.full((2, 3, 1), 0.5, "float32"))
    array([3.])
    """
    if is_numpy_array(left):
        weights = np.ones((1, 1), left.dtype) if weights is None else weights
        flat = [_rows(block) for block in (left, right, weights)]
        return cast(Array, _dot(*flat))
    xp = array_namespace(left, right)
    product = left * right if weights is None else left * right * weights
    return xp.sum(product, axis=(0, 1), dtype=xp.float64)


def total(block: Array, weights: Array | None = None) -> Array:
    """Sum of w a over the two leading axes, (a, b, channel) -> (channel,) in float64."""
    xp = array_namespace(block)
    return dot(block, xp.ones_like(block), weights)


def weigh_misfit(seen: Array, samples: Array, weights: Array) -> Array:
    """(seen - samples) weights, written over ``seen``; weights have one channel or as many.

    >>> weigh_misfit(np.ones((1, 1, 2)), np.zeros((1, 1, 2)), np.full((1, 1, 1), 0.5))
    array([[[0.5, 0.5]]])
    """
    if _fits(seen, samples, weights):
        _in_slabs(_weigh_misfit, seen, samples, weights)
        return seen
    seen -= samples
    seen *= weights
    return seen


def descend(gradient: Array, x: Array, factors: Array) -> Array:
    """Replace ``gradient`` by x - factors gradient; factors have one channel or as many.

    >>> descend(np.ones((1, 1, 2)), np.zeros((1, 1, 2)), np.full((1, 1, 1), 0.5))
    array([[[-0.5, -0.5]]])
    """
    if _fits(gradient, x, factors):
        _in_slabs(_descend, gradient, x, factors)
        return gradient
    gradient *= -factors
    gradient += x
    return gradient


def _fits(*blocks: Array) -> bool:
    """Whether compiled loops may go through blocks row by row."""
    first = blocks[0]
    return (
        is_numpy_array(first)
        and first.size > 0
        and all(block.flags.c_contiguous and block.shape[:2] == first.shape[:2] for block in blocks)
    )


def _in_slabs(compiled: Any, out: Array, other: Array, weights: Array) -> None:
    flat = [_rows(block) for block in (out, other, weights)]

    def work(first: int) -> None:
        compiled(*(block[first : first + SLAB] for block in flat))

    run_threaded(work, range(0, flat[0].shape[0], SLAB))


def _rows(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block).reshape(-1, block.shape[-1])


@compiled(allocates=True)  # no fastmath: the order of sums is kept
def _dot(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    count, channels = left.shape
    total = np.zeros(channels)
    for i in range(count):
        a, b, w = left[i], right[i], weights[i % weights.shape[0]]
        if w.size == 1:
            weight = np.float64(w[0])
            for k in range(channels):
                total[k] += weight * (np.float64(a[k]) * np.float64(b[k]))
        else:
            for k in range(channels):
                total[k] += np.float64(w[k]) * (np.float64(a[k]) * np.float64(b[k]))
    return total


@compiled(allocates=True)  # rounded as NumPy and Torch do
def _weigh_misfit(out: np.ndarray, samples: np.ndarray, weights: np.ndarray) -> None:
    for i in range(out.shape[0]):
        a, b, w = out[i], samples[i], weights[i]
        if w.size == 1:
            weight = w[0]
            for k in range(a.size):
                a[k] = (a[k] - b[k]) * weight
        else:
            for k in range(a.size):
                a[k] = (a[k] - b[k]) * w[k]


@compiled(allocates=True)
def _descend(out: np.ndarray, x: np.ndarray, factors: np.ndarray) -> None:
    for i in range(out.shape[0]):
        a, b, w = out[i], x[i], factors[i]
        if w.size == 1:
            factor = w[0]
            for k in range(a.size):
                a[k] = b[k] - factor * a[k]
        else:
            for k in range(a.size):
                a[k] = b[k] - w[k] * a[k]
