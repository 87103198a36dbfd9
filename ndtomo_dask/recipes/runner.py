"""Running a recipe: what is lazy, what is stored, what was found, and in which layout."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.errors import OptionError, StoreError
from ndtomo_dask.io.blocks import Share
from ndtomo_dask.io.growing import Slices
from ndtomo_dask.io.lock import locked, waiting_lock
from ndtomo_dask.io.repair import FOUND_GROUP, remove_damaged
from ndtomo_dask.io.scan import by_projection, open_scan
from ndtomo_dask.io.store import (
    create_store,
    is_store,
    remove_store,
    save,
    store_attributes,
)
from ndtomo_dask.io.swmr import FOLLOWED
from ndtomo_dask.recipes.follow import (
    Following,
    check_followed,
    first_slice,
    found_in,
    passes,
    waits_for_all,
)
from ndtomo_dask.recipes.integrated import store_integrated
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import INTEGRATE, Recipe, Step, open_input
from ndtomo_dask.variables import MASK

DIGEST, SOURCE = "recipe_digest", "source"
STAGED_GROUP = "staged"
"""Group of a store with versions of variables that later steps replace; may be deleted."""
LARGE_ESTIMATE = 16 * MB
IMAGE_DIMS = ("angle", "translation", "y", "x")


@dataclass
class Run:
    """The state of a run between two steps."""

    recipe: Recipe
    ds: xr.Dataset
    share: Share | None = None
    """Which part of the blocks is this process's; None for all."""
    slices: Slices | None = None
    """What is there of a scan that is followed; None for all."""
    found: dict[str, xr.Dataset] = field(default_factory=dict)
    """The last result that holds each variable which a verb may apply."""
    pending: set[str] = field(default_factory=set)
    """Variables that were made but not stored."""
    stored: set[str] = field(default_factory=set)
    """Variables that this run has stored, or found whole; an interrupted one may have more."""
    timings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """Where the results go."""
        return self.recipe.output


def run_recipe(
    recipe: Recipe,
    *,
    resume: bool = False,
    overwrite: bool = False,
    share: Share | None = None,
    following: Following | None = None,
) -> xr.Dataset:
    """Run a recipe to its end, and return the stored result, lazily, in whole spectra.

    With ``resume`` an interrupted run goes on: estimates that were found and blocks that were
    written are kept. With a ``share`` several processes run the same recipe on one store: each
    does its share of the blocks of a stage, then helps with what is left of the others'; one finds
    an estimate while the others wait. With ``following`` the input is a scan that is still being
    written: each slice is done when it is complete. Beside the store, ``….run.json`` records what
    each stage took.

    Raises
    ------
    PlanError
        A step would not fit the workers' memory; nothing has run.
    StoreError
        The output exists (and neither ``resume`` nor ``overwrite`` is given), ``resume`` is asked
        for and it was made by another recipe or from other input, or another run writes to it.
    Stopped
        The scan that is followed has not changed for too long.
    """
    recipe = replace(recipe, follow=following is not None)
    source = open_input(recipe)
    about = {DIGEST: recipe.digest, "recipe": recipe.text, SOURCE: source.attrs.get(SOURCE, "")}
    if following is not None:
        check_followed(recipe, source)
    plans = plan_recipe(recipe, source)
    if share is not None and overwrite:
        raise OptionError(f"share {share} would delete what others do: leave overwrite out.")
    with locked(recipe.output, None if share is None else str(share)):
        _begin(recipe.output, about, resume=resume, overwrite=overwrite, share=share)
        run = Run(recipe, source.assign_attrs(about), share)
        if following is None:
            _take_all(run)
        else:
            _follow(run, following)

    record = _beside(recipe.output, "run.json" if share is None else f"run.{share.number}.json")
    content = {"recipe": recipe.text, "plan": [made.row() for made in plans], "stages": run.timings}
    record.write_text(json.dumps(content, indent=1))
    return open_scan(recipe.output, layout="spectra")


