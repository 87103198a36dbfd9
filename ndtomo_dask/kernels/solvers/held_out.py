"""How well a volume foretells projections that it was not made of, and which options do best."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import Projector
from ndtomo_dask.kernels.solvers.problem import (
    Problem,
    make_problem,
    take_projections,
)
from ndtomo_dask.kernels.solvers.products import dot

Array = Any
Bool = NDArray[np.bool_]


class HeldOut(NamedTuple):
    """Misfit of the projections that were held out, for each candidate."""

    curve: Any
    """Misfit |y - A x|² (weighted) of each candidate in each channel, (candidate, channel)."""
    summed: Any
    """The same, summed over the channels whose misfits are finite, (candidate,)."""
    best: Any
    """Number of the candidate of least misfit in each channel; -1 where none is finite."""
    best_summed: int
    """Number of the candidate of least misfit in all channels together."""


def hold_out(geometry: ParallelGeometry, fraction: float = 0.1, seed: int = 0) -> Bool:
    """Choose projections to hold out, True where held out, (angle,).

    One is drawn from each of as many equal sectors of the half turn as there are projections to
    hold out, so that what remains has no large gap.
    """
    projections = geometry.angles.size
    count = max(1, round(fraction * projections))
    if not 0 < fraction < 1 or 2 * count > projections:
        raise OptionError(
            f"fraction={fraction:g} of {projections} projections: hold out at least one, and at "
            "most half of them."
        )
    by_angle = np.argsort(np.mod(geometry.angles, np.pi), kind="stable")
    rng = np.random.default_rng(seed)
    held = np.zeros(projections, dtype=bool)
    held[[rng.choice(sector) for sector in np.array_split(by_angle, count)]] = True
    return held


def score_iterations(
    A: Projector,
    sinogram: Array,
    solve: Callable[..., Array],
    iterations: Sequence[int],
    *,
    held_out: Bool,
    mask: Array | None = None,
    weights: Array | None = None,
    **options: Any,
) -> HeldOut:
    """Score numbers of iterations by the projections held out, in one run to the largest.

    ``solve`` is `sirt`, `cgls`, `mlem`, `tv`, …; ``options`` are its other options.
    """
    if not iterations or min(iterations) < 1:
        raise OptionError("iterations to score must be numbers of 1 or more.")
    learned, judged = _split(A, sinogram, mask, weights, held_out)
    curve: dict[int, Array] = {}

    def watch(iteration: int, x: Array, _: Array) -> None:
        if iteration in iterations:
            curve[iteration] = _score(judged, x)

    solve(
        learned.A, learned.sinogram, weights=learned.weights, iterations=max(iterations),
        watch=watch, **options,
    )  # fmt: skip
    return _ranked(learned.xp.stack([curve[iteration] for iteration in iterations]))


def score_candidates(
    A: Projector,
    sinogram: Array,
    solve: Callable[..., Array],
    candidates: Sequence[dict[str, Any]],
    *,
    held_out: Bool,
    mask: Array | None = None,
    weights: Array | None = None,
) -> HeldOut:
    """Score options of a method, such as ``{"regularization": 3.0}``, by projections held out.

    ``solve(A, sinogram, weights=..., **candidate)`` is called for each candidate in turn; without
    mask and weights, ``solve(A, sinogram, **candidate)``, so that `fbp` can be scored too.
    """
    if not candidates:
        raise OptionError("there are no candidates to score: pass at least one.")
    learned, judged = _split(A, sinogram, mask, weights, held_out)
    weighted = mask is not None or weights is not None
    extra = {"weights": learned.weights} if weighted else {}
    curve = [
        _score(judged, solve(learned.A, learned.sinogram, **extra, **candidate))
        for candidate in candidates
    ]
    return _ranked(learned.xp.stack(curve))


def _split(
    A: Projector, sinogram: Array, mask: Array | None, weights: Array | None, held_out: Bool
) -> tuple[Problem, Problem]:
    """Problem of the projections to learn from, and of those to judge by."""
    if held_out.all() or not held_out.any():
        raise OptionError("held_out must be True for some projections, and not for all.")
    whole = make_problem(A, sinogram, mask=mask, weights=weights)

    def part(chosen: Bool) -> Problem:
        samples, kept = (take_projections(a, chosen) for a in (whole.sinogram, whole.weights))
        return make_problem(A.select(chosen), samples, weights=kept)

    return part(~held_out), part(held_out)


def _score(judged: Problem, x: Array) -> Array:
    residual = judged.A(x)
    residual -= judged.sinogram
    return dot(residual, residual, judged.weights)


def _ranked(curve: Array) -> HeldOut:
    xp = array_namespace(curve)
    usable = xp.isfinite(curve)
    known = xp.where(usable, curve, xp.full_like(curve, xp.inf))
    some = xp.any(usable, axis=0)
    best = xp.where(some, xp.argmin(known, axis=0), -1)
    summed = xp.sum(xp.where(xp.all(usable, axis=0), curve, xp.zeros_like(curve)), axis=1)
    return HeldOut(curve, summed, best, int(xp.argmin(summed)))
