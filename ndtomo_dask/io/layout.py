"""Opening a store: the same shards, seen as whole images or as whole spectra."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import tokenize

from ndtomo_dask.apply import allowed_memory, sizes_of
from ndtomo_dask.block_sizes import image_block, spectra_block
from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.coordinates import derive_axes
from ndtomo_dask.errors import StoreError, check_choice
from ndtomo_dask.io.arrays import open_for_reading

_PLANNED = ("time", "z", "angle", "translation", "y", "x", "channel")
LAYOUTS = ("images", "spectra")
_EAGER = MB
"""Arrays up to this size are read when the store is opened."""


@dataclass(frozen=True)
class StoredArray:
    """A Zarr array by its path: opened where it is read, once per process."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stamp: str

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        return _opened(self.path, self.stamp)[key]

    def __dask_tokenize__(self) -> tuple[str, str]:
        return self.path, self.stamp


@lru_cache(maxsize=64)
def _opened(path: str, _stamp: str) -> Any:
    return open_for_reading(path)


def open_store(
    path: Path,
    *,
    layout: str = "images",
    group: str | None = None,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Open a Zarr store lazily, in blocks of whole images or of whole spectra.

    Both layouts are made of the same stored chunks, so no data move: ``"images"`` takes some
    channels of all angles and translations (or of all of y and x), ``"spectra"`` all channels of
    some angles (or of some tiles of pixels).
    """
    check_choice("layout", layout, LAYOUTS)
    root = path if group is None else path / group
    if not (root / "zarr.json").is_file():
        raise StoreError(f"{root} is not a Zarr v3 store: it has no zarr.json.")
    ds = xr.open_zarr(path, group=group, chunks=None, consolidated=False)
    allowed = allowed_memory(allowed_mem)
    lazy = {
        name: array.copy(data=_lazy(root / str(name), array, layout, allowed))
        for name, array in ds.data_vars.items()
        if array.nbytes > _EAGER or "channel" in array.dims
    }
    small = {name: array.load() for name, array in ds.data_vars.items() if name not in lazy}
    return derive_axes(ds.assign(small | lazy).assign_coords(_names(ds)))


def _names(ds: xr.Dataset) -> dict[Hashable, xr.DataArray]:
    names = {name: axis for name, axis in ds.coords.items() if axis.dtype.kind in "OT"}
    return {name: axis.copy(data=np.array(list(axis.values), str)) for name, axis in names.items()}


def _lazy(path: Path, array: xr.DataArray, layout: str, allowed_mem: int) -> da.Array:
    stored = zarr.open_array(path, mode="r")
    sizes = sizes_of(array)
    inner = dict(zip(sizes, stored.chunks, strict=True))
    shard = dict(zip(sizes, stored.shards or stored.chunks, strict=True))
    block = _block(sizes, inner, shard, array.dtype.itemsize, layout, allowed_mem)
    stamp = str((path / "zarr.json").stat().st_mtime_ns)
    source = StoredArray(str(path.resolve()), array.shape, array.dtype, stamp)
    chunks = tuple(block[dim] for dim in sizes)
    name = f"{_read_name(path)}-{tokenize(source, chunks)}"
    return da.from_array(source, chunks=chunks, asarray=False, name=name, inline_array=True)


def _read_name(path: Path) -> str:
    return f"read-{tokenize(str(path.resolve()))}"


def reads(data: da.Array, path: Path) -> bool:
    """Tell whether the graph of an array reads the stored array at ``path``."""
    return any(layer.startswith(_read_name(path)) for layer in data.dask.layers)


def _block(
    sizes: Mapping[str, int],
    inner: Mapping[str, int],
    shard: Mapping[str, int],
    itemsize: int,
    layout: str,
    allowed_mem: int,
) -> dict[str, int]:
    images = {"angle", "translation", "channel"} <= set(sizes) or {"y", "x", "channel"} <= set(
        sizes
    )
    if not images:
        return {dim: min(size, shard[dim]) for dim, size in sizes.items()}
    beside = {dim: min(size, shard[dim]) for dim, size in sizes.items() if dim not in _PLANNED}
    if beside:  # such as peaks, each with an image of spectra
        others = {dim: size for dim, size in sizes.items() if dim not in beside}
        held = itemsize * prod(beside.values())
        return beside | _block(others, inner, shard, held, layout, allowed_mem)
    if layout == "images":
        return image_block(sizes, itemsize, allowed_mem=allowed_mem, multiple=inner["channel"])
    if "angle" in sizes:
        return {
            **{dim: min(size, shard[dim]) for dim, size in sizes.items()},
            "channel": sizes["channel"],
        }
    return spectra_block(sizes, itemsize, allowed_mem=allowed_mem, tile=inner)
