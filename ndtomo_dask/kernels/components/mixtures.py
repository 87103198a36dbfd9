"""Mixtures of Gaussians by expectation and maximization, each cluster with a shape of its own.

Sums over rows are a partial and a combine, as those of K-means (Dempster, Laird & Rubin, J. R.
Stat. Soc. B 39, 1 (1977)). Covariances are raised by a little, so that none is singular.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.reductions import Reduce, reduce_array, reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FLOOR = 1e-6
"""Share of the mean variance that is added to every variance: as much as scikit-learn's default of
data of unit variance."""
STILL = 1e-5
"""Rise of the mean log-likelihood of a row that counts as standing still."""
FIRST = 10
"""Iterations after which starts are compared."""
SLAB = 2048
"""Rows taken at a time."""


class Mixture(NamedTuple):
    """Gaussians and their weights."""

    weight: Float64
    """Share of the rows, (cluster,)."""
    mean: Float64
    """(cluster, column)."""
    factor: Float64
    """F of the inverse covariances F Fᵀ, triangular, (cluster, column, column)."""


class MixtureSums(NamedTuple):
    """What an iteration needs to know of all rows."""

    size: Int64
    """Rows of which each cluster is the likeliest, (cluster,)."""
    weight: Float64
    """Σ p, (cluster,)."""
    total: Float64
    """Σ p x, (cluster, column)."""
    gram: Float64
    """Σ p x xᵀ, (cluster, column, column)."""
    likelihood: float
    """Σ log p(x)."""


class FoundMixture(NamedTuple):
    """The mixture at the end, the cluster of most rows first."""

    mixture: Mixture
    size: Int64
    likelihood: float
    """Σ log p(x) over all rows."""
    iterations: int


def probabilities(rows: Float, mixture: Mixture) -> tuple[Float64, Float64]:
    """Probability of each cluster for each row, and the logarithm of the row's density.

    (row, column) -> (row, cluster), (row,); NaN where the row is not finite.
    """
    exact, (clusters, columns) = rows.astype(np.float64), mixture.mean.shape
    score = np.empty((len(exact), clusters))
    with np.errstate(invalid="ignore", divide="ignore"):
        for k, factor in enumerate(mixture.factor):
            apart = (exact - mixture.mean[k]) @ factor
            score[:, k] = -0.5 * np.einsum("rc,rc->r", apart, apart)
            score[:, k] += np.log(np.diag(factor)).sum() + np.log(mixture.weight[k])
        score -= 0.5 * columns * np.log(2 * np.pi)
        highest = score.max(axis=1, initial=-np.inf)
        shares = np.exp(score - highest[:, None])
        sums = shares.sum(axis=1)
        return shares / sums[:, None], highest + np.log(sums)


def mixture_partial(rows: Float, mixture: Mixture) -> MixtureSums:
    """Sum the rows of one block, each by its probabilities; columns beyond are left out."""
    columns = mixture.mean.shape[1]

    def sums(strand: Float) -> MixtureSums:
        parts = [
            _sums(strand[first : first + SLAB, :columns], mixture)
            for first in range(0, max(1, len(strand)), SLAB)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = mixture_combine(total, part)
        return total

    return reduce_strands(sums, mixture_combine, rows)


def _sums(rows: Float, mixture: Mixture) -> MixtureSums:
    some = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
    shares, density = probabilities(some, mixture)
    return _weighted(some, shares, float(density.sum()))


def _weighted(rows: Float64, shares: Float64, likelihood: float) -> MixtureSums:
    size = np.bincount(shares.argmax(axis=1), minlength=shares.shape[1])
    gram = np.stack([(rows * share[:, None]).T @ rows for share in shares.T])
    return MixtureSums(size, shares.sum(axis=0), shares.T @ rows, gram, likelihood)


def mixture_combine(first: MixtureSums, second: MixtureSums) -> MixtureSums:
    """Merge the sums of two blocks that were given the same mixture."""
    return MixtureSums(
        first.size + second.size,
        first.weight + second.weight,
        first.total + second.total,
        first.gram + second.gram,
        first.likelihood + second.likelihood,
    )


def start_mixture(rows: Float64, centers: Float64) -> Mixture:
    """Begin with the rows nearest to each center, (row, column), (cluster, column)."""
    distance = np.square(rows[:, None] - centers).sum(axis=2)
    shares = np.eye(len(centers))[distance.argmin(axis=1)]
    return _maximized(_weighted(rows, shares, 0.0), centers, rows.var(axis=0).mean())


def likeliest_start(
    sample: Float64, centers: Sequence[Float64], spread: float, *, iterations: int
) -> Mixture:
    """Take a few steps from each set of centers on a sample, and go on from the likeliest there."""
    rows, few = reduce_array(sample), min(FIRST, iterations)
    tried = [
        find_mixture(rows, start_mixture(sample, one), spread, iterations=few) for one in centers
    ]
    best = max(tried, key=lambda found: found.likelihood)
    return find_mixture(rows, best.mixture, spread, iterations=iterations).mixture


def find_mixture(reduce: Reduce, start: Mixture, spread: float, *, iterations: int) -> FoundMixture:
    """Iterate until the likelihood stands still; ``spread`` is the mean variance of the columns.

    Raises
    ------
    OptionError
        If iterations is below 1.
    """
    if iterations < 1:
        raise OptionError(f"iterations={iterations} must be 1 or more.")
    mixture, before, done = start, -np.inf, 0
    while True:
        sums = reduce(mixture_partial, mixture_combine, mixture=mixture)
        rise = sums.likelihood - before
        if done >= iterations or rise <= STILL * max(1.0, float(sums.weight.sum())):
            break
        mixture, before, done = _maximized(sums, mixture.mean, spread), sums.likelihood, done + 1
    order = np.argsort(-sums.size, kind="stable")
    found = Mixture(*(part[order] for part in mixture))
    return FoundMixture(found, sums.size[order], sums.likelihood, done)


def _maximized(sums: MixtureSums, before: Float64, spread: float) -> Mixture:
    """Mixture that makes the rows likeliest, given their probabilities."""
    columns = before.shape[1]
    weight = np.maximum(sums.weight, np.finfo(np.float64).tiny)
    some = sums.weight > columns * np.finfo(np.float64).eps
    mean = np.where(some[:, None], sums.total / weight[:, None], before)
    floor = max(FLOOR * spread, np.finfo(np.float64).tiny ** 0.5) * np.eye(columns)
    factors = []
    for k in range(len(weight)):
        covariance = floor
        if some[k]:
            covariance = sums.gram[k] / weight[k] - np.outer(mean[k], mean[k]) + floor
        lower = np.linalg.cholesky(covariance)
        factors.append(solve_triangular(lower, np.eye(columns), lower=True).T)
    return Mixture(weight / weight.sum(), mean, np.stack(factors))


def information_criterion(likelihood: float, clusters: int, columns: int, rows: int) -> float:
    """Bayesian information criterion (Schwarz 1978): the least is the best number of clusters.

    >>> round(information_criterion(-100.0, 1, 1, 10), 2)
    204.61
    """
    free = clusters * (columns + columns * (columns + 1) // 2) + clusters - 1
    return float(-2 * likelihood + free * np.log(max(1, rows)))
