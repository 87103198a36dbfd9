"""The arrays that fits in lanes work in, and which fits suit them."""

from typing import NamedTuple

import numpy as np

from ndtomo_dask.kernels.fitting.fit_work import Float64, Integers
from ndtomo_dask.kernels.fitting.lanes import BLOCK, FACTORS, LANES, PEAK, ROW, entry
from ndtomo_dask.kernels.fitting.likelihoods import GAUSSIAN
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peak_shapes import PSEUDO_VOIGT

MOST_PARAMETERS = 12
"""With those of three peaks, lanes gained nothing."""


class Lanes(NamedTuple):
    """Arrays of one thread, lanes last; those over channels, parameters and entries are flat."""

    t: Float64
    """Filled up to whole blocks."""
    background: Float64
    """Filled up to whole blocks and an even number of terms. (term, channel)"""
    y: Float64
    rows: Float64
    factors: Float64
    linear: Integers
    """The free parameters that the model is linear in."""
    sums: Float64
    """The normal matrix of the trial point; (entry, lane)"""
    normal: Float64
    """That of the point that was accepted last."""
    factor: Float64
    current: Float64
    """(parameter, lane)"""
    trial: Float64
    low: Float64
    high: Float64
    goal: Float64
    given: Float64
    """Starts that were given; else NaN."""
    step: Float64
    free: Float64
    leaving: Float64
    """(lane,), as all that follows"""
    drop: Float64
    regular: Float64
    damping: Float64
    growth: Float64
    cost: Float64
    scale: Float64
    accepted: Float64
    phase: Integers
    pixel: Integers
    tried: Integers
    ended: Integers


def allocate_lanes(problem: Problem) -> Lanes:
    """Allocate the arrays for the spectra of a window."""
    n, peaks, terms = problem.t.size, problem.codes.size, problem.background.shape[0]
    filled, even = -(-n // BLOCK) * BLOCK, terms + terms % 2
    t, background = np.full(filled, problem.t[-1]), np.zeros((even, filled))
    t[:n], background[:terms, :n] = problem.t, problem.background
    parameters = PEAK * peaks + even
    matrices = [np.zeros((parameters + 1) * (parameters + 2) // 2 * LANES) for _ in range(3)]
    for matrix in matrices[:2]:
        for a in range(even):
            for b in range(a + 1):
                place = entry(PEAK * peaks + a, PEAK * peaks + b)
                matrix[place : place + LANES] = background[a] @ background[b]
    vectors = [np.zeros(parameters * LANES) for _ in range(8)]
    for vector in vectors:
        vector[2 * LANES : 3 * LANES] = 1.0
    return Lanes(
        t, background, np.zeros(filled * LANES), np.zeros((PEAK * peaks + 1) * ROW),
        np.zeros(peaks * FACTORS), np.flatnonzero(problem.of_data & (problem.source >= 0)),
        *matrices, *vectors,
        *(np.zeros(LANES) for _ in range(8)),
        *(np.zeros(LANES, dtype=np.int64) for _ in range(4)),
    )  # fmt: skip


def suits_lanes(problem: Problem) -> bool:
    """Tell whether a fit is an unweighted one of few pseudo-Voigts that nothing ties.

    The matrices of many parameters do not fit the nearest cache for all lanes.
    """
    parameters = PEAK * problem.codes.size + problem.background.shape[0]
    free = problem.rows[:-1]
    return bool(
        problem.kind == GAUSSIAN
        and (problem.codes == PSEUDO_VOIGT).all()
        and problem.unit.size == parameters <= MOST_PARAMETERS
        and (free < parameters).all()
        and problem.single[free].all()
        and not problem.offset[free].any()
    )
