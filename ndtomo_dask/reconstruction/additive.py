"""Maps that add along a ray, reconstructed as if they were channels; others are refused."""

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr

from ndtomo_dask.apply import is_lazy
from ndtomo_dask.errors import OptionError, SchemaError, nearest
from ndtomo_dask.schema import record, refuse_non_additive, require
from ndtomo_dask.variables import ANGLE, CHANNEL, SINOGRAM, SPECTRAL_AXES, TRANSLATION, VOLUME

_VARIABLE, _ENTRY, _UNITS, _DIMENSION = "map_variable", "map_entry", "map_units", "map_dimension"


def sinogram_from_maps(ds: xr.Dataset, variables: Sequence[str]) -> xr.Dataset:
    """Make a scan of maps of rays, a channel for each, to be reconstructed; nothing is computed.

    Areas, amounts and moments of peaks that were found in a sinogram add along a ray, as intensity
    does, so each of their maps is a sinogram of its own: ``reconstruct`` it and turn it back by
    `maps_from_volume`. Positions, widths and ratios do not add, and are refused.

    Parameters
    ----------
    ds
        A scan with the maps ``([time, z,] angle, translation [, peak or reference])``.
    variables
        Which of them, such as ``["moment_area", "moment_first", "moment_second"]``.

    Returns
    -------
        The scan with ``sinogram ([time, z,] angle, translation, channel)`` in place of its own
        and of its maps, and what each channel is on ``map_variable`` and ``map_entry (channel)``.

    Raises
    ------
    SchemaError
        A map does not add along a ray, is not there, or has no angles and translations.
    """
    names = [variables] if isinstance(variables, str) else list(variables)
    if not names:
        raise OptionError("sinogram_from_maps needs variables, such as ['peak_area'].")
    maps = [_ray_map(ds, name) for name in names]
    entries = {dim for array in maps for dim in array.dims if dim in _extra(array)}
    if len(entries) > 1:
        raise OptionError(
            f"sinogram_from_maps takes maps of one kind at a time, not of "
            f"{', '.join(sorted(map(str, entries)))} together."
        )
    joined = _joined([_as_channels(array) for array in maps])
    joined = joined.assign_attrs(units="1", long_name="maps that add along a ray")

    rest = ds.drop_dims([CHANNEL, *entries], errors="ignore").drop_vars(names, errors="ignore")
    return record(rest.assign({SINOGRAM.name: joined}), "sinogram_from_maps", variables=names)


def maps_from_volume(ds: xr.Dataset) -> xr.Dataset:
    """Turn the volume of a scan made by `sinogram_from_maps` back into maps, now of pixels; lazily.

    Returns ``ds`` without its channels, with every map ``([time, z,] y, x [, peak or reference])``
    under its own name, in its own unit per mm.
    """
    volume = require(ds, VOLUME, verb="maps_from_volume")
    if _VARIABLE not in volume.coords:
        raise SchemaError(
            f"maps_from_volume needs a volume with {_VARIABLE!r} on its channels: reconstruct what "
            f"sinogram_from_maps makes."
        )
    kinds = volume[_VARIABLE].values.astype(str)
    made = {
        str(kind): _as_map(volume.isel(channel=np.flatnonzero(kinds == kind)))
        for kind in dict.fromkeys(kinds)
    }
    return record(ds.drop_dims(CHANNEL).assign(made), "maps_from_volume")


def _ray_map(ds: xr.Dataset, name: str) -> xr.DataArray:
    if name not in ds:
        raise SchemaError(
            f"sinogram_from_maps was asked for {name!r}, which the scan does not have. "
            f"{nearest(str(name), map(str, ds.data_vars))}"
        )
    array = ds[name]
    refuse_non_additive(array, verb="sinogram_from_maps")
    if not {ANGLE, TRANSLATION} <= set(array.dims) or len(_extra(array)) > 1:
        raise SchemaError(
            f"sinogram_from_maps needs maps (angle, translation, peak), but {name!r} has "
            f"{array.dims}: find them in the sinogram, with variable='sinogram'."
        )
    # A map is small: its blocks are joined to the whole images that a reconstruction needs.
    return array.chunk({ANGLE: -1, TRANSLATION: -1}) if is_lazy(array) else array


def _extra(array: xr.DataArray) -> list[Hashable]:
    return [dim for dim in array.dims if dim not in (ANGLE, TRANSLATION, "time", "z")]


def _as_channels(array: xr.DataArray) -> xr.DataArray:
    """Name each entry of a map on channels, beside the variable and its unit."""
    extra = _extra(array)
    dimension = str(extra[0]) if extra else ""
    stacked = array.rename({dimension: CHANNEL}) if extra else array.expand_dims(CHANNEL, -1)
    count = stacked.sizes[CHANNEL]
    names = array[dimension].values.astype(str) if dimension in array.coords else range(count)
    stacked = stacked.drop_vars([CHANNEL, *SPECTRAL_AXES], errors="ignore")
    labels = {
        _VARIABLE: [str(array.name)] * count,
        _ENTRY: [str(name) for name in names],
        _UNITS: [str(array.attrs.get("units", "1"))] * count,
        _DIMENSION: [dimension] * count,
        "map_axis": [str(array.attrs.get("axis", ""))] * count,
        "map_axis_units": [str(array.attrs.get("axis_units", ""))] * count,
    }
    stacked = stacked.assign_coords({name: (CHANNEL, values) for name, values in labels.items()})
    return _without_attrs(stacked.transpose(..., ANGLE, TRANSLATION, CHANNEL))


def _joined(maps: Sequence[xr.DataArray]) -> xr.DataArray:
    """Put channels beside one another, with the coordinates that all of them have."""
    shared = set.intersection(*(set(array.coords) for array in maps))
    bare = [array.drop_vars(set(array.coords) - shared) for array in maps]
    return xr.concat(bare, CHANNEL, coords="minimal", compat="override", join="override")


def _as_map(part: xr.DataArray) -> xr.DataArray:
    """Give a map its name, dimension and unit back."""
    about = {
        name: str(part[name].values[0]) for name in part.coords if str(name).startswith("map_")
    }
    attrs = {"units": f"{about[_UNITS]}/mm", "long_name": f"reconstructed {about[_VARIABLE]}"}
    for name in ("axis", "axis_units"):
        if about[f"map_{name}"]:
            attrs[name] = about[f"map_{name}"]
    entries = part[_ENTRY].values.astype(str)
    part = part.drop_vars([*about, CHANNEL, *SPECTRAL_AXES], errors="ignore")
    dimension = about[_DIMENSION]
    if not dimension:
        return _without_attrs(part.isel(channel=0, drop=True)).assign_attrs(attrs)
    part = part.rename({CHANNEL: dimension}).assign_coords({dimension: entries})
    return _without_attrs(part).assign_attrs(attrs)


def _without_attrs(array: xr.DataArray) -> xr.DataArray:
    bare = array.copy(deep=False)  # drop_attrs(deep=False) would copy the values
    bare.attrs = {}
    return bare
