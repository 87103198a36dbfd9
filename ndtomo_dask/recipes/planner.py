"""Planning a recipe: what each step will read, hold and write, before any of it runs."""

from bisect import bisect_left
from collections.abc import Sequence

import xarray as xr

from ndtomo_dask.apply import allowed_memory, block_of, sizes_of
from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.errors import PlanError, RecipeError
from ndtomo_dask.plan import Plan
from ndtomo_dask.recipes.recipe import Recipe, open_input
from ndtomo_dask.recipes.rehearsal import rehearse
from ndtomo_dask.recipes.stages import RESIZING, Stage, resize, retype
from ndtomo_dask.recipes.step_plans import plan_step

_SEARCHED = range(64, 16 * 10**6)
"""MB that a task may need: from 64, where blocks are small already, to 16 TB."""


def plan_recipe(
    recipe: Recipe, ds: xr.Dataset | None = None, *, allowed_mem: int | str | None = None
) -> list[Plan]:
    """Plan every step of a recipe, and every time data are stored between two.

    ``ds`` is what the recipe opens, where it is open already: looking through many files takes
    time.

    Raises
    ------
    PlanError
        A step would not fit the memory allowed.
    RecipeError
        The recipe reconstructs something that is no sinogram, or saves what no step makes.
    SchemaError, OptionError
        A step has an option that does not suit the data, such as a window outside the axis.
    """
    ds = open_input(recipe) if ds is None else ds
    return _plans(recipe, ds, rehearse(recipe, ds), allowed_memory(allowed_mem))


def least_memory(recipe: Recipe) -> int:
    """Bytes that one task must be able to hold for every step to be possible, in whole MB.

    Raises
    ------
    PlanError
        A step needs more than any machine has.
    """
    ds = open_input(recipe)
    left = rehearse(recipe, ds)

    def fits(megabytes: int) -> bool:
        try:
            plans = _plans(recipe, ds, left, megabytes * MB)
        except PlanError:
            return False
        return all(made.projected_mem <= made.allowed_mem for made in plans)

    megabytes = bisect_left(_SEARCHED, True, key=fits) + _SEARCHED.start
    _plans(recipe, ds, left, megabytes * MB)
    return megabytes * MB


def _plans(recipe: Recipe, ds: xr.Dataset, left: Sequence[xr.Dataset], allowed: int) -> list[Plan]:
    name = "sinogram" if "sinogram" in ds else "volume"
    if name not in ds:
        raise RecipeError(
            "the input has neither a sinogram nor a volume, so nothing can be planned."
        )
    array, keeps = ds[name], "sinogram" in recipe.save
    stage = Stage(sizes_of(array), block_of(array), array.dtype.itemsize, allowed, ds, keeps)
    plans: list[Plan] = []
    for step, after in zip(recipe.steps, left, strict=True):
        plans += plan_step(stage, step)
        if step.verb in RESIZING:
            resize(stage, after)
        retype(stage, after)
    return plans
