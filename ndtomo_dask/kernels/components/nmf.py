"""Nonnegative matrix factorization X ≈ W H of spectra, in two passes over the data.

The first pass sums moments (`factors`, or `sketch`). Their leading eigenvectors V compress each
spectrum to r numbers in the second, Y = X V, and all iterations read Y only: W and H solve
nonnegative least squares in turn (Kim & Park 2011), H from WᵀW and WᵀX ≈ (WᵀY)Vᵀ, with
extrapolation between iterations (Ang & Gillis 2019), from where `nmf_start` begins, after
compression (Tepper & Sapiro 2016). Of many spectra, some come first. Nothing is random.

Negative data are kept: least squares is well defined for them, and clipping noise adds intensity.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.block_sizes import basis_rank
from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components.factors import (
    Moments,
    check_components,
    leading_eigenvectors,
    slabs,
)
from ndtomo_dask.kernels.components.nmf_start import Begin, Start, nmf_begin
from ndtomo_dask.kernels.components.nonnegative import nonnegative_rows
from ndtomo_dask.kernels.components.penalties import Penalties, smooth_spectra
from ndtomo_dask.kernels.reductions import Reduce, reduce_array, reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

STEP, STEP_GROWTH, STEP_CUT = 0.5, 1.05, 1.5
"""Extrapolation between iterations: its first step, its growth, and its cut when it overshoots."""

ROUNDING = 1e-14
"""Share of the energy of the data below which a change of the objective is rounding."""


class NmfBasis(NamedTuple):
    """What the first pass leaves for the others."""

    vectors: Float64
    """Leading eigenvectors V of Σ x xᵀ, (channel, r)."""
    energy: float
    """Sum of squares of the data, ‖X‖²."""
    intensity: float = 1.0
    """Sum of the data, each channel's taken as positive."""


