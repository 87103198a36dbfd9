"""Units and indexes of the coordinates: what a file says, turned into what the data model means."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from ndtomo_dask import axes
from ndtomo_dask.errors import SchemaError, nearest
from ndtomo_dask.variables import CHANNEL, COORDINATES, SPECTRAL_AXES

TO_UNIT = {
    "degree": {"degree": 1.0, "degrees": 1.0, "deg": 1.0, "2th_deg": 1.0, "°": 1.0,
               "rad": 180 / np.pi, "radian": 180 / np.pi, "radians": 180 / np.pi,
               "2th_rad": 180 / np.pi},
    "1/angstrom": {"1/angstrom": 1.0, "1/a": 1.0, "a^-1": 1.0, "q_a^-1": 1.0, "1/å": 1.0,
                   "angstrom^-1": 1.0, "å^-1": 1.0, "1/nm": 0.1, "nm^-1": 0.1, "q_nm^-1": 0.1},
    "angstrom": {"angstrom": 1.0, "angstroms": 1.0, "a": 1.0, "å": 1.0, "nm": 10.0, "m": 1e10},
    "keV": {"kev": 1.0, "ev": 1e-3},
    "mm": {"mm": 1.0, "um": 1e-3, "micron": 1e-3, "microns": 1e-3, "µm": 1e-3, "μm": 1e-3,
           "nm": 1e-6, "cm": 10.0, "m": 1e3},
    "1/mm": {"1/mm": 1.0, "mm^-1": 1.0, "1/cm": 0.1, "cm^-1": 0.1, "1/m": 1e-3, "m^-1": 1e-3,
             "1/um": 1e3, "um^-1": 1e3},
    "s": {"s": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0},
    "1": {"1": 1.0, "": 1.0},
}  # fmt: skip
"""Factor from each unit that files use (in lower case) to the unit of the data model."""


def in_unit(values: np.ndarray, *, axis: str, given: str | None) -> np.ndarray:
    """Convert an axis from the unit a file gives (None: already ours) to the data model's unit.

    >>> in_unit(np.array([8047.8]), axis="energy", given="eV")
    array([8.0478])
    """
    wanted = COORDINATES[axis].units
    table = TO_UNIT[wanted]
    name = wanted if given is None else given
    if name.lower() not in table and name != wanted:
        raise SchemaError(
            f"axis {axis!r} has unit {given!r}, not {wanted!r}. {nearest(name, table)}"
        )
    return np.asarray(values, dtype=np.float64) * table.get(name.lower(), 1.0)


def axis_variable(axis: str, values: np.ndarray, *, size: int | None = None) -> xr.Variable:
    """Build a coordinate with its unit and name; spectral and spatial axes must be monotonic."""
    about = COORDINATES[axis]
    checked = (
        np.asarray(values, dtype=np.float64)
        if axis == "angle"
        else check_axis(axis, values, size=size)
    )
    if size is not None and checked.shape != (size,):
        raise SchemaError(f"axis {axis!r} has {checked.size} values, but the data have {size}.")
    return xr.Variable(
        about.dimension, checked, {"units": about.units, "long_name": about.long_name}
    )


def derive_axes(ds: xr.Dataset) -> xr.Dataset:
    """Add the spectral axes that follow from those present, and attach an index to each.

    From ``tth`` and the scalar coordinate ``wavelength`` (Å) come ``q`` and ``d``; from ``q`` comes
    ``d``, and with a wavelength ``tth``. Indexes other than a dimension's own are not stored by
    Zarr, so this is called whenever a scan is opened.
    """
    found = {name: np.asarray(ds[name], float) for name in SPECTRAL_AXES if name in ds.coords}
    wavelength = float(ds["wavelength"]) if "wavelength" in ds.coords else None
    if "q" not in found and "tth" in found and wavelength is not None:
        found["q"] = axes.q_from_tth(found["tth"], wavelength=wavelength)
    if "q" not in found and "d" in found:
        found["q"] = axes.q_from_d(found["d"])
    if "tth" not in found and "q" in found and wavelength is not None:
        found["tth"] = axes.tth_from_q(found["q"], wavelength=wavelength)
    if "d" not in found and "q" in found and (found["q"] > 0).all():
        found["d"] = axes.d_from_q(found["q"])
    ds = ds.assign_coords(
        {name: axis_variable(name, found[name]) for name in found if name not in ds.coords}
    )
    return attach_indexes(ds)


def attach_indexes(ds: xr.Dataset) -> xr.Dataset:
    """Give every spectral axis of ``ds`` an index of its own, so that ``sel`` works on each."""
    for name in SPECTRAL_AXES:
        if name in ds.coords and name not in ds.xindexes and ds[name].dims == (CHANNEL,):
            ds = ds.set_xindex(name)
    return ds


def spectral_axis(ds: xr.Dataset, axis: str | None, *, verb: str) -> xr.DataArray:
    """Return the spectral coordinate named ``axis``, or the only natural one if it is None."""
    present = [name for name in (*SPECTRAL_AXES, CHANNEL) if name in ds.coords]
    if axis is None:
        if not present:
            return xr.DataArray(
                np.arange(ds.sizes[CHANNEL], dtype=float), dims=CHANNEL, name=CHANNEL
            )
        return ds[present[0]]
    if axis not in present:
        raise SchemaError(_no_axis(axis, present, verb))
    return ds[axis]


def _no_axis(axis: str, present: list[str], verb: str) -> str:
    if axis in ("q", "d", "tth") and {"q", "d", "tth"} & set(present):
        return (
            f"{verb} was asked for axis {axis!r}, which follows from {present[0]!r} only with a "
            f"wavelength: ds.assign_coords(wavelength=0.2) in Å, then derive_axes(ds)."
        )
    known = ", ".join(present) or "none"
    return f"{verb} was asked for axis {axis!r}, but the data have {known}. Choose one of these."


def check_axis(name: str, values: Iterable[float], *, size: int | None = None) -> np.ndarray:
    """Return an axis as float64 if it is finite and strictly monotonic, else say where not."""
    axis = np.asarray(values, dtype=np.float64)
    if size is not None and axis.shape != (size,):
        raise SchemaError(f"axis {name!r} has {axis.size} values, but the data have {size}.")
    if not np.isfinite(axis).all():
        raise SchemaError(
            f"axis {name!r} has a value that is not finite at index {_first(~np.isfinite(axis))}."
        )
    steps = np.diff(axis)
    if steps.size and not ((steps > 0).all() or (steps < 0).all()):
        wrong = _first(np.sign(steps) != np.sign(np.median(steps)))
        raise SchemaError(
            f"axis {name!r} is not monotonic: value {axis[wrong + 1]:g} at index {wrong + 1} "
            f"follows {axis[wrong]:g}. Sort the data, or leave the axis out."
        )
    return axis


def _first(condition: np.ndarray) -> int:
    return int(np.flatnonzero(condition)[0])
