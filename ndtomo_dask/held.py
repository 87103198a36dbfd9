"""Rows that many passes read: made once, and kept where they were made.

The blocks of a small result (a few numbers per pixel) are gathered in groups, which are the tasks
of all later passes. Groups depend on bytes only, and sums over them keep their order: a reduction
has the same bits whether the rows are held here, on workers, or in files.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import List, Task, TaskRef
from dask.array.core import slices_from_chunks
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from ndtomo_dask.apply import is_lazy, reduce_kernel
from ndtomo_dask.kernels.components.sample import (
    sample_combine,
    sample_finalize,
    sample_partial,
)
from ndtomo_dask.kernels.reductions import Reduce, merge_in_order
from ndtomo_dask.kernels.threads import one_blas_thread

HERE = 64 * 10**6
"""Bytes up to which rows are held in this process, however many workers there are."""
LEAST_GROUP, MOST_GROUP, GROUPS = 4 * 10**6, 64 * 10**6, 512
"""Bytes of a group at least, and at most; and how many groups there are, about, in between."""
BATCH = 64
"""Groups that are made at a time: the scheduler knows of no more blocks than theirs."""

Place = tuple[slice, ...]
Keep = Callable[[np.ndarray], "np.ndarray | Path | LocalFile"]
"""How rows are kept."""


class LocalFile:
    """Rows in a file that is deleted with this object. Sent to another process, they are rows."""

    def __init__(self, rows: np.ndarray, folder: Path) -> None:
        self._path = folder / f"{uuid4().hex}.npy"
        np.save(self._path, rows)

    def __fspath__(self) -> str:
        return str(self._path)

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (np.load(self),)

    def __del__(self) -> None:
        self._path.unlink(missing_ok=True)


class Piece(NamedTuple):
    """Rows of one block, or the file that has them; of which array, and where it lies there."""

    rows: np.ndarray | Path | LocalFile
    source: int
    place: Place


@dataclass(frozen=True)
class _Work:
    """What is done to each piece; travels to the workers."""

    partial: Callable[..., Any]
    options: dict[str, Any]
    shapes: Sequence[tuple[int, ...]]
    """Extents of each array without its columns, if rows are to be told their numbers."""

    def __call__(self, piece: Piece) -> Any:
        rows = piece.rows if isinstance(piece.rows, np.ndarray) else np.load(piece.rows)
        if not self.shapes:
            return self.partial(rows, **self.options)
        return self.partial(rows, _numbers(piece, self.shapes), **self.options)


def _numbers(piece: Piece, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Return the numbers of the rows of a piece in all arrays, one after the other."""
    inside = np.ix_(*(np.arange(part.start, part.stop) for part in piece.place[:-1]))
    number = np.ravel_multi_index(np.broadcast_arrays(*inside), shapes[piece.source]).reshape(-1)
    return np.asarray(number + sum(map(prod, shapes[: piece.source])))


class Held:
    """Groups of rows, (row, column), that can be reduced again and again."""

    def __init__(self, groups: xr.DataArray, shapes: Sequence[tuple[int, ...]]) -> None:
        self._groups, self._shapes = groups, shapes

    def __call__(
        self, partial: Callable[..., Any], combine: Callable[[Any, Any], Any], **options: Any
    ) -> Any:
        """Reduce all rows: ``partial(rows, **options)`` per block, combined in a fixed order."""
        return self._reduce(_Work(partial, options, ()), combine)

    def numbered(
        self, partial: Callable[..., Any], combine: Callable[[Any, Any], Any], **options: Any
    ) -> Any:
        """Reduce all rows; ``partial(rows, number, **options)`` is told their numbers in the data.

        They do not depend on blocks: what is chosen by them is the same however the data are cut.
        """
        return self._reduce(_Work(partial, options, self._shapes), combine)

    def sample(self, share: float) -> np.ndarray:
        """Bring about this share of the rows here, those that are finite: (row, column)."""
        return sample_finalize(self.numbered(sample_partial, sample_combine, share=share))

    def let_go(self) -> None:
        """Free the rows, wherever they are."""
        self._groups = xr.DataArray()

    def _reduce(self, work: _Work, combine: Callable[[Any, Any], Any]) -> Any:
        if is_lazy(self._groups):
            return reduce_kernel(
                self._groups, _of_group, combine, description="iterate", work=work, merge=combine
            )
        with one_blas_thread():
            parts = [
                _of_pieces_in(pieces, work=work, merge=combine) for pieces in self._groups.values
            ]
        return merge_in_order(parts, combine)


def _of_group(box: np.ndarray, **options: Any) -> Any:
    return _of_pieces_in(box.item(), **options)


def _of_pieces_in(pieces: Sequence[Piece], *, work: _Work, merge: Callable[[Any, Any], Any]) -> Any:
    return merge_in_order([work(piece) for piece in pieces], merge)


