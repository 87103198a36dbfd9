"""Amounts of known spectra in many spectra: linear least squares, nonnegative, with errors.

Data are rows of spectra, (pixel, channel). The model of a row is Σ amountᵢ · referenceᵢ plus a
polynomial; its weights solve small normal equations, one matrix product for all rows that share
their channels, and nonnegative least squares by `nonnegative_rows`, exact to rounding. A row's
numbers come from sums in an order that its length alone decides: no neighbor changes a bit.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray

from ndtomo_dask.kernels.nonnegative import pivot_rows
from ndtomo_dask.kernels.normal_equations import (
    find_influence,
    first_dependent,
    gram_of,
    inner_products,
    square_influence,
    squared_residuals,
    sum_in_order,
)
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Integers = NDArray[np.uint8]

SLAB_SAMPLES, LEAST_ROWS = 2**18, 64
"""Samples that one thread works on at a time, which stay in its cache, and rows at least."""


class ReferenceStatus(IntEnum):
    """What came of a spectrum; only FITTED carries values."""

    FITTED = 0, "amounts were found"
    BAD_INPUT = 1, "no more finite channels than unknowns"
    SINGULAR = 2, "the finite channels do not tell the references apart"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ReferenceStatus":
        """Attach to each value the sentence that explains it."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


FITTED, BAD_INPUT, SINGULAR = (int(status) for status in ReferenceStatus)


class Design(NamedTuple):
    """The spectra of a model, each of unit length: references, then background polynomials."""

    rows: Float64
    """(component, channel)."""
    norm: Float64
    """Length that each had, (component,)."""
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
    return Design(rows / norm[:, None], norm, free, len(exact))


def dependent_component(design: Design) -> int | None:
    """Index of the first component that is a sum of those before it; None if there is none."""
    gram = gram_of(design.rows, design.rows)
    place = first_dependent(gram)
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
    rows = np.array(spectra, dtype=np.float64, order="C")
    usable = np.isfinite(rows)
    if variance is None and usable.all() and rows.shape[1] > len(design.rows):
        _fit_alike(rows, design.rows, design.free, robust, *out)
        return
    weights = np.ones_like(rows)
    if variance is not None:
        usable &= np.isfinite(variance) & (variance > 0)
        weights[usable] = 1 / np.asarray(variance, dtype=np.float64)[usable]
    rows[~usable], weights[~usable] = 0.0, 0.0
    alike = usable.all(axis=1) & (variance is None) & (rows.shape[1] > len(design.rows))
    robust &= variance is None
    for chosen in (alike, ~alike):
        parts: Any = tuple(np.ascontiguousarray(array[chosen]) for array in out)
        if chosen is alike:
            _fit_alike(rows[chosen], design.rows, design.free, robust, *parts)
        else:
            _fit_each(rows[chosen], weights[chosen], design.rows, design.free, robust, *parts)
        target: Any
        for target, found in zip(out, parts, strict=True):
            target[chosen] = found


@njit(nogil=True, cache=True, error_model="numpy")
def _fit_alike(
    rows: Float64, design: Float64, free: Bool, robust: bool,
    amounts: Float64, variances: Float64, chi_square: Float64, status: Integers,
) -> None:  # fmt: skip
    # Rows without gaps and with equal weights share their normal equations.
    gram, products, squares = gram_of(design, design), np.empty_like(amounts), np.empty_like(rows)
    inner_products(rows, design, products)
    pivot_rows(products, gram, free, amounts)
    squared_residuals(rows, design, amounts, squares)
    for row in range(rows.shape[0]):
        unknowns = np.count_nonzero(amounts[row])
        chi_square[row] = sum_in_order(squares[row]) / max(rows.shape[1] - unknowns, 1)
    status[:] = FITTED
    order, edges = _by_active(amounts)
    matrix, diagonal = np.empty_like(design), np.empty(design.shape[0])
    found = np.empty_like(amounts)
    # Rows in which the same amounts are 0 share what a residual does to each amount.
    for group in range(edges.size - 1):
        inside = order[edges[group] : edges[group + 1]]
        active = amounts[inside[0]] != 0.0
        find_influence(gram, design, active, robust, matrix, diagonal)
        if robust:
            square_influence(matrix, design, active)
            inner_products(squares[inside], matrix, found)
        for place, row in enumerate(inside):
            variances[row] = found[place] if robust else diagonal * chi_square[row]


@njit(nogil=True, cache=True, error_model="numpy")
def _by_active(amounts: Float64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Order the rows by which of their amounts are 0, and say where each pattern begins.
    key = np.zeros(amounts.shape[0])
    for component in range(amounts.shape[1]):
        for row in range(key.size):
            key[row] = (key[row] + (amounts[row, component] != 0.0)) * 1.37
    order = np.argsort(key)
    edges = [0]
    for place in range(1, order.size):
        before, here = amounts[order[place - 1]], amounts[order[place]]
        if ((before != 0.0) != (here != 0.0)).any():
            edges.append(place)
    if order.size:
        edges.append(order.size)
    return order, np.array(edges)


@njit(nogil=True, cache=True, error_model="numpy")
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
        squared_residuals(one, design, found, rest)
        active = found[0] != 0.0
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
