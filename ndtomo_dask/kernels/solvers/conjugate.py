"""Conjugate gradients on the normal equations: the fewest steps to least squares."""

from functools import partial
from typing import Any

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
    per_channel,
    ratio,
)
from ndtomo_dask.kernels.solvers.products import dot

Array = Any


def cgls(
    A: Projector,
    sinogram: Array,
    *,
    iterations: int = 10,
    mask: Array | None = None,
    weights: Array | None = None,
    x0: Array | None = None,
    regularization: Any = 0.0,
    support: Support = None,
    stop: Stopping | None = None,
    watch: Watch | None = None,
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Conjugate gradients on the normal equations, min |y - A x|² + λ |x|² (Björck 1996, 7.4.1).

    Each channel has step lengths of its own, from dot products in float64. LSQR (Paige & Saunders
    1982) makes the same steps in exact arithmetic; with λ or few steps the normal equations are
    not so ill-conditioned that its other arithmetic would show, so there is no second method.
    Bounds are not possible: conjugate directions do not survive them.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Line integrals, with lengths in translation steps.
    iterations
        Steps from a volume of zeros; about 10 suit noisy data.
    mask
        True where a sample has no weight, as sinogram-shaped or with one channel for all.
    weights
        Weight of each sample, such as 1 / variance; 0 or NaN where it has none; shaped as ``mask``.
    x0
        Volume to start from, instead of zeros; directions begin anew.
    regularization
        The λ of the formula (Tikhonov), a number or one per channel, in units of the weights times
        translation steps squared. Without weights, λ well below the number of projections keeps
        what is as wide as a few pixels.
    support
        None for all pixels; "circle" or True where a pixel may be other than 0, (y, x).
    stop
        When a channel stops before ``iterations``.
    watch
        Called with the steps made, the volume and its misfit |y - A x|² (weighted).

    Returns
    -------
    Density per translation step.
    """
    check_iterations(iterations)
    problem = make_problem(A, sinogram, mask=mask, weights=weights, support=support)
    fixed = {
        "w": problem.weights,
        "damping": per_channel(sinogram, regularization, "regularization"),
    }
    return iterate(
        _advance(problem), fixed, partial(_start, problem, fixed, x0), iterations=iterations,
        stop=stop, target=stop.target(problem) if stop is not None else None, watch=watch,
    )  # fmt: skip


def _start(problem: Problem, fixed: Arrays, x0: Array | None) -> Arrays:
    x = problem.start(x0)
    residual = problem.sinogram - problem.A(x) if x0 is not None else problem.sinogram
    gradient = _gradient(problem, fixed, residual, x)
    power = dot(gradient, gradient)
    return {"x": x, "residual": residual, "direction": gradient, "power": power, "slope": power}


def _gradient(problem: Problem, fixed: Arrays, residual: Array, x: Array) -> Array:
    gradient = problem.A.T(residual * fixed["w"])
    if bool(problem.xp.any(fixed["damping"] > 0)):
        gradient -= problem.xp.astype(fixed["damping"], x.dtype) * x
    return gradient if problem.support is None else gradient * problem.support


def _advance(problem: Problem) -> Advance:
    A, xp = problem.A, problem.xp

    def advance(fixed: Arrays, state: Arrays) -> tuple[Array | None, Arrays]:
        direction, power = state["direction"], state["power"]
        misfit = dot(state["residual"], state["residual"], fixed["w"])
        projected = A(direction)
        curvature = dot(projected, projected, fixed["w"])
        curvature = curvature + fixed["damping"] * dot(direction, direction)
        step = xp.astype(ratio(state["slope"], curvature), direction.dtype)
        x = step * direction
        x += state["x"]
        projected *= -step
        projected += state["residual"]
        gradient = _gradient(problem, fixed, projected, x)
        following = dot(gradient, gradient)
        turn = ratio(following, power)
        # Directions are conjugate only until rounding is all that is left of the gradient. From
        # then on a step that took the gradient's square for its slope would climb.
        slope = following + turn * dot(gradient, direction)
        gradient += xp.astype(turn, x.dtype) * direction
        return misfit, {
            "x": x, "residual": projected, "direction": gradient, "power": following,
            "slope": slope,
        }  # fmt: skip

    return advance
