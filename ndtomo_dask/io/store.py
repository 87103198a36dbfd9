"""Zarr stores: one block, one task, one shard.

Every array is sharded Zarr v3. A shard is what one task writes, whole and atomically (Zarr's local
store writes to a temporary name and renames); the chunks inside it are cut where the next reader
will cut. So a shard's presence is the record that its block is done, and `save` with ``resume``
computes only the blocks whose shards are missing or damaged.
"""

import shutil
from collections.abc import Hashable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from ndtomo_dask import plan
from ndtomo_dask.apply import block_of, is_lazy, sizes_of
from ndtomo_dask.block_sizes import (
    LARGEST_BLOCK,
    divisor,
    image_block,
    inner_chunk,
    shard_of_projections,
)
from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.blocks import Share, write_blocks, write_here
from ndtomo_dask.io.growing import Slices
from ndtomo_dask.io.layout import reads
from ndtomo_dask.io.lock import waiting_lock
from ndtomo_dask.io.repair import FOUND_GROUP, remove_recorded
from ndtomo_dask.io.shards import ShardFiles, clear_partial_writes

COMPRESSORS = (BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec())
"""Measured on Poisson counts: 5 times smaller, 0.8 GB/s written and read on two cores."""
AXIS_COMPRESSORS = (ZstdCodec(), Crc32cCodec())
DIGEST = "ndtomo_digest"


def is_store(path: Path) -> bool:
    """Tell whether a path holds a Zarr v3 group."""
    return (path / "zarr.json").is_file()


def create_store(path: Path, attributes: Mapping[str, Any]) -> None:
    """Make an empty store, unless there is one, with attributes and a place for estimates."""
    if not is_store(path):
        zarr.open_group(path / FOUND_GROUP, mode="a")
        zarr.open_group(path, mode="a", attributes=dict(attributes))


