"""Monitors that lie in the file but are not those of the scan: unnamed, or of another length."""

from math import prod

import xarray as xr

from ndtomo_dask.survey.finding import Finding
from ndtomo_dask.survey.numbers import is_monitor
from ndtomo_dask.survey.opening import Opened


def stray_monitor(opened: Opened, ds: xr.Dataset) -> Finding | None:
    """Say of a scan without monitor which dataset may be it, and whether it is long enough."""
    found = [one for one in opened.numbers if is_monitor(one)]
    if not found:
        return None
    sizes = {dim: ds["sinogram"].sizes[dim] for dim in ("time", "z", "angle", "translation")
             if dim in ds["sinogram"].dims}  # fmt: skip
    points, has = prod(sizes.values()), prod(found[0].shape)
    where = f"{found[0].path} {found[0].shape}"
    fits = has in (points, sizes["angle"])
    if fits:
        return Finding("monitor", "not named", f"{where} may be it: monitor={found[0].path}",
                       "look", {"values": has})  # fmt: skip
    return Finding("monitor", "short" if has < points else "of another length", f"{where} has "
                   f"{has} values, the scan {points} points in {sizes['angle']} projections",
                   "alarm", {"values": has, "points": points})  # fmt: skip
