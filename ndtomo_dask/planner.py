"""Planning a recipe: what each step will read, hold and write, before any of it runs."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask import plan, plan_mixing
from ndtomo_dask.apply import allowed_memory, block_of, sizes_of, unlimited_memory
from ndtomo_dask.block_sizes import (
    GRAM_ROWS,
    image_block,
    inner_chunk,
    shard_of_projections,
    spectra_block,
)
from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.component_methods import LARGEST_GRAM
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.eigenchannels import SAMPLE_BLOCK
from ndtomo_dask.errors import PlanError, RecipeError, nearest
from ndtomo_dask.fit import columns_planned
from ndtomo_dask.io.scan import open_scan
from ndtomo_dask.kernels.moments import MOMENTS
from ndtomo_dask.kernels.sketch import READINGS
from ndtomo_dask.kernels.window_fit import KEPT
from ndtomo_dask.kernels.window_values import SLAB
from ndtomo_dask.plan import Plan
from ndtomo_dask.recipe import FOUND, Recipe, Step
from ndtomo_dask.scan_geometry import geometry_of

Sizes = dict[str, int]
SINGLE = ("time", "z", "angle", "y", "x")
"""Dimensions of which a rehearsal needs one entry; it needs all translations and channels."""
_SEARCHED = range(64, 16 * 10**6)
"""MB that a task may need: from 64, where blocks are small already, to 16 TB."""
GEOMETRY_VERBS = ("align_projections", "set_rotation_center")
USUAL_PEAKS = 32
"""How many peaks a search is taken to find that is not told how many to keep."""
MAP_VERBS = ("lattice_parameter", "strain", "crystallite_size", "williamson_hall")
"""Verbs that touch no data, or maps only, which are small."""


@dataclass
class _State:
    """What the data will be when a step begins."""

    sizes: Sizes
    block: Sizes
    itemsize: int
    allowed_mem: int
    scan: xr.Dataset
    """What the recipe opens."""
    stores_sinogram: bool
    """Whether the corrected sinogram is kept, hence stored before it is reconstructed."""
    has_moments: bool = False
    """Whether a step has found the moments of the spectra."""
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of the images, once they are reconstructed."""
    found_peaks: int = 0
    """How many peaks a step may find."""
    fitted: tuple[int, int] = (0, 0)
    """How many peaks are fitted, and the values that a pixel then has."""


def plan_recipe(recipe: Recipe, *, allowed_mem: int | str | None = None) -> list[Plan]:
    """Plan every step of a recipe, and every time data are stored between two.

    Raises
    ------
    PlanError
        A step would not fit the memory allowed.
    RecipeError
        The recipe reconstructs something that is no sinogram, or saves what no step makes.
    SchemaError, OptionError
        A step has an option that does not suit the data, such as a window outside the axis.
    """
    ds = open_scan(**recipe.source)
    rehearse(recipe, ds)
    return _plans(recipe, ds, allowed_memory(allowed_mem))


def least_memory(recipe: Recipe) -> int:
    """Bytes that one task must be able to hold for every step to be possible, in whole MB.

    Raises
    ------
    PlanError
        A step needs more than any machine has.
    """
    ds = open_scan(**recipe.source)
    rehearse(recipe, ds)

    def fits(megabytes: int) -> bool:
        try:
            plans = _plans(recipe, ds, megabytes * MB)
        except PlanError:
            return False
        return all(made.projected_mem <= made.allowed_mem for made in plans)

    megabytes = bisect_left(_SEARCHED, True, key=fits) + _SEARCHED.start
    _plans(recipe, ds, megabytes * MB)
    return megabytes * MB


def _plans(recipe: Recipe, ds: xr.Dataset, allowed: int) -> list[Plan]:
    name = "sinogram" if "sinogram" in ds else "volume"
    if name not in ds:
        raise RecipeError(
            "the input has neither a sinogram nor a volume, so nothing can be planned."
        )
    array, keeps = ds[name], "sinogram" in recipe.save
    state = _State(sizes_of(array), block_of(array), array.dtype.itemsize, allowed, ds, keeps)
    plans: list[Plan] = []
    for step in recipe.steps:
        if step.verb not in (*GEOMETRY_VERBS, *MAP_VERBS):
            plans += _PLANNERS.get(step.verb, _correct)(state, step)
    return plans


def rehearse(recipe: Recipe, ds: xr.Dataset) -> None:
    """Take every lazy step on one ray, so that a wrong option is refused before anything runs.

    Nothing is computed: what a ``find_`` step would find is imagined. Refuses what the verbs
    themselves refuse, and variables to save that no step makes.
    """
    given = ds
    # One block, since where blocks must be whole the runner sees to it.
    ds = ds.assign({name: array.variable.chunk(-1) for name, array in ds.data_vars.items()})
    found: dict[str, Step] = {}
    with unlimited_memory():
        for number, step in enumerate(recipe.steps):
            ds = ds.isel({dim: [0] for dim in _single(recipe.steps[number:]) if dim in ds.dims})
            if not step.finds:
                ds = step.definition.function(ds, *_imagined(ds, step, found), **step.options)
            found |= dict.fromkeys(FOUND.get(step.verb, ()), step)
    for name in recipe.save:
        if name not in ds:
            made = [str(name) for name in ds.data_vars if name not in given] or [*ds.data_vars]
            raise RecipeError(
                f"the recipe saves {name!r}, which no step makes. {nearest(name, map(str, made))}"
            )


