"""The data model at work: verbs ask with `require` and hand back what they made with `label`.

What there is to ask for stands in `variables`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import xarray as xr

from ndtomo_dask.errors import SchemaError, nearest
from ndtomo_dask.variables import CHANNEL, LEADING, MASK, SINOGRAM, VARIABLES, Variable


def require(
    ds: xr.Dataset, variable: Variable, *, verb: str, whole: Iterable[str] = ()
) -> xr.DataArray:
    """Return a variable of ``ds`` in canonical dimension order, or say what to type.

    Parameters
    ----------
    ds
        The dataset handed to a verb.
    variable
        What the verb needs.
    verb
        The verb's name, for the message.
    whole
        Dimensions which must not be split into blocks.

    Raises
    ------
    SchemaError
        The variable is absent, lacks a dimension, or is split along one that must be whole.
    """
    if not isinstance(ds, xr.Dataset):
        raise SchemaError(f"{verb} takes an xarray.Dataset first, not {type(ds).__name__}.")
    if variable.name not in ds:
        hint = nearest(variable.name, map(str, ds.data_vars)) if ds.data_vars else "It is empty."
        raise SchemaError(
            f"{verb} needs {variable.name!r}, which the dataset does not have. {hint}"
        )
    array = ds[variable.name]
    missing = [dim for dim in variable.dims if dim not in array.dims]
    if missing:
        raise SchemaError(
            f"{verb} needs {variable.name!r} with dimensions {variable.dims}, "
            f"but it has {array.dims}: {missing[0]!r} is missing."
        )
    _refuse_empty(array, verb)
    _refuse_split(array, whole, verb)
    lead = [dim for dim in array.dims if dim not in variable.dims]
    return array.transpose(*lead, *variable.dims)


def anywhere(variable: Variable) -> Variable:
    """Return a variable of which only the last dimension is needed: in pixels, rays or spectra.

    >>> anywhere(VARIABLES["peak_area"]).dims
    ('peak',)
    """
    return replace(variable, dims=variable.dims[-1:])


def refuse_non_additive(array: xr.DataArray, *, verb: str) -> None:
    """Raise `SchemaError` if a variable does not add along a ray, by its attributes or its name."""
    known = VARIABLES.get(str(array.name))
    if not array.attrs.get("additive", known is None or known.additive):
        raise SchemaError(
            f"{verb} was given {array.name!r} ({array.attrs.get('long_name', 'no amount')}), which "
            f"does not add along a ray, so that no image of it follows. Reconstruct areas, amounts "
            f"or moments: peak_moments(ds, variable='sinogram', ...)."
        )


def _refuse_empty(array: xr.DataArray, verb: str) -> None:
    for dim, size in array.sizes.items():
        if size == 0:
            raise SchemaError(
                f"{verb} needs data, but {array.name!r} has no entries along {dim!r}."
            )


def _refuse_split(array: xr.DataArray, whole: Iterable[str], verb: str) -> None:
    for dim in whole:
        blocks = len(array.chunksizes.get(dim, (0,)))
        if blocks > 1:
            raise SchemaError(_split_message(str(array.name), dim, blocks, verb))


def _split_message(name: str, dim: str, blocks: int, verb: str) -> str:
    what, layout = ("whole spectra", "spectra") if dim == CHANNEL else ("whole images", "images")
    return (
        f"{verb} needs {what}, but {name!r} is split along {dim!r} into {blocks} blocks. "
        f"Reopen the store with open_scan(store, layout={layout!r}); a file that is not a store "
        f"is turned into one by convert(file, store)."
    )


def label(
    ds: xr.Dataset, arrays: Mapping[Variable, xr.DataArray], *, step: str, **options: object
) -> xr.Dataset:
    """Add variables to ``ds`` with their units and names, and one line to its history."""
    labelled = {}
    for variable, array in arrays.items():
        attrs = {"units": variable.units, "long_name": variable.long_name} | array.attrs
        attrs |= {} if variable.additive else {"additive": 0}
        labelled[variable.name] = array.assign_attrs(attrs)
    return record(ds.assign(labelled), step, **options)


def record(ds: xr.Dataset, step: str, **options: object) -> xr.Dataset:
    """Append one line to the dataset's history: package version, verb and options."""
    given = ", ".join(f"{name}={_brief(value)}" for name, value in options.items())
    line = f"ndtomo_dask {package_version()}: {step}({given})"
    before = ds.attrs.get("history")
    return ds.assign_attrs(history=f"{before}\n{line}" if before else line)


def _brief(value: object) -> str:
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return repr(value.item() if isinstance(value, np.generic) else value)


@cache
def package_version() -> str:
    """Return the installed version of ndtomo_dask, or "0+source" in a bare checkout."""
    try:
        return version("ndtomo-dask")
    except PackageNotFoundError:
        return "0+source"


def floating(dtype: np.dtype) -> np.dtype:
    """Type of what is computed from data: float32 and float64 stay, counts become float32."""
    return dtype if dtype in (np.float32, np.float64) else np.dtype(np.float32)


def variable_named(name: str, *, verb: str) -> Variable:
    """Look a variable with a channel axis up in the data model, or say which was meant."""
    spectral = {
        known: variable for known, variable in VARIABLES.items() if CHANNEL in variable.dims
    }
    if name not in spectral:
        raise SchemaError(
            f"{verb} was asked for variable={name!r}, which has no spectra or is not known. "
            f"{nearest(name, spectral)}"
        )
    return spectral[name]


def valid_mask(ds: xr.Dataset, *, verb: str) -> xr.DataArray:
    """Return ``mask`` as booleans in memory, if it suits a sinogram and leaves something of it."""
    mask = ds[MASK.name].astype(bool).compute()
    data = ds.get(SINOGRAM.name, xr.DataArray())
    known = (*(dim for dim in LEADING if dim in data.dims), *MASK.dims)
    if not mask.dims or not set(mask.dims) <= set(known):
        raise SchemaError(
            f"{verb} takes a 'mask' along any of {', '.join(known)}, but it has {mask.dims}."
        )
    if bool(mask.all()):
        raise SchemaError(
            f"{verb} needs data, but 'mask' marks every {' and '.join(map(str, mask.dims))}."
        )
    return mask


def without_masked(ds: xr.Dataset, array: xr.DataArray, *, verb: str) -> xr.DataArray:
    """Set the samples that ``mask`` marks to NaN, which no estimate counts; lazily."""
    return array.where(~valid_mask(ds, verb=verb)) if MASK.name in ds else array


def step_of(ds: xr.Dataset, dimension: str) -> float:
    """Spacing of an evenly spaced coordinate, in its unit; 1 where the dimension has none."""
    if dimension not in ds.coords or ds.sizes[dimension] < 2:
        return 1.0
    values = np.asarray(ds[dimension], dtype=float)
    return float(abs(values[-1] - values[0]) / (values.size - 1))
