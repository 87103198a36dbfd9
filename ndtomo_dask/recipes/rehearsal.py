"""Rehearsing a recipe: every lazy step taken on one ray, before anything runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from ndtomo_dask.apply import unlimited_memory
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import RecipeError, nearest
from ndtomo_dask.recipes.recipe import FOUND, INTEGRATE, Recipe, Step

SINGLE = ("time", "z", "angle", "y", "x")
"""Dimensions of which a rehearsal needs one entry; it needs all translations and channels."""


def rehearse(recipe: Recipe, ds: xr.Dataset) -> list[xr.Dataset]:
    """Take every lazy step on one ray, so that a wrong option is refused before anything runs.

    Nothing is computed: what a ``find_`` step would find is imagined, patterns of lines are drawn.
    Refuses what the verbs themselves refuse, and variables to save that no step makes. Returns what
    each step leaves, as wide as it and later ones need it (`Verb.sized`).
    """
    given, left = ds, []
    # One block, since where blocks must be whole the runner sees to it.
    ds = ds.assign({name: array.variable.chunk(-1) for name, array in ds.data_vars.items()})
    if recipe.starts_with_frames and "mask" in ds:  # which is known when the frames are integrated
        ds = ds.assign(mask=ds["mask"].copy(data=np.zeros(ds["mask"].shape, dtype=bool)))
    found: dict[str, Step] = {}
    with unlimited_memory():
        for number, step in enumerate(recipe.steps):
            ds = ds.isel({dim: [0] for dim in _single(recipe.steps[number:]) if dim in ds.dims})
            if not step.finds and step.verb != INTEGRATE:
                ds = step.definition.function(ds, *_imagined(ds, step, found), **step.options)
            found |= dict.fromkeys(FOUND.get(step.verb, ()), step)
            left.append(ds)
    for name in recipe.save:
        if name not in ds:
            made = [str(name) for name in ds.data_vars if name not in given] or [*ds.data_vars]
            raise RecipeError(
                f"the recipe saves {name!r}, which no step makes. {nearest(name, map(str, made))}"
            )
    return left


def _single(steps: Sequence[Step]) -> list[str]:
    """Leave images that are there, such as true maps, the grid of those to be reconstructed."""
    kept = {dim for step in steps for dim in step.definition.sized}
    if any(step.verb == "reconstruct" for step in steps):
        kept |= {"y", "x"}
    return [dim for dim in SINGLE if dim not in kept]


def _imagined(ds: xr.Dataset, step: Step, found: Mapping[str, Step]) -> list[xr.Dataset]:
    """Stand-in for what a verb must be given, or would be of what is found; of the right shape."""
    sizes = {str(dim): size for dim, size in ds.sizes.items()}
    shift, spectrum = np.zeros(sizes.get("angle", 0)), np.ones((1, sizes.get("channel", 0)))
    table = xr.DataArray(spectrum, dims=("component", "channel"))
    kept = xr.DataArray(spectrum[0] == 0, dims="channel")
    stand_ins = {
        "rotation_center": xr.DataArray((sizes.get("translation", 1) - 1) / 2),
        "projection_shift": xr.DataArray(shift, dims="angle"),
        "translation_scale": xr.DataArray(np.ones(sizes.get("translation", 0)), dims="translation"),
        "bad_channel": kept.astype("int8"),
        "component_spectrum": table,
        "cluster_spectrum": table.rename(component="cluster"),
        "spectral_basis": table,
    }
    name = step.definition.applies
    given = step.is_given or not (step.definition.required or name in found)
    if name == "window_low" and not given:
        return [_imagined_peaks(ds, found[name].options.get("axis"))]
    if name == "reference_pattern" and not given:
        return [found[name].definition.function(ds, **found[name].options)]
    if given or name not in stand_ins:
        return []
    beside = {"spectral_weight": table, "kept_channel": kept} if name == "spectral_basis" else {}
    if name == "cluster_spectrum" and found[name].options.get("method") == "gaussian_mixture":
        beside = _imagined_mixture(spectrum)
    return [xr.Dataset({name: stand_ins[name], **beside})]


def _imagined_mixture(spectrum: np.ndarray) -> dict[str, xr.DataArray]:
    """One Gaussian along one axis, beside its spectrum."""
    return {
        "cluster_axis": xr.DataArray(spectrum, dims=("axis", "channel")),
        "cluster_origin": xr.DataArray(spectrum[0], dims="channel"),
        "cluster_weight": xr.DataArray([1.0], dims="cluster"),
        "cluster_position": xr.DataArray([[0.0]], dims=("cluster", "axis")),
        "cluster_factor": xr.DataArray([[[1.0]]], dims=("cluster", "axis", "other_axis")),
    }


def _imagined_peaks(ds: xr.Dataset, axis: str | None) -> xr.Dataset:
    """Two peaks that are fitted together, so that ties have what they tie."""
    values = spectral_axis(ds, axis, verb="find_peaks")
    low, high = float(values.min()), float(values.max())
    places = [low + (high - low) / 3, high - (high - low) / 3]
    columns = {"position": places, "window_low": [low, low], "window_high": [high, high]}
    table = xr.Dataset({name: ("peak", column) for name, column in columns.items()})
    return table.assign_coords(peak=["a", "b"]).assign_attrs(axis=str(values.name))
