"""SIRT and its relatives: each step spreads the misfit of rays over the pixels they cross."""

from functools import partial
from typing import Any

import numpy as np

from ndtomo_dask.errors import OptionError
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
    Bounds,
    Problem,
    Support,
    make_problem,
    reciprocal,
    take_projections,
)
from ndtomo_dask.kernels.solvers.products import descend, dot, weigh_misfit
from ndtomo_dask.kernels.solvers.subsets import Order, projection_subsets

Array = Any


def sirt(
    A: Projector,
    sinogram: Array,
    *,
    iterations: int = 20,
    nonnegative: bool = False,
    mask: Array | None = None,
    weights: Array | None = None,
    x0: Array | None = None,
    relaxation: float = 1.0,
    bounds: Bounds | None = None,
    support: Support = None,
    accelerated: bool = False,
    subsets: int = 1,
    order: Order = "golden",
    stop: Stopping | None = None,
    watch: Watch | None = None,
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Simultaneous iterative reconstruction, x ← x + λ C Aᵀ R W (y - A x) (Gilbert 1972).

    W are the weights; R and C are the reciprocals of the row sums of A and of the column sums of
    W A; where a sum is 0, nothing is added. It minimizes the misfit weighted by W R (by the length
    of rays): with 0 < λ < 2 that never rises (van der Sluis & van der Vorst 1990). Without subsets
    and acceleration, k steps from the volume of m steps (``x0``) are the steps m + 1 to m + k.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Line integrals, with lengths in translation steps.
    iterations
        Steps from a volume of zeros; few of them smooth, many fit the noise.
    nonnegative
        Replace negative pixels by 0 after each step.
    mask
        True where a sample has no weight, as sinogram-shaped or with one channel for all.
    weights
        Weight of each sample, such as 1 / variance; 0 or NaN where it has none; shaped as ``mask``.
    x0
        Volume to start from, instead of zeros.
    relaxation
        The λ of the formula, between 0 and 2.
    bounds
        Least and largest value of a pixel, to which it is moved after each step.
    support
        None for all pixels; "circle" or True where a pixel may be other than 0, (y, x).
    accelerated
        Add Nesterov's momentum (Beck & Teboulle 2009, FISTA), begun anew in a channel where its
        misfit rises (O'Donoghue & Candès 2015). k such steps go as far as about k²/4 plain ones;
        a warm start begins without momentum.
    subsets
        Number of subsets of projections, used one after the other in each iteration
        (Hudson & Larkin 1994). Fast at first; data with noise end in a cycle around the solution.
    order
        Of the subsets: "golden", "bit-reversal" or "sequential".
    stop
        When a channel stops before ``iterations``.
    watch
        Called with the steps made, the volume and its misfit |y - A x|² (weighted by W).

    Returns
    -------
    Density per translation step.
    """
    check_iterations(iterations)
    _check_relaxation(relaxation, accelerated, subsets)
    problem = make_problem(
        A, sinogram, mask=mask, weights=weights, support=support,
        nonnegative=nonnegative, bounds=bounds,
    )  # fmt: skip
    measured = stop is not None or watch is not None
    fixed = {"y": problem.sinogram, "w": problem.weights}
    if subsets > 1:
        turns = projection_subsets(A.geometry, subsets, order)
        fixed, advance = _in_subsets(problem, fixed, turns, relaxation, measured)
    else:
        fixed["rows"], columns = problem.reciprocal_sums()
        fixed["columns"] = columns if relaxation == 1 else columns * relaxation
        advance = _with_momentum(problem) if accelerated else _plain(problem, measured)
    target = stop.target(problem) if stop is not None else None
    start = _resting if accelerated else _still
    return iterate(
        advance, fixed, partial(start, problem, fixed, x0), iterations=iterations, stop=stop,
        target=target, watch=watch,
    )  # fmt: skip


def os_sirt(A: Projector, sinogram: Array, *, subsets: int = 10, **options: Any) -> Array:
    """`sirt` in ordered subsets of the projections; as many as there are projections at most."""
    return sirt(A, sinogram, subsets=min(subsets, A.geometry.angles.size), **options)


def sart(A: Projector, sinogram: Array, *, relaxation: float = 0.3, **options: Any) -> Array:
    """`sirt` projection by projection, in the golden order (SART; Andersen & Kak 1984)."""
    return sirt(A, sinogram, subsets=A.geometry.angles.size, relaxation=relaxation, **options)


def _check_relaxation(relaxation: float, accelerated: bool, subsets: int) -> None:
    if not 0 < relaxation < 2:
        raise OptionError(f"relaxation={relaxation:g} must be between 0 and 2, or it diverges.")
    if accelerated and relaxation > 1:
        raise OptionError(f"relaxation={relaxation:g} with accelerated=True must be at most 1.")
    if accelerated and subsets > 1:
        raise OptionError("accelerated=True and subsets together may diverge: choose one of them.")


def _plain(problem: Problem, measured: bool) -> Advance:
    A = problem.A

    def advance(fixed: Arrays, state: Arrays) -> tuple[Array | None, Arrays]:
        seen = A(state["x"])  # a new array, so that the rest may happen in place
        misfit = _misfit(seen, fixed) if measured else None
        gradient = A.T(weigh_misfit(seen, fixed["y"], fixed["rows"]))
        return misfit, {"x": problem.constrain(descend(gradient, state["x"], fixed["columns"]))}

    return advance


def _still(problem: Problem, _: Arrays, x0: Array | None) -> Arrays:
    return {"x": problem.start(x0)}


def _resting(problem: Problem, fixed: Arrays, x0: Array | None) -> Arrays:
    """State without momentum: two volumes, their projections, the clock and the misfit."""
    x = problem.start(x0)
    seen = problem.A(x)
    residual = seen - fixed["y"]
    height = dot(residual, residual, fixed["rows"])
    clock = problem.xp.ones_like(height)
    return {
        "x": x, "before": x, "seen": seen, "seen before": seen, "clock": clock, "height": height,
    }  # fmt: skip


def _with_momentum(problem: Problem) -> Advance:
    A, xp = problem.A, problem.xp

    def advance(fixed: Arrays, state: Arrays) -> tuple[Array | None, Arrays]:
        misfit = _misfit(state["seen"], fixed)
        clock = (1 + xp.sqrt(1 + 4 * state["clock"] ** 2)) / 2
        push = xp.astype((state["clock"] - 1) / clock, state["x"].dtype)
        residual = state["seen"] - state["seen before"]
        residual *= push
        residual += state["seen"]
        residual -= fixed["y"]
        residual *= fixed["rows"]
        x = A.T(residual)
        x *= -fixed["columns"]
        x += state["x"] + push * (state["x"] - state["before"])
        x = problem.constrain(x)
        seen = A(x)
        height = _misfit(seen, fixed, "rows")
        clock = xp.where(height > state["height"], xp.ones_like(clock), clock)
        following = {"x": x, "before": state["x"], "seen": seen, "seen before": state["seen"]}
        return misfit, following | {"clock": clock, "height": height}

    return advance


def _misfit(seen: Array, fixed: Arrays, weights: str = "w") -> Array:
    residual = seen - fixed["y"]
    return dot(residual, residual, fixed[weights])


def _in_subsets(
    problem: Problem,
    fixed: Arrays,
    turns: list[np.ndarray],
    relaxation: float,
    measured: bool,
) -> tuple[Arrays, Advance]:
    xp = problem.xp
    parts = [(problem.A.select(turn), turn) for turn in turns]
    fixed = fixed | {"rows": problem.weights * reciprocal(problem.A(problem.region()))}
    # Column sums of each subset are kept where they take no more room than the volume.
    keeps = len(turns) * problem.weights.shape[2] <= problem.sinogram.shape[2]
    if keeps:
        sums = [_columns(problem, part, problem.weights, turn) for part, turn in parts]
        fixed["columns"] = xp.stack(sums)

    def advance(fixed: Arrays, state: Arrays) -> tuple[Array | None, Arrays]:
        x = state["x"]
        misfit = _misfit(problem.A(x), fixed) if measured else None
        for number, (part, turn) in enumerate(parts):
            residual = part(x)
            residual -= take_projections(fixed["y"], turn)
            residual *= take_projections(fixed["rows"], turn)
            correction = part.T(residual)
            kept = fixed["columns"][number] if keeps else None
            columns = _columns(problem, part, fixed["w"], turn) if kept is None else kept
            correction *= -relaxation * columns
            correction += x
            x = problem.constrain(correction)
        return misfit, {"x": x}

    return fixed, advance


def _columns(problem: Problem, part: Projector, weights: Array, turn: np.ndarray) -> Array:
    columns = reciprocal(part.T(take_projections(weights, turn)))
    return columns if problem.support is None else columns * problem.support
