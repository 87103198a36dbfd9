"""Spectra of references, as users have them, on the channels of the data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.variables import CHANNEL, REFERENCE_PATTERN, SPECTRAL_AXES

Patterns = xr.DataArray | xr.Dataset | Mapping[str, Sequence[float]]
_ORDER = ("q", "d", "energy", "tth")
"""Where several axes are shared, first what does not depend on the wavelength."""
_SAME_GRID = 1e-9
"""Share of an axis by which the grids of data and patterns may differ and still be one."""


def patterns_on(
    ds: xr.Dataset, patterns: Patterns, axis: str | None
) -> tuple[xr.DataArray, np.ndarray]:
    """Return the patterns (reference, channel) on the channels of ``ds``, and the axis they share.

    Raises
    ------
    SchemaError
        There are no patterns, they have no axis of the data, or do not cover it.
    """
    known = _as_array(patterns)
    shared, values = _shared_axis(ds, known, axis)
    on_data = known.values if shared is None else _interpolated(known, shared, values)
    for name, row in zip(known.reference.values, on_data, strict=True):
        if not np.isfinite(row).all():
            raise SchemaError(f"pattern {str(name)!r} has a value that is not finite.")
        if not row.any():
            raise SchemaError(
                f"pattern {str(name)!r} is zero in every channel of the data, so that its amount "
                f"is not determined. Leave it out."
            )
    names = [str(name) for name in known.reference.values]
    made = xr.DataArray(on_data, dims=("reference", CHANNEL), coords={"reference": names})
    return made.assign_attrs(units=known.attrs.get("units", "1")), values


def _as_array(patterns: Patterns) -> xr.DataArray:
    """Bring patterns to (reference, channel), in float64, with a name each."""
    if not isinstance(patterns, xr.DataArray | xr.Dataset):
        patterns = _of_lists(patterns)
    if isinstance(patterns, xr.Dataset):
        patterns = _joined(patterns)
    along = [dim for dim in patterns.dims if dim in (CHANNEL, *SPECTRAL_AXES)]
    others = [dim for dim in patterns.dims if dim not in along]
    if len(along) != 1 or len(others) > 1:
        raise SchemaError(
            f"patterns must be an array (reference, channel), but they have dimensions "
            f"{patterns.dims}."
        )
    if not others:
        patterns = patterns.expand_dims(
            reference=["reference" if patterns.name is None else patterns.name]
        )
    elif others != ["reference"]:
        patterns = patterns.rename({others[0]: "reference"})
    if along != [CHANNEL]:
        # The name stays that of the axis, which then lies on the channels.
        patterns = patterns.swap_dims({along[0]: CHANNEL}) if along[0] in patterns.coords else (
            patterns.rename({along[0]: CHANNEL})
        )  # fmt: skip
    if "reference" not in patterns.coords:
        patterns = patterns.assign_coords(reference=np.arange(patterns.sizes["reference"]))
    names = [str(name) for name in patterns.reference.values]
    if len(set(names)) < len(names):
        raise SchemaError(f"patterns must have different names, but they are {names}.")
    return patterns.transpose("reference", CHANNEL).astype(np.float64).compute()


def _of_lists(columns: Mapping[str, Any]) -> xr.Dataset:
    """Bring lists by name to a dataset; those named as an axis are where the others lie."""
    try:
        table = {str(name): np.asarray(column, np.float64) for name, column in columns.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise SchemaError(
            f"patterns={columns!r} are no lists of numbers by name, such as "
            f"{{'q': [...], 'Ni': [...]}}."
        ) from error
    if len({column.shape for column in table.values()}) > 1 or any(
        column.ndim != 1 for column in table.values()
    ):
        sizes = ", ".join(f"{name!r} {column.shape}" for name, column in table.items())
        raise SchemaError(f"patterns must be lists of one length, but they have {sizes}.")
    lists = {name: (CHANNEL, column) for name, column in table.items()}
    along = {name: lists.pop(name) for name in SPECTRAL_AXES if name in table}
    return xr.Dataset(lists, along)


def _joined(patterns: xr.Dataset) -> xr.DataArray:
    if REFERENCE_PATTERN.name in patterns:
        return patterns[REFERENCE_PATTERN.name]
    spectra = [array for array in patterns.data_vars.values() if array.ndim == 1]
    if not spectra or len({array.dims for array in spectra}) > 1:
        raise SchemaError(
            "patterns must be a dataset with a spectrum in each variable, such as "
            "xr.Dataset({'Ni': ('channel', ...)}), all on the same axis."
        )
    return patterns[[array.name for array in spectra]].to_dataarray("reference")


def _shared_axis(
    ds: xr.Dataset, known: xr.DataArray, axis: str | None
) -> tuple[str | None, np.ndarray]:
    """Name of the axis on which both lie, None where both have channel numbers only; its values."""
    theirs = [name for name in _ORDER if name in known.coords and known[name].dims == (CHANNEL,)]
    ours = [name for name in _ORDER if name in ds.coords]
    both = [name for name in theirs if name in ours and axis in (None, name)]
    if both:
        return both[0], np.asarray(ds[both[0]], dtype=np.float64)
    if axis is not None or (theirs and ours):
        raise SchemaError(
            f"patterns lie on {', '.join(theirs) or 'no axis'}, but the data on "
            f"{', '.join(ours) or 'no axis'}, so that they cannot be compared on "
            f"{axis or 'one'}: derive_axes(ds) adds those that follow from a wavelength."
        )
    if known.sizes[CHANNEL] != ds.sizes[CHANNEL]:
        raise SchemaError(
            f"patterns have {known.sizes[CHANNEL]} channels and no axis of the data, which have "
            f"{ds.sizes[CHANNEL]}. Give both an axis, such as 'q'."
        )
    return None, np.asarray(spectral_axis(ds, None, verb="fit_references"), dtype=np.float64)


def _interpolated(known: xr.DataArray, axis: str, values: np.ndarray) -> np.ndarray:
    grid = np.asarray(known[axis], dtype=np.float64)
    low, high = float(grid.min()), float(grid.max())
    slack = _SAME_GRID * max(abs(low), abs(high))
    if grid.shape == values.shape and np.abs(grid - values).max() <= slack:
        return np.asarray(known.values)
    if values.min() < low - slack or values.max() > high + slack:
        raise SchemaError(
            f"patterns cover {axis} from {low:g} to {high:g}, but the data reach from "
            f"{values.min():g} to {values.max():g}: ds.sel({axis}=slice({low:g}, {high:g})) first."
        )
    order = np.argsort(grid)
    return np.array([np.interp(values, grid[order], row[order]) for row in known.values])
