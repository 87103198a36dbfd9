"""What each verb of a recipe will read, hold and write, and what it leaves for the next."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from ndtomo_dask import plan, plan_mixing
from ndtomo_dask.block_sizes import (
    GRAM_ROWS,
    LARGEST_GRAM,
    image_block,
    inner_chunk,
    is_sketched,
    shard_of_projections,
    spectra_block,
)
from ndtomo_dask.components.cluster_methods import axes_for
from ndtomo_dask.errors import RecipeError
from ndtomo_dask.frames.integrate import COST
from ndtomo_dask.kernels.components.reference_fit import LEAST_ROWS, SLAB_SAMPLES
from ndtomo_dask.kernels.components.sketch import READINGS
from ndtomo_dask.kernels.corrections import translation_gains
from ndtomo_dask.kernels.fitting.moments import MOMENTS
from ndtomo_dask.kernels.fitting.window_fit import KEPT
from ndtomo_dask.kernels.fitting.window_values import SLAB
from ndtomo_dask.peaks.fit import columns_planned
from ndtomo_dask.peaks.table import part_of
from ndtomo_dask.plan import Plan
from ndtomo_dask.recipes.recipe import Step
from ndtomo_dask.recipes.stages import Stage, is_split, open_images, save_blocks, save_projections
from ndtomo_dask.reconstruction.eigenchannels import SAMPLE_BLOCK
from ndtomo_dask.reconstruction.sampling import picks
from ndtomo_dask.scan_geometry import geometry_of
from ndtomo_dask.variables import SPECTRAL_AXES

USUAL_PEAKS = 32
"""How many peaks a search is taken to find that is not told how many to keep."""
STREAMED = 10
"""Readings that NMF is taken to need where it keeps no compressed spectra."""
SHELLS = 3
"""Patterns that an element may have: K, L and M."""
GEOMETRY_VERBS = ("align_projections", "set_rotation_center")
"""Verbs that touch no data."""
MAP_VERBS = (
    "lattice_parameter",
    "strain",
    "crystallite_size",
    "williamson_hall",
    "phase_fractions",
)
"""Verbs that touch maps only, which are small."""


def _correct(stage: Stage, step: Step) -> list[Plan]:
    plans = []
    if step.needs == ("sinogram", "images") and is_split(stage):
        plans.append(save_projections("stage sinogram", stage))
        open_images(stage)
    if step.needs == ("sinogram", "spectra") and stage.block["channel"] < stage.sizes["channel"]:
        plans.append(save_projections("stage sinogram", stage))
        stage.block = shard_of_projections(stage.sizes, stage.itemsize)
    made = plan.correct(
        step.verb, stage.sizes, stage.block, stage.itemsize, allowed_mem=stage.allowed_mem
    )
    return [*plans, made]


def _self_absorption(stage: Stage, step: Step) -> list[Plan]:  # noqa: ARG001
    plans = []
    grid = stage.scan.sizes.get("y", 0), stage.scan.sizes.get("x", 0)
    if is_split(stage):
        plans.append(save_projections("stage sinogram", stage))
        open_images(stage, method="self_absorption", grid=grid)
    made = plan.self_absorption(
        stage.sizes, stage.itemsize, block=stage.block, grid=grid, allowed_mem=stage.allowed_mem
    )
    return [*plans, made]


def _find_from_sample(stage: Stage, step: Step) -> list[Plan]:
    parts = (step.options.get("channels"), step.options.get("slices"))
    picked = picks(stage.sizes, stage.itemsize, *parts, verb=step.verb)
    counts = {dim: sum(last - first for first, last in part) for dim, part in picked.items()}
    sizes = {**stage.sizes, **counts}
    return [plan.correct(step.verb, sizes, stage.block, stage.itemsize,
                         allowed_mem=stage.allowed_mem)]  # fmt: skip


def _find_translation_scale(stage: Stage, step: Step) -> list[Plan]:
    groups = step.options.get("groups", translation_gains.GROUPS)
    found = plan.translation_gains(
        stage.sizes, groups, translation_gains.COMPONENTS, allowed_mem=stage.allowed_mem
    )
    summed = plan.channel_groups(
        step.verb, stage.sizes, stage.block, stage.itemsize, groups, allowed_mem=stage.allowed_mem
    )
    return [found, summed]


def _integrate(stage: Stage, _step: Step) -> list[Plan]:
    """Plan to integrate frames and to store the sinogram, which is then read as images."""
    block = stage.block
    made = plan.integrate(
        stage.sizes, block, stage.itemsize, cost=stage.scan.encoding[COST],
        allowed_mem=stage.allowed_mem,
    )  # fmt: skip
    inner = inner_chunk(block, stage.itemsize)["channel"]
    stage.block = image_block(
        stage.sizes, stage.itemsize, allowed_mem=stage.allowed_mem, multiple=inner
    )
    return [made]


def _reconstruct(stage: Stage, step: Step) -> list[Plan]:
    if "angle" not in stage.sizes:
        raise RecipeError("reconstruct needs a sinogram, but the input is a volume.")
    plans = []
    method = step.options.get("method", "fbp")
    given = [name for name, value in step.options.items() if value]
    stage.grid = geometry_of(stage.scan, verb="reconstruct", **_grid_options(step)).shape
    if is_split(stage) or stage.stores_sinogram:
        plans.append(save_projections("save sinogram", stage))
        open_images(stage, method=method, options=given, grid=stage.grid)
    stage.itemsize = max(stage.itemsize, plan.FLOAT)
    made = plan.reconstruct(
        stage.sizes,
        stage.itemsize,
        method=method,
        options=given,
        grid=stage.grid,
        allowed_mem=stage.allowed_mem,
        block=stage.block,
    )
    channels = dict(made.block)["channel"]
    images = dict(zip(("y", "x"), stage.grid, strict=True))
    lead = {dim: size for dim, size in stage.sizes.items() if dim in ("time", "z")}
    stage.sizes = {**lead, **images, "channel": stage.sizes["channel"]}
    slab = {**dict.fromkeys(lead, 1), **images, "channel": channels}
    plans += [made, save_blocks("save volume", stage, slab)]
    stage.block = spectra_block(
        stage.sizes, stage.itemsize, allowed_mem=stage.allowed_mem,
        tile=inner_chunk(slab, stage.itemsize),
    )  # fmt: skip
    return plans


def _grid_options(step: Step) -> dict[str, Any]:
    return {name: step.options[name] for name in ("region", "pixel_size") if name in step.options}


def _resample(stage: Stage, step: Step) -> list[Plan]:
    image = stage.sizes["y"] * stage.sizes["x"]
    if step.verb == "to_polar":
        radius = min(stage.sizes["y"], stage.sizes["x"]) // 2 + 1
        stage.polar = radius * step.options.get("azimuths", 360)
    pixels = (image, stage.polar) if step.verb == "to_polar" else (stage.polar, image)
    return [plan.resample(step.verb, stage.sizes, pixels, stage.itemsize,
                          allowed_mem=stage.allowed_mem)]  # fmt: skip


def _find_spectral_basis(stage: Stage, _step: Step) -> list[Plan]:
    made, _ = plan_mixing.find_spectral_basis(
        stage.sizes, stage.block, stage.itemsize, sample=SAMPLE_BLOCK, allowed_mem=stage.allowed_mem
    )
    return [made]


def _find_spectral_moments(stage: Stage, step: Step) -> list[Plan]:
    stage.has_moments = True
    made = plan.find_components(
        stage.sizes, stage.itemsize, components=1,
        passes=1 + (step.options.get("scaling") == "poisson"), step="find_spectral_moments",
        allowed_mem=stage.allowed_mem, block=stage.block,
    )  # fmt: skip
    return [made]


def _find_components(stage: Stage, step: Step) -> list[Plan]:
    extra = (step.options.get("method") != "pca") + (step.options.get("scaling", "none") != "none")
    if step.options.get("solver") == "streaming":
        extra += STREAMED
    return [_components(stage, step, step.options.get("components", 5), extra)]


def _components(stage: Stage, step: Step, components: int, extra: int) -> Plan:
    """Plan the readings for the moments or the directions, and ``extra`` ones."""
    channels, solver = stage.sizes["channel"], step.options.get("solver", "auto")
    is_nmf = step.verb == "find_components" and step.options.get("method", "nmf") == "nmf"
    pixels = prod(stage.sizes.values()) // channels
    many = is_sketched(pixels, channels, components) if is_nmf else channels > LARGEST_GRAM
    randomized = solver == "randomized" or (solver == "auto" and many and not stage.has_moments)
    directions = 1 if is_nmf or not randomized else READINGS
    return plan.find_components(
        stage.sizes, stage.itemsize, components=components, step=step.verb,
        passes=extra + directions * (not stage.has_moments),
        allowed_mem=stage.allowed_mem, block=stage.block, products=not randomized,
    )  # fmt: skip


def _map_components(stage: Stage, _step: Step) -> list[Plan]:
    return [_per_pixel("map_components", stage, stage.sizes["channel"], 8, slab=GRAM_ROWS)]


def _find_clusters(stage: Stage, step: Step) -> list[Plan]:
    method, clusters = step.options.get("method", "kmeans"), step.options.get("clusters", 5)
    components = step.options.get("components") or axes_for(method, clusters)
    return [_components(stage, step, components, 1)]


def _map_clusters(stage: Stage, _step: Step) -> list[Plan]:
    return [_per_pixel("map_clusters", stage, stage.sizes["channel"], 8, slab=GRAM_ROWS)]


def _line_patterns(stage: Stage, step: Step) -> list[Plan]:
    lines = step.options["lines"]
    stage.patterns = len(lines) if isinstance(lines, Mapping) else SHELLS * len(lines)
    return []


def _fit_references(stage: Stage, step: Step) -> list[Plan]:
    given = set(step.options.get("patterns", ())) - set(SPECTRAL_AXES)
    count = len(given) if given else stage.patterns
    channels = stage.sizes["channel"]
    return [_per_pixel(
        "fit_references", stage, 3 * channels, 2 * count + 2,
        slab=max(LEAST_ROWS, SLAB_SAMPLES // channels),
        arrays=1 + bool(step.options.get("weighted")),
    )]  # fmt: skip


def _find_peaks(stage: Stage, step: Step) -> list[Plan]:
    part_of(step.options.get("region"), stage.sizes)  # refuses one that is not there
    stage.found_peaks = step.options.get("peaks") or USUAL_PEAKS
    return _correct(stage, step)


def _fit_peaks(stage: Stage, step: Step) -> list[Plan]:
    stage.fitted = columns_planned(step.options, stage.found_peaks)
    values, variance = stage.fitted[1], step.options.get("variance")
    weighted = step.options.get("likelihood") == "weighted" or variance not in (None, "counts")
    channels = min(stage.sizes["channel"], 256)
    return [_per_pixel("fit_peaks", stage, channels, values, arrays=1 + weighted)]


def _evaluate_peaks(stage: Stage, step: Step) -> list[Plan]:
    """Plan a pass over the maps for each part; a residual reads the data, too."""
    parts = step.options.get("parts", "model")
    stored = stage.scan.sizes.get("peak", 1)
    peaks, columns = stage.fitted if stage.fitted[0] else (stored, stored * len(KEPT))
    channels, plans = stage.sizes["channel"], []
    for part in [parts] if isinstance(parts, str) else parts:
        held = columns + channels * (part == "residual")
        made = plan.per_pixel(
            f"evaluate_peaks ({part})", {**stage.sizes, "channel": held}, stage.itemsize,
            channels=3 * channels, values=channels, slab=SLAB, allowed_mem=stage.allowed_mem,
            block={**stage.block, "channel": held},
        )  # fmt: skip
        times = peaks if part == "components" else 1
        plans.append(replace(
            made, tasks=made.tasks * times, read_bytes=made.read_bytes * times,
            written_bytes=made.written_bytes * times,
        ))  # fmt: skip
    return plans


def _peak_moments(stage: Stage, step: Step) -> list[Plan]:
    values = MOMENTS * len(step.options.get("windows", {"": ()}))
    return [_per_pixel("peak_moments", stage, min(stage.sizes["channel"], 256), values)]


def _per_pixel(
    name: str, stage: Stage, channels: int, values: int, *, slab: int | None = None,
    arrays: int = 1,
) -> Plan:  # fmt: skip
    """Plan maps made pixel by pixel, of ``arrays`` of the size of the data."""
    return plan.per_pixel(
        name, stage.sizes, stage.itemsize * arrays, channels=channels, values=values,
        allowed_mem=stage.allowed_mem, block=stage.block, slab=slab,
    )  # fmt: skip


_PLANNERS: dict[str, Callable[[Stage, Step], list[Plan]]] = {
    "find_rotation_center": _find_from_sample,
    "find_projection_shifts": _find_from_sample,
    "find_translation_scale": _find_translation_scale,
    "integrate": _integrate,
    "to_polar": _resample,
    "to_cartesian": _resample,
    "self_absorption_correction": _self_absorption,
    "find_spectral_basis": _find_spectral_basis,
    "reconstruct": _reconstruct,
    "find_spectral_moments": _find_spectral_moments,
    "find_components": _find_components,
    "map_components": _map_components,
    "find_clusters": _find_clusters,
    "map_clusters": _map_clusters,
    "line_patterns": _line_patterns,
    "fit_references": _fit_references,
    "find_peaks": _find_peaks,
    "fit_peaks": _fit_peaks,
    "evaluate_peaks": _evaluate_peaks,
    "peak_moments": _peak_moments,
}


def plan_step(stage: Stage, step: Step) -> list[Plan]:
    """Plan a step, and the storing that it takes; the stage is then as the next step finds it."""
    if step.verb in (*GEOMETRY_VERBS, *MAP_VERBS):
        return []
    return _PLANNERS.get(step.verb, _correct)(stage, step)
