"""Nonnegative least squares of many rows that share one small matrix, each solved exactly."""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

PATIENCE = 3
"""Exchanges of all wrong weights at once that may fail to improve (Kim & Park 2011)."""

PIVOTS = 20
"""Exchanges at most, per component: a bound for degenerate rows, a few suffice elsewhere."""

DEPENDENT = 1e-13
"""A component whose part independent of the others has less than this share of its energy is 0."""

GRADIENT_ROUNDING = 1e-13
"""Relative size below which a gradient is rounding."""


def nonnegative_rows(products: Float64, gram: Float64, free: Bool | None = None) -> Float64:
    """Minimize wᵀ A w - 2 bᵀ w over w ≥ 0 for each row b, exactly.

    (row, component), (component, component) -> (row, component). Block principal pivoting (Kim &
    Park 2011): guess which weights are positive, solve for them, and exchange those that turn out
    wrong. NaN rows stay NaN; of linearly dependent components the later ones get 0. Weights of
    components that are ``free (component,)`` may be negative.

    >>> nonnegative_rows(np.array([[2.0, -1.0]]), np.eye(2))
    array([[2., 0.]])
    """
    weights = np.full_like(products, np.nan)
    free = np.zeros(gram.shape[0], dtype=np.bool_) if free is None else free
    pivot_rows(products, gram, free, weights)
    return weights


@compiled(allocates=True)
def pivot_rows(products: Float64, gram: Float64, free: Bool, weights: Float64) -> None:
    """Write the solution of `nonnegative_rows` into ``weights``; rows with NaN are left as is."""
    # (row, component), (component, component), (component,) -> weights (row, component)
    components = gram.shape[0]
    factor = np.empty((components, components))
    solution = np.empty(components)
    wrong = np.empty(components, dtype=np.bool_)
    positive = np.ones(components, dtype=np.bool_)
    for row in range(products.shape[0]):
        if not np.isfinite(products[row].sum()):
            continue
        positive[:] = True
        fewest, patience = components + 1, PATIENCE
        for _ in range(PIVOTS * components):
            _solve_positive(gram, products[row], positive, factor, solution)
            errors = _mark_wrong(gram, products[row], positive, free, solution, wrong)
            if errors == 0:
                break
            # Exchanging all at once is fast but may cycle; one at a time, the last, cannot.
            if errors < fewest:
                fewest, patience = errors, PATIENCE
            elif patience > 0:
                patience -= 1
            else:
                wrong[: np.flatnonzero(wrong)[-1]] = False
            positive ^= wrong
        for i in range(components):
            weights[row, i] = solution[i] if free[i] else max(solution[i], 0.0)


@compiled(allocates=True)
def _solve_positive(
    gram: Float64, product: Float64, positive: Bool, factor: Float64, solution: Float64
) -> None:
    # Cholesky L Lᵀ w = b over the positive weights; the others, and dependent ones, are 0.
    components = gram.shape[0]
    factor[:] = 0.0
    solution[:] = 0.0
    for i in range(components):
        if not positive[i]:
            continue
        rest = product[i]
        for j in range(i):
            if factor[j, j] > 0.0:
                entry = gram[i, j]
                for k in range(j):
                    entry -= factor[i, k] * factor[j, k]
                factor[i, j] = entry / factor[j, j]
                rest -= factor[i, j] * solution[j]
        pivot = gram[i, i]
        for k in range(i):
            pivot -= factor[i, k] ** 2
        if pivot > DEPENDENT * gram[i, i]:
            factor[i, i] = np.sqrt(pivot)
            solution[i] = rest / factor[i, i]
        else:
            factor[i, :] = 0.0
    for i in range(components - 1, -1, -1):
        if factor[i, i] > 0.0:
            for j in range(i + 1, components):
                solution[i] -= factor[j, i] * solution[j]
            solution[i] /= factor[i, i]


@compiled(allocates=True)
def _mark_wrong(
    gram: Float64, product: Float64, positive: Bool, free: Bool, solution: Float64, wrong: Bool
) -> int:
    # Wrong is a positive weight that came out negative, or a zero one that would like to grow.
    errors = 0
    for i in range(gram.shape[0]):
        wrong[i] = False
        if free[i]:
            continue
        descent, size = product[i], abs(product[i])
        for j in range(gram.shape[0]):
            descent -= gram[i, j] * solution[j]
            size += abs(gram[i, j] * solution[j])
        wrong[i] = solution[i] < 0.0 if positive[i] else descent > GRADIENT_ROUNDING * size
        errors += wrong[i]
    return errors
