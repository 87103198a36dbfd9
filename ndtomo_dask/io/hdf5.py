"""HDF5 datasets as lazy Dask arrays, in blocks that follow the file's own chunks."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import dask.array as da
import h5py
import numpy as np
from dask.base import tokenize

from ndtomo_dask.errors import StoreError

BLOCK_BYTES = 64 * 2**20
"""Size a block is grown to; a file's own chunk may be larger and is then the block."""

HDF5_SUFFIXES = (".h5", ".h50", ".h51", ".h52", ".h53", ".hdf5", ".hdf", ".nxs", ".nx5", ".cxi")


@dataclass(frozen=True)
class HDF5Array:
    """A dataset in a file on disk; each read opens the file, takes the block, and closes it."""

    path: str
    dataset: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None
    """Shape of the file's own chunks; None where the dataset is contiguous."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def source(self) -> str:
        """Where the numbers come from, such as ``scan.h5:/entry/data 800 bytes mtime_ns=17``."""
        path = Path(self.path)
        stat = path.stat()
        return f"{path.name}:{self.dataset} {stat.st_size} bytes mtime_ns={stat.st_mtime_ns}"

    def __getitem__(self, key: Any) -> np.ndarray:
        with open_file(self.path) as file:
            return self.read(file, key)

    def read(self, file: h5py.File, key: Any) -> np.ndarray:
        """Read a part of the dataset from the open file, or say why that is not possible."""
        dataset = find_dataset(file, self.dataset)
        try:
            return np.asarray(dataset[key])
        except OSError as error:
            raise StoreError(
                f"{self.path}:{self.dataset} cannot be read at {key}: {error}. {_cure(error)}"
            ) from error

    def __dask_tokenize__(self) -> tuple[object, ...]:
        stat = Path(self.path).stat()
        return (type(self).__name__, self.path, self.dataset, stat.st_size, stat.st_mtime_ns)


def lazy(
    array: HDF5Array, *, block_bytes: int = BLOCK_BYTES, single: Collection[int] = ()
) -> da.Array:
    """Return the dataset as a Dask array that reads one block per task.

    A block is a whole number of the file's chunks, so that a compressed chunk is decompressed once.
    An array of at most ``block_bytes``, counted as float32 or wider, is one block. Along the axes
    that are ``single`` a block has one entry.
    """
    itemsize = max(array.dtype.itemsize, np.dtype(np.float32).itemsize)
    shape = tuple(1 if axis in single else size for axis, size in enumerate(array.shape))
    blocks = block_shape(shape, itemsize, array.chunks, block_bytes)
    leaf = PurePosixPath(array.dataset).name
    return da.from_array(
        array,
        chunks=blocks,
        name=f"read-{leaf}-{tokenize(array, blocks)}",
        asarray=False,
        fancy=False,
        inline_array=True,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )


def block_shape(
    shape: tuple[int, ...], itemsize: int, chunks: tuple[int, ...] | None, block_bytes: int
) -> tuple[int, ...]:
    """Grow a file's chunk, last axis first, to the largest block of at most ``block_bytes``.

    Without chunks the first axis is cut, so that each block is one stretch of the file.

    >>> block_shape((1000, 100, 500), 4, (1, 100, 500), 2_000_000)
    (10, 100, 500)
    """
    if prod(shape) * itemsize <= block_bytes:
        return shape
    unit = [min(c, n) for c, n in zip(chunks or (1,) * len(shape), shape, strict=True)]
    block = list(unit)
    for axis in reversed(range(len(shape))):
        room = block_bytes // (prod(block) * itemsize)
        block[axis] = min(shape[axis], unit[axis] * max(1, room))
    return tuple(block)


def register_filters() -> None:
    """Let HDF5 read what bitshuffle, LZ4, Blosc or Zstandard has compressed."""
    import hdf5plugin  # noqa: F401 - importing it registers them


@contextmanager
def open_file(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, or say in one sentence why that is not possible."""
    register_filters()
    path = Path(path)
    if not path.exists():
        raise StoreError(f"{path} does not exist.{_neighbor(path)}")
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not an HDF5 file.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise StoreError(_unreadable(path, str(error))) from error
    with file:
        yield file


