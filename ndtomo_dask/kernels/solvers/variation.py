"""Total variation: least squares with as few and as short edges as the data allow."""

from dataclasses import replace
from functools import partial
from typing import Any

from array_api_compat import array_namespace, device

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.projectors import Projector
from ndtomo_dask.kernels.solvers.gradients import Coupling, gradient, gradient_adjoint, shrink
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
    per_channel,
    ratio,
    reciprocal,
)
from ndtomo_dask.kernels.solvers.products import dot, total

Array = Any

PACE = 0.06
"""Step of the dual variable of the samples, over their weight; measured on noisy phantoms of 48
to 128 pixels: 0.03 to 0.1 need about as many iterations, 0.01 and 1 several times as many."""
BALANCE = 0.5
"""Length of the steps of the edges against those of the rays; 0.3 to 1 do about as well."""


def tv(
    A: Projector,
    sinogram: Array,
    *,
    regularization: Any,
    iterations: int = 200,
    nonnegative: bool = False,
    mask: Array | None = None,
    weights: Array | None = None,
    x0: Array | None = None,
    bounds: Bounds | None = None,
    support: Support = None,
    stop: Stopping | None = None,
    watch: Watch | None = None,
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Least squares with total variation, min ½|y - A x|² + α Σ |∇x|, each channel alone.

    The variation is isotropic: the length of the gradient, summed over the pixels (Rudin, Osher &
    Fatemi 1992; Sidky & Pan 2008). Solved by the primal-dual method of Chambolle & Pock (2011)
    with the step lengths of Pock & Chambolle (2011), which need no norm of A and no tuning: data in
    another unit, with α in that unit, make the same steps.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Line integrals, with lengths in translation steps.
    regularization
        The α of the formula, a number or one per channel. In units of the sinogram times the
        weights times translation steps; noise of standard deviation σ in P projections needs α of
        the order of σ √P without weights.
    iterations
        Steps from a volume of zeros; 100 to 300 come within 0.1 % of the least value.
    nonnegative, bounds
        Least and largest value of a pixel.
    mask
        True where a sample has no weight, as sinogram-shaped or with one channel for all.
    weights
        Weight of each sample, such as 1 / variance; 0 or NaN where it has none; shaped as ``mask``.
    x0
        Volume to start from, instead of zeros; the dual variables begin anew.
    support
        None for all pixels; "circle" or True where a pixel may be other than 0, (y, x).
    stop
        When a channel stops before ``iterations``; ``change`` tells of convergence.
    watch
        Called with the steps made, the volume and its misfit |y - A x|² (weighted).

    Returns
    -------
    Density per translation step.
    """
    problem = make_problem(
        A, sinogram, mask=mask, weights=weights, support=support,
        nonnegative=nonnegative, bounds=bounds,
    )  # fmt: skip
    alpha = per_channel(sinogram, regularization, "regularization")
    return _solve(problem, alpha, "none", iterations, x0, stop, watch)


def vectorial_tv(
    A: Projector, sinogram: Array, *, regularization: float, scales: Any = None, **options: Any
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Least squares with the variation of all channels at once: they share where edges are.

    min ½|y - A x|² + α Σ √(Σ |∇x_c / s_c|²), the inner sum over the channels (Blomgren & Chan
    1998; Bresson & Chan 2008): an edge that one channel has costs less in the others.

    **The channels of a block are coupled.** The result depends on which channels stand together:
    whoever calls this must hand over all that belong together at once, and never cut them. A
    channel with a sample that is not finite (and not masked) is left out, and comes back as NaN.

    Parameters
    ----------
    A, sinogram
        As of `tv`.
    regularization
        The α of the formula, one number.
    scales
        The s_c of the formula, (channel,), such as the noise or the mean of each channel; without
        them a channel of large values alone decides where edges are.
    options
        Those of `tv`; all channels stop together, by their misfits added up.
    """
    return _coupled(A, sinogram, regularization, scales, "shared", options)


def nuclear(
    A: Projector, sinogram: Array, *, regularization: float, scales: Any = None, **options: Any
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Least squares with total nuclear variation: channels share edges and their directions.

    min ½|y - A x|² + α Σ ‖J‖, with ‖J‖ the sum of the two singular values of the matrix of a
    pixel's gradients by channels, ∇x_c / s_c (Holt 2014; Duran et al. 2016). It is least where all
    gradients of a pixel are parallel, whatever their size and sign.

    **The channels of a block are coupled**, as in `vectorial_tv`, whose parameters it has.
    """
    return _coupled(A, sinogram, regularization, scales, "nuclear", options)


def _coupled(
    A: Projector,
    sinogram: Array,
    regularization: float,
    scales: Any,
    coupling: Coupling,
    options: dict[str, Any],
) -> Array:
    """Solve for the channels that are finite, each in units of its scale."""
    how = {name: options.pop(name, None) for name in ("x0", "stop", "watch")}
    iterations = options.pop("iterations", 200)
    problem = make_problem(A, sinogram, **options)
    xp = problem.xp
    alpha = per_channel(sinogram[..., :1], regularization, "regularization")
    finite = xp.isfinite(dot(problem.sinogram, problem.sinogram, problem.weights))
    if not bool(xp.all(finite)):
        options |= how | {"iterations": iterations}
        return _finite_only(A, sinogram, finite, regularization, scales, coupling, options)
    units = None
    if scales is not None:
        units = xp.astype(_positive(sinogram, scales), sinogram.dtype)
        problem = _in_units(problem, units)
        how["x0"] = None if how["x0"] is None else how["x0"] / units
    x = _solve(problem, alpha, coupling, iterations, how["x0"], how["stop"], how["watch"])
    return x if units is None else x * units


def _solve(
    problem: Problem,
    alpha: Array,
    coupling: Coupling,
    iterations: int,
    x0: Array | None,
    stop: Stopping | None,
    watch: Watch | None,
) -> Array:
    check_iterations(iterations)
    fixed = _steps(problem) | {"alpha": alpha}
    return iterate(
        _advance(problem, coupling), fixed, partial(_start, problem, x0), iterations=iterations,
        stop=stop, target=None if stop is None else stop.target(problem), watch=watch,
        coupled=coupling != "none",
    )  # fmt: skip


def _start(problem: Problem, x0: Array | None) -> Arrays:
    x = problem.start(x0)
    edges = gradient(problem.xp.zeros_like(x))
    rays = problem.xp.zeros_like(problem.sinogram)
    return {"x": x, "seen": problem.A(x), "rays": rays, "edges": edges}


def _steps(problem: Problem) -> Arrays:
    """Step lengths from the sums of rows and columns of A and of the gradient."""
    A, xp, weights = problem.A, problem.xp, problem.weights
    lengths = A(problem.region())
    length = ratio(dot(lengths, lengths), total(lengths))
    kept = xp.astype(weights > 0, weights.dtype)
    weight = ratio(dot(weights, weights), dot(weights, kept))
    columns = A.T(kept)
    edge = BALANCE * xp.max(columns, axis=(0, 1)) / 4
    pace = xp.astype(PACE * weight * length, lengths.dtype)
    rays = pace * reciprocal(lengths)
    volume = ratio(xp.ones_like(columns), (columns + 4 * edge) * pace)
    return {
        "y": problem.sinogram,
        "w": weights,
        "ray step": rays,
        "ray keeps": ratio(weights, weights + rays),
        "edge step": pace * edge / 2,
        "step": volume if problem.support is None else volume * problem.support,
    }


def _advance(problem: Problem, coupling: Coupling) -> Advance:
    A = problem.A

    def advance(fixed: Arrays, state: Arrays) -> tuple[Array | None, Arrays]:
        misfit = _misfit(state["seen"], fixed)
        x = A.T(state["rays"])
        x += gradient_adjoint(state["edges"])
        x *= -fixed["step"]
        x += state["x"]
        x = problem.constrain(x)
        seen = A(x)
        rays = 2 * seen
        rays -= state["seen"]
        rays -= fixed["y"]
        rays *= fixed["ray step"]
        rays += state["rays"]
        rays *= fixed["ray keeps"]
        edges = gradient(_ahead(x, state["x"]))
        edges *= fixed["edge step"]
        edges += state["edges"]
        edges = shrink(edges, fixed["alpha"], coupling)
        return misfit, {"x": x, "seen": seen, "rays": rays, "edges": edges}

    return advance


def _ahead(x: Array, before: Array) -> Array:
    ahead = 2 * x
    ahead -= before
    return ahead


def _misfit(seen: Array, fixed: Arrays) -> Array:
    residual = seen - fixed["y"]
    return dot(residual, residual, fixed["w"])


def _positive(sinogram: Array, scales: Any) -> Array:
    numbers = per_channel(sinogram, scales, "scales")
    if not bool(array_namespace(numbers).all(numbers > 0)):
        raise OptionError("scales must be greater than 0: pass the noise or mean of each channel.")
    return numbers


def _in_units(problem: Problem, units: Array) -> Problem:
    low, high = (None if bound is None else bound / units for bound in problem.bounds)
    weights = problem.weights * units**2
    return replace(problem, sinogram=problem.sinogram / units, weights=weights, bounds=(low, high))


def _finite_only(
    A: Projector,
    sinogram: Array,
    finite: Array,
    regularization: float,
    scales: Any,
    coupling: Coupling,
    options: dict[str, Any],
) -> Array:
    """Volume of the finite channels as if there were no others, and NaN in those."""
    xp = array_namespace(sinogram)
    (places,) = xp.nonzero(finite)
    shape = (*A.geometry.shape, sinogram.shape[2])
    x = xp.full(shape, xp.nan, dtype=sinogram.dtype, device=device(sinogram))
    if not places.shape[0]:
        return x

    def take(array: Any) -> Any:
        whole = array is None or array.shape[-1] == 1
        return array if whole else xp.take(array, places, axis=-1)

    for name in ("mask", "weights", "x0"):
        if options.get(name) is not None:
            options[name] = take(xp.asarray(options[name]))
    scales = None if scales is None else take(_positive(sinogram, scales))
    options = {name: value for name, value in options.items() if value is not None}
    some = xp.take(sinogram, places, axis=-1)
    x[..., places] = _coupled(A, some, regularization, scales, coupling, options)
    return x
