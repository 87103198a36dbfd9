"""Where the iterations of a nonnegative matrix factorization begin.

At pure pixels (`endmembers`), or at the singular vectors (NNDSVD, Boutsidis & Gallopoulos, Pattern
Recognit. 41, 1350 (2008)). Nothing is random.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import check_choice
from ndtomo_dask.kernels.components.endmembers import pure_pixels
from ndtomo_dask.kernels.reductions import Reduce, reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

START_FLOOR = 1e-3
"""Zeros of the start become this share of a spectrum's maximum: a zero could never grow again."""

Start = Literal["pure", "svd"]
STARTS = ("pure", "svd")


class SignedEnergy(NamedTuple):
    """Sums of squares of the positive and of the negative part of each column of Y, (r,)."""

    positive: Float64
    negative: Float64
    count: int  # type: ignore[assignment]  # hides tuple.count
    """Spectra summed."""


class Begin(NamedTuple):
    """Where the iterations begin."""

    spectra: Float64
    """(component, channel)."""
    pure: Float64
    """Rows of Y whose means these are, if they are those of pure pixels, (pixel, r)."""
    count: int  # type: ignore[assignment]  # hides tuple.count
    """Rows that are finite."""


def energy_partial(projection: Float) -> SignedEnergy:
    """Sum the squares of the positive and negative entries of Y, (pixel, r), less rows of NaN.

    With `energy_combine` and `nmf_start` as combine and finalize.
    """

    def energy(rows: Float) -> SignedEnergy:
        slab = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
        positive = np.square(np.maximum(slab, 0)).sum(axis=0)
        return SignedEnergy(positive, np.square(np.minimum(slab, 0)).sum(axis=0), len(slab))

    return reduce_strands(energy, energy_combine, projection)


def energy_combine(first: SignedEnergy, second: SignedEnergy) -> SignedEnergy:
    """Merge the sums of two blocks."""
    return SignedEnergy(
        first.positive + second.positive,
        first.negative + second.negative,
        first.count + second.count,
    )


def nmf_start(energy: SignedEnergy, vectors: Float64, components: int) -> Float64:
    """Start H, (component, channel), from the singular vectors (NNDSVD).

    Of a pair u, v of singular vectors the parts of one sign are kept, the sign being that for which
    ‖u±‖ ‖v±‖ is largest; zeros are raised to 1e-3 of the spectrum's maximum.
    """
    scale = np.sqrt(energy.positive + energy.negative)[:components]
    scale = np.maximum(scale, np.finfo(np.float64).tiny)
    spectra = vectors.T[:components]
    parts = np.stack([np.maximum(spectra, 0), np.maximum(-spectra, 0)])
    norms = np.linalg.norm(parts, axis=2)
    left = np.sqrt(np.stack([energy.positive, energy.negative])[:, :components]) / scale
    sign = (norms * left).argmax(axis=0)
    chosen = np.arange(components)

    size = np.sqrt(scale * (norms * left)[sign, chosen])
    start = parts[sign, chosen] * (size / norms[sign, chosen])[:, None]
    start[0] = np.abs(spectra[0]) * np.sqrt(scale[0])
    return np.asarray(np.maximum(start, START_FLOOR * start.max(axis=1, keepdims=True)))


def nmf_begin(
    reduce: Reduce, vectors: Float64, components: int, start: Start, known: Float64 | None
) -> Begin:
    """Find spectra to begin with, given the reduction over Y and its basis, (channel, r).

    Those that are ``known (component, channel)`` come first.
    """
    check_choice("start", start, STARTS)
    energy = reduce(energy_partial, energy_combine)
    if start == "svd" and known is None:
        spectra, none = nmf_start(energy, vectors, components), vectors[:0]
        return Begin(spectra, none, energy.count)
    free = components - (0 if known is None else len(known))
    pixels = pure_pixels(reduce, vectors, free, energy.count, known)
    corners = np.zeros((free, vectors.shape[0]))
    for corner, rows in zip(corners, pixels, strict=False):
        corner[:] = vectors @ rows.mean(axis=0)
    raised = np.maximum(corners, START_FLOOR * corners.max(axis=1, keepdims=True, initial=0))
    spectra = raised if known is None else np.concatenate([known, raised])
    return Begin(spectra, np.concatenate([vectors[:0], *pixels]), energy.count)