@contextmanager
def held(arrays: Sequence[xr.DataArray], description: str) -> Iterator[Held]:
    """Compute arrays whose last dimension is short, and hold their rows inside a ``with`` block.

    Up to `HERE` they are in this process. Beyond that they are files in the scratch folders of the
    workers that made them; without workers, in Dask's ``temporary-directory``.
    """
    shapes = [array.shape[:-1] for array in arrays]
    if not any(map(is_lazy, arrays)):
        yield Held(_in_memory([[_whole(array, n)] for n, array in enumerate(arrays)]), shapes)
        return
    size = sum(array.nbytes for array in arrays)
    with ExitStack() as undo:
        here = size <= HERE
        keep: Keep = np.asarray
        if not here and _has_workers():
            keep = _in_scratch
        elif not here:
            root = dask.config.get("temporary-directory", None)
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(dir=root)))
            keep = functools.partial(_in_folder, folder)
        enough = min(max(LEAST_GROUP, size // GROUPS), MOST_GROUP)
        groups = da.concatenate(
            [_grouped(array.chunk().data, n, enough, keep) for n, array in enumerate(arrays)]
        )
        kept = _fetched(groups, description) if here else _kept(groups, description)
        rows = Held(kept, shapes)
        undo.callback(rows.let_go)
        yield rows


def streamed(arrays: Sequence[xr.DataArray], description: str) -> Reduce:
    """Return the reduction of rows that are held nowhere: each one computes the arrays again."""

    def reduce(
        partial: Callable[..., Any], combine: Callable[[Any, Any], Any], **options: Any
    ) -> Any:
        with one_blas_thread():
            parts = [
                reduce_kernel(
                    array, _of_block, combine, description=description, work=partial,
                    told=options,
                )
                for array in arrays
            ]  # fmt: skip
        return functools.reduce(combine, parts)

    return reduce


def _of_block(block: np.ndarray, *, work: Callable[..., Any], told: dict[str, Any]) -> Any:
    return work(block.reshape(-1, block.shape[-1]), **told)


def _whole(array: xr.DataArray, source: int) -> Piece:
    rows = np.asarray(array).reshape(-1, array.shape[-1])
    return Piece(rows, source, tuple(slice(0, size) for size in array.shape))


def _has_workers() -> bool:
    # The scheduler of a client is one of its methods; Dask's own are functions.
    return hasattr(dask.base.get_scheduler(), "__self__")


def _in_memory(groups: Sequence[Sequence[Piece]]) -> xr.DataArray:
    boxes = np.empty(len(groups), dtype=object)
    for number, pieces in enumerate(groups):
        boxes[number] = pieces
    return xr.DataArray(boxes, dims="group")


def _fetched(groups: da.Array, description: str) -> xr.DataArray:
    lists = reduce_kernel(
        xr.DataArray(groups, dims="group"), _listed, _joined, description=description
    )
    return _in_memory(lists)


def _listed(box: np.ndarray) -> list[Sequence[Piece]]:
    return [box.item()]


def _joined(first: list[Any], second: list[Any]) -> list[Any]:
    return first + second


def _kept(groups: da.Array, description: str) -> xr.DataArray:
    """Let the workers hold the groups, a few at a time: each batch is waited for."""
    batches = []
    for first in range(0, groups.numblocks[0], BATCH):
        batch = groups[first : first + BATCH].persist()
        counted = xr.DataArray(batch, dims="group")
        reduce_kernel(counted, _count, _sum, description=description)
        batches.append(batch)
    return xr.DataArray(da.concatenate(batches), dims="group")


def _count(box: np.ndarray) -> int:
    return len(box.item())


def _sum(first: int, second: int) -> int:
    return first + second


def _in_folder(folder: Path, rows: np.ndarray) -> Path:
    path = folder / f"{uuid4().hex}.npy"
    np.save(path, rows)
    return path


def _in_scratch(rows: np.ndarray) -> LocalFile:
    from distributed import get_worker

    return LocalFile(rows, Path(get_worker().local_directory))


def _grouped(data: da.Array, source: int, enough: int, keep: Keep) -> da.Array:
    """Gather consecutive blocks into one task each, of about as many bytes."""
    places = slices_from_chunks(data.chunks)
    keys = [(data.name, *place) for place in np.ndindex(data.numblocks)]
    cuts = _cuts([_bytes(place) * data.dtype.itemsize for place in places], enough)
    name = f"gather-{uuid4().hex}"
    tasks = {}
    for number, (first, last) in enumerate(pairwise(cuts)):
        key = (name, number)
        blocks = List(*(TaskRef(part) for part in keys[first:last]))
        tasks[key] = Task(key, _gather, blocks, source, places[first:last], keep)
    layers = {**data.dask.layers, name: MaterializedLayer(tasks)}
    dependencies = {**data.dask.dependencies, name: {data.name}}
    graph = HighLevelGraph(layers, dependencies)
    return da.Array(graph, name, ((1,) * len(tasks),), meta=np.empty(0, dtype=object))


def _bytes(place: Place) -> int:
    return int(np.prod([part.stop - part.start for part in place]))


def _cuts(sizes: Sequence[int], enough: int) -> list[int]:
    """Places where a group ends, once it is large enough.

    >>> _cuts([5, 5, 5, 5, 5], 10)
    [0, 2, 4, 5]
    """
    cuts, total = [0], 0
    for number, size in enumerate(sizes, 1):
        total += size
        if total >= enough:
            cuts.append(number)
            total = 0
    return cuts if cuts[-1] == len(sizes) else [*cuts, len(sizes)]


def _gather(
    blocks: Sequence[np.ndarray], source: int, places: Sequence[Place], keep: Keep
) -> np.ndarray:
    box = np.empty(1, dtype=object)
    box[0] = [
        Piece(keep(np.asarray(block).reshape(-1, block.shape[-1])), source, place)
        for block, place in zip(blocks, places, strict=True)
    ]
    return box
