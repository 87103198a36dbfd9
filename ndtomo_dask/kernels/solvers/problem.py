"""What all solvers are given: samples with their weights, the pixels to fill, and their bounds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import Projector

Array = Any
Bounds = tuple[float, float]
Support = Any
"""None (all pixels), "circle", or True where a pixel may be other than 0, (y, x)."""


@dataclass(frozen=True)
class Problem:
    """A x = y for every channel of a block, with a weight for each sample."""

    A: Projector
    sinogram: Array
    """Samples (angle, translation, channel); 0 where there is no weight."""
    weights: Array
    """Weight of each sample (angle, translation, 1 or channel), 0 where it does not count."""
    support: Array | None
    """1 where a pixel is sought, else 0, (y, x, 1); None where all are."""
    bounds: tuple[Array | None, Array | None]
    """Least and largest value of a pixel, () or (channel,); None without one."""

    @property
    def xp(self) -> Any:
        """The array library of the samples."""
        return array_namespace(self.sinogram)

    def blank(self) -> Array:
        """Zeros (y, x, channel)."""
        shape = (*self.A.geometry.shape, self.sinogram.shape[2])
        return _filled(self.sinogram, "zeros", shape)

    def region(self) -> Array:
        """Ones where a pixel is sought (y, x, 1)."""
        if self.support is not None:
            return self.support
        return _filled(self.sinogram, "ones", (*self.A.geometry.shape, 1))

    def start(self, x0: Array | None) -> Array:
        """Copy of the volume to start from, within support and bounds; zeros without one."""
        if x0 is None:
            return self.constrain(self.blank())
        shape = (*self.A.geometry.shape, self.sinogram.shape[2])
        if tuple(x0.shape) != shape:
            raise SchemaError(f"x0 of shape {tuple(x0.shape)} must have the volume's, {shape}.")
        x0 = self.xp.asarray(x0, dtype=self.sinogram.dtype, copy=True)
        return self.constrain(x0 if self.support is None else x0 * self.support)

    def constrain(self, x: Array) -> Array:
        """Move each pixel to the nearest allowed value; a NaN stays."""
        low, high = self.bounds
        if low is not None:
            x = self.xp.where(x < low, low, x)
        if high is not None:
            x = self.xp.where(x > high, high, x)
        bounded = low is not None or high is not None
        return x * self.support if bounded and self.support is not None else x

    def reciprocal_sums(self) -> tuple[Array, Array]:
        """Weight by row sum of each sample, and the reciprocal weighted column sum of each pixel.

        Where a sum is 0, so is the result: what no ray crosses is left alone.
        """
        rows = self.weights * reciprocal(self.A(self.region()))
        columns = reciprocal(self.A.T(self.weights))
        return rows, columns if self.support is None else columns * self.support


def make_problem(
    A: Projector,
    sinogram: Array,
    *,
    mask: Array | None = None,
    weights: Array | None = None,
    support: Support = None,
    nonnegative: bool = False,
    bounds: Bounds | None = None,
) -> Problem:
    """Check what a solver is given, and put zeros where a sample has no weight.

    What stands under the mask, or where a weight is 0 or NaN, is not looked at: it may be NaN.
    """
    if sinogram.ndim != 3:
        raise SchemaError(
            f"a sinogram has the axes (angle, translation, channel), not {sinogram.ndim}: "
            "pass sinogram[..., None] for a single channel."
        )
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    low = max(low, 0.0) if nonnegative else low
    if not low < high:
        raise OptionError(f"bounds=({low:g}, {high:g}) hold no value: pass (least, largest).")
    samples, kept = _split_weights(sinogram, mask, weights)
    region = support_of(A.geometry, support)
    if region is not None:
        region = _like(sinogram, region[..., None])
    limits = [_like(sinogram, limit) if np.isfinite(limit) else None for limit in (low, high)]
    return Problem(A, samples, kept, region, (limits[0], limits[1]))


def _split_weights(
    sinogram: Array, mask: Array | None, weights: Array | None
) -> tuple[Array, Array]:
    """Sinogram with zeros where nothing counts, and the weight of each sample."""
    xp = array_namespace(sinogram)
    for name, given in (("mask", mask), ("weights", weights)):
        _check_shape(name, given, sinogram)
    if weights is None:
        weights = _filled(sinogram, "ones", (*sinogram.shape[:2], 1))
        if mask is None:
            return sinogram, weights
    else:
        weights = _like(sinogram, weights)
        _check_weights(xp, weights)
    counts = weights > 0
    if mask is not None:
        counts = counts & ~xp.asarray(mask, dtype=xp.bool, device=device(sinogram))
    weights = xp.where(counts, weights, xp.zeros_like(weights))
    return xp.where(counts, sinogram, xp.zeros_like(sinogram)), weights


def _check_shape(name: str, given: Array | None, sinogram: Array) -> None:
    whole = tuple(sinogram.shape)
    if given is not None and tuple(given.shape) not in (whole, (*whole[:2], 1)):
        raise SchemaError(
            f"{name} of shape {tuple(given.shape)} must have the sinogram's {whole}, "
            f"or one channel for all: pass {name}[..., None] if it has no channel axis."
        )


def _check_weights(xp: Any, weights: Array) -> None:
    if bool(xp.any(weights < 0)) or bool(xp.any(weights == xp.inf)):
        raise OptionError(
            "weights must be finite and 0 or more: pass 1 / variance, and 0 for what to ignore."
        )


def support_of(geometry: ParallelGeometry, support: Support) -> np.ndarray | None:
    """Pixels that may differ from 0, (y, x) of bool; None where all may.

    "circle" is all that the beam reaches at any angle: the circle about the rotation axis whose
    radius is the distance to the farther end of the detector.
    """
    if support is None:
        return None
    if isinstance(support, str):
        if support != "circle":
            raise OptionError(f"support={support!r} is not known: pass 'circle' or a mask (y, x).")
        ends = np.maximum(geometry.origins + 0.5, geometry.translations - 0.5 - geometry.origins)
        return np.asarray(np.hypot(geometry.y[:, None], geometry.x) <= ends.max())
    region = np.asarray(support, dtype=bool)
    if region.shape != geometry.shape:
        raise SchemaError(f"support of shape {region.shape} must have the grid's {geometry.shape}.")
    return region


def take_projections(block: Array, projections: np.ndarray) -> Array:
    """Copy of some projections of a block, by index or as True where they are kept."""
    places = np.flatnonzero(projections) if projections.dtype == bool else projections
    xp = array_namespace(block)
    return xp.take(block, xp.asarray(places, device=device(block)), axis=0)


def reciprocal(sums: Array) -> Array:
    """1 / sums, and 0 where a sum is 0 but for rounding, channel by channel."""
    # A sum of rounding errors must not become a weight of a million.
    xp = array_namespace(sums)
    zero = sums <= 1e-6 * xp.max(sums, axis=(0, 1), keepdims=True)
    return xp.where(zero, 0.0, 1 / xp.where(zero, 1.0, sums))


def ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient, 0 where the denominator is; a NaN stays."""
    xp = array_namespace(numerator, denominator)
    zero = denominator == 0
    quotient = numerator / xp.where(zero, 1.0, denominator)
    return xp.where(zero, 0.0, quotient)


def per_channel(like: Array, value: Any, name: str) -> Array:
    """Numbers of 0 or more as (1,) or (channel,) in float64."""
    xp = array_namespace(like)
    numbers = xp.reshape(xp.asarray(value, dtype=xp.float64, device=device(like)), (-1,))
    if numbers.shape[0] not in (1, like.shape[-1]):
        raise OptionError(f"{name} has {numbers.shape[0]} values for {like.shape[-1]} channels.")
    if not bool(xp.all(numbers >= 0)):
        raise OptionError(f"{name} must be 0 or more, not {float(xp.min(numbers)):g}.")
    return numbers


def _filled(like: Array, function: str, shape: tuple[int, ...]) -> Array:
    make = getattr(array_namespace(like), function)
    return make(shape, dtype=like.dtype, device=device(like))


def _like(like: Array, values: Any) -> Array:
    xp = array_namespace(like)
    return xp.asarray(values, dtype=like.dtype, device=device(like))
