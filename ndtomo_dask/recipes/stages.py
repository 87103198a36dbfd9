"""What the data are between two steps of a recipe, and the storing between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.block_sizes import image_block, inner_chunk, shard_of_projections
from ndtomo_dask.plan import Plan

Sizes = dict[str, int]
RESIZING = ("crop", "pad", "rebin", "rebin_axis")
"""Verbs that leave data of other sizes."""


@dataclass
class Stage:
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
    polar: int = 0
    """Samples of an image by radius and azimuth."""
    found_peaks: int = 0
    """How many peaks a step may find."""
    patterns: int = 0
    """How many patterns a step has drawn, at most."""
    fitted: tuple[int, int] = (0, 0)
    """How many peaks are fitted, and the values that a pixel then has."""


def save_blocks(step: str, stage: Stage, block: Mapping[str, int]) -> Plan:
    """Plan to store the data in blocks."""
    return plan.save(step, stage.sizes, block, stage.itemsize, allowed_mem=stage.allowed_mem)


def is_split(stage: Stage) -> bool:
    """Tell whether the images of a sinogram are in pieces."""
    return any(stage.block[dim] < stage.sizes[dim] for dim in ("angle", "translation"))


def save_projections(step: str, stage: Stage) -> Plan:
    """Plan to store a sinogram by projections, or in its blocks where these split the channels."""
    by_channel = stage.block["channel"] < stage.sizes["channel"]
    shard = stage.block if by_channel else shard_of_projections(stage.sizes, stage.itemsize)
    return save_blocks(step, stage, shard)


def open_images(stage: Stage, **options: Any) -> None:
    """Take the blocks in which a stored sinogram is opened; ``options`` are of `image_block`."""
    shard = shard_of_projections(stage.sizes, stage.itemsize)
    inner = inner_chunk(shard, stage.itemsize)["channel"]
    stage.block = image_block(
        stage.sizes, stage.itemsize, allowed_mem=stage.allowed_mem, multiple=inner, **options
    )


def retype(stage: Stage, left: xr.Dataset) -> None:
    """Take the bytes of a value that a step has left: corrected counts are floating point."""
    stage.itemsize = left[_data_name(stage)].dtype.itemsize


def _data_name(stage: Stage) -> str:
    return "sinogram" if "angle" in stage.sizes else "volume"


def resize(stage: Stage, left: xr.Dataset) -> None:
    """Take the sizes, and the geometry, that a step has left; blocks change as these do."""
    name = _data_name(stage)
    before, sizes = stage.sizes, {str(dim): size for dim, size in left[name].sizes.items()}
    stage.sizes = {dim: sizes[dim] for dim in before}
    stage.block = {
        dim: max(1, min(size, -(-stage.block[dim] * size // before[dim])))
        for dim, size in stage.sizes.items()
    }
    stage.scan = left
