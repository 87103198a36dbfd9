"""What is measured beside the data, along their axes: monitors, masks, flats and darks."""

from collections.abc import Mapping

import dask.array as da
import h5py
import numpy as np
import xarray as xr

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.dimensions import KINDS, named, subset
from ndtomo_dask.io.flattened import Grid
from ndtomo_dask.io.hdf5 import HDF5Array, lazy
from ndtomo_dask.io.nxdata import axis_words
from ndtomo_dask.io.pieces import Place, describe_pieces, gridded
from ndtomo_dask.io.swmr import describe_growing
from ndtomo_dask.variables import ANGLE, CHANNEL, TIME, VARIABLES

FIELDS = ("flat", "dark")
"""Images without sample or beam; their frames are averaged."""
COMPANIONS = ("monitor", "mask", "sinogram_variance", "projection_shift", "rotation_center")
MEASURED_BESIDE = ("monitor", "sinogram_variance")
"""Companions that grow with the scan, so that a scan which is followed goes without."""


def companion(
    file: h5py.File,
    place: Place,
    name: str,
    sizes: Mapping[str, int],
    block_bytes: int,
    *,
    follow: bool,
    grid: Grid | None = None,
) -> xr.DataArray:
    """Open what was measured beside the data, along those of their dimensions that it has.

    ``grid`` is that of a scan that was written as a list of points.
    """
    array = describe_growing(file, str(place)) if follow else _on_grid(file, place, grid)
    values = lazy(array, block_bytes=block_bytes)
    values = values != 0 if name == "mask" else as_float(values)
    declared = None if grid else _declared(file, array, sizes)
    if declared is not None and not (name in FIELDS and ANGLE in declared):
        data = xr.DataArray(values, dims=declared)
    elif name in FIELDS:
        data = _averaged(values, sizes, f"{name!r} at {place!r}")
    else:
        order = {dim: sizes[dim] for dim in (grid.slow, grid.fast)} if grid else sizes
        dims = subset(array.shape, order, where=f"{name!r} at {place!r}")
        if dims is None:
            raise SchemaError(_no_fit(name, place, array.shape, sizes))
        data = xr.DataArray(values, dims=dims)
    whole = name != "mask"  # which may lie along any of its dimensions
    if whole and CHANNEL in VARIABLES[name].dims and CHANNEL not in data.dims and data.ndim:
        data = data.expand_dims({CHANNEL: sizes.get(CHANNEL, 1)}, axis=-1)
    data = data.transpose(*[dim for dim in KINDS["sinogram"] if dim in data.dims])
    return data.assign_attrs(variable_attrs(name))


def _on_grid(file: h5py.File, place: Place, grid: Grid | None) -> HDF5Array:
    pieces = describe_pieces(file, place)
    listed = sum(piece.shape[0] for piece in pieces if piece.ndim)
    return pieces[0] if grid is None or listed != grid.points else gridded(pieces, grid)


def _declared(
    file: h5py.File, array: HDF5Array, sizes: Mapping[str, int]
) -> tuple[str, ...] | None:
    """Return the dimensions the file names, if all are known and as long as those of the data."""
    words = named(axis_words(file, array.dataset, array.ndim), "sinogram")
    known = [word for word in words if word is not None]
    lengths = tuple(sizes.get(word) for word in known)
    return tuple(known) if array.ndim and lengths == array.shape else None


def _averaged(values: da.Array, sizes: Mapping[str, int], where: str) -> xr.DataArray:
    """Average frames without sample or beam: (frame, z, translation) -> (z, translation)."""
    seen = {dim: size for dim, size in sizes.items() if dim not in (ANGLE, TIME)}
    if values.shape[1:] == tuple(seen.values()):
        mean = values.mean(axis=0, dtype=np.float64).astype(values.dtype)
        return xr.DataArray(mean, dims=tuple(seen))
    dims = subset(values.shape, seen, where=where)
    if dims is None:
        raise SchemaError(
            f"{where} has shape {values.shape}, but frames of the data have {tuple(seen.values())} "
            f"({', '.join(seen)})."
        )
    return xr.DataArray(values, dims=dims)


def _no_fit(name: str, place: Place, shape: tuple[int, ...], sizes: Mapping[str, int]) -> str:
    return (
        f"{name!r} at {place!r} has shape {shape}, which fits no axes of the data {dict(sizes)}. "
        f"Map another dataset, or leave it out."
    )


def as_float(array: da.Array) -> da.Array:
    """Turn integers and half precision into float32, lazily; float32 and float64 stay."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "iufb":
        raise SchemaError(f"the data hold {array.dtype}, not numbers.")
    wanted = np.dtype(np.float64 if kind == "f" and size >= 8 else np.float32)
    return array if array.dtype == wanted else array.astype(wanted)


def variable_attrs(name: str) -> dict[str, str]:
    """Return the unit and the name in words of a variable of the data model."""
    return {"units": VARIABLES[name].units, "long_name": VARIABLES[name].long_name}


def image_key(file: h5py.File, dataset: str) -> np.ndarray | None:
    """Return what each frame of a stack is, by NXtomo: 0 the sample, 1 flat, 2 dark; or None."""
    group = dataset.strip("/").rpartition("/")[0]
    entry = group.rpartition("/")[0]
    for place in (f"{group}/image_key", f"{entry}/instrument/detector/image_key"):
        found = file.get(place)
        if isinstance(found, h5py.Dataset) and found.ndim == 1:
            return np.asarray(found[()])
    return None


def by_image_key(ds: xr.Dataset, key: np.ndarray | None) -> xr.Dataset:
    """Take flats and darks out of the projections, and average them, where a key says them."""
    if key is None or "sinogram" not in ds or ds.sizes[ANGLE] != key.size or not key.any():
        return ds
    found = {}
    for name, number in (("flat", 1), ("dark", 2)):
        frames = ds["sinogram"].isel({ANGLE: np.flatnonzero(key == number)})
        if frames.sizes[ANGLE] and name not in ds:
            mean = frames.mean(ANGLE, dtype=np.float64).astype(frames.dtype)
            found[name] = mean.assign_attrs(variable_attrs(name))
    return ds.isel({ANGLE: np.flatnonzero(key == 0)}).assign(found)
