"""What is there of a scan that is being written: which of its slices are complete.

A slice is one entry of the leading dimensions; a scan without any is one slice. It is *whole* when
all chunks (of HDF5) or shards (of Zarr) that cover it are stored. The last of them may still be
being filled, so a whole slice counts as *complete* when another part of the scan has been stored
since. When nothing has changed for a while, all whole slices do but the one that was written last,
and that one too if the scan is whole.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
import xarray as xr

from ndtomo_dask.apply import block_of
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.dimensions import GROWS, KINDS
from ndtomo_dask.io.hdf5 import HDF5Array, find_dataset
from ndtomo_dask.io.shards import ShardFiles
from ndtomo_dask.io.swmr import chunks_there, growing_source, read_whole
from ndtomo_dask.variables import ANGLE, LEADING

WATCHED = "watched"
"""Key of a dataset's encoding: what is watched of a scan that was opened with ``follow``."""
_WRITTEN_BEFORE = ("flat", "dark", "mask")
"""What may lie along slices or angles and is there before the scan."""


class Look(NamedTuple):
    """What was seen of a scan at one moment."""

    whole: np.ndarray
    """Which slices are stored wholly, by the leading dimensions."""
    last: np.ndarray
    """Which slice the part belongs to that was stored last."""
    progress: object
    """Changes when a part is stored that was not there before."""
    state: object
    """Changes whenever anything is written."""
    ended: bool
    """Whether the writer has said that it is done."""


class Source(Protocol):
    """A stored array that grows."""

    path: str

    def look(self) -> Look:
        """See what is there."""


@dataclass(frozen=True)
class GrowingDataset:
    """A dataset of an HDF5 file that grows."""

    path: str
    array: HDF5Array
    dims: tuple[str, ...]

    def look(self) -> Look:
        """See which chunks are in the file, and how far the dataset reaches."""
        return read_whole(self.path, self._look)

    def _look(self, file: h5py.File) -> Look:
        dataset, stat = find_dataset(file, self.array.dataset), Path(self.path).stat()
        dataset.id.refresh()
        there, place = chunks_there(dataset, self.array)
        grid = _Grid(self.array.chunks or (), self.array.shape, dataset.shape, self.dims)
        progress, ended = (int(there.sum()), dataset.shape), _has_end(dataset)
        state = (stat.st_mtime_ns, stat.st_size)
        return Look(grid.whole(there), grid.covered(place), progress, state, ended)


def _has_end(entry: h5py.HLObject) -> bool:
    """Tell whether the NeXus entry says when it ended; it may have a text to be filled."""
    while entry.name != "/":
        entry = entry.parent
        end = entry.get("end_time")
        if isinstance(end, h5py.Dataset):
            end.id.refresh()
            return bool(end.size and np.asarray(end).ravel()[0])
    return False


@dataclass(frozen=True)
class GrowingArray:
    """An array of a Zarr store, of which shards appear."""

    path: str
    dims: tuple[str, ...]
    _seen: dict[tuple[int, ...], int] = field(default_factory=dict, compare=False)
    """Shards that were whole, and when they were written."""

    def look(self) -> Look:
        """See which shards are there, and when they were written."""
        shards = ShardFiles(Path(self.path))
        there = np.zeros(shards.grid, bool)
        for place in shards.places():
            there[place] = self._is_whole(shards, place)
        grid = _Grid(shards.extent, shards.shape, shards.shape, self.dims)
        newest = max(self._seen, key=lambda place: self._seen[place]) if self._seen else None
        progress, state = int(there.sum()), max(self._seen.values(), default=0)
        return Look(grid.whole(there), grid.covered(newest), progress, state, ended=False)

    def _is_whole(self, shards: ShardFiles, place: tuple[int, ...]) -> bool:
        try:
            written = shards.file(place).stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if self._seen.get(place) != written and shards.is_complete(place):
            self._seen[place] = written
        return self._seen.get(place) == written


