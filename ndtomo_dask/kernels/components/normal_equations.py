"""Normal equations of linear models: products, influence of a sample on an amount, dependence.

Everything here is compiled. Sums are taken in an order that their length alone decides, so that a
row's numbers do not depend on the rows that it is worked on with.
"""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Integers = NDArray[np.int64]

DEPENDENT = 1e-12
"""A component of which less than this share of its energy is its own is not determined."""
LARGEST_LEVERAGE = 0.99
"""A channel that almost alone decides an amount has next to no residual to judge it by."""


@compiled("contract", "reassoc", allocates=True)
def inner_products(rows: Float, vectors: Float64, out: Float64) -> None:
    """Inner products of rows and vectors, each in the same order wherever it stands.

    # (row, channel), (vector, channel) -> out (row, vector)
    """
    # BLAS rounds an edge of its blocks differently. Here, a tile that is not full repeats its last.
    last, end = rows.shape[0] - 1, vectors.shape[0] - 1
    for first in range(0, rows.shape[0], 4):
        i, j, k = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        for left in range(0, vectors.shape[0], 2):
            right = min(left + 1, end)
            a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = 0.0
            for channel in range(rows.shape[1]):
                v, w = vectors[left, channel], vectors[right, channel]
                a0 += rows[first, channel] * v
                a1 += rows[first, channel] * w
                b0 += rows[i, channel] * v
                b1 += rows[i, channel] * w
                c0 += rows[j, channel] * v
                c1 += rows[j, channel] * w
                d0 += rows[k, channel] * v
                d1 += rows[k, channel] * w
            out[first, left], out[first, right] = a0, a1
            out[i, left], out[i, right] = b0, b1
            out[j, left], out[j, right] = c0, c1
            out[k, left], out[k, right] = d0, d1


@compiled(allocates=True)
def gram_of(left: Float64, right: Float64) -> Float64:
    """Inner products of two sets of rows, (left, channel), (right, channel) -> (left, right)."""
    products = np.empty((left.shape[0], right.shape[0]))
    inner_products(left, right, products)
    return products


@compiled("contract", allocates=True)
def squared_residuals(
    row: Float, design: Float64, amounts: Float64, active: Integers, squares: Float64
) -> None:
    """Write the squares of what the ``active`` components of a model leave of a row."""
    # (channel,), (component, channel), (component,) -> squares (channel,)
    squares[:] = row
    _add_rows(squares, -amounts[active], design, active)
    for channel in range(squares.size):
        squares[channel] *= squares[channel]


@compiled("contract", allocates=True)
def find_influence(
    gram: Float64, design: Float64, active: Bool, wanted: bool, matrix: Float64, diagonal: Float64
) -> None:
    """Write what a sample does to each amount, if wanted, and the errors' diagonal (A W Aᵀ)⁻¹ᵢᵢ."""
    # That of an amount held at 0 is what it would be if this one were let in.
    # (component, component), (component, channel) -> matrix (component, channel), diagonal
    inside = np.flatnonzero(active)
    inverse = gram[inside][:, inside].copy()
    _invert(inverse)
    for place, i in enumerate(inside):
        diagonal[i] = inverse[place, place]
        if wanted:
            matrix[i] = 0.0
            _add_rows(matrix[i], inverse[place], design, inside)
    share = np.empty(inside.size)
    for j in np.flatnonzero(~active):
        own = gram[j, j]
        for place in range(inside.size):
            share[place] = 0.0
            for other, k in enumerate(inside):
                share[place] -= inverse[place, other] * gram[k, j]
            own += gram[inside[place], j] * share[place]
        diagonal[j] = 1.0 / own
        if wanted:
            matrix[j] = design[j] / own
            _add_rows(matrix[j], share / own, design, inside)


@compiled("contract", allocates=True)
def _add_rows(target: Float64, factors: Float64, rows: Float64, which: Integers) -> None:
    # (channel,) += Σ factor · row over the rows named; four at a time, to read the target less.
    last = which.size - which.size % 4
    for place in range(0, last, 4):
        a, b = rows[which[place]], rows[which[place + 1]]
        c, d = rows[which[place + 2]], rows[which[place + 3]]
        e, f, g, h = factors[place], factors[place + 1], factors[place + 2], factors[place + 3]
        for channel in range(target.size):
            target[channel] += e * a[channel] + f * b[channel] + g * c[channel] + h * d[channel]
    for place in range(last, which.size):
        a, e = rows[which[place]], factors[place]
        for channel in range(target.size):
            target[channel] += e * a[channel]


@compiled("contract", allocates=True)
def square_influence(matrix: Float64, design: Float64, active: Bool) -> None:
    """Square in place, and divide by what a residual has lost to the fit: 1 - leverage."""
    share = np.zeros(design.shape[1])
    for i in np.flatnonzero(active):
        for channel in range(share.size):
            share[channel] += design[i, channel] * matrix[i, channel]
    for channel in range(share.size):
        share[channel] = 1.0 / (1.0 - min(share[channel], LARGEST_LEVERAGE))
    for row in range(matrix.shape[0]):
        for channel in range(share.size):
            matrix[row, channel] *= matrix[row, channel] * share[channel]


@compiled("contract", "reassoc", allocates=True)
def sum_in_order(values: Float64) -> float:
    """Sum of a row, in an order that its length decides."""
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@compiled(allocates=True)
def _invert(matrix: Float64) -> None:
    # Gauss-Jordan in place; a positive definite matrix needs no exchange of rows.
    size = matrix.shape[0]
    for pivot in range(size):
        scale = 1.0 / matrix[pivot, pivot]
        matrix[pivot, pivot] = 1.0
        for j in range(size):
            matrix[pivot, j] *= scale
        for i in range(size):
            if i != pivot:
                factor = matrix[i, pivot]
                matrix[i, pivot] = 0.0
                for j in range(size):
                    matrix[i, j] -= factor * matrix[pivot, j]


@compiled(allocates=True)
def first_dependent(gram: Float64) -> int:
    """Index of the first component that is a sum of those before it; -1 if there is none."""
    # Cholesky: a pivot is what is left of a component beside those before it.
    factor = np.zeros_like(gram)
    for i in range(gram.shape[0]):
        for j in range(i):
            entry = gram[i, j]
            for k in range(j):
                entry -= factor[i, k] * factor[j, k]
            factor[i, j] = entry / factor[j, j]
        pivot = gram[i, i]
        for k in range(i):
            pivot -= factor[i, k] ** 2
        if not pivot > DEPENDENT * gram[i, i]:
            return i
        factor[i, i] = np.sqrt(pivot)
    return -1
