"""Running a recipe on a scan while it is being written.

Following is resuming again and again: each pass takes the steps on the slices that are complete by
then, and writes only the blocks that are missing. The last pass has the whole scan, and does what
needs all of it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ndtomo_dask.errors import OptionError, RecipeError, Stopped
from ndtomo_dask.io.growing import Slices, Watch, leading_dims, watch
from ndtomo_dask.recipes.recipe import Recipe, Step

FROM_FIRST = ("find_rotation_center", "find_projection_shifts")
"""Estimates that are found in the first complete slice, and hold for all."""
PER_SLICE = {"find_air": "remove_air", "find_projection_scale": "normalize_projections"}
"""Estimates of every slice, and the verbs that make them slice by slice by themselves."""
OF_ALL = ("normalize_monitor",)
"""Corrections that compare all slices."""
_LONGEST_POLL = 5.0
_SHARE_OF_TIME = 10
"""Looking at the scan takes at most one part in so many of the time."""

Say = Callable[[str, float], None]


def _say_nothing(what: str, idle: float) -> None: ...


@dataclass(frozen=True)
class Following:
    """How a scan that is being written is followed."""

    settle: float = 30.0
    """Seconds without a change after which a scan that is wholly there counts as ended."""
    patience: float = 3600.0
    """Seconds without a change after which an unfinished scan is given up."""
    say: Say = _say_nothing
    """Told what is waited for, and for how many seconds nothing has changed."""

    def __post_init__(self) -> None:
        for name in ("settle", "patience"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name}={getattr(self, name)} is not a time: give seconds.")


def check_followed(recipe: Recipe, ds: xr.Dataset) -> None:
    """Refuse a recipe that needs the whole scan before its first slice can be done."""
    slices = int(np.prod([ds.sizes[dim] for dim in leading_dims(ds)]))
    for step in recipe.steps:
        if step.verb in PER_SLICE and slices > 1:
            raise RecipeError(
                f"{step.verb} needs every slice, and a scan that is followed does not have them "
                f"yet. Leave it out: {PER_SLICE[step.verb]} estimates each slice by itself."
            )
        if step.verb in OF_ALL:
            raise RecipeError(
                f"{step.verb} compares all slices, and a scan that is followed does not have them "
                f"yet. Leave it out, or run the recipe without --follow when the scan has ended."
            )


def waits_for_all(step: Step) -> bool:
    """Tell whether a step can be taken only when the whole scan is there."""
    return step.finds and step.verb not in FROM_FIRST


def first_slice(ds: xr.Dataset, slices: Slices) -> xr.Dataset:
    """Return the first slice that is complete, for estimates that hold for all."""
    return ds.isel({dim: index for dim, index in slices.first.items() if dim in ds.dims})


def found_in(slices: Slices) -> dict[str, str]:
    """Say which slice that was, to be noted with an estimate."""
    where = ", ".join(f"{dim} index {index[0]}" for dim, index in slices.first.items())
    return {"found_in": f"the first slice that was complete, {where}"} if where else {}


def passes(ds: xr.Dataset, following: Following) -> Iterator[Slices]:
    """Yield what to do, each time that slices have become complete; the last time all are.

    Raises
    ------
    Stopped
        Nothing has changed for as long as one is patient, or the user interrupts the waiting.
    """
    watched, dims = watch(ds, settle=following.settle), leading_dims(ds)
    done = np.zeros_like(watched.complete)
    while not done.all():
        ready = _more_than(done, watched, following)
        yield Slices(dims, ready, ready & ~done)
        done = ready


def _more_than(done: np.ndarray, watched: Watch, following: Following) -> np.ndarray:
    """Wait until more slices are complete than were."""
    try:
        while True:
            start = time.monotonic()
            watched.look()
            if (watched.complete & ~done).any():
                return watched.complete.copy()
            _wait(done, watched, following, time.monotonic() - start)
    except KeyboardInterrupt:
        raise Stopped(
            f"interrupted while waiting for {watched.path.name}. What was written is kept: run "
            f"again with --follow --resume."
        ) from None


def _wait(done: np.ndarray, watched: Watch, following: Following, took: float) -> None:
    waiting = f"slice {int(done.sum()) + 1} of {done.size} of {watched.path.name}"
    if watched.idle >= following.patience:
        raise Stopped(
            f"gave up waiting for {waiting}, which has not changed for {watched.idle:.0f} s. What "
            f"was written is kept: run again with --follow --resume."
        )
    following.say(waiting, watched.idle)
    poll = min(_LONGEST_POLL, following.settle / 4, following.patience / 4)
    time.sleep(max(poll, _SHARE_OF_TIME * took))
