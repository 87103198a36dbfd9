"""Reconstruction algorithms, written once against a projector ``A`` for arrays of any library.

``A(x)`` projects, ``A.T(y)`` back-projects; the channel axis is last and channels never mix.
"""

from typing import Any

from array_api_compat import array_namespace

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.filters import filter_sinogram
from ndtomo_dask.kernels.projectors import Projector

Array = Any


def fbp(
    A: Projector, sinogram: Array, *, filter_name: str = "ram-lak"
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Reconstruct by filtered back-projection, f = ∫ q(u, θ) dθ (Kak & Slaney 1988, ch. 3).

    Each projection counts for its share of the half turn (`ParallelGeometry.weights`), so angles
    may be unsorted, uneven or span a full turn.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Line integrals, with lengths in translation steps; samples are taken as they are, and a NaN
        spoils its channel only.
    filter_name
        A name in `ndtomo_dask.kernels.filters.WINDOWS`.

    Returns
    -------
    Density per translation step: the projections of a disc of density 1 give 1 inside.
    """
    return A.T(filter_sinogram(sinogram, filter_name, weights=A.geometry.weights))


def sirt(
    A: Projector,
    sinogram: Array,
    *,
    iterations: int = 20,
    nonnegative: bool = False,
    mask: Array | None = None,
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Simultaneous iterative reconstruction, x ← x + C Aᵀ R (y - A x) (Gilbert 1972).

    R and C are the reciprocal row and column sums of A; where a sum is 0, nothing is added.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Line integrals, with lengths in translation steps.
    iterations
        Steps from a volume of zeros; few of them smooth, many fit the noise.
    nonnegative
        Replace negative pixels by 0 after each step.
    mask
        True where a sample has no weight, as sinogram-shaped or with one channel for all.

    Returns
    -------
    Density per translation step.
    """
    _check_iterations(iterations)
    xp = array_namespace(sinogram)
    sinogram, valid = _split_mask(xp, sinogram, mask)
    rows = valid * _reciprocal(xp, A(xp.ones((*A.geometry.shape, 1), dtype=sinogram.dtype)))
    columns = _reciprocal(xp, A.T(valid))
    x = xp.zeros((*A.geometry.shape, *sinogram.shape[2:]), dtype=sinogram.dtype)
    for _ in range(iterations):
        residual = A(x)  # a new array, so that the rest may happen in place
        residual -= sinogram
        residual *= rows
        correction = A.T(residual)
        correction *= columns
        x -= correction
        if nonnegative:
            x = xp.where(x < 0, xp.zeros_like(x), x)  # keeps NaN, which a maximum may drop
    return x


def cgls(
    A: Projector, sinogram: Array, *, iterations: int = 10, mask: Array | None = None
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Conjugate gradients on the normal equations, min |y - A x|² per channel (Björck 1996, 7.4.1).

    Each channel has step lengths of its own, from dot products in float64.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Line integrals, with lengths in translation steps.
    iterations
        Steps from a volume of zeros; about 10 suit noisy data.
    mask
        True where a sample has no weight, as sinogram-shaped or with one channel for all.

    Returns
    -------
    Density per translation step.
    """
    _check_iterations(iterations)
    xp = array_namespace(sinogram)
    measured, valid = _split_mask(xp, sinogram, mask)
    residual = xp.asarray(measured, copy=True)
    gradient = A.T(residual)
    direction = gradient
    x = xp.zeros_like(gradient)
    power = _power(xp, gradient)
    for _ in range(iterations):
        projected = A(direction)  # a new array, so that the rest may happen in place
        projected *= valid
        step = xp.astype(_ratio(xp, power, _power(xp, projected)), x.dtype)
        x += step * direction
        projected *= step
        residual -= projected
        gradient = A.T(residual)
        previous, power = power, _power(xp, gradient)
        direction *= xp.astype(_ratio(xp, power, previous), x.dtype)
        direction += gradient
    return x


def _check_iterations(iterations: int) -> None:
    if iterations < 1:
        raise OptionError(f"iterations={iterations} does nothing: pass a number of 1 or more.")


def _split_mask(xp: Any, sinogram: Array, mask: Array | None) -> tuple[Array, Array]:
    """Sinogram with zeros under the mask, and the weight (1 or 0) of each sample."""
    if mask is None:
        return sinogram, xp.ones((*sinogram.shape[:2], 1), dtype=sinogram.dtype)
    return xp.where(mask, xp.zeros_like(sinogram), sinogram), xp.astype(~mask, sinogram.dtype)


def _reciprocal(xp: Any, sums: Array) -> Array:
    # A sum of rounding errors must not become a weight of a million.
    zero = sums <= 1e-6 * xp.max(sums, axis=(0, 1), keepdims=True)
    return xp.where(zero, xp.zeros_like(sums), 1 / xp.where(zero, xp.ones_like(sums), sums))


def _ratio(xp: Any, numerator: Array, denominator: Array) -> Array:
    """Quotient, 0 where the denominator is; a NaN stays."""
    zero = denominator == 0
    safe = xp.where(zero, xp.ones_like(denominator), denominator)
    return xp.where(zero, xp.zeros_like(numerator), numerator / safe)


def _power(xp: Any, block: Array) -> Array:  # (a, b, channel) -> (channel)
    return xp.sum(block * block, axis=(0, 1), dtype=xp.float64)
