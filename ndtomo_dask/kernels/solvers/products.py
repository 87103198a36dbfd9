"""Sums over the samples or pixels of each channel, in float64 and always in the same order.

NumPy sums a block of one channel in another order than a block of many, and the last bits would
depend on how channels are cut into blocks. Here each channel is summed sample by sample.
"""

from typing import Any, cast

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from numba import njit

Array = Any


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


def _rows(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block).reshape(-1, block.shape[-1])


@njit(nogil=True, cache=True, error_model="numpy")  # no fastmath: the order of sums is kept
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
