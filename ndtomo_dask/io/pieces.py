"""Data that lie in pieces: lines of points, several scans of a file, several detectors."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.flattened import Grid
from ndtomo_dask.io.hdf5 import HDF5Array, describe, find_dataset, open_file

Place = str | float | Sequence[str]
"""Where numbers are in a file: a dataset, several that follow one another, or the number itself."""
PLUS = " + "
"""Between the datasets of detectors that are to be added."""
_FIRST = re.compile(r"(.*)\[:(\d+)\]")


@dataclass(frozen=True)
class Line:
    """Where a line of points lies, and whether it was measured backward."""

    dataset: str
    start: int
    backward: bool


@dataclass(frozen=True)
class LinesArray(HDF5Array):
    """Lines of points as one array (line, point, ...), put in place as they are read."""

    lines: tuple[Line, ...] = ()

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (*super().__dask_tokenize__(), self.shape, self.lines)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read the lines that are asked for, each once."""
        rows, columns, *rest = _full(key, self.ndim)
        with open_file(self.path) as file:
            read = [self._line(file, line, tuple(rest)) for line in self.lines[rows]]
        empty = np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), slice(None), *rest)]
        return (np.stack(read) if read else empty)[:, columns]

    def _line(self, file: h5py.File, line: Line, rest: tuple[slice, ...]) -> np.ndarray:
        stop = line.start + self.shape[1]
        piece = HDF5Array(self.path, line.dataset, self.shape[1:], self.dtype, None)
        values = piece.read(file, (slice(line.start, stop), *rest))
        return values[::-1] if line.backward else values


@dataclass(frozen=True)
class SummedArray(HDF5Array):
    """Detectors that measure the same points, added as float32."""

    others: tuple[str, ...] = ()

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (*super().__dask_tokenize__(), self.others)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read the block of each detector, and add."""
        with open_file(self.path) as file:
            total = self.read(file, key).astype(self.dtype)
            for name in self.others:
                other = HDF5Array(self.path, name, self.shape, self.dtype, self.chunks)
                total += other.read(file, key)
        return total


def _full(key: Any, ndim: int) -> tuple[slice, ...]:
    given = key if isinstance(key, tuple) else (key,)
    if Ellipsis in given:
        place = given.index(Ellipsis)
        given = given[:place] + (slice(None),) * (ndim + 1 - len(given)) + given[place + 1 :]
    return given + (slice(None),) * (ndim - len(given))


def describe_pieces(file: h5py.File, place: Place) -> list[HDF5Array]:
    """Describe the datasets in which an array lies, one after the other along the first axis."""
    names = [str(place)] if isinstance(place, str | float) else [*place]
    pieces = [_described(file, name) for name in names]
    for piece in pieces[1:]:
        if piece.shape[1:] != pieces[0].shape[1:] or piece.dtype != pieces[0].dtype:
            raise SchemaError(
                f"{piece.dataset} {piece.shape} {piece.dtype} does not continue "
                f"{pieces[0].dataset} {pieces[0].shape} {pieces[0].dtype}. Name pieces of one scan."
            )
    return pieces


def _described(file: h5py.File, name: str) -> HDF5Array:
    if PLUS not in name or name in file:
        return describe(file, name)
    first, *others = (describe(file, part.strip()) for part in name.split(PLUS))
    for other in others:
        if other.shape != first.shape:
            raise SchemaError(
                f"{first.dataset} {first.shape} and {other.dataset} {other.shape} cannot be added. "
                f"Name detectors that measured the same points."
            )
    dtype = np.result_type(np.float32, *(one.dtype for one in (first, *others)))
    dtype = dtype if dtype == np.float64 and first.dtype.kind == "f" else np.dtype(np.float32)
    return SummedArray(first.path, first.dataset, first.shape, dtype, first.chunks,
                       tuple(other.dataset for other in others))  # fmt: skip


def gridded(pieces: Sequence[HDF5Array], grid: Grid) -> HDF5Array:
    """Return a list of points as an array (line, point, ...)."""
    first, counts = pieces[0], [piece.shape[0] for piece in pieces]
    begins = np.concatenate([[0], np.cumsum(counts)])
    lines = []
    for row in range(grid.rows):
        begin, end = row * grid.columns, (row + 1) * grid.columns
        piece = int(np.searchsorted(begins, begin, side="right")) - 1
        if end > begins[piece + 1]:
            raise SchemaError(
                f"{pieces[piece].dataset} has {counts[piece]} points, which are no whole lines of "
                f"{grid.columns}. Leave this piece out."
            )
        start = int(begin - begins[piece])
        lines.append(Line(pieces[piece].dataset, start, bool(grid.backward[row])))
    chunks = first.chunks and (
        max(1, first.chunks[0] // grid.columns), grid.columns, *first.chunks[1:]
    )  # fmt: skip
    shape = (grid.rows, grid.columns, *first.shape[1:])
    return LinesArray(first.path, first.dataset, shape, first.dtype, chunks, tuple(lines))


def read_numbers(file: h5py.File, place: Place, name: str, counts: Sequence[int]) -> np.ndarray:
    """Read an axis: a dataset, its first entries ``place[:n]``, or one per piece of the data.

    A piece along which a motor stood still may have the one position.
    """
    if isinstance(place, str | float):
        return _numbers(file, str(place), name)
    values = []
    for one, count in zip(place, counts, strict=False):
        found = np.atleast_1d(_numbers(file, one, name))
        if found.size not in (1, count):
            raise SchemaError(
                f"axis {name!r} at {one!r} has {found.size} values for {count} points. The scan "
                f"was stopped there: leave this piece out."
            )
        values.append(np.broadcast_to(found, (count,)))
    if len(values) != len(counts) or len(place) != len(counts):
        raise SchemaError(f"axis {name!r} has {len(place)} pieces, but the data {len(counts)}.")
    return np.concatenate(values)


def _numbers(file: h5py.File, place: str, name: str) -> np.ndarray:
    cut = _FIRST.fullmatch(place)
    dataset = find_dataset(file, cut[1] if cut else place)
    if dataset.dtype.kind not in "iuf":
        raise SchemaError(f"axis {name!r} at {place!r} holds {dataset.dtype}, not numbers.")
    values = np.asarray(dataset[()], dtype=np.float64)
    return values[: int(cut[2])] if cut else values


def unit_place(place: Place) -> str:
    """Return the dataset whose attribute says the unit of an axis."""
    one = str(place) if isinstance(place, str | float) else place[0]
    cut = _FIRST.fullmatch(one)
    return cut[1] if cut else one
