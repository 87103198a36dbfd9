"""HDF5 files that another process is writing: read without a lock, and never half a state.

A reader that holds HDF5's lock makes the writer's next opening fail, so none is held here. A writer
in SWMR mode (single writer, multiple readers) keeps the file readable at any moment. Of another one
a read counts only if the file was the same before and after it.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np

from ndtomo_dask.errors import NdtomoError, SchemaError, StoreError
from ndtomo_dask.io.hdf5 import HDF5Array, describe, find_dataset, register_filters

READ_PATIENCE = 60.0
"""Seconds for which a read is tried again: a writer has the file, or the part is not there yet."""
_PAUSE = 0.2
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION, _FLAGS, _HEAD = 8, 11, 12
_WRITTEN, _SWMR = 1, 4
"""Flags of a superblock of version 3: open for writing; in SWMR mode (HDF5 file format 3.0)."""
_ONE = Lock()
"""A file that is open twice in a process has one cache, which would show a stale state."""
_T = TypeVar("_T")


class Unsettled(Exception):
    """The file is changing, or what is asked for is not in it yet."""


class _State(NamedTuple):
    swmr: bool
    modified: int
    size: int


def read_whole(
    path: str | Path, read: Callable[[h5py.File], _T], *, patience: float = READ_PATIENCE
) -> _T:
    """Return ``read(file)`` of a file that may be being written, from one whole state of it.

    Raises
    ------
    StoreError
        There was no such state for ``patience`` seconds.
    """
    register_filters()
    path, deadline = Path(path), time.monotonic() + patience
    if not path.is_file():
        raise StoreError(f"{path} does not exist, or is no file. Follow a scan once it is begun.")
    while True:
        try:
            with _ONE:
                return _attempt(path, read)
        except Unsettled as error:
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"{path} {error}, for {patience:g} s. Write it in SWMR mode, or close it after "
                    f"each slice."
                ) from error
        time.sleep(_PAUSE)


def _attempt(path: Path, read: Callable[[h5py.File], _T]) -> _T:
    before = state_of(path)
    try:
        with h5py.File(path, "r", swmr=True, locking=False) as file:
            result = read(file)
    except (Unsettled, NdtomoError):
        _check_unchanged(path, before)
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise Unsettled(f"cannot be read ({error})") from error
    _check_unchanged(path, before)
    return result


def _check_unchanged(path: Path, before: _State) -> None:
    if not before.swmr and state_of(path) != before:
        raise Unsettled("changed while it was read")


def state_of(path: Path) -> _State:
    """Say whether a file is in SWMR mode, and when and at what size it was written last."""
    with path.open("rb") as stream:
        head, stat = stream.read(_HEAD), os.fstat(stream.fileno())
        modern = head[:_VERSION] == _SIGNATURE and len(head) == _HEAD and head[_VERSION] >= 3
        flags = head[_FLAGS] if modern else 0
        swmr = bool(flags & _SWMR)
        if not swmr and (flags & _WRITTEN or (not modern and _is_locked(stream.fileno()))):
            raise Unsettled("is open for writing in a program that does not use SWMR mode")
    return _State(swmr, stat.st_mtime_ns, stat.st_size)


def _is_locked(descriptor: int) -> bool:
    """Tell whether a writer holds the lock; ours is given back at once, with the file."""
    import fcntl  # only systems with such locks have it

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


@dataclass(frozen=True)
class GrowingHDF5(HDF5Array):
    """A dataset that is being written, in its final shape; what is not there yet is waited for."""

    @property
    def source(self) -> str:
        """Where the numbers come from; it stays the same while the file grows."""
        return growing_source(f"{Path(self.path).name}:{self.dataset}", self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        spans = list(_spans(key, self.shape))

        def read(file: h5py.File) -> np.ndarray:
            dataset = find_dataset(file, self.dataset)
            dataset.id.refresh()
            if not _covers(dataset, self, spans):
                raise Unsettled(f"does not have {self.dataset} at {key} yet")
            return np.asarray(dataset[key])

        return read_whole(self.path, read)

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (type(self).__name__, self.path, self.dataset, self.shape)


FOLLOWED = ", followed"


def growing_source(name: str, shape: tuple[int, ...]) -> str:
    """Name the source of a scan that is being written: neither its size nor its time is known."""
    return f"{name} {' × '.join(map(str, shape))}{FOLLOWED}"


def describe_growing(
    file: h5py.File, name: str, shape: tuple[int, ...] | None = None
) -> GrowingHDF5:
    """Describe a dataset that is being written and will have a shape; default: as it is now."""
    now = describe(file, name)
    return GrowingHDF5(now.path, now.dataset, shape or now.shape, now.dtype, now.chunks)


def _spans(key: Any, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """First and last index, plus one, that a key touches along each axis."""
    keys = key if isinstance(key, tuple) else (key,)
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        missing = (slice(None),) * (len(shape) - len(keys) + 1)
        keys = (*keys[:place], *missing, *keys[place + 1 :])
    for axis, size in enumerate(shape):
        one = keys[axis] if axis < len(keys) else slice(None)
        touched = range(size)[one] if isinstance(one, slice) else [range(size)[int(one)]]
        yield (min(touched), max(touched) + 1) if len(touched) else (0, 0)


_KNOWN: dict[tuple[object, ...], np.ndarray] = {}
"""Chunks that this process has seen: they do not go away, and looking for all takes a while."""


def _covers(dataset: h5py.Dataset, array: HDF5Array, spans: list[tuple[int, int]]) -> bool:
    """Tell whether a region lies within the extent, and all its chunks are in the file."""
    if any(stop > size for (_, stop), size in zip(spans, dataset.shape, strict=True)):
        return False
    if array.chunks is None:
        return True
    region = tuple(
        slice(start // size, -(-stop // size))
        for (start, stop), size in zip(spans, array.chunks, strict=True)
    )
    key = (array.path, Path(array.path).stat().st_ino, array.dataset, array.shape)
    if key not in _KNOWN or not _KNOWN[key][region].all():
        _KNOWN[key], _ = chunks_there(dataset, array)
    return bool(_KNOWN[key][region].all())


def chunks_there(
    dataset: h5py.Dataset, array: HDF5Array
) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Tell which chunks of the final shape are in the file, and which lies last in it."""
    assert array.chunks is not None
    chunks = np.asarray(array.chunks)
    grid = np.zeros([-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)], bool)
    found: list[tuple[int, tuple[int, ...]]] = []
    dataset.id.chunk_iter(lambda info: found.append((info.byte_offset, info.chunk_offset)))
    if not found:
        return grid, None
    places = np.asarray([offset for _, offset in found]) // chunks
    inside = (places < grid.shape).all(axis=1)
    grid[tuple(places[inside].T)] = True
    return grid, tuple((np.asarray(max(found)[1]) // chunks).tolist())


def refuse_untellable(dataset: h5py.Dataset, array: HDF5Array, slices: tuple[int, ...]) -> None:
    """Refuse a dataset of which it cannot be told what is written; ``slices`` are its first axes.

    Chunks are in the file once they are written, unless space was set aside for all of them.
    """
    where = f"{array.path}:{array.dataset}"
    if array.chunks is None:
        raise SchemaError(
            f"{where} is not chunked, so it cannot be told which slices are written. Write it in "
            f"chunks of one projection, such as chunks=(1, 1, ...), or run without following."
        )
    if dataset.id.get_create_plist().get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY:
        raise SchemaError(
            f"{where} has space set aside for all its chunks, so it cannot be told which slices "
            f"are written. Allocate them incrementally, or run without following."
        )
    for axis in slices:
        fixed = dataset.maxshape[axis] == dataset.shape[axis]
        if fixed and array.chunks[axis] > 1 and dataset.shape[axis] > 1:
            raise SchemaError(
                f"{where} has chunks of {array.chunks[axis]} slices, so it cannot be told which "
                f"slices are written. Write chunks of one slice, or run without following."
            )