@dataclass(frozen=True)
class _Grid:
    """The chunks or shards of an array, and the slices that they cover."""

    chunks: tuple[int, ...]
    shape: tuple[int, ...]
    extent: tuple[int, ...]
    """How far the array reaches by now."""
    dims: tuple[str, ...]

    def whole(self, there: np.ndarray) -> np.ndarray:
        """Tell which slices lie within the extent, with all their chunks there."""
        leading = [axis for axis, dim in enumerate(self.dims) if dim in LEADING]
        others = tuple(axis for axis in range(len(self.dims)) if axis not in leading)
        whole = there.all(axis=others)
        if any(self.extent[axis] < self.shape[axis] for axis in others):
            whole = np.zeros_like(whole)
        for place, axis in enumerate(leading):
            index = np.arange(self.shape[axis])
            here = (index < self.extent[axis]).reshape(-1, *(1,) * (len(leading) - place - 1))
            whole = whole.take(index // self.chunks[axis], axis=place) & here
        order = sorted(range(len(leading)), key=lambda n: LEADING.index(self.dims[leading[n]]))
        return np.asarray(whole).transpose(order)

    def covered(self, place: tuple[int, ...] | None) -> np.ndarray:
        """Tell in which slice the chunk at a place ends, if there is one."""
        shape = tuple(self.shape[self.dims.index(dim)] for dim in LEADING if dim in self.dims)
        covered = np.zeros(shape, bool)
        if place is not None:
            spans = {
                dim: slice(number * size, min((number + 1) * size, now))
                for dim, number, size, now in zip(
                    self.dims, place, self.chunks, self.extent, strict=True
                )
            }
            # Chunks of several slices are only taken where the array grows: its end is the last.
            lasts = (spans[dim] for dim in LEADING if dim in spans)
            covered[tuple(slice(max(span.stop - 1, 0), span.stop) for span in lasts)] = True
        return covered


class Watch:
    """Look at a scan now and then; remember which slices are complete."""

    def __init__(
        self,
        source: Source,
        *,
        settle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(source.path)
        self.settle = settle
        self._source, self._clock = source, clock
        self._last = source.look()
        self._changed = clock()
        self.complete = np.zeros_like(self._last.whole)
        """Which slices are complete, by the leading dimensions."""

    @property
    def _state(self) -> object:
        return self._last.progress, self._last.state, self._last.ended

    @property
    def idle(self) -> float:
        """Seconds for which nothing has changed."""
        return self._clock() - self._changed

    def look(self) -> None:
        """See what is there now."""
        now = self._source.look()
        if now.progress != self._last.progress:
            self.complete = self.complete | self._last.whole
        if (now.progress, now.state, now.ended) != self._state:
            self._changed = self._clock()
        if now.ended or self.idle >= self.settle:
            self.complete |= now.whole if now.whole.all() else now.whole & ~now.last
        self._last = now


def watch(ds: xr.Dataset, *, settle: float) -> Watch:
    """Watch the scan that was opened as ``ds`` with ``follow``."""
    return Watch(ds.encoding[WATCHED], settle=settle)


@dataclass(frozen=True)
class Slices:
    """Slices of a scan that is being written: those that are complete, and those to be done."""

    dims: tuple[str, ...]
    ready: np.ndarray
    new: np.ndarray
    """Those that were not ready when blocks were chosen last."""

    @property
    def first(self) -> dict[str, list[int]]:
        """Where the first of those that are ready lies, as one selects it."""
        place = np.argwhere(self.ready)[0]
        return {dim: [int(index)] for dim, index in zip(self.dims, place, strict=True)}

    @property
    def at_first(self) -> bool:
        """Whether nothing was ready before."""
        return bool((self.new == self.ready).all())

    @property
    def at_last(self) -> bool:
        """Whether the scan is complete."""
        return bool(self.ready.all())

    def chooser(self, array: xr.DataArray) -> Callable[[tuple[int, ...]], bool]:
        """Return what tells whether a block of an array is to be done, by its place."""
        extent, axes = block_of(array), [str(dim) for dim in array.dims]
        placed = [(axes.index(dim), extent[dim]) if dim in axes else None for dim in self.dims]

        def chosen(place: tuple[int, ...]) -> bool:
            region = tuple(
                slice(None)
                if known is None
                else slice(place[known[0]] * known[1], (place[known[0]] + 1) * known[1])
                for known in placed
            )
            if not any(placed):  # the same for all slices, and there from the start
                return self.at_first
            return bool(self.ready[region].all() and self.new[region].any())

        # At the end all blocks are looked at: those of later steps are new in every slice.
        return chosen if self.dims and not self.at_last else lambda _: True


def leading_dims(ds: xr.Dataset) -> tuple[str, ...]:
    """Leading dimensions of a scan, in order."""
    return tuple(dim for dim in LEADING if dim in ds.dims)


def growing_store(ds: xr.Dataset, path: Path) -> xr.Dataset:
    """Take what was opened from a store for a scan of which shards appear."""
    name = next((kind for kind in KINDS if kind in ds), None)
    if name is None:
        raise SchemaError(f"{path} has neither a sinogram nor a volume that could be followed.")
    array, shards = ds[name], ShardFiles(path / name)
    for dim, extent in zip(array.dims, shards.extent, strict=True):
        if dim in LEADING and extent > 1:
            raise SchemaError(
                f"{path / name} has shards of {extent} slices, so it cannot be told which slices "
                f"are written. Write shards of one slice, or run without following."
            )
    # What is smaller was read when the store was opened, so it may not be all that will be there.
    partial = [
        other
        for other in ds.data_vars
        if other not in (name, *_WRITTEN_BEFORE) and {*LEADING, ANGLE} & set(ds[other].dims)
    ]
    followed = ds.drop_vars(partial).assign_attrs(
        source=growing_source(f"{path.name}:/{name}", array.shape)
    )
    followed.encoding[WATCHED] = GrowingArray(str(path / name), tuple(map(str, array.dims)))
    return followed


def limits_of(dataset: h5py.Dataset) -> tuple[int | None, ...]:
    """How far a dataset can grow along each axis; None for any length."""
    limits: tuple[int | None, ...] = dataset.maxshape
    return limits


def present_shape(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Shape of a dataset, with `GROWS` along the axes that can get longer."""
    shape = zip(dataset.shape, limits_of(dataset), strict=True)
    return tuple(now if limit == now else GROWS for now, limit in shape)


def final_shape(
    shape: Sequence[int],
    limits: Sequence[int | None],
    dims: Sequence[str],
    lengths: Mapping[str, int],
    where: str,
) -> tuple[int, ...]:
    """Shape that a growing dataset will have: what was said, its axes, or the limit of its growth.

    Parameters
    ----------
    shape, limits
        Of the dataset now, and how far it can grow; None for any.
    dims
        Dimension of each axis.
    lengths
        Of the dimensions that are known.
    where
        Name of the dataset, for the message.
    """
    final = []
    for dim, now, limit in zip(dims, shape, limits, strict=True):
        length: Any = lengths.get(dim, now if limit == now else limit)
        if length is None:
            raise SchemaError(
                f"{where} grows along {dim!r}, and nothing says how far. Write the whole axis "
                f"{dim!r} beside it before the scan, or add to the input expect: {{{dim}: 180}}, "
                f"with the number that there will be."
            )
        if length < now or (limit is not None and length > limit):
            raise SchemaError(
                f"{where} has {now} entries along {dim!r} and can have {limit or 'any number'}, "
                f"but {length} are expected. Correct the axis {dim!r}, or expect."
            )
        final.append(int(length))
    return tuple(final)
