"""Leading eigenvectors of Σ x xᵀ where that matrix is too large, from its products with a few.

Subspace iteration from random directions Q: each reading of the data sums Σ x (xᵀ Q), and Q is
made orthonormal again. After two power iterations the third reading gives Qᵀ G Q, whose
eigenvectors turn Q into those of G (Halko, Martinsson & Tropp, SIAM Rev. 53, 217 (2011)).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.components.factors import Moments, Prepare, finite_slabs

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

READINGS = 3
"""Readings of the data: two power iterations, and one to see what they have found."""

BESIDE = 10
"""Directions beside those that are wanted: what they hold does not leak into the others."""


class Sketch(NamedTuple):
    """Sums over spectra x, less a common shift."""

    count: int  # type: ignore[assignment]  # hides tuple.count
    """Spectra summed."""
    dropped: int
    """Spectra left out because a value was not finite."""
    sum: Float64
    """Σ x, (channel,)."""
    energy: float
    """Σ ‖x‖²."""
    product: Float64
    """Σ x (xᵀ Q), (channel, direction)."""


class Leading(NamedTuple):
    """The leading eigenpairs of a symmetric matrix."""

    values: Float64
    """Largest first, (vector,)."""
    vectors: Float64
    """(channel, vector); the entry of largest magnitude is positive."""
    trace: float
    """Sum of all eigenvalues."""


def random_directions(channels: int, wanted: int) -> Float64:
    """Draw directions to begin with, the same each time, (channel, direction)."""
    rng = np.random.default_rng(0)
    return orthonormal(rng.standard_normal((channels, min(channels, wanted + BESIDE))))


def orthonormal(vectors: Float64) -> Float64:
    """Orthonormal vectors of the same span, (channel, direction)."""
    return np.asarray(np.linalg.qr(vectors)[0])


def sketch_partial(
    spectra: Float, directions: Float64, shift: Float | None = None, prepare: Prepare | None = None
) -> Sketch:
    """Sum the spectra of one block and their products with some directions, in float64."""
    channels, narrow = directions.shape[0], directions.astype(spectra.dtype)
    count, total, energy = 0, np.zeros(channels), 0.0
    product = np.zeros(directions.shape)
    for slab, column in finite_slabs(spectra, shift, spectra.dtype, prepare):
        count += slab.shape[0]
        total += column
        energy += float(np.einsum("pc,pc->p", slab, slab).sum(dtype=np.float64))
        product += slab.T @ (slab @ narrow)
    return Sketch(count, spectra.shape[0] - count, total, energy, product)


def sketch_combine(first: Sketch, second: Sketch) -> Sketch:
    """Merge the sums of two blocks that were given the same shift and directions."""
    return Sketch(
        first.count + second.count,
        first.dropped + second.dropped,
        first.sum + second.sum,
        first.energy + second.energy,
        first.product + second.product,
    )


def without_shift(sketch: Sketch, shift: Float64, directions: Float64, *, centered: bool
                  ) -> tuple[Float64, float]:  # fmt: skip
    """Products of Σ x xᵀ with the directions, and its trace: about the mean, or about zero."""
    # About any spectrum a: Σ (x - a)(x - a)ᵀ = G - n d dᵀ + n (d - a)(d - a)ᵀ, with d the mean.
    mean = sketch.sum / max(1, sketch.count)
    away = np.zeros_like(mean) if centered else mean + shift
    product = sketch.product - sketch.count * np.outer(mean, mean @ directions)
    product += sketch.count * np.outer(away, away @ directions)
    return product, sketch.energy + sketch.count * float(away @ away - mean @ mean)


def leading(product: Float64, directions: Float64, trace: float, count: int) -> Leading:
    """Eigenpairs of G within the span of orthonormal directions, given G times these."""
    within = directions.T @ product
    values, turn = np.linalg.eigh((within + within.T) / 2)
    values, vectors = values[::-1][:count], (directions @ turn)[:, ::-1][:, :count]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return Leading(values.clip(min=0), vectors * np.where(largest < 0, -1.0, 1.0), trace)


def as_moments(sketch: Sketch) -> Moments:
    """Count and sum of the spectra as moments without products."""
    return Moments(sketch.count, sketch.dropped, sketch.sum, np.empty((0, 0)))
