"""Leading eigenvectors of Σ x xᵀ where that matrix is too large, from its products with a few.

A reading of the data sums G Q = Σ x (xᵀ Q). The directions Q are those that lead among some of the
spectra, and random ones beside them, for what is not among these. G Q (Qᵀ G Q)⁻¹ (G Q)ᵀ has nearly
the leading eigenvectors of G (the Nyström approximation; Halko, Martinsson & Tropp, SIAM Rev. 53,
217 (2011), §5.4; Tropp et al., NeurIPS 30, 1225 (2017)). Where it explains notably more than Q, the
data are read again, with directions from G Q: a power iteration.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.block_sizes import BESIDE
from ndtomo_dask.kernels.components.factors import Moments, Prepare, finite_slabs

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

READINGS = 3
"""Readings of the data at most. Among some of the spectra, so many always."""

EIGENVALUES, SPAN = 1e-4, 0.25
"""What a reading may find beyond its directions to be the last, relative to the weakest eigenvalue
that matters: where eigenvalues do, and where only the span does. Another one finds a part of that.
"""

ROUNDING = 1e-7
"""Share of all that is rounding of products in float32."""

WEAKEST = 1e-8
"""Eigenvalue within Q, as a share of the largest, below which products with it are rounding."""


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
    within: Float64
    """Eigenvalues within the directions, before they were multiplied, (vector,)."""

    def settled(self, wanted: int, enough: float) -> bool:
        """Tell whether another reading would tell little more of so many: `EIGENVALUES`, `SPAN`."""
        values = self.values[:wanted]
        gain = float((values - self.within[:wanted]).sum())
        return gain <= max(enough * float(values[-1]), ROUNDING * self.trace)


def random_directions(channels: int, wanted: int) -> Float64:
    """Draw directions to begin with, the same each time, (channel, direction)."""
    rng = np.random.default_rng(0)
    return orthonormal(rng.standard_normal((channels, min(channels, wanted + BESIDE))))


def first_directions(
    spectra: Float, wanted: int, shift: Float64, prepare: Prepare, *, centered: bool
) -> Float64:
    """Directions that lead among some spectra, (pixel, channel), and random ones beside them."""
    directions = random_directions(int(shift.size), wanted)
    for _ in range(READINGS):
        sums = sketch_partial(spectra, directions, shift, prepare)
        if not sums.count:
            return directions
        before = directions
        product, trace = without_shift(sums, shift, before, centered=centered)
        directions = orthonormal(product)
    found = leading(product, before, trace, wanted)
    beside = random_directions(int(shift.size), wanted)[:, : directions.shape[1] - wanted]
    return orthonormal(np.concatenate([found.vectors, beside], axis=1))


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
    """Eigenpairs of the Nyström approximation of G, given G times orthonormal directions."""
    within = directions.T @ product
    ritz, turn = np.linalg.eigh((within + within.T) / 2)
    ritz, turn = ritz[::-1], turn[:, ::-1]
    floor = max(WEAKEST * ritz[0], np.finfo(np.float64).tiny)
    vectors, roots, _ = np.linalg.svd(
        product @ (turn / np.sqrt(np.maximum(ritz, floor))), full_matrices=False
    )
    # Both are lower bounds; where products are rounding, the former is the lower one.
    values = np.maximum(roots**2, ritz)[:count].clip(min=0)
    vectors = vectors[:, :count]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    turned = vectors * np.where(largest < 0, -1.0, 1.0)
    return Leading(values, turned, trace, ritz[:count].clip(min=0))


def as_moments(sketch: Sketch) -> Moments:
    """Count and sum of the spectra as moments without products."""
    return Moments(sketch.count, sketch.dropped, sketch.sum, np.empty((0, 0)))
