"""Independent components of whitened scores: symmetric FastICA as sums over blocks.

Each sweep sums Σ tanh(W y) yᵀ and Σ tanh'(W y) over the scores y, which are uncorrelated and of
unit variance; W is then made orthogonal (Hyvärinen, IEEE Trans. Neural Netw. 10, 626 (1999)).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components.factors import PrincipalComponents
from ndtomo_dask.kernels.reductions import Reduce, reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

STILL = 1e-9
"""1 - cosine between a direction and the one before it that counts as standing still."""

FLAT = 1e-12
"""Share of the total variance below which a principal component is rounding: it is left out."""


class Contrast(NamedTuple):
    """What a sweep needs to know of the scores."""

    count: int  # type: ignore[assignment]  # hides tuple.count
    """Scores summed."""
    cross: Float64
    """Σ tanh(W y) yᵀ, (component, component)."""
    slope: Float64
    """Σ (1 - tanh²(W y)), (component,)."""


class IndependentComponents(NamedTuple):
    """Spectra of unit norm, whose amounts are as independent as a rotation makes them."""

    spectra: Float64
    """(component, channel), largest variance first; the largest loading is positive."""
    variance: Float64
    """Variance of the amounts of each, (component,)."""
    iterations: int


def whitening(principal: PrincipalComponents) -> Float64:
    """Basis V/√λ in which scores have unit variance, (channel, component)."""
    alive = principal.variance > FLAT * principal.total
    root = np.sqrt(np.where(alive, principal.variance, 1.0))
    return np.asarray(np.where(alive, principal.spectra.T / root, 0.0))


def contrast_partial(scores: Float, directions: Float64) -> Contrast:
    """Sum what a sweep needs over one block of scores, (pixel, component), less rows of NaN."""

    def contrast(strand: Float) -> Contrast:
        exact = strand[np.isfinite(strand).all(axis=1)].astype(np.float64)
        bent = np.tanh(exact @ directions.T)
        return Contrast(len(exact), bent.T @ exact, (1 - np.square(bent)).sum(axis=0))

    return reduce_strands(contrast, contrast_combine, scores)


def contrast_combine(first: Contrast, second: Contrast) -> Contrast:
    """Merge the sums of two blocks that were given the same directions."""
    return Contrast(
        first.count + second.count, first.cross + second.cross, first.slope + second.slope
    )


def independent_directions(reduce: Reduce, components: int, *, iterations: int, seed: int = 0
                           ) -> tuple[Float64, int]:  # fmt: skip
    """Rotate the axes of the scores until they stand still; rows are directions.

    It begins at a random rotation, because the axes themselves may be a saddle.

    Raises
    ------
    OptionError
        If iterations is below 1.
    """
    if iterations < 1:
        raise OptionError(f"iterations={iterations} must be 1 or more.")
    rng = np.random.default_rng(seed)
    directions, done = _orthogonal(rng.standard_normal((components, components))), 0
    while done < iterations:
        done += 1
        sums = reduce(contrast_partial, contrast_combine, directions=directions)
        better = _orthogonal((sums.cross - sums.slope[:, None] * directions) / sums.count)
        turned = 1 - np.abs(np.einsum("kc,kc->k", better, directions))
        directions = better
        if turned.max() < STILL:
            break
    return directions, done


def independent_components(
    reduce: Reduce, principal: PrincipalComponents, *, iterations: int = 300
) -> IndependentComponents:
    """Find independent components, given a reduction over scores in the basis of `whitening`."""
    size = len(principal.spectra)
    directions, done = independent_directions(reduce, size, iterations=iterations)
    alive = principal.variance > FLAT * principal.total
    length = np.sqrt(np.where(alive, principal.variance, 0.0))
    spectra = (directions * length) @ principal.spectra
    variance = np.square(spectra).sum(axis=1)
    order = np.argsort(-variance, kind="stable")
    spectra, variance = spectra[order], variance[order]
    largest = np.take_along_axis(spectra, np.abs(spectra).argmax(axis=1)[:, None], axis=1)
    signed = spectra * np.where(largest < 0, -1.0, 1.0)
    norm = np.sqrt(np.where(variance > 0, variance, 1.0))
    return IndependentComponents(signed / norm[:, None], variance, done)


def _orthogonal(matrix: Float64) -> Float64:
    """Nearest orthogonal matrix, (M Mᵀ)^-½ M."""
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)
