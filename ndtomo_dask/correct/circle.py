"""Pixels that not all projections see."""

import numpy as np
import xarray as xr

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.schema import label, require
from ndtomo_dask.variables import VARIABLES


def mask_circle(
    ds: xr.Dataset,
    *,
    variable: str = "volume",
    radius: float | None = None,
    fill: float = 0.0,
) -> xr.Dataset:
    """Set the pixels of images outside a circle around the rotation axis to one value.

    Parameters
    ----------
    ds
        A dataset with a variable that has ``y`` and ``x``, in any blocks.
    variable
        Whose pixels.
    radius
        Of the circle, in mm; default: it touches the edges of the image.
    fill
        What the pixels become: 0, or ``float("nan")`` to leave them out of what follows.

    Returns
    -------
        ``ds`` with the variable masked; its type and blocks stay.

    Raises
    ------
    SchemaError
        The variable is not there, or has no pixels.
    OptionError
        The radius is not positive, or an integer variable was to become NaN.
    """
    if variable not in VARIABLES or not {"y", "x"} <= set(VARIABLES[variable].dims):
        raise SchemaError(f"mask_circle was asked for variable={variable!r}, which has no pixels.")
    array = require(ds, VARIABLES[variable], verb="mask_circle")
    if radius is not None and not radius > 0:
        raise OptionError(f"mask_circle: radius={radius} must be more than 0, in mm.")
    if array.dtype.kind != "f" and not np.isfinite(fill):
        raise OptionError(f"mask_circle: {variable!r} holds integers, which cannot be {fill}.")

    inside = _inside(array, radius)
    masked = array.where(inside, array.dtype.type(fill)).assign_attrs(array.attrs)
    given = {} if radius is None else {"radius": radius}
    return label(ds, {VARIABLES[variable]: masked}, step="mask_circle", variable=variable, **given)


def _inside(array: xr.DataArray, radius: float | None) -> xr.DataArray:
    places, edges = [], []
    for dim in ("y", "x"):
        size = array.sizes[dim]
        known = np.asarray(array[dim], dtype=float) if dim in array.coords else None
        place = np.arange(size) - (size - 1) / 2 if known is None else known
        pixel = float(abs(place[-1] - place[0])) / max(1, size - 1)
        places.append(xr.DataArray(place, dims=dim))
        edges.append(float(np.abs(place).max()) + pixel / 2)
    limit = min(edges) if radius is None else radius
    down, right = places
    return down**2 + right**2 <= (limit * (1 + 1e-9)) ** 2
