"""Differences between neighboring pixels, and the norms that measure edges by them."""

from typing import Any, Literal

from array_api_compat import array_namespace

Array = Any
Coupling = Literal["none", "shared", "nuclear"]
"""How the edges of channels belong together: not at all, by place, by place and direction."""


def gradient(x: Array) -> Array:  # (y, x, channel) -> (2, y, x, channel)
    """Difference of each pixel to the next row and to the next column; 0 at the last."""
    xp = array_namespace(x)
    slopes = xp.zeros((2, *x.shape), dtype=x.dtype, device=x.device)
    slopes[0, :-1] = x[1:] - x[:-1]
    slopes[1, :, :-1] = x[:, 1:] - x[:, :-1]
    return slopes


def gradient_adjoint(slopes: Array) -> Array:  # (2, y, x, channel) -> (y, x, channel)
    """Adjoint of `gradient`, which is minus the divergence."""
    xp = array_namespace(slopes)
    x = xp.zeros_like(slopes[0])
    x[1:] += slopes[0, :-1]
    x[:-1] -= slopes[0, :-1]
    x[:, 1:] += slopes[1, :, :-1]
    x[:, :-1] -= slopes[1, :, :-1]
    return x


def variation(x: Array, coupling: Coupling = "none") -> Array:  # (channel,) or (1,)
    """Total variation in float64: of each channel, or of all channels together.

    The sum over pixels of the norm of the gradients: its length in a channel ("none"), its length
    over all channels ("shared"), or the sum of the two singular values of the matrix of gradients
    by channels ("nuclear").
    """
    xp = array_namespace(x)
    slopes = gradient(xp.astype(x, xp.float64))
    if coupling == "nuclear":
        large, small = _eigenvalues(*_gram(slopes))[:2]
        return xp.sum(xp.sqrt(large) + xp.sqrt(small), axis=(0, 1))
    squares = xp.sum(slopes**2, axis=0)
    if coupling == "shared":
        squares = xp.sum(squares, axis=-1, keepdims=True)
    return xp.sum(xp.sqrt(squares), axis=(0, 1))


def shrink(slopes: Array, radius: Array, coupling: Coupling) -> Array:
    """Project the gradients of each pixel onto the ball of the norm dual to the variation's.

    The step of the dual variable in Chambolle & Pock 2011 (6.2); for "nuclear", singular values
    are cut at the radius (Duran et al. 2016).
    """
    xp = array_namespace(slopes)
    radius = xp.astype(radius, slopes.dtype)
    if coupling == "nuclear":
        return _cut_singular_values(slopes, radius)
    squares = slopes[0] * slopes[0]
    squares += slopes[1] * slopes[1]
    if coupling == "shared":
        squares = xp.sum(squares, axis=-1, keepdims=True)
    return slopes * _factor(xp.sqrt(squares), radius)


def _factor(length: Array, radius: Array) -> Array:
    """Bring a length down to the radius by this factor, 1 for a shorter one; a NaN stays."""
    xp = array_namespace(length)
    tiny = xp.finfo(length.dtype).smallest_normal  # so that nothing over nothing is 0
    return radius / xp.maximum(length, radius + tiny)


def _gram(slopes: Array) -> tuple[Array, Array, Array]:
    """Products of the two gradients of a pixel, summed over the channels: the matrix [a b; b d]."""
    xp = array_namespace(slopes)
    down, right = slopes[0], slopes[1]
    pairs = ((down, down), (down, right), (right, right))
    a, b, d = (xp.sum(p * q, axis=-1, keepdims=True, dtype=xp.float64) for p, q in pairs)
    return a, b, d


def _eigenvalues(a: Array, b: Array, d: Array) -> tuple[Array, Array, Array]:
    """Larger and smaller eigenvalue of [a b; b d], and their difference."""
    xp = array_namespace(a)
    middle, apart = (a + d) / 2, xp.sqrt(((a - d) / 2) ** 2 + b**2)
    low = middle - apart
    return middle + apart, xp.where(low < 0, xp.zeros_like(low), low), 2 * apart


def _cut_singular_values(slopes: Array, radius: Array) -> Array:
    """Multiply the two rows of each pixel's matrix by s I + (l - s) P, P on its main direction."""
    xp = array_namespace(slopes)
    a, b, d = _gram(slopes)
    large, small, apart = _eigenvalues(a, b, d)
    cut_large, cut_small = (_factor(xp.sqrt(value), radius) for value in (large, small))
    share = (cut_large - cut_small) / xp.where(apart > 0, apart, xp.ones_like(apart))
    m00 = cut_small + share * (a - small)
    m11 = cut_small + share * (d - small)
    m00, m01, m11 = (xp.astype(m, slopes.dtype) for m in (m00, share * b, m11))
    down, right = slopes[0], slopes[1]
    return xp.stack([m00 * down + m01 * right, m01 * down + m11 * right])
