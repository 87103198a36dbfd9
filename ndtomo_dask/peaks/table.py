"""Peaks of a mean or maximum spectrum, as a table to be edited and handed to `fit_peaks`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import OptionError, SchemaError, check_choice, nearest
from ndtomo_dask.kernels.fitting.peak_search import FoundPeaks, search_peaks
from ndtomo_dask.peaks.windows import read_table
from ndtomo_dask.schema import record, require, variable_named
from ndtomo_dask.variables import CHANNEL, VARIABLES

Region = xr.DataArray | Mapping[str, Sequence[int]]
Reduction = Literal["mean", "maximum"]
REDUCTIONS = ("mean", "maximum")
_DIGITS = range(4, 12)
"""A peak is named by its position, to as many digits as tell the peaks apart."""
_MEANING = {
    "position": "position of the peak",
    "fwhm": "full width at half prominence",
    "height": "intensity at the peak",
    "prominence": "height above the higher of the two valleys beside the peak",
    "window_low": "first axis value of the window",
    "window_high": "last axis value of the window",
}


def find_peaks(
    ds: xr.Dataset,
    *,
    variable: str = "volume",
    region: Region | None = None,
    spectrum: Reduction = "mean",
    axis: str | None = None,
    prominence: float | None = None,
    width: float = 3.0,
    peaks: int | None = None,
) -> xr.Dataset:
    """Find the peaks of the mean or maximum spectrum, as a table.

    The table is a dataset like any other: drop rows by ``table.drop_sel(peak=...)``, name them by
    ``table.assign_coords(peak=[...])``, and hand it to `fit_peaks` as ``peaks=table``. A peak
    stands out by its prominence, the height above the higher of the valleys on its two sides;
    its position is that of a parabola through its three highest channels.

    Parameters
    ----------
    ds
        A dataset with ``variable``, in blocks of any layout; all of it is read.
    variable
        ``"volume"``, or another variable with a channel axis.
    region
        True where pixels, or rays, are counted; all of them without one. Or the first index and the
        one after the last, by dimension: ``{"y": (10, 20), "x": (5, 40)}``.
    spectrum
        ``"mean"``, or ``"maximum"`` of each channel, which also shows what a few pixels have.
    axis
        ``"tth"``, ``"q"``, ``"d"`` or ``"energy"``; may be left out where there is only one.
    prominence
        Least prominence, in units of the data. Default: six standard deviations of the spectrum's
        noise, and 1 % of its range.
    width
        How far a window reaches on either side, in widths of its peak; it ends at a valley between
        two peaks, but has 9 channels at least.
    peaks
        Keep this many, those that stand out most.

    Returns
    -------
        ``position``, ``fwhm``, ``height``, ``prominence``, ``window_low`` and ``window_high``
        ``(peak)``, by position, with units in ``attrs``.

    Raises
    ------
    SchemaError
        The region is empty, or has no peak that stands out enough.
    OptionError
        A prominence, width or number of peaks that is not positive.
    """
    check_choice("spectrum", spectrum, REDUCTIONS)
    given = {"prominence": prominence, "width": width, "peaks": peaks}
    for name, value in given.items():
        if value is not None and not value > 0:
            raise OptionError(f"{name}={value!r} must be more than 0.")
    array = require(ds, variable_named(variable, verb="find_peaks"), verb="find_peaks")
    values = spectral_axis(ds, axis, verb="find_peaks")
    if region is not None and not isinstance(region, xr.DataArray):
        array, region = array.isel(part_of(region, array.sizes)), None

    (reduced,) = compute_arrays([_reduced(array, region, spectrum)], f"{spectrum} spectrum")
    if not np.isfinite(reduced).any():
        raise SchemaError("find_peaks was given a region, or data, without a finite value.")

    found = search_peaks(reduced.values, prominence=prominence, width=width, most=peaks)
    if not found.position.size:
        raise SchemaError(
            f"the {spectrum} spectrum of {variable!r} has no peak of prominence "
            f"{found.least_prominence:.4g} or more. Pass prominence=..., or spectrum='maximum'."
        )
    table = _table(found, np.asarray(values, dtype=np.float64))
    units = {"axis": str(values.attrs.get("units", "1")),
             "data": str(array.attrs.get("units", VARIABLES[variable].units))}  # fmt: skip
    for quantity, meaning in _MEANING.items():
        unit = units["data" if quantity in ("height", "prominence") else "axis"]
        table[quantity].attrs.update(units=unit, long_name=meaning)
    table = table.assign_attrs(ds.attrs | {"axis": str(values.name), "spectrum": spectrum})
    return record(table, "find_peaks", variable=variable, spectrum=spectrum, **given)


def windows_of(table: xr.Dataset) -> dict[str, tuple[float, float]]:
    """Windows of a table of peaks by their names, as `fit_peaks` and `peak_moments` take them.

    >>> table = xr.Dataset({"window_low": ("peak", [3.05]), "window_high": ("peak", [3.13])},
    ...                    coords={"peak": ["Ni 111"]})
    >>> windows_of(table)
    {'Ni 111': (3.05, 3.13)}
    """
    return read_table(table, verb="windows_of")


def part_of(region: Region | None, sizes: Mapping[Any, int]) -> dict[str, slice]:
    """Return the part of some dimensions that a region of indices is.

    >>> part_of({"y": (10, 20)}, {"y": 32, "x": 32, "channel": 96})
    {'y': slice(10, 20, None)}
    """
    if region is None or isinstance(region, xr.DataArray):
        return {}
    if not isinstance(region, Mapping):
        raise OptionError(
            f"region={region!r} of find_peaks is neither a mask nor indices by dimension, such as "
            f"{{'y': (10, 20)}}."
        )
    part = {}
    pixels = [str(dim) for dim in sizes if dim != CHANNEL]
    for dim, pair in region.items():
        if dim not in pixels:
            raise OptionError(f"region of find_peaks has {dim!r}. {nearest(str(dim), pixels)}")
        if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= sizes[dim]:
            raise OptionError(
                f"region of find_peaks has {dim}={pair!r}, but takes the first index and the one "
                f"after the last of {sizes[dim]}."
            )
        part[dim] = slice(*pair)
    return part


def _reduced(array: xr.DataArray, region: xr.DataArray | None, spectrum: str) -> xr.DataArray:
    along = [dim for dim in array.dims if dim != CHANNEL]
    if not along:
        return array.astype(np.float64)
    if spectrum == "maximum":
        counted = array.notnull() if region is None else array.notnull() & region
        highest = array.where(counted, -np.inf).max(along)
        return highest.where(highest > -np.inf).astype(np.float64)
    counted_mean = array if region is None else array.where(region)
    return counted_mean.mean(along, dtype=np.float64, skipna=True)


def _table(found: FoundPeaks, axis: np.ndarray) -> xr.Dataset:
    """Turn channel numbers into axis values, lowest first."""
    channel = np.arange(axis.size)
    at = {name: np.interp(getattr(found, name), channel, axis)
          for name in ("position", "left", "right", "first", "last")}  # fmt: skip
    windows = np.sort([at["first"], at["last"]], axis=0)
    columns = {
        "position": at["position"],
        "fwhm": np.abs(at["right"] - at["left"]),
        "height": found.height,
        "prominence": found.prominence,
        "window_low": windows[0],
        "window_high": windows[1],
    }
    order = np.argsort(at["position"])
    table = xr.Dataset({name: ("peak", column[order]) for name, column in columns.items()})
    return table.assign_coords(peak=_names(table.position.values))


def _names(positions: np.ndarray) -> list[str]:
    names = [str(number) for number in range(positions.size)]
    for digits in _DIGITS:
        tried = [f"{position:.{digits}g}" for position in positions]
        if len(set(tried)) == len(tried):
            return tried
    return names
