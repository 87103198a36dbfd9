"""Maps of attenuation: in which unit, and which rays of a scan go through which of their pixels."""

from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.coordinates import TO_UNIT
from ndtomo_dask.errors import OptionError, SchemaError, nearest
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.scan_geometry import geometry_of, geometry_of_volume
from ndtomo_dask.schema import floating, require, step_of
from ndtomo_dask.variables import ATTENUATION, CHANNEL

PER_PIXEL = "1/pixel"


def absorbing_map(ds: xr.Dataset, *, pixel: float, verb: str) -> xr.DataArray:
    """Return ``attenuation ([z,] y, x)`` in 1/mm, whatever its unit; 0 where it is not finite.

    ``pixel`` is the edge of a pixel in mm.
    """
    image = require(ds, ATTENUATION, verb=verb, whole=["y", "x"])
    given = str(image.attrs.get("units", ATTENUATION.units))
    per_mm = TO_UNIT[ATTENUATION.units] | {PER_PIXEL: 1 / pixel}
    if given.lower() not in per_mm:
        raise SchemaError(
            f"{verb} needs 'attenuation' in 1/mm, but its unit is {given!r}: "
            f"attenuation.assign_attrs(units='1/mm'). {nearest(given, per_mm)}"
        )
    image = image.astype(floating(image.dtype))
    factor = image.dtype.type(per_mm[given.lower()])
    known: xr.DataArray = image.where(np.isfinite(image), 0) * factor
    return known


def absorbing_maps(
    array: xr.DataArray,
    attenuation: xr.Dataset,
    emitted: xr.Dataset | None,
    *,
    pixel: float,
    verb: str,
) -> list[xr.DataArray]:
    """Return the maps of a beam and of what it makes emit, per edge of a pixel of ``pixel`` mm."""
    sources = [attenuation, attenuation if emitted is None else emitted]
    maps = [absorbing_map(one, pixel=pixel, verb=verb) * pixel for one in sources]
    beam, other = (one.sizes for one in maps)
    if any(beam[dim] != other[dim] for dim in ATTENUATION.dims):
        raise SchemaError(
            f"{verb} needs both maps on one grid, but that of the beam is {dict(beam)} and that of "
            f"'emitted' {dict(other)}: emitted.interp_like(attenuation)."
        )
    for dim, size in [*beam.items(), *other.items()]:
        if dim not in ATTENUATION.dims and array.sizes.get(dim) != size:
            raise SchemaError(
                f"{verb} was given 'attenuation' with {size} entries along {dim!r}, but the data "
                f"have {array.sizes.get(dim, 'none')}: attenuation.isel({dim}=...)."
            )
    return [one.drop_vars([name for name in one.coords if name not in one.dims]) for one in maps]


def ratios_of(ratio: Any, array: xr.DataArray, *, verb: str) -> xr.DataArray:
    """Return what the attenuation of each channel is multiplied by, (channel,)."""
    channels = array.sizes[CHANNEL]
    values = np.asarray(ratio, dtype=np.float64)
    if values.shape not in ((), (channels,)) or not (np.isfinite(values) & (values >= 0)).all():
        raise OptionError(
            f"{verb} takes one ratio of 0 or more, or one for each of {channels} channels, not "
            f"{np.array2string(values, threshold=3)}."
        )
    return xr.DataArray(np.broadcast_to(values, channels).copy(), dims=CHANNEL)


def rays_through(ds: xr.Dataset, grid: xr.Dataset, *, verb: str) -> ParallelGeometry:
    """Return the rays of a scan through the pixels of an image that stands in another dataset."""
    require(grid, ATTENUATION, verb=verb)
    rays = geometry_of(ds, verb=verb)
    step = step_of(ds, "translation")
    alone = grid[[ATTENUATION.name]].drop_vars("angle", errors="ignore")
    seen = geometry_of_volume(alone, verb=verb, angles=np.rad2deg(rays.angles))
    pixel = step_of(grid, "x") / step if "x" in grid.coords else 1.0
    down, right = (middle * pixel for middle in seen.grid_center)
    return ParallelGeometry(
        rays.angles, rays.translations, rays.rotation_center, seen.shape, rays.shifts, pixel,
        (down, right),
    )  # fmt: skip