def _cure(error: OSError) -> str:
    if "not registered" in str(error) or "plugin" in str(error):
        return "Its compression is one that hdf5plugin does not have; repack the file with gzip."
    return "The file may be damaged; copy it again from where it came."


def _neighbor(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" Nor does its folder {folder}."
    close = get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    return f" Did you mean '{folder / close[0]}'?" if close else ""


def _unreadable(path: Path, reason: str) -> str:
    size = path.stat().st_size
    if "truncated" in reason:
        return f"{path} is truncated at {size} bytes: its end is missing. Copy it again, whole."
    if "signature not found" in reason:
        return f"{path} ({size} bytes) is not an HDF5 file, whatever its suffix says."
    if "open for write" in reason:
        return (
            f"{path} is open for writing in another program. Follow it: ndtomo-dask run --follow. "
            f"If that program has died, clear its mark: h5clear -s {path.name}."
        )
    if "lock" in reason:
        return (
            f"{path} is open for writing in another program. Close it there, or set "
            f"HDF5_USE_FILE_LOCKING=FALSE where the file system has no locks."
        )
    return f"{path} cannot be opened: {reason}."


def describe(file: h5py.File, name: str) -> HDF5Array:
    """Return the dataset called ``name`` as an array that knows where it lies; nothing is read."""
    dataset = find_dataset(file, name)
    if dataset.shape is None:
        raise StoreError(f"{name!r} in {file.filename} is an empty dataset, without any shape.")
    _check_virtual(file, dataset)
    return HDF5Array(
        path=str(Path(file.filename).absolute()),
        dataset="/" + name.strip("/"),
        shape=tuple(map(int, dataset.shape)),
        dtype=dataset.dtype,
        chunks=dataset.chunks,
    )


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset of an open file, or say which one was probably meant."""
    found = file.get(name)
    if isinstance(found, h5py.Dataset):
        return found
    if found is None:
        refuse_broken_link(file, name)
        reason = f"{file.filename} has no dataset {name!r}."
    else:
        reason = f"{name!r} in {file.filename} is a group, not a dataset."
    raise StoreError(f"{reason} {_suggestion(name, dataset_paths(file))}")


def dataset_paths(group: h5py.Group) -> list[str]:
    """Return the paths of all datasets in a file or group, in the order of the file."""
    paths: list[str] = []

    def collect(name: str, entry: h5py.HLObject) -> None:
        if isinstance(entry, h5py.Dataset):
            paths.append(name)

    group.visititems(collect)
    return paths


def _suggestion(name: str, paths: list[str], *, shown: int = 8) -> str:
    if not paths:
        return "It holds no dataset at all."
    same_leaf = [path for path in paths if path.split("/")[-1] == name.split("/")[-1]]
    close = get_close_matches(name.strip("/"), paths, n=1) or same_leaf
    if close:
        return f"Did you mean {close[0]!r}?"
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return f"It has: {', '.join(paths[:shown])}{more}."


def refuse_broken_link(file: h5py.File, name: str) -> None:
    """Raise `StoreError` if a path leads into another file, and that or the dataset is absent."""
    parts = [part for part in name.split("/") if part]
    for count in range(1, len(parts) + 1):
        place = "/".join(parts[:count])
        link, found = file.get(place, getlink=True), file.get(place)
        if isinstance(link, h5py.ExternalLink) and found is None:
            _check_source(file, link.filename, name)
            raise StoreError(
                f"{name!r} in {file.filename} points at {link.path!r} in {link.filename!r}, which "
                f"that file does not have. Name the dataset in that file."
            )
        if found is None:
            return


def _check_virtual(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Refuse a virtual dataset whose parts are absent: HDF5 itself would hand out fill values."""
    if dataset.is_virtual:
        for source in dataset.virtual_sources():
            if source.file_name != "." and "%b" not in source.file_name:
                _check_source(file, source.file_name, dataset.name)


def _check_source(file: h5py.File, target: str, name: str) -> None:
    beside = Path(file.filename).parent / target
    if not beside.exists() and not Path(target).exists():
        raise StoreError(
            f"{name!r} in {file.filename} points into the file {target!r}, which does not exist. "
            f"Put it at {beside}, or name a dataset that is there."
        )
