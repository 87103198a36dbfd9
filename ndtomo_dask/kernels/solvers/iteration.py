"""Steps of a solver, and when each channel has had enough of them.

A channel that has stopped is frozen, bit by bit, whatever the others do; where half of a block has
stopped, only the rest is iterated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.solvers.problem import Problem
from ndtomo_dask.kernels.solvers.products import dot

Array = Any
Arrays = dict[str, Array]
"""Arrays whose last axis is the channel; among what changes, "x" is the volume."""
Advance = Callable[[Arrays, Arrays], tuple[Array, Arrays]]
"""(what is fixed, state) -> misfit of the state's x (channel,), and the next state."""
Watch = Callable[[int, Array, Array], None]
"""Is shown the number of steps made, the volume, and its misfit (channel,)."""


@dataclass(frozen=True)
class Stopping:
    """When a channel stops before the last iteration; each rule that holds is enough."""

    residual: float = 0.0
    """Where |y - A x| <= residual |y|, both weighted."""
    change: float = 0.0
    """Where a step moves the volume by no more than ``change`` of its norm."""
    discrepancy: float | None = None
    """Where |y - A x|^2 <= discrepancy × (number of samples), weighted by 1 / variance; 1 is the
    noise itself (Morozov 1966)."""

    def __post_init__(self) -> None:
        for name in ("residual", "change", "discrepancy"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise OptionError(f"Stopping({name}={value}) must be a number of 0 or more.")

    def target(self, problem: Problem, scale: Array | None = None) -> Array:
        """Misfit at which each channel stops; ``scale`` is the misfit of a volume of zeros."""
        samples, weights = problem.sinogram, problem.weights
        xp = array_namespace(samples)
        scale = dot(samples, samples, weights) if scale is None else scale
        target = self.residual**2 * scale
        if self.discrepancy is None:
            return target
        count = xp.sum(xp.astype(weights > 0, xp.float64), axis=(0, 1))
        return xp.where(xp.isnan(target), target, xp.maximum(target, self.discrepancy * count))


def check_iterations(iterations: int) -> None:
    """Raise `OptionError` unless there is at least one iteration."""
    if iterations < 1:
        raise OptionError(f"iterations={iterations} does nothing: pass a number of 1 or more.")


def iterate(
    advance: Advance,
    fixed: Arrays,
    start: Callable[[], Arrays],
    *,
    iterations: int,
    stop: Stopping | None = None,
    target: Array = None,
    watch: Watch | None = None,
    coupled: bool = False,
) -> Array:  # (y, x, channel)
    """Advance the state until every channel has stopped or made all iterations; its volume.

    Parameters
    ----------
    advance
        One step. It must not write into what it is given, nor keep arrays that have channels.
    fixed, start
        What stays, and what makes the first state, which is let go of after the first step; an
        array of one channel serves all.
    iterations, stop, target, watch
        The last step; the rule, and the misfit at which it stops; who looks on.
    coupled
        Whether channels depend on one another, and so stop together.
    """
    state = start()
    if stop is None and watch is None:
        for _ in range(iterations):
            _, state = advance(fixed, state)
        return state["x"]
    xp = array_namespace(state["x"])
    active = xp.ones(state["x"].shape[-1:], dtype=xp.bool)
    for iteration in range(iterations):
        misfit, following = advance(fixed, state)
        if watch is not None:
            watch(iteration, state["x"], misfit)
        if stop is not None:
            if coupled:
                misfit, target = (xp.sum(each, keepdims=True) for each in (misfit, target))
            active = active & ~(misfit <= target)  # a NaN goes on, so that it shows
            if not bool(xp.any(active)):
                return state["x"]
            following, active = _freeze(stop, active, state, following, coupled)
        state = following
        going = int(xp.sum(xp.astype(active, xp.int64)))
        if not going:
            break
        if not coupled and watch is None and 2 * going <= active.shape[0]:
            return _narrow(advance, fixed, state, active, iterations - iteration - 1, stop, target)
    if watch is not None:
        watch(iteration + 1, state["x"], advance(fixed, state)[0])
    return state["x"]


def _freeze(
    stop: Stopping, active: Array, state: Arrays, following: Arrays, coupled: bool
) -> tuple[Arrays, Array]:
    """State in which channels that are done have not moved, and which channels still go on."""
    xp = array_namespace(state["x"])
    kept = {name: xp.where(active, new, state[name]) for name, new in following.items()}
    if stop.change:
        step = kept["x"] - state["x"]
        moved, size = dot(step, step), dot(kept["x"], kept["x"])
        if coupled:
            moved, size = (xp.sum(each, keepdims=True) for each in (moved, size))
        active = active & ~(moved <= stop.change**2 * size)
    return kept, active


def _narrow(
    advance: Advance,
    fixed: Arrays,
    state: Arrays,
    active: Array,
    iterations: int,
    stop: Stopping | None,
    target: Array,
) -> Array:
    """Go on with the channels that have not stopped, in a block of their own."""
    xp = array_namespace(state["x"])
    (places,) = xp.nonzero(active)

    def take(array: Array) -> Array:
        return array if array.shape[-1] == 1 else xp.take(array, places, axis=-1)

    x = xp.asarray(state["x"], copy=True)
    x[..., places] = iterate(
        advance,
        {name: take(array) for name, array in fixed.items()},
        lambda: {name: take(array) for name, array in state.items()},
        iterations=iterations,
        stop=stop,
        target=take(target),
    )
    return x
