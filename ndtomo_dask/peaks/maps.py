"""Maps of fitted peaks, brought together for a kernel: positions, widths, errors, their axis."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, is_lazy
from ndtomo_dask.errors import OptionError, SchemaError, nearest
from ndtomo_dask.schema import anywhere, floating, require
from ndtomo_dask.variables import SPECTRAL_AXES, VARIABLES, Variable

PerPeak = float | Mapping[str, float] | xr.DataArray
"""A number for all peaks, one for each by its name, or an array along ``peak``."""


class Axis(NamedTuple):
    """The axis on which peaks were fitted, and what q follows from."""

    name: str
    wavelength: float | None
    scattering_angle: float | None


def peak_map(ds: xr.Dataset, variable: Variable, *, verb: str) -> xr.DataArray:
    """Return a map of fitted peaks, with all peaks in one block."""
    array = require(ds, anywhere(variable), verb=verb)
    if "peak" not in array.coords:
        raise SchemaError(f"{verb} needs names of the peaks, but 'peak' has no coordinate.")
    return array.chunk(peak=-1) if is_lazy(array) else array


def with_error(ds: xr.Dataset, variable: Variable, *, verb: str) -> list[xr.DataArray]:
    """Return a map of fitted peaks and that of its standard errors."""
    error = VARIABLES[f"{variable.name}_error"]
    return [peak_map(ds, one, verb=verb) for one in (variable, error)]


def axis_of(position: xr.DataArray, *, verb: str) -> str:
    """Name of the axis on which positions were fitted."""
    axis = str(position.attrs.get("axis", "none"))
    if axis not in SPECTRAL_AXES:
        raise SchemaError(
            f"{verb} needs peaks fitted on {', '.join(SPECTRAL_AXES)}, but the axis of "
            f"{position.name!r} is {axis}: fit_peaks(ds, axis='q', ...), or set attrs['axis']."
        )
    return axis


def known_axis(
    ds: xr.Dataset, position: xr.DataArray, scattering_angle: float | None, *, verb: str
) -> Axis:
    """Say what q follows from, or refuse where something is missing."""
    axis = axis_of(position, verb=verb)
    wavelength = float(ds["wavelength"]) if "wavelength" in ds.coords else None
    if axis == "tth" and wavelength is None:
        raise SchemaError(
            f"{verb} needs a wavelength, because peaks were fitted on 'tth': "
            f"ds.assign_coords(wavelength=0.2) in Å."
        )
    if axis == "energy" and scattering_angle is None:
        raise OptionError(
            f"{verb} needs the 2θ of the detector, because peaks were fitted on 'energy': "
            f"scattering_angle=... in degrees."
        )
    return Axis(axis, wavelength, scattering_angle)


def check_names(names: Sequence[str], position: xr.DataArray, option: str) -> None:
    """Refuse a name that no peak has, and no names at all."""
    known = [str(name) for name in position.peak.values]
    if not names:
        raise OptionError(f"{option} names no peak. Known are: {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise OptionError(f"{option} has peak {name!r}. {nearest(str(name), known)}")


def check_positive(option: str, value: float) -> None:
    """Refuse a number that is not more than 0."""
    if not value > 0:
        raise OptionError(f"{option}={value!r} must be more than 0.")


def per_peak(given: PerPeak, position: xr.DataArray, option: str) -> xr.DataArray:
    """Bring a number, a mapping or an array to one number per peak; NaN where there is none."""
    names = [str(name) for name in position.peak.values]
    if isinstance(given, xr.DataArray):
        if given.dims != ("peak",) or "peak" not in given.coords:
            raise OptionError(f"{option} must be named along 'peak' alone, not {given.dims}.")
        return given.reindex(peak=position.peak).drop_attrs().reset_coords(drop=True)
    if isinstance(given, Mapping):
        check_names(list(given), position, option)
        numbers = [float(given.get(name, np.nan)) for name in names]
    else:
        numbers = [float(given)] * len(names)
    return xr.DataArray(numbers, dims="peak", coords={"peak": position.peak.values})


def map_peaks(
    kernel: Callable[..., Any],
    maps: Sequence[xr.DataArray],
    out: Mapping[str, int],
    *beside: xr.DataArray,
    **options: Any,
) -> xr.DataArray:
    """Map a kernel over pixels: ``kernel(*maps, *beside, **options)``, (…, peak) -> (…, *out)."""
    first, *others = maps
    return apply_kernel(
        kernel, first, *others, *beside, core=["peak"], out=out, dtype=floating(first.dtype),
        **options,
    )  # fmt: skip


def labelled(variable: Variable, pair: xr.DataArray, units: str) -> dict[Variable, xr.DataArray]:
    """Name a result and its error, which stand along ``value``."""
    error = VARIABLES[f"{variable.name}_error"]
    made = {variable: pair.isel(value=0), error: pair.isel(value=1)}
    return {one: array.assign_attrs(units=units) for one, array in made.items()}


def shown(given: PerPeak) -> Any:
    """Write what was given per peak as it can stand in a history."""
    if isinstance(given, xr.DataArray):
        return "an array"
    return dict(given) if isinstance(given, Mapping) else float(given)