def store_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a store; none if it is not one."""
    try:
        return dict(zarr.open_group(path, mode="r").attrs) if is_store(path) else {}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path / 'zarr.json'} is damaged, so it is not known what made the store. Put back a "
            f"copy of that file, or pass overwrite=True to start again."
        ) from error


def remove_store(path: Path) -> None:
    """Delete a store, its metadata first, so that half a store is never taken for one."""
    if not path.exists():
        return
    if not is_store(path) and any(path.iterdir()):
        raise StoreError(f"{path} is not a store, so it is not removed. Remove it yourself.")
    (path / "zarr.json").unlink(missing_ok=True)
    shutil.rmtree(path)


def save(
    ds: xr.Dataset,
    path: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    group: str | None = None,
    share: Share | None = None,
    slices: Slices | None = None,
) -> None:
    """Compute a dataset block by block and write it to a Zarr store.

    Variables are written beside those that the store already holds. Each block is one task and one
    shard. With ``resume`` only the missing blocks are computed.

    Parameters
    ----------
    ds
        The variables to write, for example ``ds[["volume"]]``.
    path
        The store, a folder; customarily named ``….zarr``.
    resume
        Go on with an interrupted ``save`` of the same data made by the same steps; blocks that
        `verify` found damaged are done again.
    overwrite
        Replace variables that the store already has.
    group
        Name of a group inside the store; default: its root.
    share
        Of several processes that save the same dataset: which one this is. It does its share of
        the blocks first, then what is left of the others', and implies ``resume``.
    slices
        Of a scan that is still being written: which of its slices to save now.

    Raises
    ------
    StoreError
        The store has one of the variables already (and neither ``resume`` nor ``overwrite`` is
        given), it was made by other steps or from other input, or its axes differ.
    BlockError
        Blocks failed for a reason in their data, which are named; the others are stored.
    """
    if not ds.data_vars:
        raise StoreError("save was given no variable. Select some, such as ds[['volume']].")
    target = Path(path) if group is None else Path(path) / group
    blocked = ds.assign({name: _in_blocks(array) for name, array in ds.data_vars.items()})
    if share is None:
        _prepare(ds, blocked, Path(path), group, resume=resume, overwrite=overwrite)
        for name in ds.data_vars if slices is None or slices.at_first else ():
            clear_partial_writes(target / str(name))
    else:
        with waiting_lock(Path(path).with_suffix(".save")):
            _prepare(ds, blocked, Path(path), group, resume=True, overwrite=False)

    for name, array in ds.data_vars.items():
        if not is_lazy(array):
            write_here(array.values, blocked[name], target)
    lazy = {str(name): blocked[name] for name in ds if is_lazy(ds[name])}
    write_blocks(lazy, target, share=share, slices=slices)


def _prepare(
    ds: xr.Dataset,
    blocked: xr.Dataset,
    path: Path,
    group: str | None,
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """See that the store is ready to take the blocks: refuse, remove, write the metadata."""
    target = path if group is None else path / group
    if resume:
        remove_recorded(path)
    digests = {name: digest(array, ds) for name, array in ds.data_vars.items()}
    fresh = _fresh_variables(digests, target, resume=resume, overwrite=overwrite)
    _remove_half_axes(ds, target)
    _check_axes(ds, target)
    _check_blocks(blocked.drop_vars(fresh), target)
    _remove_replaced(ds[fresh], target)
    _write_template(blocked, path, group, {name: digests[name] for name in fresh})


def digest(array: xr.DataArray, ds: xr.Dataset) -> str:
    """Hash what decides a variable's values: its source, its steps, its shape and its labels.

    Data without a source are known by the name of their graph, which follows from their content.
    """
    content = blake2b(digest_size=16)
    origin = ds.attrs.get("source") or getattr(array.data, "name", None)
    described = (array.name, array.dims, array.shape, str(array.dtype), origin)
    content.update(repr((*described, ds.attrs.get("history"))).encode())
    for name in sorted(map(str, array.coords)):
        labels = np.asarray(array.coords[name])
        content.update(
            repr(labels.tolist()).encode() if labels.dtype.hasobject else labels.tobytes()
        )
    if not is_lazy(array):
        content.update(np.ascontiguousarray(array.values).tobytes())
    return content.hexdigest()


def _fresh_variables(
    digests: dict[Hashable, str], target: Path, *, resume: bool, overwrite: bool
) -> list[Hashable]:
    fresh = []
    for name, wanted in digests.items():
        path = target / str(name)
        if overwrite or not is_store(path) or (resume and _is_hollow(path)):
            fresh.append(name)
        elif not resume:
            raise StoreError(
                f"{target} already has {name!r}. Pass resume=True to finish an interrupted run, "
                f"overwrite=True to replace it, or another path."
            )
        elif zarr.open_array(path, mode="r").attrs.get(DIGEST) != wanted:
            raise StoreError(
                f"{target} has a {name!r} made by other steps or from other input, so it cannot be "
                f"resumed. Pass overwrite=True to replace it, or another path."
            )
    return fresh


def _is_hollow(path: Path) -> bool:
    """Tell whether a run was killed between creating an array and saying what it is made from."""
    return DIGEST not in zarr.open_array(path, mode="r").attrs and not (path / "c").exists()


def _remove_half_axes(ds: xr.Dataset, target: Path) -> None:
    """Remove the axes that a killed run has begun: their values are written last."""
    for name, axis in ds.coords.items():
        path = target / str(name)
        if is_store(path) and not ShardFiles(path).is_complete((0,) * axis.ndim):
            shutil.rmtree(path)


def _check_axes(ds: xr.Dataset, target: Path) -> None:
    """Refuse to mix variables of different axes in one store."""
    for name, coordinate in ds.coords.items():
        path = target / str(name)
        if not is_store(path):
            continue
        stored = zarr.open_array(path, mode="r")[...]
        if not np.array_equal(np.asarray(stored), coordinate.values):
            raise StoreError(
                f"{target} has another {name!r} axis than these variables. Save them to another "
                f"store, or to a group=... of this one."
            )


def _check_blocks(begun: xr.Dataset, target: Path) -> None:
    """Refuse to resume a variable in other blocks than its shards are."""
    for name, array in begun.data_vars.items():
        stored = zarr.open_array(target / str(name), mode="r")
        if array.ndim and stored.shards != _encoding(array)["shards"]:
            raise StoreError(
                f"{target} has a {name!r} begun in blocks of {stored.shards}, but now they are of "
                f"{tuple(block_of(array).values())}. Open the input with the allowed_mem and the "
                f"layout of the interrupted run, or pass overwrite=True."
            )


def _remove_replaced(fresh: xr.Dataset, target: Path) -> None:
    """Delete the variables that are written anew, unless they are what is read."""
    for name in fresh.data_vars:
        path = target / str(name)
        for array in fresh.data_vars.values():
            if is_lazy(array) and reads(array.data, path):
                raise StoreError(
                    f"{name!r} is read from the very array it would replace in {target}. "
                    f"Save it to another store."
                )
    for name in fresh.data_vars:
        if (target / str(name)).exists():
            shutil.rmtree(target / str(name))


def _in_blocks(array: xr.DataArray) -> xr.DataArray:
    """Give a variable the even blocks that a shard grid needs."""
    if not is_lazy(array):
        chunks = tuple(_block_in_memory(array).values())
        return array.copy(data=da.from_array(array.values, chunks=chunks))
    largest = block_of(array)
    even = all(set(chunks[:-1]) <= {largest[str(dim)]} for dim, chunks in array.chunksizes.items())
    return array if even else array.chunk(largest)


def _block_in_memory(array: xr.DataArray) -> dict[str, int]:
    sizes = sizes_of(array)
    if array.nbytes <= LARGEST_BLOCK or "channel" not in sizes:
        return sizes
    if "angle" in sizes:
        return shard_of_projections(sizes, array.dtype.itemsize)
    return image_block(sizes, array.dtype.itemsize, allowed_mem=plan.DEFAULT_ALLOWED_MEM)


def _write_template(
    ds: xr.Dataset, path: Path, group: str | None, fresh: dict[Hashable, str]
) -> None:
    """Write the metadata of fresh variables, and all coordinates; no block is computed."""
    hollow = {
        name: ds[name].copy(data=da.zeros(ds[name].shape, dtype=ds[name].dtype, chunks=-1))
        for name in fresh
    }
    stamped = {name: array.assign_attrs({DIGEST: fresh[name]}) for name, array in hollow.items()}
    template = ds.drop_vars(list(ds.data_vars)).assign(stamped).drop_encoding()
    template = template.assign_coords(_portable_strings(template))
    target = path if group is None else path / group
    axes = [name for name in ds.coords if not is_store(target / str(name))]
    template.to_zarr(
        path,
        group=group,
        mode="a" if is_store(target) else "w-",
        compute=False,
        consolidated=False,
        zarr_format=3,
        safe_chunks=False,
        write_empty_chunks=True,
        encoding={name: _encoding(ds[name]) for name in fresh}
        | {name: {"compressors": AXIS_COMPRESSORS} for name in axes},
    )
    _forget_named_coordinates(target)


def _forget_named_coordinates(target: Path) -> None:
    """Drop from the group's list of coordinates those that a variable names, as is usual.

    Xarray lists them when it sees no fresh variable that has them; a resumed store would differ.
    """
    root = zarr.open_group(target, mode="r+")
    listed = str(root.attrs.get("coordinates", "")).split()
    named = " ".join(str(array.attrs.get("coordinates", "")) for _, array in root.arrays()).split()
    if set(listed) & set(named):
        kept = {key: value for key, value in root.attrs.items() if key != "coordinates"}
        rest = " ".join(name for name in listed if name not in named)
        root.attrs.put(kept | ({"coordinates": rest} if rest else {}))


def _portable_strings(ds: xr.Dataset) -> dict[Hashable, xr.DataArray]:
    """Turn names of fixed width, for which Zarr v3 has no specification, into plain strings."""
    names = {name: axis for name, axis in ds.coords.items() if axis.dtype.kind == "U"}
    return {name: axis.astype(object) for name, axis in names.items()}


def _encoding(array: xr.DataArray) -> dict[str, Any]:
    encoding: dict[str, Any] = {"compressors": COMPRESSORS}
    if array.ndim:
        block = block_of(array)
        inner = inner_chunk(block, array.dtype.itemsize)
        # A shard is whole inner chunks; where blocks have neighbors it must end where they begin.
        split = {str(dim) for dim, chunks in array.chunksizes.items() if len(chunks) > 1}
        inner |= {dim: divisor(block[dim], inner[dim]) for dim in split}
        encoding["chunks"] = tuple(inner.values())
        encoding["shards"] = tuple(-(-block[dim] // inner[dim]) * inner[dim] for dim in block)
    if array.dtype.kind == "f":
        encoding["_FillValue"] = array.dtype.type("nan")
    return encoding
