"""Images by radius and azimuth around the rotation axis, and back."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.coordinates import axis_variable
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.polar import cartesian_image, polar_image
from ndtomo_dask.schema import floating, label, require, step_of
from ndtomo_dask.variables import CARTESIAN_VOLUME, POLAR_VOLUME, VOLUME, X, Y


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

    polar = polar.assign_attrs(volume.attrs | {"long_name": POLAR_VOLUME.long_name})
    about = {"units": "mm", "long_name": "distance from the rotation axis"}
    ds = ds.assign_coords(
        radius=("radius", radius, about),
        azimuth=("azimuth", azimuth, {"units": "degree", "long_name": "azimuth from x towards y"}),
    )
    return label(ds, {POLAR_VOLUME: polar}, step="to_polar", azimuths=azimuths, order=order)


def to_cartesian(ds: xr.Dataset, *, order: int = 1) -> xr.Dataset:
    """Bring a polar volume back to rows and columns. Nothing is computed.

    What was a line along ``azimuth`` is a ring again. The inverse of `to_polar`, as far as sampling
    twice can be.

    Parameters
    ----------
    ds
        A dataset with ``polar_volume ([z,] radius, azimuth, channel)``, whole along both, evenly
        spaced from radius 0 and around a full turn.
    order
        1: linear; 3: a cubic spline, sharper, which may overshoot.

    Returns
    -------
        ``ds`` with ``cartesian_volume ([z,] y, x, channel)``, on the pixels that ``ds`` has, else
        on a square of pixels as wide as the steps of the radius. NaN beyond the largest radius.

    Raises
    ------
    SchemaError
        There is no polar volume, it is split, or its coordinates are not those of circles.
    OptionError
        ``order`` is neither 1 nor 3.

    Examples
    --------
    >>> from ndtomo_dask import reconstruct, simulate_scan, to_polar
    >>> ds = to_polar(reconstruct(simulate_scan(size=16, angles=12, channels=4).load()))
    >>> to_cartesian(ds).cartesian_volume.sizes
    Frozen({'y': 16, 'x': 16, 'channel': 4})
    """
    if order not in (1, 3):
        raise OptionError(f"to_cartesian needs order 1 or 3, not {order}.")
    polar = require(ds, POLAR_VOLUME, verb="to_cartesian", whole=["radius", "azimuth"])
    step, first = _circles(ds)
    places = {dim: _places(ds, dim, step) for dim in (Y, X)}

    rows, columns = np.meshgrid(places[Y], places[X], indexing="ij")
    turn = np.rad2deg(np.arctan2(rows, columns)) - first
    made = apply_kernel(
        cartesian_image, polar, core=["radius", "azimuth"],
        out={dim: place.size for dim, place in places.items()}, dtype=floating(polar.dtype),
        radius=np.hypot(rows, columns) / step, azimuth=turn / 360 * ds.sizes["azimuth"],
        order=order,
    )  # fmt: skip

    ds = ds.assign_coords({dim: axis_variable(dim, place) for dim, place in places.items()})
    made = made.assign_attrs(polar.attrs | {"long_name": CARTESIAN_VOLUME.long_name})
    return label(ds, {CARTESIAN_VOLUME: made}, step="to_cartesian", order=order)


def _circles(ds: xr.Dataset) -> tuple[float, float]:
    """Step of the radius, and the first azimuth in degrees."""
    known = {"radius", "azimuth"} <= set(ds.coords)
    radius, azimuth = (np.asarray(ds.get(name, [np.nan])) for name in ("radius", "azimuth"))
    step, turn = (step_of(ds, name) for name in ("radius", "azimuth"))
    even = np.arange(radius.size) * step, azimuth[0] + np.arange(azimuth.size) * turn
    full = abs(turn * azimuth.size - 360) < 1e-6 * 360
    if not (known and full and np.allclose(radius, even[0]) and np.allclose(azimuth, even[1])):
        raise SchemaError(
            "to_cartesian needs 'radius' in even steps from 0 and 'azimuth' in even steps around a "
            "full turn, as to_polar makes them."
        )
    return step, float(azimuth[0])


def _places(ds: xr.Dataset, dim: str, step: float) -> np.ndarray:
    """Pixels as they are, or so many that the largest circle fits."""
    if dim in ds.coords and dim in ds.sizes:
        return np.asarray(ds[dim], dtype=float)
    if dim in ds.sizes:
        return (np.arange(ds.sizes[dim]) - (ds.sizes[dim] - 1) / 2) * step
    reach = ds.sizes["radius"] - 1
    return np.arange(-reach, reach + 1) * step
