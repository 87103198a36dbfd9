"""HDF5 files as nDTomo and NeXus lay them out, written block by block."""

import os
from collections.abc import Mapping
from itertools import islice, product
from math import gcd
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import xarray as xr
from dask.base import is_dask_collection

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.companions import COMPANIONS, FIELDS
from ndtomo_dask.io.ndtomo import OTHER_AXES
from ndtomo_dask.io.nxdata import EXTRA
from ndtomo_dask.schema import package_version
from ndtomo_dask.variables import ANGLE, CHANNEL, SPECTRAL_AXES, TIME, TRANSLATION, X, Y, Z

BATCH_BYTES = 256 * 2**20
"""Blocks computed at once may hold this many bytes together, or be one block."""
ATTRIBUTE_CHARACTERS = 60_000
"""HDF5 attributes hold 64 kB; of a longer history the end is kept."""

_PEAK_MAPS = {
    "peak_area": "Area",
    "peak_position": "Position",
    "peak_fwhm": "FWHM",
    "peak_fraction": "gamma",
}


def write_ndtomo(ds: xr.Dataset, name: str, path: Path) -> None:
    """Write one variable, or all peak maps, as nDTomo reads them."""
    array = ds[name]
    with h5py.File(path, "w") as file:
        _write_attrs(file, ds)
        if "peak" in array.dims:
            _write_peaks(file, ds)
        else:
            _write_root(file, ds, name)
        for axis in (ANGLE, TRANSLATION, X, Y, Z):
            if axis in array.coords and array[axis].ndim == 1:
                _put(file, axis, array[axis])
        if "wavelength" in ds.coords:
            _put(file, "wavelength", ds["wavelength"])


def _write_root(file: h5py.File, ds: xr.Dataset, name: str) -> None:
    array = ds[name]
    if array.dims == (CHANNEL,):
        _put(file, "I", array)
    else:
        order = _ndtomo_order(array, name)
        data = array.transpose(*order).astype(np.float32)
        target = file.create_dataset(
            "data", shape=data.shape, dtype=np.float32, chunks=_tiles(data)
        )
        target.attrs.update(_plain(array.attrs))
        write_blocks(target, data)
    if CHANNEL in array.dims:
        _write_spectral(file, array)


def _ndtomo_order(array: xr.DataArray, name: str) -> tuple[str, ...]:
    """Return nDTomo's order of axes: horizontal first, channels last."""
    dims = set(array.dims)
    if ANGLE in dims and dims <= {ANGLE, TRANSLATION, CHANNEL}:
        return tuple(dim for dim in (TRANSLATION, ANGLE, CHANNEL) if dim in dims)
    if {X, Y} <= dims <= {X, Y, Z, CHANNEL}:
        return tuple(dim for dim in (X, Y, Z, CHANNEL) if dim in dims)
    excess = next((dim for dim in (TIME, Z) if dim in dims), None)
    mend = f"Select one first: ds.isel({excess}=0)." if excess else "Export it to .nxs instead."
    raise SchemaError(f"nDTomo's files cannot hold {name!r} with dimensions {array.dims}. {mend}")


def _write_spectral(file: h5py.File, array: xr.DataArray) -> None:
    """Write the first spectral axis at the root and as ``xaxis``, the others in a group."""
    present = [name for name in SPECTRAL_AXES if name in array.coords]
    if not present:
        present = [CHANNEL] if CHANNEL in array.coords else []
    for place, name in enumerate(present):
        if place:
            _put(file.require_group(OTHER_AXES), name, array[name])
            continue
        if name != CHANNEL:
            _put(file, name, array[name])
        _put(file, "xaxis", array[name])
        file["xaxis"].attrs["quantity"] = name


def _write_peaks(file: h5py.File, ds: xr.Dataset) -> None:
    """Write every peak map: ``Area`` for one peak, ``Peak_Area_0`` and so on for several."""
    maps = [name for name in _PEAK_MAPS if name in ds and "peak" in ds[name].dims]
    for name in maps:
        array = ds[name].transpose(X, Y, "peak") if ds[name].ndim == 3 else ds[name]
        if array.dims != (X, Y, "peak"):
            raise SchemaError(
                f"nDTomo's files hold maps of one slice, but {name!r} has {ds[name].dims}. "
                f"Select one first, for instance ds.isel(z=0)."
            )
        one = array.sizes["peak"] == 1
        for number in range(array.sizes["peak"]):
            layer = array.isel(peak=number)
            key = _PEAK_MAPS[name] if one else f"Peak_{_PEAK_MAPS[name]}_{number}"
            _put(file, key, layer)
            if "peak" in layer.coords:
                file[key].attrs["peak"] = str(layer["peak"].item())


def _tiles(data: xr.DataArray) -> tuple[int, ...] | None:
    """Return HDF5 chunks that blocks fill whole; None (contiguous) where spectra are whole."""
    blocks = data.chunks
    if blocks is None or len(blocks[-1]) == 1:
        return None
    return tuple(
        min(64, common_step(sizes)) if axis < data.ndim - 1 else common_step(sizes)
        for axis, sizes in enumerate(blocks)
    )