class NmfSums(NamedTuple):
    """What an iteration needs to know of the weights W that fit the current spectra best."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    """Spectra summed."""
    dropped: int
    """Spectra left out because they are not finite."""
    weight: Float64
    """Σ w, (component,)."""
    gram: Float64
    """WᵀW, (component, component)."""
    cross: Float64
    """WᵀY, (component, r)."""


class NonnegativeFactors(NamedTuple):
    """Component spectra of unit sum; the scale is in the weights."""

    spectra: Float64
    """H ≥ 0, (component, channel); each sums to 1 (0 if unused), largest total weight first."""
    weight: Float64
    """Total weight of each component over all spectra, (component,)."""
    objective: float
    """‖X - W H‖², with the part of X outside the compressed basis taken as orthogonal to W H, and
    penalties."""
    misfit: float
    """The same without penalties."""
    iterations: int
    """Iterations done."""
    count: int  # type: ignore[assignment]  # hides tuple.count
    """Spectra used."""
    dropped: int
    """Spectra left out because they are not finite."""


def nmf_basis(moments: Moments, shift: Float | None, components: int) -> NmfBasis:
    """Basis that compresses the spectra: r = min(channels, max(2k, k + 8)) leading eigenvectors.

    They are those of the uncentered Σ x xᵀ = G + s μᵀ + μ sᵀ + n μ μᵀ, with G and s the sums of
    the data less the shift μ.

    Raises
    ------
    OptionError
        If there are fewer channels than components.
    SchemaError
        If fewer than two spectra are finite.
    """
    check_components(components, moments)
    gram, intensity = moments.gram, moments.sum
    if shift is not None:
        shift = np.asarray(shift, dtype=np.float64)
        intensity = intensity + moments.count * shift
        mixed = np.outer(moments.sum, shift)
        gram = gram + mixed + mixed.T + moments.count * np.outer(shift, shift)
    rank = min(moments.sum.size, basis_rank(components))
    energy, total = float(np.trace(gram)), float(np.abs(intensity).sum())
    return NmfBasis(leading_eigenvectors(gram, rank)[1], energy, total)


def nmf_partial(
    projection: Float, vectors: Float64, spectra: Float64, penalties: Penalties | None = None
) -> NmfSums:
    """Fit nonnegative weights W of the current spectra to one block of Y, and sum their products.

    (pixel, r), (channel, r), (component, channel) -> sums; W itself is never kept.
    """
    compressed, overlap = spectra @ vectors, spectra @ spectra.T
    offset = None
    if penalties is not None:
        offset, ridge = penalties.of_weights(spectra)
        overlap = overlap + np.diag(ridge)

    def sums(rows: Float) -> NmfSums:
        return _fitted_sums(rows, compressed, overlap, offset)

    return reduce_strands(sums, nmf_combine, projection)


def _fitted_sums(
    strand: Float, compressed: Float64, overlap: Float64, offset: Float64 | None
) -> NmfSums:
    components, rank = compressed.shape
    count, weight = 0, np.zeros(components)
    gram, cross = np.zeros((components, components)), np.zeros((components, rank))
    for rows in slabs(strand):
        slab = rows.astype(np.float64)
        slab = slab[np.isfinite(slab).all(axis=1)]
        products = slab @ compressed.T
        weights = nonnegative_rows(products if offset is None else products - offset, overlap)
        count += slab.shape[0]
        weight += weights.sum(axis=0)
        gram += weights.T @ weights
        cross += weights.T @ slab
    return NmfSums(count, strand.shape[0] - count, weight, gram, cross)


def nmf_combine(first: NmfSums, second: NmfSums) -> NmfSums:
    """Merge the sums of two blocks that were fitted with the same spectra."""
    return NmfSums(
        first.count + second.count,
        first.dropped + second.dropped,
        first.weight + second.weight,
        first.gram + second.gram,
        first.cross + second.cross,
    )


def nmf_finalize(
    sums_of: Callable[[Float64], NmfSums],
    start: Float64,
    basis: NmfBasis,
    *,
    iterations: int = 300,
    tolerance: float = 1e-6,
    fixed: int = 0,
    penalties: Penalties | None = None,
) -> NonnegativeFactors:
    """Iterate until the objective stands still, given a function that sums over all blocks.

    Parameters
    ----------
    sums_of
        Spectra (component, channel) -> the merged `nmf_partial` of all blocks; called once per
        iteration, and once more for the weights of the result.
    start
        Spectra to start from, of `nmf_start`.
    basis
        That of `nmf_basis`.
    iterations, tolerance
        Stop after so many iterations, or after three in a row that change the objective by less
        than this share of it.
    fixed
        How many spectra of the start are known, and stay as they are: the first ones.
    penalties
        What the sums were charged for, and spectra will be.

    Raises
    ------
    OptionError
        If iterations is below 1.
    """
    if iterations < 1:
        raise OptionError(f"iterations={iterations} must be 1 or more.")
    trial, spectra, step = start, start, STEP
    objective, still, done = np.inf, 0, 0
    while done < iterations and still < 3:
        done += 1
        sums = sums_of(trial)
        improved = _improve_spectra(sums, basis.vectors, trial, fixed, penalties)
        value = _objective(sums, improved, basis, penalties)
        if value > objective + ROUNDING * basis.energy:
            # Overshot: go back to the best spectra, and extrapolate less from now on.
            trial, step, still = spectra, step / STEP_CUT, 0
            continue
        small = tolerance * abs(value) + ROUNDING * basis.energy
        still = still + 1 if objective - value <= small else 0
        trial = np.maximum(improved + step * (improved - spectra), 0.0)
        spectra, objective, step = improved, value, min(step * STEP_GROWTH, 1.0)
    sums = sums_of(spectra)
    misfit = _objective(sums, spectra, basis, None)
    values = _objective(sums, spectra, basis, penalties), misfit
    return _ordered(spectra, sums, values, done, fixed)


def nmf_from_projection(
    projection: Float, basis: NmfBasis, components: int, **options: Any
) -> NonnegativeFactors:
    """Factorize compressed spectra held in one array, Y = X V, (pixel, r).

    As `nmf_from_sums`, which has the ``options``.
    """
    return nmf_from_sums(reduce_array(projection), basis, components, **options)


def nmf_from_sums(
    reduce: Reduce,
    basis: NmfBasis,
    components: int,
    *,
    start: Start | Float64 = "pure",
    iterations: int = 300,
    tolerance: float = 1e-6,
    known: Float64 | None = None,
    sparsity: float = 0.0,
    smoothness: float = 0.0,
    some: Float64 | None = None,
) -> NonnegativeFactors:
    """Factorize compressed spectra Y = X V, (pixel, r), given a reduction over them.

    The weights of the result are ``component_weights(X, spectra, nonnegative=True)``. The
    iterations begin at the spectra of pure pixels (``"pure"``), which settles what the misfit
    leaves open, at the singular vectors (``"svd"``), or at given spectra. Spectra that are ``known
    (component, channel)`` stay as they are, and come first; the others begin at pure pixels beside
    them. What ``sparsity`` and ``smoothness`` are charged for is said in `penalties`, with
    λ = `penalty_threshold`. With ``some`` of the rows of Y, (pixel, r), the iterations stand still
    on these and the pure pixels first, and few are left for all.

    Raises
    ------
    OptionError
        If the basis has fewer vectors than components, or iterations is below 1.
    """
    if not 1 <= components <= basis.vectors.shape[1]:
        raise OptionError(
            f"components={components} must lie between 1 and the {basis.vectors.shape[1]} vectors "
            "of the basis. Make it with nmf_basis(moments, shift, components)."
        )
    fixed = 0 if known is None else len(known)
    if isinstance(start, np.ndarray):
        begin = start
    else:
        begun = nmf_begin(reduce, basis.vectors, components, start, known)
        begin = begun.spectra if some is None else _settled(
            begun, basis, some, iterations=iterations, tolerance=tolerance, known=known,
            sparsity=sparsity, smoothness=smoothness,
        )  # fmt: skip
    charged = Penalties(penalty_threshold(basis, sparsity), smoothness, fixed)
    penalties = None if charged.none else charged

    def sums_of(spectra: Float64) -> NmfSums:
        options = {"vectors": basis.vectors, "spectra": spectra, "penalties": penalties}
        return cast(NmfSums, reduce(nmf_partial, nmf_combine, **options))

    return nmf_finalize(
        sums_of, begin, basis, iterations=iterations, tolerance=tolerance, fixed=fixed,
        penalties=penalties,
    )  # fmt: skip


def _settled(begun: Begin, basis: NmfBasis, some: Float64, **options: Any) -> Float64:
    """Iterate on some rows and the pure ones, so that no rare phase is missed among them."""
    rows = np.concatenate([some, begun.pure])
    share = len(rows) / max(1, begun.count)
    part = NmfBasis(basis.vectors, float(np.vdot(rows, rows)), basis.intensity * share)
    found = nmf_from_projection(rows, part, len(begun.spectra), start=begun.spectra, **options)
    # A spectrum of zeros, unused among some, could not grow among all.
    return found.spectra if found.spectra.any(axis=1).all() else begun.spectra


def penalty_threshold(basis: NmfBasis, sparsity: float) -> float:
    """Return λ = sparsity ‖X‖² / Σ|X|, the mean of the data weighted by themselves, in part."""
    return sparsity * basis.energy / max(basis.intensity, np.finfo(np.float64).tiny)


def _improve_spectra(
    sums: NmfSums, vectors: Float64, trial: Float64, fixed: int, penalties: Penalties | None
) -> Float64:
    # Each channel is a row: WᵀW h = WᵀX, less what the known spectra explain of it.
    known, products = trial[:fixed], vectors @ sums.cross.T
    if penalties is not None:
        products = products - penalties.threshold * sums.weight
        if penalties.smoothness > 0:
            part = np.ascontiguousarray(products.T)
            return smooth_spectra(part, sums.gram, trial, penalties.smoothness, fixed)
    products = products[:, fixed:] - known.T @ sums.gram[:fixed, fixed:]
    free = nonnegative_rows(products, np.ascontiguousarray(sums.gram[fixed:, fixed:]))
    return np.concatenate([known, free.T])


def _objective(
    sums: NmfSums, spectra: Float64, basis: NmfBasis, penalties: Penalties | None
) -> float:
    # ‖X‖² - 2 tr(WᵀX Hᵀ) + tr(WᵀW H Hᵀ): no pass over the data.
    fitted = np.vdot(sums.gram, spectra @ spectra.T)
    misfit = basis.energy - 2 * np.vdot(sums.cross, spectra @ basis.vectors) + fitted
    if penalties is not None:
        misfit += penalties.charge(sums.weight, np.diag(sums.gram), spectra)
    return float(misfit)


def _ordered(
    spectra: Float64, sums: NmfSums, values: tuple[float, float], iterations: int, fixed: int
) -> NonnegativeFactors:
    area = spectra.sum(axis=1)
    weight = sums.weight * area
    free = fixed + np.argsort(-weight[fixed:], kind="stable")
    order = np.concatenate([np.arange(fixed), free])
    unit = spectra / np.where(area > 0, area, 1.0)[:, None]
    return NonnegativeFactors(
        unit[order], weight[order], *values, iterations, sums.count, sums.dropped
    )
