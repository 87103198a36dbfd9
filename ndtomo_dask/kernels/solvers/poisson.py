"""Maximum likelihood for counts: every step multiplies, so nothing becomes negative."""

from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels.projectors import Projector
from ndtomo_dask.kernels.solvers.iteration import (
    Advance,
    Arrays,
    Stopping,
    Watch,
    check_iterations,
    iterate,
)
from ndtomo_dask.kernels.solvers.problem import (
    Problem,
    Support,
    make_problem,
    ratio,
    reciprocal,
    take_projections,
)
from ndtomo_dask.kernels.solvers.products import total
from ndtomo_dask.kernels.solvers.subsets import Order, projection_subsets

Array = Any

GROUP = 8
"""Projections whose logarithms are held at once, in float64."""


def mlem(
    A: Projector,
    sinogram: Array,
    *,
    iterations: int = 20,
    mask: Array | None = None,
    weights: Array | None = None,
    x0: Array | None = None,
    support: Support = None,
    subsets: int = 1,
    order: Order = "golden",
    stop: Stopping | None = None,
    watch: Watch | None = None,
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Maximum likelihood of Poisson counts, x ← x Aᵀ W (y / A x) / Aᵀ W 1 (Shepp & Vardi 1982).

    After each step without subsets the sum of A x is that of the counts, and the likelihood never
    falls. Counts of any unit will do, if their variance is proportional to them; data from which a
    background was subtracted are not counts.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Counts, 0 or more.
    iterations
        Steps from a uniform volume; few of them smooth, many fit the noise.
    mask
        True where a sample has no weight, as sinogram-shaped or with one channel for all.
    weights
        Weight of each sample in the likelihood; 0 or NaN where it has none; shaped as ``mask``.
    x0
        Volume to start from; a pixel of 0 stays 0. Steps go on from it as if uninterrupted.
    support
        None for all pixels; "circle" or True where a pixel may be other than 0, (y, x).
    subsets
        Number of subsets of projections, used one after the other in each iteration (OSEM; Hudson
        & Larkin 1994): about as many times faster, and neither law above holds.
    order
        Of the subsets: "golden", "bit-reversal" or "sequential".
    stop
        When a channel stops; the misfit is the deviance, 2 Σ w (A x - y + y log(y / A x)), whose
        expectation is about the number of samples where there are more than a few counts
        (Bertero et al. 2010). ``Stopping.residual`` is its square root as a share of a uniform
        volume's.
    watch
        Called with the steps made, the volume and its deviance.

    Returns
    -------
    Density per translation step.

    Raises
    ------
    SchemaError
        A sample that has weight is negative.
    """
    check_iterations(iterations)
    problem = make_problem(
        A, sinogram, mask=mask, weights=weights, support=support, nonnegative=True
    )
    _refuse_negative(problem)
    turns = projection_subsets(A.geometry, subsets, order)
    fixed = {"y": problem.sinogram, "w": problem.weights}
    measured = stop is not None or watch is not None
    target = None
    if stop is not None:
        target = stop.target(problem, deviance(A(_uniform(problem)), fixed["y"], fixed["w"]))
    advance = (
        _all_at_once(problem, fixed, measured)
        if subsets == 1
        else _in_subsets(problem, fixed, turns, measured)
    )
    return iterate(
        advance,
        fixed,
        partial(_start, problem, x0),
        iterations=iterations,
        stop=stop,
        target=target,
        watch=watch,
    )


def osem(A: Projector, sinogram: Array, *, subsets: int = 10, **options: Any) -> Array:
    """`mlem` in ordered subsets of the projections; as many as there are projections at most."""
    return mlem(A, sinogram, subsets=min(subsets, A.geometry.angles.size), **options)


def _start(problem: Problem, x0: Array | None) -> Arrays:
    return {"x": _uniform(problem) if x0 is None else problem.start(x0)}


def _refuse_negative(problem: Problem) -> None:
    xp = problem.xp
    lowest = xp.min(problem.sinogram, axis=(0, 1))
    negative = xp.nonzero(lowest < 0)[0]
    if negative.shape[0]:
        channel = int(negative[0])
        raise SchemaError(
            f"mlem needs counts of 0 or more, but channel {channel} of its block has "
            f"{float(lowest[channel]):g}: use sirt with nonnegative=True, or mask such samples."
        )


def _uniform(problem: Problem) -> Array:
    """Volume of one value in each channel that has as many counts as the data."""
    xp = problem.xp
    region = problem.region()
    counts = total(problem.sinogram, problem.weights)
    seen = total(xp.broadcast_to(problem.A(region), problem.weights.shape), problem.weights)
    return region * xp.astype(ratio(counts, seen), problem.sinogram.dtype)


def _all_at_once(problem: Problem, fixed: Arrays, measured: bool) -> Advance:
    A = problem.A
    fixed["columns"] = reciprocal(A.T(problem.weights))

    def advance(fixed: Arrays, state: Arrays) -> tuple[Array | None, Arrays]:
        seen = A(state["x"])
        misfit = deviance(seen, fixed["y"], fixed["w"]) if measured else None
        return misfit, {"x": _step(A, state["x"], seen, fixed["y"], fixed["w"], fixed["columns"])}

    return advance


def _in_subsets(
    problem: Problem, fixed: Arrays, turns: list[np.ndarray], measured: bool
) -> Advance:
    A = problem.A
    parts = [(A.select(turn), turn) for turn in turns]
    # Column sums of each subset are kept where they take no more room than the volume.
    keeps = len(turns) * problem.weights.shape[2] <= problem.sinogram.shape[2]
    if keeps:
        fixed["columns"] = problem.xp.stack(
            [_columns(part, turn, problem.weights) for part, turn in parts]
        )

    def advance(fixed: Arrays, state: Arrays) -> tuple[Array | None, Arrays]:
        x = state["x"]
        misfit = deviance(A(x), fixed["y"], fixed["w"]) if measured else None
        for number, (part, turn) in enumerate(parts):
            y, w = (take_projections(fixed[name], turn) for name in ("y", "w"))
            kept = fixed["columns"][number] if keeps else None
            columns = _columns(part, turn, fixed["w"]) if kept is None else kept
            x = _step(part, x, part(x), y, w, columns)
        return misfit, {"x": x}

    return advance


def _columns(part: Projector, turn: np.ndarray, weights: Array) -> Array:
    return reciprocal(part.T(take_projections(weights, turn)))


def _step(A: Projector, x: Array, seen: Array, y: Array, w: Array, columns: Array) -> Array:
    quotient = ratio(y, seen)
    quotient *= w
    factor = A.T(quotient)
    factor *= columns
    factor *= x
    return factor


def deviance(seen: Array, y: Array, w: Array) -> Array:
    """2 Σ w (m - y + y log(y / m)) of each channel for counts y and their model m, in float64.

    Infinite where the model is 0 and the count is not.
    """
    xp = array_namespace(y)
    sums = xp.zeros(y.shape[-1:], dtype=xp.float64, device=device(y))
    for first in range(0, y.shape[0], GROUP):
        some = slice(first, first + GROUP)
        sums += total(_terms(xp, seen[some], y[some]), xp.astype(w[some], xp.float64))
    return 2 * sums


def _terms(xp: Any, seen: Array, y: Array) -> Array:
    m, counts = xp.astype(seen, xp.float64), xp.astype(y, xp.float64)
    some, impossible = (counts > 0) & ~(m == 0), (counts > 0) & (m == 0)
    quotient = xp.where(some, counts, 1.0) / xp.where(some, m, 1.0)
    terms = m - counts + xp.where(some, counts * xp.log(quotient), 0.0)
    return xp.where(impossible, xp.inf, terms)
