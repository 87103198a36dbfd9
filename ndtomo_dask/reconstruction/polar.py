"""Images by radius and azimuth around the rotation axis."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.polar import polar_image
from ndtomo_dask.schema import floating, label, require, step_of
from ndtomo_dask.variables import POLAR_VOLUME, VOLUME


def to_polar(ds: xr.Dataset, *, azimuths: int = 360, order: int = 1) -> xr.Dataset:
    """Sample the images of a volume along circles around the rotation axis. Nothing is computed.

    Rings become lines along ``azimuth``, and their mean is a radial profile.

    Parameters
    ----------
    ds
        A dataset with ``volume ([z,] y, x, channel)``, whole along ``y`` and ``x``.
    azimuths
        Samples of a full turn.
    order
        1: linear; 3: a cubic spline, sharper, which may overshoot.

    Returns
    -------
        ``ds`` with ``polar_volume ([z,] radius, azimuth, channel)``; radius in mm, in steps of a
        pixel to the nearest edge of the image; azimuth in degrees from x towards y.

    Raises
    ------
    SchemaError
        There is no volume, or it is split along y or x.
    OptionError
        ``azimuths`` is less than 1, or ``order`` is neither 1 nor 3.
    """
    if azimuths < 1 or order not in (1, 3):
        raise OptionError(
            f"to_polar needs azimuths >= 1 and order 1 or 3, not {azimuths}, {order}."
        )
    volume = require(ds, VOLUME, verb="to_polar", whole=["y", "x"])
    step, places = step_of(ds, "x"), {}
    for dim in ("y", "x"):
        size = ds.sizes[dim]
        known = np.asarray(ds[dim], dtype=float) if dim in ds.coords else None
        places[dim] = (np.arange(size) - (size - 1) / 2) * step if known is None else known
    reach = min(float(abs(edge)) for place in places.values() for edge in (place[0], place[-1]))
    radius = np.arange(int(reach / step + 1e-6) + 1) * step
    azimuth = np.arange(azimuths) * 360 / azimuths

    turn = np.deg2rad(azimuth)
    rows = (radius[:, None] * np.sin(turn) - places["y"][0]) / step
    columns = (radius[:, None] * np.cos(turn) - places["x"][0]) / step
    polar = apply_kernel(
        polar_image, volume, core=["y", "x"], out={"radius": radius.size, "azimuth": azimuths},
        dtype=floating(volume.dtype), rows=rows, columns=columns, order=order,
    )  # fmt: skip

    polar = polar.assign_attrs(volume.attrs)
    about = {"units": "mm", "long_name": "distance from the rotation axis"}
    ds = ds.assign_coords(
        radius=("radius", radius, about),
        azimuth=("azimuth", azimuth, {"units": "degree", "long_name": "azimuth from x towards y"}),
    )
    return label(ds, {POLAR_VOLUME: polar}, step="to_polar", azimuths=azimuths, order=order)
