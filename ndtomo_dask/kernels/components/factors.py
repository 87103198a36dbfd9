"""Few spectra that explain many: moments, principal components, and the weights of given spectra.

Data are blocks of spectra, (pixel, channel). A reduction over blocks is three functions: a partial
per block, a combine that may merge in any order, and a finalize that runs once on small arrays.
Blocks are read in slabs of rows, so that no copy of a whole block is ever made. A spectrum with a
value that is not finite is left out of the sums and counted; its own weights are NaN.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.linalg import eigh

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.components.nonnegative import nonnegative_rows
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

Prepare = Callable[[Float], Float]

SLAB_ROWS = 2048
"""Rows per matrix product: long enough for BLAS, short enough that float32 sums stay accurate."""


class Moments(NamedTuple):
    """Sums over spectra x, less a common shift: all that a covariance needs."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    """Spectra summed."""
    dropped: int
    """Spectra left out because a value was not finite."""
    sum: Float64
    """Σ (x - shift), (channel,)."""
    gram: Float64
    """Σ (x - shift)(x - shift)ᵀ, (channel, channel)."""


class PrincipalComponents(NamedTuple):
    """The directions of largest variance of a set of spectra."""

    mean: Float64
    """Mean spectrum, (channel,)."""
    spectra: Float64
    """Orthonormal component spectra, (component, channel), largest variance first."""
    variance: Float64
    """Variance along each component, (component,), in squared units of the data."""
    explained_ratio: Float64
    """The same as a share of the total variance, (component,)."""
    total: float
    """Variance along all directions together."""


def moments_partial(
    spectra: Float,
    shift: Float | None = None,
    *,
    gram_dtype: DTypeLike | None = None,
    prepare: Prepare | None = None,
) -> Moments:
    """Sum the spectra of one block and their products: Σ (x - s) and Σ (x - s)(x - s)ᵀ.

    Products are formed in slabs of rows at ``gram_dtype`` and summed in float64. The shift s, an
    approximate mean, keeps a weak component from drowning in the float32 rounding of a strong mean.

    Parameters
    ----------
    spectra
        (pixel, channel), float32 or float64.
    shift
        Spectrum s to subtract first, (channel,); zero unless given. The same for all blocks.
    gram_dtype
        Precision of the products; that of the data unless given.
    prepare
        What is done to the rows of each slab first.
    """
    channels = _prepared(spectra[:0], prepare).shape[1]
    dtype = np.dtype(spectra.dtype if gram_dtype is None else gram_dtype)
    count, total, gram = 0, np.zeros(channels), np.zeros((channels, channels))
    product = np.empty((channels, channels), dtype=dtype)
    for slab, column in finite_slabs(spectra, shift, dtype, prepare):
        count += slab.shape[0]
        total += column
        gram += np.matmul(slab.T, slab, out=product)
    return Moments(count, spectra.shape[0] - count, total, gram)


def moments_combine(first: Moments, second: Moments) -> Moments:
    """Merge the sums of two blocks that were given the same shift."""
    return Moments(
        first.count + second.count,
        first.dropped + second.dropped,
        first.sum + second.sum,
        first.gram + second.gram,
    )


def pca_finalize(moments: Moments, shift: Float | None, components: int) -> PrincipalComponents:
    """Principal components from the covariance (G - n d dᵀ)/(n - 1), with d the mean shifted x.

    The sign of a component is such that its loading of largest magnitude is positive.

    Parameters
    ----------
    moments
        The merged sums of all blocks.
    shift
        The shift they were given.
    components
        How many to return, at most the number of channels.

    Raises
    ------
    OptionError
        If there are fewer channels than components.
    SchemaError
        If fewer than two spectra are finite.
    """
    channels = moments.sum.size
    check_components(components, moments)
    center = moments.sum / moments.count
    covariance = moments.gram - moments.count * np.outer(center, center)
    covariance /= moments.count - 1

    variance, vectors = leading_eigenvectors(covariance, components)
    variance = variance.clip(min=0)
    total = max(float(np.trace(covariance)), np.finfo(np.float64).tiny)
    mean = center + (np.zeros(channels) if shift is None else shift)
    return PrincipalComponents(mean, vectors.T, variance, variance / total, total)


def pca_scores(spectra: Float, principal: PrincipalComponents) -> Float:
    """Coordinates (x - mean)·v of each spectrum, (pixel, channel) -> (pixel, component)."""
    return project_spectra(spectra, principal.spectra.T, principal.mean)


def project_spectra(
    spectra: Float,
    basis: Float,
    shift: Float | None = None,
    prepare: Prepare | None = None,
    *,
    rest: bool = False,
) -> Float:
    """Products (x - shift)·b of each spectrum with each basis vector, in the dtype of the data.

    (pixel, channel), (channel, basis) -> (pixel, basis); NaN where the spectrum is not finite.
    ``rest`` adds a column: the sum of squares that an orthonormal basis leaves of the spectrum.
    """
    count = basis.shape[1]
    products = np.empty((spectra.shape[0], count + rest), dtype=spectra.dtype)
    basis = np.ascontiguousarray(basis, dtype=spectra.dtype)
    for rows, out in zip(slabs(spectra), slabs(products), strict=True):
        rows = _prepared(rows, prepare)
        whole = _whole(rows)
        slab = rows if whole.all() else np.where(whole[:, None], rows, 0)
        slab = _centered(slab, shift, spectra.dtype)
        np.matmul(slab, basis, out=out[:, :count])
        if rest:
            out[:, count] = _squares(slab) - _squares(out[:, :count])
        out[~whole] = np.nan
    return products


def _squares(rows: Float) -> Float:
    return np.asarray(np.einsum("pc,pc->p", rows, rows))


def component_weights(
    spectra: Float,
    components: Float,
    *,
    nonnegative: bool,
    trust: Float64 | None = None,
    threshold: float = 0.0,
) -> Float:
    """Weights w of given component spectra that minimize ‖x - Σ wᵢ hᵢ‖², spectrum by spectrum.

    Parameters
    ----------
    spectra
        Data x, (pixel, channel).
    components
        Component spectra h, (component, channel); a component that is zero gets the weight 0.
    nonnegative
        Whether weights must not be negative; negative data are allowed either way.
    trust
        Weight of each channel in the squares that are minimized, (channel,); alike unless given.
    threshold
        Of nonnegative weights: λ in ‖x - Σ wᵢ hᵢ‖² + 2 λ Σ wᵢ Σ hᵢ.

    Returns
    -------
    weights
        (pixel, component), in the dtype of the data; NaN where the spectrum is not finite.

    Raises
    ------
    OptionError
        If components and data differ in the number of channels.

    >>> component_weights(np.array([[3.0, -1.0]]), np.eye(2), nonnegative=True)
    array([[3., 0.]])
    """
    if components.shape[1] != spectra.shape[1]:
        raise OptionError(
            f"component spectra have {components.shape[1]} channels, but the data have "
            f"{spectra.shape[1]}. Select the same channels of both."
        )
    exact = np.asarray(components, dtype=np.float64)
    root = np.ones(exact.shape[1]) if trust is None else np.sqrt(trust)
    if not nonnegative:
        return project_spectra(spectra, root[:, None] * np.linalg.pinv(exact * root))
    trusted = exact * np.square(root)
    gram = trusted @ exact.T
    weights = np.empty((spectra.shape[0], exact.shape[0]), dtype=spectra.dtype)
    offset = threshold * exact.sum(axis=1)

    def solve(where: slice) -> None:
        products = project_spectra(spectra[where], trusted.T).astype(np.float64)
        weights[where] = nonnegative_rows(products - offset, gram)

    starts = range(0, spectra.shape[0], SLAB_ROWS)
    run_threaded(solve, [slice(first, first + SLAB_ROWS) for first in starts])
    return weights


def root_mean_square_residual(
    spectra: Float, components: Float, weights: Float, mean: Float | None = None,
    prepare: Prepare | None = None,
) -> Float:  # fmt: skip
    """Root-mean-square over channels of x - mean - Σ wᵢ hᵢ, spectrum by spectrum.

    (pixel, channel), (component, channel), (pixel, component) -> (pixel,)
    """
    left = np.empty(spectra.shape[0], dtype=spectra.dtype)
    narrow = np.ascontiguousarray(components, dtype=spectra.dtype)
    for rows, amounts, out in zip(slabs(spectra), slabs(weights), slabs(left), strict=True):
        with np.errstate(invalid="ignore"):
            slab = _centered(_prepared(rows, prepare), mean, spectra.dtype)
            missed = slab - amounts @ narrow
            out[:] = np.sqrt(np.einsum("pc,pc->p", missed, missed) / max(1, missed.shape[1]))
    return left


def leading_eigenvectors(matrix: Float64, count: int) -> tuple[Float64, Float64]:
    """Largest eigenvalues, descending, and eigenvectors, (row, count), of a symmetric matrix.

    The entry of largest magnitude of each vector is positive.
    """
    last = matrix.shape[0] - 1
    values, vectors = eigh(matrix, subset_by_index=(last - count + 1, last))
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values, vectors * np.where(largest < 0, -1.0, 1.0)


def check_components(components: int, moments: Moments) -> None:
    """Refuse more components than channels, and moments of fewer than two spectra."""
    channels = moments.sum.size
    if not 1 <= components <= channels:
        raise OptionError(
            f"components={components} must lie between 1 and the {channels} channels of the data."
        )
    if moments.count < 2:
        raise SchemaError(
            f"components need at least two finite spectra, but {moments.dropped} of "
            f"{moments.count + moments.dropped} hold NaN. Mask the bad channels first."
        )


def _prepared(rows: Float, prepare: Prepare | None) -> Float:
    return rows if prepare is None else prepare(rows)


def _whole(rows: Float) -> Bool:
    return np.asarray(np.isfinite(rows).all(axis=1))


def slabs(rows: Float) -> Iterator[Float]:
    """Yield views of at most `SLAB_ROWS` rows, first to last."""
    for first in range(0, rows.shape[0], SLAB_ROWS):
        yield rows[first : first + SLAB_ROWS]


def finite_slabs(
    spectra: Float, shift: Float | None, dtype: DTypeLike, prepare: Prepare | None
) -> Iterator[tuple[Float, Float64]]:
    """Yield the finite spectra of each slab, prepared and less the shift, and their sum."""
    for rows in slabs(spectra):
        rows = _prepared(rows, prepare)
        slab, column = _summed(rows, shift, dtype)
        if not np.isfinite(column).all():
            slab, column = _summed(rows[_whole(rows)], shift, dtype)
        yield slab, column


def _summed(rows: Float, shift: Float | None, dtype: DTypeLike) -> tuple[Float, Float64]:
    with np.errstate(invalid="ignore"):
        slab = _centered(rows, shift, dtype)
        return slab, np.asarray(slab.sum(axis=0, dtype=np.float64))


def _centered(rows: Float, shift: Float | None, dtype: DTypeLike) -> Float:
    if shift is None:
        return rows.astype(dtype, copy=False)
    narrow = shift.astype(dtype)
    if rows.dtype == dtype and (narrow == shift).all():
        return np.asarray(np.subtract(rows, narrow))
    # The difference is rounded once: a float64 shift is not first rounded to float32.
    return np.asarray((rows - shift).astype(dtype))