def _single(steps: Sequence[Step]) -> list[str]:
    """Leave images that are there, such as true maps, the grid of those to be reconstructed."""
    grid = ("y", "x") if any(step.verb == "reconstruct" for step in steps) else ()
    return [dim for dim in SINGLE if dim not in grid]


def _imagined(ds: xr.Dataset, step: Step, found: Mapping[str, Step]) -> list[xr.Dataset]:
    """Stand-in for what a verb must be given, or would be of what is found; of the right shape."""
    sizes = {str(dim): size for dim, size in ds.sizes.items()}
    shift, spectrum = np.zeros(sizes.get("angle", 0)), np.ones((1, sizes.get("channel", 0)))
    table = xr.DataArray(spectrum, dims=("component", "channel"))
    kept = xr.DataArray(spectrum[0] == 0, dims="channel")
    stand_ins = {
        "rotation_center": xr.DataArray((sizes.get("translation", 1) - 1) / 2),
        "projection_shift": xr.DataArray(shift, dims="angle"),
        "component_spectrum": table,
        "cluster_spectrum": table.rename(component="cluster"),
        "spectral_basis": table,
    }
    name = step.definition.applies
    given = step.is_given or not (step.definition.required or name in found)
    if name == "window_low" and not given:
        return [_imagined_peaks(ds, found[name].options.get("axis"))]
    if given or name not in stand_ins:
        return []
    beside = {"spectral_weight": table, "kept_channel": kept} if name == "spectral_basis" else {}
    return [xr.Dataset({name: stand_ins[name], **beside})]


def _imagined_peaks(ds: xr.Dataset, axis: str | None) -> xr.Dataset:
    """Two peaks that are fitted together, so that ties have what they tie."""
    values = spectral_axis(ds, axis, verb="find_peaks")
    low, high = float(values.min()), float(values.max())
    places = [low + (high - low) / 3, high - (high - low) / 3]
    columns = {"position": places, "window_low": [low, low], "window_high": [high, high]}
    table = xr.Dataset({name: ("peak", column) for name, column in columns.items()})
    return table.assign_coords(peak=["a", "b"]).assign_attrs(axis=str(values.name))


def _correct(state: _State, step: Step) -> list[Plan]:
    return [
        plan.correct(
            step.verb, state.sizes, state.block, state.itemsize, allowed_mem=state.allowed_mem
        )
    ]


def _reconstruct(state: _State, step: Step) -> list[Plan]:
    if "angle" not in state.sizes:
        raise RecipeError("reconstruct needs a sinogram, but the input is a volume.")
    plans = []
    method = step.options.get("method", "fbp")
    given = [name for name, value in step.options.items() if value]
    state.grid = geometry_of(state.scan, verb="reconstruct", **_grid_options(step)).shape
    split = any(state.block[dim] < state.sizes[dim] for dim in ("angle", "translation"))
    if split or state.stores_sinogram:
        shard = shard_of_projections(state.sizes, state.itemsize)
        plans.append(_save("save sinogram", state, shard))
        inner = inner_chunk(shard, state.itemsize)["channel"]
        state.block = image_block(
            state.sizes,
            state.itemsize,
            allowed_mem=state.allowed_mem,
            multiple=inner,
            method=method,
            options=given,
            grid=state.grid,
        )
    made = plan.reconstruct(
        state.sizes,
        state.itemsize,
        method=method,
        options=given,
        grid=state.grid,
        allowed_mem=state.allowed_mem,
        block=state.block,
    )
    channels = dict(made.block)["channel"]
    images = dict(zip(("y", "x"), state.grid, strict=True))
    lead = {dim: size for dim, size in state.sizes.items() if dim in ("time", "z")}
    state.sizes = {**lead, **images, "channel": state.sizes["channel"]}
    slab = {**dict.fromkeys(lead, 1), **images, "channel": channels}
    plans += [made, _save("save volume", state, slab)]
    state.block = spectra_block(
        state.sizes, state.itemsize, allowed_mem=state.allowed_mem,
        tile=inner_chunk(slab, state.itemsize),
    )  # fmt: skip
    return plans


def _grid_options(step: Step) -> dict[str, Any]:
    return {name: step.options[name] for name in ("region", "pixel_size") if name in step.options}


def _save(step: str, state: _State, block: Mapping[str, int]) -> Plan:
    return plan.save(step, state.sizes, block, state.itemsize, allowed_mem=state.allowed_mem)