def _begin(
    output: Path, about: Mapping[str, str], *, resume: bool, overwrite: bool, share: Share | None
) -> None:
    """Make the store, or see that it is one to go on with."""
    if share is None:
        _check_output(output, about, resume=resume, overwrite=overwrite)
        if output.exists():
            remove_damaged(output)
        create_store(output, about)
        return
    with waiting_lock(_beside(output, "begin")):
        _check_output(output, about, resume=True, overwrite=False)
        create_store(output, about)


def _beside(output: Path, suffix: str) -> Path:
    return output.with_suffix(f".{suffix}")


def _follow(run: Run, following: Following) -> None:
    """Do the steps again and again, each time on the slices that have become complete."""
    for slices in passes(run.ds, following):
        _take_all(Run(run.recipe, run.ds, run.share, slices, timings=run.timings))


def _take_all(run: Run) -> None:
    """Do the steps, then store what is to be kept and is not stored yet."""
    for number, step in enumerate(run.recipe.steps):
        start = time.monotonic()
        if run.slices is not None and not run.slices.at_last and waits_for_all(step):
            needs = step.needs or ("sinogram", "")
            _store(run, run.pending & {needs[0], *run.recipe.save})
            _note(run, "save", start)
            return
        _take(run, number, step)
        _note(run, step.verb, start)
    start = time.monotonic()
    _store(run, run.pending & (set(run.recipe.save) or run.pending))
    _note(run, "save", start)


def _check_output(output: Path, about: Mapping[str, str], *, resume: bool, overwrite: bool) -> None:
    if not output.exists():
        return
    if overwrite:
        remove_store(output)
        return
    if not resume:
        raise StoreError(
            f"{output} exists. Pass --resume to finish an interrupted run, --overwrite to start "
            f"again, or another output."
        )
    made = store_attributes(output)
    if str(made.get(SOURCE, "")).endswith(FOLLOWED) and not about[SOURCE].endswith(FOLLOWED):
        raise StoreError(
            f"{output} was made of a scan that was followed. Pass --follow --resume to finish it, "
            f"--overwrite to start again, or another output."
        )
    for key, what in ((DIGEST, "by another recipe"), (SOURCE, "from other input")):
        if (made or not _is_begun(output)) and made.get(key) != about[key]:
            raise StoreError(
                f"{output} was made {what}, so it cannot be resumed. Pass --overwrite to start "
                f"again, or another output."
            )


def _is_begun(output: Path) -> bool:
    """Tell whether a run was killed before it had written what the store is about."""
    return {entry.name for entry in output.iterdir()} <= {FOUND_GROUP}


def _take(run: Run, number: int, step: Step) -> None:
    """Do one step: bring the data into its layout, then find, or apply."""
    verb = step.definition
    if step.verb == INTEGRATE:
        run.ds = store_integrated(run.ds, run.store, run.share)
        run.pending |= {str(name) for name in run.ds.data_vars} & set(run.recipe.save)
        return
    if step.needs is not None:
        _bring(run, number, *step.needs)
    if step.finds:
        # What a find_ verb reads is stored first, if it is final and to be kept: otherwise every
        # step behind it would be computed twice.
        _store(run, run.pending & set(run.recipe.save) - _replaced(run, number))
        result = _find(run, number, step)
        run.found |= {str(name): result for name in result.data_vars}
        return
    before = run.ds
    run.ds = verb.function(run.ds, *_applied(run, step), **step.options)
    run.pending |= {
        str(name)
        for name in run.ds.data_vars
        if name not in before or run.ds[name].data is not before[name].data
    }
    run.pending &= {str(name) for name in run.ds.data_vars}


def _applied(run: Run, step: Step) -> list[xr.Dataset]:
    applies = step.definition.applies
    if applies is None or applies not in run.found or step.is_given:
        return []
    return [run.found[applies]]


def _find(run: Run, number: int, step: Step) -> xr.Dataset:
    """Compute an estimate, or read it if an interrupted run has found it already."""
    kept = run.store / FOUND_GROUP / f"{number:02d}_{step.verb}"
    with nullcontext() if run.share is None else waiting_lock(_beside(run.store, kept.name)):
        if not is_store(kept):
            result = _found(run, step)
            unfinished = kept.with_name(f"{kept.name}.partial")
            shutil.rmtree(unfinished, ignore_errors=True)
            save(result, unfinished)
            unfinished.rename(kept)
    found = open_scan(kept)
    # A large estimate, such as the air of many slices, is read by the blocks that need it: carried
    # in memory, it would travel with the graph.
    return found if found.nbytes > LARGE_ESTIMATE else found.load()