def common_step(sizes: tuple[int, ...]) -> int:
    """Return the largest length that divides every block of an axis but the last.

    >>> common_step((16, 16, 4)), common_step((10,))
    (16, 10)
    """
    return gcd(*sizes[:-1]) if len(sizes) > 1 else sizes[0]


def write_nexus(ds: xr.Dataset, name: str, path: Path) -> None:
    """Write one variable as the default NXdata of a NeXus file, with what belongs to it."""
    array = ds[name]
    with h5py.File(path, "w") as file:
        _write_attrs(file, ds)
        file.attrs.update({"NX_class": "NXroot", "default": "entry"})
        entry = _group(file, "entry", "NXentry", default="data")
        data = _group(entry, "data", "NXdata", signal=name)
        _write_signal(data, array)
        _write_axes(data, array)
        if "monitor" in ds and name != "monitor":
            _put(_group(entry, "monitor", "NXmonitor"), "data", ds["monitor"])
        if "wavelength" in ds.coords:
            instrument = _group(entry, "instrument", "NXinstrument")
            source = _group(instrument, "monochromator", "NXmonochromator")
            _put(source, "wavelength", ds["wavelength"])
        extra = [
            key for key in (*FIELDS, *COMPANIONS) if key in ds and key not in ("monitor", name)
        ]
        if extra and name == "sinogram":
            group = _group(entry, EXTRA, "NXcollection")
            for key in extra:
                _put(group, key, ds[key])


def _group(parent: h5py.Group, name: str, nx_class: str, **attrs: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class} | attrs)
    return group


def _write_signal(group: h5py.Group, array: xr.DataArray) -> None:
    """Write the data with one projection, or one row of the image, per compressed chunk."""
    lead = next((dim for dim in (ANGLE, Y) if dim in array.dims), None)
    whole = [1 if dim in (TIME, Z, lead) else size for dim, size in array.sizes.items()]
    blocks = array.chunks or tuple((size,) for size in array.shape)
    chunks = tuple(gcd(size, common_step(b)) if size > 1 and len(b) > 1 else min(size, b[0])
                   for size, b in zip(whole, blocks, strict=True))  # fmt: skip
    target = group.create_dataset(
        str(array.name),
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunks or None,
        compression="gzip" if chunks else None,
        compression_opts=1 if chunks else None,
        shuffle=bool(chunks),
    )
    target.attrs.update(_plain(array.attrs) | {"axes": ":".join(map(str, array.dims))})
    write_blocks(target, array)


def _write_axes(group: h5py.Group, array: xr.DataArray) -> None:
    """Write each coordinate beside the data, and name the axes by them."""
    words = []
    for place, dim in enumerate(map(str, array.dims)):
        on_it = [str(key) for key, coord in array.coords.items() if coord.dims == (dim,)]
        spectral = [name for name in SPECTRAL_AXES if name in on_it]
        first = spectral[0] if spectral else dim
        words.append(first if first in on_it else ".")
        for name in on_it:
            _put(group, name, array[name])
            group.attrs[f"{name}_indices"] = place
    group.attrs["axes"] = words


def _put(group: h5py.Group, name: str, array: xr.DataArray) -> None:
    """Write an array with its attributes and the names of its dimensions."""
    if array.dtype.kind in "UO":
        texts = array.values.astype(object)
        dataset = group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
    else:
        dataset = group.create_dataset(name, shape=array.shape, dtype=array.dtype)
        write_blocks(dataset, array)
    dataset.attrs.update(_plain(array.attrs))
    if array.ndim:
        dataset.attrs["axes"] = ":".join(map(str, array.dims))


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Keep the attributes that HDF5 can hold: text and numbers."""
    return {
        str(key): value[-ATTRIBUTE_CHARACTERS:] if isinstance(value, str) else value
        for key, value in attrs.items()
        if isinstance(value, str | int | float | np.number | np.bool_)
    }


def _write_attrs(file: h5py.File, ds: xr.Dataset) -> None:
    file.attrs["creator"] = f"ndtomo_dask {package_version()}"
    file.attrs.update(_plain(ds.attrs))


def write_blocks(target: h5py.Dataset, array: xr.DataArray) -> None:
    """Compute an array a few blocks at a time, in order, and write each into its place."""
    if not is_dask_collection(array.data):
        target[...] = array.values
        return
    blocks = array.data.blocks
    edges = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in array.data.chunks]
    largest = max(1, int(np.prod([max(sizes) for sizes in array.data.chunks])))
    count = max(1, min(os.cpu_count() or 1, BATCH_BYTES // (largest * array.dtype.itemsize)))
    places = product(*[range(n) for n in blocks.shape])
    while batch := list(islice(places, count)):
        for place, values in zip(
            batch, dask.compute(*[blocks[place] for place in batch]), strict=True
        ):
            region = tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, place, strict=True))
            target[region] = values