def _find_spectral_basis(state: _State, step: Step) -> list[Plan]:  # noqa: ARG001
    made, _ = plan_mixing.find_spectral_basis(
        state.sizes, state.block, state.itemsize, sample=SAMPLE_BLOCK, allowed_mem=state.allowed_mem
    )
    return [made]


def _find_spectral_moments(state: _State, step: Step) -> list[Plan]:
    state.has_moments = True
    made = plan.find_components(
        state.sizes, state.itemsize, components=1,
        passes=1 + (step.options.get("scaling") == "poisson"), step="find_spectral_moments",
        allowed_mem=state.allowed_mem, block=state.block,
    )  # fmt: skip
    return [made]


def _find_components(state: _State, step: Step) -> list[Plan]:
    many = not state.has_moments and state.sizes["channel"] > LARGEST_GRAM
    solver = step.options.get("solver", "auto")
    reads = READINGS if solver == "randomized" or (solver == "auto" and many) else 1
    return [
        plan.find_components(
            state.sizes,
            state.itemsize,
            components=step.options.get("components", 5),
            passes=(step.options.get("method") != "pca") + reads * (not state.has_moments),
            allowed_mem=state.allowed_mem,
            block=state.block,
        )
    ]


def _map_components(state: _State, step: Step) -> list[Plan]:  # noqa: ARG001
    return [_per_pixel("map_components", state, state.sizes["channel"], 8, slab=GRAM_ROWS)]


def _find_clusters(state: _State, step: Step) -> list[Plan]:
    components = step.options.get("components", 16)
    made = plan.find_components(
        state.sizes, state.itemsize, components=components, passes=2 - state.has_moments,
        step="find_clusters", allowed_mem=state.allowed_mem, block=state.block,
    )  # fmt: skip
    return [made]


def _map_clusters(state: _State, step: Step) -> list[Plan]:  # noqa: ARG001
    return [_per_pixel("map_clusters", state, state.sizes["channel"], 1, slab=GRAM_ROWS)]


def _find_peaks(state: _State, step: Step) -> list[Plan]:
    state.found_peaks = step.options.get("peaks") or USUAL_PEAKS
    return _correct(state, step)


def _fit_peaks(state: _State, step: Step) -> list[Plan]:
    state.fitted = columns_planned(step.options, state.found_peaks)
    values, variance = state.fitted[1], step.options.get("variance")
    weighted = step.options.get("likelihood") == "weighted" or variance not in (None, "counts")
    channels = min(state.sizes["channel"], 256)
    return [_per_pixel("fit_peaks", state, channels, values, arrays=1 + weighted)]


def _evaluate_peaks(state: _State, step: Step) -> list[Plan]:
    """Plan a pass over the maps for each part; a residual reads the data, too."""
    parts = step.options.get("parts", "model")
    stored = state.scan.sizes.get("peak", 1)
    peaks, columns = state.fitted if state.fitted[0] else (stored, stored * len(KEPT))
    channels, plans = state.sizes["channel"], []
    for part in [parts] if isinstance(parts, str) else parts:
        held = columns + channels * (part == "residual")
        made = plan.per_pixel(
            f"evaluate_peaks ({part})", {**state.sizes, "channel": held}, state.itemsize,
            channels=3 * channels, values=channels, slab=SLAB, allowed_mem=state.allowed_mem,
            block={**state.block, "channel": held},
        )  # fmt: skip
        times = peaks if part == "components" else 1
        plans.append(replace(
            made, tasks=made.tasks * times, read_bytes=made.read_bytes * times,
            written_bytes=made.written_bytes * times,
        ))  # fmt: skip
    return plans


def _peak_moments(state: _State, step: Step) -> list[Plan]:
    values = MOMENTS * len(step.options.get("windows", {"": ()}))
    return [_per_pixel("peak_moments", state, min(state.sizes["channel"], 256), values)]


def _per_pixel(
    name: str, state: _State, channels: int, values: int, *, slab: int | None = None,
    arrays: int = 1,
) -> Plan:  # fmt: skip
    """Plan maps made pixel by pixel, of ``arrays`` of the size of the data."""
    return plan.per_pixel(
        name, state.sizes, state.itemsize * arrays, channels=channels, values=values,
        allowed_mem=state.allowed_mem, block=state.block, slab=slab,
    )  # fmt: skip


_PLANNERS: dict[str, Callable[[_State, Step], list[Plan]]] = {
    "find_spectral_basis": _find_spectral_basis,
    "reconstruct": _reconstruct,
    "find_spectral_moments": _find_spectral_moments,
    "find_components": _find_components,
    "map_components": _map_components,
    "find_clusters": _find_clusters,
    "map_clusters": _map_clusters,
    "find_peaks": _find_peaks,
    "fit_peaks": _fit_peaks,
    "evaluate_peaks": _evaluate_peaks,
    "peak_moments": _peak_moments,
}