def _found(run: Run, step: Step) -> xr.Dataset:
    applied = _applied(run, step)
    if run.slices is None or waits_for_all(step):
        return step.definition.function(run.ds, *applied, **step.options)
    ds = first_slice(run.ds, run.slices)
    result = step.definition.function(ds, *applied, **step.options)
    return result.assign_attrs(found_in(run.slices))


def _bring(run: Run, number: int, variable: str, layout: str) -> None:
    """See that a variable is whole in the way a verb needs; if not, store it and reopen it."""
    if variable not in run.ds:
        return
    whole = IMAGE_DIMS if layout == "images" else ("channel",)
    names = {variable, f"{variable}_variance"} & {str(name) for name in run.ds.data_vars}
    if not any(_is_split(run.ds[name], whole) for name in names):
        return
    if variable in _replaced(run, number):
        _stage(run, number, names, layout)
        return
    if names & run.pending or not names <= run.stored:
        _store(run, names | (run.pending & set(run.recipe.save)))
    _reopen(run, layout)


def _replaced(run: Run, number: int) -> set[str]:
    """Name what this step or a later one makes another version of, and the variances of that."""
    names = {later.definition.replaces for later in run.recipe.steps[number:]} - {None}
    return {f"{name}{suffix}" for name in names for suffix in ("", "_variance")}


def _is_split(array: xr.DataArray, dims: Iterable[str]) -> bool:
    return any(len(array.chunksizes.get(dim, (0,))) > 1 for dim in dims)


def _stage(run: Run, number: int, names: set[str], layout: str) -> None:
    """Store what a later step replaces, in a group of its own, and read it from there."""
    ds = run.ds.drop_vars(set(run.ds.data_vars) - names)
    staged = run.store / STAGED_GROUP / f"{number:02d}"
    create_store(staged.parent, {})
    save(_in_shards(ds), staged, resume=True, share=run.share, slices=run.slices)
    again = open_scan(staged, layout=layout)
    run.ds = run.ds.assign({name: again[name].variable for name in names})


def _store(run: Run, names: set[str]) -> None:
    """Write variables, and with them the small ones that later steps may need; then read those."""
    if not names:
        return
    small = {
        str(name)
        for name, array in run.ds.data_vars.items()
        if "channel" not in array.dims or name == MASK.name
    }
    beside = small - run.pending - run.stored
    others = set(run.ds.data_vars) - names - beside
    # Dropping the others, not selecting these, keeps the geometry, whose dimensions may be gone.
    wanted = _in_shards(run.ds.drop_vars(others))
    save(wanted, run.store, resume=True, share=run.share, slices=run.slices)
    run.pending -= names
    run.stored |= names | beside
    _reopen(run, "spectra" if "volume" in run.stored else "images")


def _in_shards(ds: xr.Dataset) -> xr.Dataset:
    split = "sinogram" in ds and len(ds["sinogram"].chunksizes.get("channel", ())) > 1
    return ds if split else by_projection(ds)


def _reopen(run: Run, layout: str) -> None:
    """Read what is stored from the store, as far as this run has come: a resumed one holds more."""
    ds = open_scan(run.store, layout=layout)
    ds = ds.drop_vars(set(ds.variables) - set(run.ds.variables))
    unsaved = {name: run.ds[name] for name in run.pending}
    run.ds = ds.drop_attrs(deep=False).assign_attrs(run.ds.attrs).assign(unsaved)


def _note(run: Run, stage: str, start: float) -> None:
    """Record what a stage took; of a scan that is followed, in all passes together."""
    took = time.monotonic() - start
    known = next((entry for entry in run.timings if entry["stage"] == stage), None)
    if known is None or run.slices is None:
        run.timings.append({"stage": stage, "seconds": round(took, 3)})
    else:
        known["seconds"] = round(known["seconds"] + took, 3)
