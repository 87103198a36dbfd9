"""Small views of large data: an image of some channels, a spectrum of some pixels.

Everything here is plain xarray, spelled out once so that pictures, reports and the explorer agree.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.schema import require, variable_named


def image(
    ds: xr.Dataset,
    *,
    window: Sequence[float] | None = None,
    axis: str | None = None,
    variable: str = "volume",
) -> xr.DataArray:
    """Mean image over a window of the spectrum, ``([z,] y, x)``; over all of it without ``window``.

    Lazy where the data are lazy. ``window`` is (first, last) in units of ``axis``.
    """
    array = require(ds, variable_named(variable, verb="image"), verb="image")
    if window is not None:
        array = array.isel(channel=channels_of(ds, window, axis=axis))
    return array.mean("channel", keep_attrs=True)


def spectrum(
    ds: xr.Dataset, *, region: xr.DataArray | None = None, variable: str = "volume"
) -> xr.DataArray:
    """Mean spectrum of the pixels where ``region`` is True, ``(channel)``; of all without one.

    Lazy where the data are lazy; NaN are left out.
    """
    array = require(ds, variable_named(variable, verb="spectrum"), verb="spectrum")
    if region is not None:
        if not bool(region.any()):
            raise SchemaError("spectrum was given a region without a pixel.")
        array = array.where(region)
    return array.mean([dim for dim in array.dims if dim != "channel"], keep_attrs=True)


def channels_of(ds: xr.Dataset, window: Sequence[float], *, axis: str | None = None) -> slice:
    """Slice of the channels whose axis value lies in a window."""
    values = spectral_axis(ds, axis, verb="image")
    low, high = sorted(map(float, window))
    inside = np.flatnonzero((np.asarray(values) >= low) & (np.asarray(values) <= high))
    if not inside.size:
        first, last = float(values.min()), float(values.max())
        raise SchemaError(
            f"no channel lies in the window ({low:g}, {high:g}) of axis {values.name!r}, which "
            f"covers {first:g} to {last:g}."
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)
