"""Likelihoods as the weight and the pull of each channel, for one Levenberg-Marquardt engine.

A likelihood is a cost Σ c(data, model). Half its slope along the model, with its sign turned, is
the *pull* of a channel; the *weight* approximates half its curvature (Fisher scoring), so that
JᵀWJ is the normal matrix and Jᵀ·pull the gradient.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled

Float64 = NDArray[np.float64]

GAUSSIAN, WEIGHTED, POISSON, HUBER, CAUCHY = range(5)
LIKELIHOODS = {
    "gaussian": GAUSSIAN, "weighted": WEIGHTED, "poisson": POISSON, "huber": HUBER,
    "cauchy": CAUCHY,
}  # fmt: skip
"""Every likelihood by its name."""
HUBER_TUNING = 1.345
CAUCHY_TUNING = 2.385
"""Standard deviations where robust costs bend: 95 % efficient for Gaussian noise (Huber 1981)."""
LEAST_COUNT = 1e-3
"""Expected counts below which the Poisson deviance goes on as a parabola: models dip below 0."""


@compiled("contract")
def weigh(
    kind: int, y: Float64, residual: Float64, base: Float64, scale: float, weight: Float64,
    pull: Float64,
) -> float:  # fmt: skip
    """Write each channel's weight and pull; return the cost.

    ``base`` is the inverse variance of each channel, in units of the scaled data; ``scale`` the
    counts that are 1 in those units.
    """
    if kind == POISSON:
        return weigh_counts(y, residual, scale, weight, pull)
    cost = 0.0
    for i in range(y.size):
        square = residual[i] * residual[i] * base[i]
        share = 1.0
        if kind == HUBER and square > HUBER_TUNING**2:
            size = math.sqrt(square)
            share = HUBER_TUNING / size
            cost += HUBER_TUNING * (2.0 * size - HUBER_TUNING)
        elif kind == CAUCHY:
            share = 1.0 / (1.0 + square / CAUCHY_TUNING**2)
            cost -= CAUCHY_TUNING**2 * math.log(share)
        else:
            cost += square
        weight[i] = base[i] * share
        pull[i] = weight[i] * residual[i]
    return cost


@compiled("contract")
def weigh_counts(
    y: Float64, residual: Float64, scale: float, weight: Float64, pull: Float64
) -> float:
    """Write them for Poisson counts; the cost is the deviance 2 Σ (m - y + y ln(y/m)).

    Below `LEAST_COUNT` the deviance is replaced by a parabola of the same value and slope.
    """
    least, cost = LEAST_COUNT / scale, 0.0
    for i in range(y.size):
        model = y[i] - residual[i]
        safe = max(model, least)
        inverse = 1.0 / safe
        cost += safe - y[i]
        if y[i] > 0.0:
            cost += y[i] * math.log(y[i] * inverse)
        weight[i] = scale * inverse
        pull[i] = scale * (y[i] * inverse - 1.0)
        if model < least:
            below, bend = model - least, max(y[i], least) * inverse * inverse
            cost += (1.0 - y[i] * inverse) * below + 0.5 * bend * below * below
            weight[i] = scale * bend
            pull[i] -= scale * bend * below
    return 2.0 * scale * cost


@compiled()
def robust_factor(
    kind: int, residual: Float64, base: Float64, weight: Float64, parameters: int
) -> float:
    """Variance of a robust fit over that of least squares with unit noise (Huber 1981, 7.6)."""
    n = residual.size
    squares, slopes, slopes2 = 0.0, 0.0, 0.0
    for i in range(n):
        square = residual[i] * residual[i] * base[i]
        share = weight[i] / base[i]
        squares += square * share * share
        if kind == HUBER:
            slope = 1.0 if share >= 1.0 else 0.0
        else:
            u = square / CAUCHY_TUNING**2
            slope = (1.0 - u) * share * share
        slopes += slope
        slopes2 += slope * slope
    mean = max(slopes / n, 1e-3)
    spread = 1.0 + parameters / n * (slopes2 / n - mean * mean) / (mean * mean)
    return spread * spread * squares / (n - parameters) / (mean * mean)
