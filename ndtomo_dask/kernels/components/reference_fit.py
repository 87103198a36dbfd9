"""Amounts of known spectra in many spectra: linear least squares, nonnegative, with errors.

Data are rows of spectra, (pixel, channel). The model of a row is Σ amountᵢ · referenceᵢ plus a
polynomial; its weights solve small normal equations, one matrix product for all rows that share
their channels, and nonnegative least squares by `nonnegative_rows`, exact to rounding. A row's
numbers come from sums in an order that its length alone decides: no neighbor changes a bit.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.components.nonnegative import pivot_rows
from ndtomo_dask.kernels.components.normal_equations import (
    find_influence,
    first_dependent,
    gram_of,
    inner_products,
    square_influence,
    squared_residuals,
    sum_in_order,
)
from ndtomo_dask.kernels.outcomes import Outcome
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Integers = NDArray[np.uint8]

TILE = 4
"""Rows whose residuals are worked on together, and never leave the nearest cache."""
SLAB_SAMPLES, LEAST_ROWS = 2**18, 64
"""Samples that one thread works on at a time, which stay in its cache, and rows at least."""


class ReferenceStatus(Outcome):
    """What came of a spectrum; only FITTED carries values."""

    FITTED = 0, "amounts were found"
    BAD_INPUT = 1, "no more finite channels than unknowns"
    SINGULAR = 2, "the finite channels do not tell the references apart"


FITTED, BAD_INPUT, SINGULAR = (int(status) for status in ReferenceStatus)


class Design(NamedTuple):
    """The spectra of a model, each of unit length: references, then background polynomials."""

    rows: Float64
    """(component, channel)."""
    norm: Float64
    """Length that each had, (component,)."""
    gram: Float64
    """Their inner products, (component, component)."""
    free: Bool
    """Whether its weight may be negative, (component,)."""
    references: int


class ReferenceFit(NamedTuple):
    """What is known of every spectrum; NaN where its status is not FITTED."""

    amount: Float64
    """(pixel, reference)."""
    error: Float64
    """Standard errors, (pixel, reference); of an amount held at 0, what it would have if free."""
    reduced_chi_square: Float64
    """Weighted sum of squared residuals per degree of freedom, (pixel,)."""
    status: Integers


def design_matrix(
    references: Float, axis: Float, *, background: int | None = None, nonnegative: bool = True
) -> Design:
    """Join references (reference, channel) and Legendre polynomials up to degree ``background``."""
    exact = np.asarray(references, dtype=np.float64)
    terms = 0 if background is None else background + 1
    low, high = float(np.min(axis)), float(np.max(axis))
    scaled = 2 * (np.asarray(axis, dtype=np.float64) - low) / max(high - low, 1e-300) - 1
    polynomials = legvander(scaled, max(terms - 1, 0)).T[:terms]
    rows = np.concatenate([exact, polynomials])
    norm = np.linalg.norm(rows, axis=1)
    free = np.arange(len(rows)) >= (len(exact) if nonnegative else 0)
    unit = rows / norm[:, None]
    return Design(unit, norm, gram_of(unit, unit), free, len(exact))


def dependent_component(design: Design) -> int | None:
    """Index of the first component that is a sum of those before it; None if there is none."""
    place = first_dependent(design.gram)
    return None if place < 0 else place


def fit_amounts(
    spectra: Float, design: Design, *, variance: Float | None = None, uniform: bool = False
) -> ReferenceFit:
    """Fit every spectrum; samples that are not finite have no weight in their own spectrum.

    Without ``variance`` all samples weigh the same, and errors are those of White (Econometrica 48,
    817 (1980)) with residuals corrected for leverage (HC2; MacKinnon & White, J. Econometrics 29,
    305 (1985)): right also where the noise is not the same in all channels, as in counts. Where it
    is, ``uniform`` errors √(s² (A Aᵀ)⁻¹ᵢᵢ) are found sooner. With ``variance (pixel, channel)``
    weights are its reciprocals W, and errors √(s² (A W Aᵀ)⁻¹ᵢᵢ).

    >>> design = design_matrix(np.array([[1.0, 0, 0, 0], [0, 1.0, 1.0, 0]]), np.arange(4.0))
    >>> fit_amounts(np.array([[3.0, 2.0, 2.0, 0.0]]), design).amount
    array([[3., 2.]])
    """
    count, known = spectra.shape[0], len(design.rows)
    amounts, variances = np.full((count, known), np.nan), np.full((count, known), np.nan)
    chi_square, status = np.full(count, np.nan), np.full(count, BAD_INPUT, dtype=np.uint8)

    def fit(part: slice) -> None:
        out = amounts[part], variances[part], chi_square[part], status[part]
        spread = None if variance is None else variance[part]
        _fit_slab(spectra[part], spread, design, not uniform, out)

    rows = max(LEAST_ROWS, SLAB_SAMPLES // spectra.shape[1])
    run_threaded(fit, [slice(first, first + rows) for first in range(0, count, rows)])
    kept = slice(design.references)
    error = np.sqrt(variances[:, kept]) / design.norm[kept]
    return ReferenceFit(amounts[:, kept] / design.norm[kept], error, chi_square, status)


def _fit_slab(
    spectra: Float, variance: Float | None, design: Design, robust: bool,
    out: tuple[Float64, Float64, Float64, Integers],
) -> None:  # fmt: skip
    kept = spectra.dtype in (np.float32, np.float64)
    rows = np.ascontiguousarray(spectra, dtype=None if kept else np.float64)
    left = np.ones(len(rows), dtype=np.bool_)
    if variance is None and rows.shape[1] > len(design.rows):
        _fit_alike(rows, design.rows, design.gram, design.free, robust, *out)
        left = out[-1] != FITTED
    if left.any():
        found: Any = [np.ascontiguousarray(array[left]) for array in out]
        weights = _weights(rows[left], None if variance is None else variance[left])
        rest = np.where(weights > 0, rows[left], 0).astype(np.float64)
        _fit_each(rest, weights, design.rows, design.free, robust and variance is None, *found)
        target: Any
        for target, values in zip(out, found, strict=True):
            target[left] = values


def _weights(rows: Float, variance: Float | None) -> Float64:
    """Reciprocal variances, or 1; 0 where a sample or its variance is not finite."""
    if variance is None:
        return np.isfinite(rows).astype(np.float64)
    usable = np.isfinite(rows) & np.isfinite(variance) & (variance > 0)
    return np.where(usable, 1 / np.where(usable, variance, 1).astype(np.float64), 0)


@compiled(allocates=True)
def _fit_alike(
    rows: Float, design: Float64, gram: Float64, free: Bool, robust: bool,
    amounts: Float64, variances: Float64, chi_square: Float64, status: Integers,
) -> None:  # fmt: skip
    # Rows without gaps and with equal weights share their normal equations; others are left.
    products = np.empty_like(amounts)
    inner_products(rows, design, products)
    pivot_rows(products, gram, free, amounts)
    order, edges = _by_active(amounts)
    matrix, diagonal = np.empty_like(design), np.empty(design.shape[0])
    squares, found = np.empty((TILE, rows.shape[1])), np.empty((TILE, design.shape[0]))
    # Rows in which the same amounts are 0 share what a residual does to each amount.
    for group in range(edges.size - 1):
        active = amounts[order[edges[group]]] != 0.0
        which = np.flatnonzero(active)
        freedom = max(rows.shape[1] - which.size, 1)
        find_influence(gram, design, active, robust, matrix, diagonal)
        if robust:
            square_influence(matrix, design, active)
        for first in range(edges[group], edges[group + 1], TILE):
            inside = order[first : min(first + TILE, edges[group + 1])]
            for place, row in enumerate(inside):
                squared_residuals(rows[row], design, amounts[row], which, squares[place])
                chi_square[row] = sum_in_order(squares[place]) / freedom
                status[row] = FITTED
            if robust:
                inner_products(squares[: inside.size], matrix, found)
            for place, row in enumerate(inside):
                for component in range(diagonal.size):
                    spread = diagonal[component] * chi_square[row]
                    variances[row, component] = found[place, component] if robust else spread


@compiled(allocates=True)
def _by_active(amounts: Float64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Order the rows that have amounts by which of them are 0, and say where each pattern begins.
    key = np.zeros(amounts.shape[0])
    for component in range(amounts.shape[1]):
        for row in range(key.size):
            key[row] = (key[row] + (amounts[row, component] != 0.0)) * 1.37
    key[np.isnan(amounts[:, 0])] = np.inf
    order = np.argsort(key)[: np.count_nonzero(key < np.inf)]
    edges = [0]
    for place in range(1, order.size):
        before, here = order[place - 1], order[place]
        for component in range(amounts.shape[1]):
            if (amounts[before, component] != 0.0) != (amounts[here, component] != 0.0):
                edges.append(place)
                break
    if order.size:
        edges.append(order.size)
    return order, np.array(edges)


@compiled(allocates=True)
def _fit_each(
    rows: Float64, weights: Float64, design: Float64, free: Bool, robust: bool,
    amounts: Float64, variances: Float64, chi_square: Float64, status: Integers,
) -> None:  # fmt: skip
    # Every row has normal equations of its own: weights, or channels, that others do not have.
    known, channels = design.shape
    matrix, diagonal = np.empty((known, channels)), np.empty(known)
    products, found, rest = np.empty((1, known)), np.empty((1, known)), np.empty((1, channels))
    for row in range(rows.shape[0]):
        usable = np.count_nonzero(weights[row])
        if usable <= known:
            continue
        weighted = design * weights[row]
        gram = gram_of(weighted, design)
        if first_dependent(gram) >= 0:
            status[row] = SINGULAR
            continue
        one = rows[row : row + 1]
        inner_products(one, weighted, products)
        pivot_rows(products, gram, free, found)
        active = found[0] != 0.0
        squared_residuals(one[0], design, found[0], np.flatnonzero(active), rest[0])
        rest[0] *= weights[row]
        chi = sum_in_order(rest[0]) / max(int(usable - np.count_nonzero(active)), 1)
        find_influence(gram, weighted, active, robust, matrix, diagonal)
        if robust:
            square_influence(matrix, design, active)
            inner_products(rest, matrix, products)
            diagonal[:] = products[0]
        else:
            diagonal *= chi
        amounts[row], variances[row] = found[0], diagonal
        chi_square[row], status[row] = chi, FITTED
