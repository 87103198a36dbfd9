"""Moments of peaks over a background drawn between their edges: all linear in the data."""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.components.normal_equations import inner_products

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

MOMENTS = 3
"""∫ y dx, ∫ y (x - origin) dx and ∫ y (x - origin)² dx, of what is above the background."""
ROUNDING = 1e-13
"""Share of its terms below which a sum is taken as 0."""


def moment_weights(axis: Float, *, background: int | None, edge: int) -> Float64:
    """Weights of the samples in each moment about the middle of the axis, by the trapezoidal rule.

    The background is the polynomial of degree ``background`` that is nearest to the ``edge`` first
    and last channels; it is linear in the data, so that what is left of them is, too.

    # (channel,) -> (moment, channel)

    >>> weights = moment_weights(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), background=0, edge=1)
    >>> (weights @ np.array([5.0, 5.0, 7.0, 5.0, 5.0])).tolist()
    [2.0, 0.0, 0.0]
    """
    x = np.asarray(axis, dtype=np.float64)
    shifted = x - origin_of(x)
    steps = np.abs(np.diff(x))
    width = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]]) / 2
    weights = width * np.stack([shifted**power for power in range(MOMENTS)])
    if background is None:
        return weights
    powers = (shifted / np.abs(shifted).max()) ** np.arange(background + 1)[:, None]
    at_edge = np.r_[:edge, x.size - edge : x.size]
    drawn = np.zeros((x.size, x.size))
    drawn[:, at_edge] = powers.T @ np.linalg.pinv(powers[:, at_edge].T)
    return np.asarray(weights - weights @ drawn)


def origin_of(axis: Float) -> float:
    """Middle of an axis, about which its moments are taken."""
    return float((axis.min() + axis.max()) / 2)


def apply_weights(spectra: Float, weights: Float64) -> Float64:
    """Sum the weighted samples of each spectrum; NaN where a sample with a weight is NaN.

    # (pixel, channel), (moment, channel) -> (pixel, moment)
    """
    rows = np.array(spectra, dtype=np.float64, order="C")
    sums, terms = np.empty((2, rows.shape[0], weights.shape[0]))
    inner_products(rows, weights, sums)
    inner_products(np.abs(rows), np.abs(weights), terms)
    # What is left of a flat spectrum is rounding, and no peak at a random position.
    sums[np.abs(sums) < ROUNDING * terms] = 0
    return sums
