"""Blocks to be written: in which order, who takes which, what they are called, and writing them.

A block of a variable is one task, and one shard in the store.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from dask.highlevelgraph import HighLevelGraph

from ndtomo_dask.apply import block_of
from ndtomo_dask.computing import compute
from ndtomo_dask.errors import BlockError, OptionError
from ndtomo_dask.graphs import block_keys, in_batches
from ndtomo_dask.io.arrays import open_for_writing
from ndtomo_dask.io.growing import Slices
from ndtomo_dask.io.shards import ShardFiles
from ndtomo_dask.variables import LEADING

_BATCH, _LARGEST_BATCH = 512, 4096
"""Blocks that are handed over at a time: whole slices, at least and at most so many."""
_HELP = 4
"""Blocks of another share that are taken at a time."""
_ORDER = (*LEADING, "angle", "translation", "y", "x", "channel")


class Block(NamedTuple):
    """One block of a variable, by its place in the grid of its blocks."""

    variable: str
    place: tuple[int, ...]


@dataclass(frozen=True)
class Share:
    """The part of a run that one of several processes does, with no scheduler between them."""

    number: int
    """From 1."""
    of: int

    @classmethod
    def parse(cls, words: str) -> "Share":
        """Read a share written as "3/8".

        >>> Share.parse("3/8")
        Share(number=3, of=8)
        """
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", words)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise OptionError(f"share {words!r} is not known: write the third of eight as '3/8'.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def own(self, blocks: Sequence[Block]) -> Sequence[Block]:
        """Blocks of this share: a contiguous part, so that neighbors stay together."""
        first, last = (len(blocks) * number // self.of for number in (self.number - 1, self.number))
        return blocks[first:last]

    def others(self, blocks: Sequence[Block]) -> Iterator[Block]:
        """Blocks of the others, each share from its end, for its owner begins at the front."""
        for step in range(1, self.of):
            other = Share((self.number - 1 + step) % self.of + 1, self.of)
            yield from reversed(other.own(blocks))


def in_order(arrays: Mapping[str, xr.DataArray]) -> list[Block]:
    """All blocks of some variables, those of one slice together, and in it those of one place."""
    starts: dict[Block, tuple[int, ...]] = {}
    for name, array in arrays.items():
        sizes, places = block_of(array), np.indices(array.data.numblocks).reshape(array.ndim, -1)
        first = dict(zip(sizes, places, strict=True))
        nowhere = np.zeros(places.shape[1], dtype=int)
        begin = [sizes[dim] * first[dim] if dim in sizes else nowhere for dim in _ORDER]
        of_all = zip(places.T.tolist(), np.transpose(begin).tolist(), strict=True)
        starts |= {Block(name, tuple(place)): tuple(start) for place, start in of_all}
    return sorted(starts, key=lambda block: starts[block])


def missing(blocks: Iterable[Block], target: Path) -> list[Block]:
    """Blocks whose shards are not there or not whole; what is left of those goes."""
    shards: dict[str, ShardFiles] = {}
    found = []
    for block in blocks:
        if block.variable not in shards:
            shards[block.variable] = ShardFiles(target / block.variable)
        files = shards[block.variable]
        if not files.is_complete(block.place):
            # Zarr would read a damaged shard before it writes to it.
            files.file(block.place).unlink(missing_ok=True)
            found.append(block)
    return found


def write_blocks(
    arrays: Mapping[str, xr.DataArray],
    target: Path,
    *,
    share: Share | None = None,
    slices: Slices | None = None,
) -> None:
    """Compute and write the blocks that are missing, slice by slice.

    With a ``share`` those of it come first; then the others' are helped with, as long as any is
    missing: so all are there at the end, whichever of the processes are late or dead. With
    ``slices`` only blocks of these are taken: those of a scan that are there.
    """
    if not arrays:
        return
    blocks = in_order(arrays) if slices is None else _in_slices(in_order(arrays), arrays, slices)
    written = {name: _written(array, target) for name, array in arrays.items()}
    if share is None:
        _write(missing(blocks, target), arrays, written)
        return
    _write(missing(share.own(blocks), target), arrays, written)
    theirs = list(share.others(blocks))
    for first in range(0, len(theirs), _HELP):
        _write(missing(theirs[first : first + _HELP], target), arrays, written)


def _in_slices(
    blocks: Iterable[Block], arrays: Mapping[str, xr.DataArray], slices: Slices
) -> list[Block]:
    choosers = {name: slices.chooser(array) for name, array in arrays.items()}
    return [block for block in blocks if choosers[block.variable](block.place)]


def _write(
    blocks: Sequence[Block], arrays: Mapping[str, xr.DataArray], written: Mapping[str, da.Array]
) -> None:
    if not blocks:
        return
    layers = HighLevelGraph.merge(*(array.dask for array in written.values()))
    groups = (
        [key for block in batch for key in block_keys(written[block.variable], [block.place])]
        for batch in _batches(blocks, arrays)
    )
    description = f"save {', '.join(arrays)}"
    try:
        for _ in compute(in_batches(layers, groups, wanted=False), len(blocks), description):
            pass
    except BlockError as error:
        failed = [blocks[position] for position in error.positions]
        raise BlockError(_failure(failed, len(blocks), arrays, error), error.positions) from error


def _batches(
    blocks: Sequence[Block], arrays: Mapping[str, xr.DataArray]
) -> Iterator[Sequence[Block]]:
    """Group blocks in order, whole slices together: what a slice's blocks share is made once."""
    leading = {name: sum(dim in LEADING for dim in array.dims) for name, array in arrays.items()}
    batch: list[Block] = []
    for _, of_one_slice in groupby(blocks, lambda block: block.place[: leading[block.variable]]):
        for block in of_one_slice:
            if len(batch) >= _LARGEST_BATCH:
                yield batch
                batch = []
            batch.append(block)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _failure(
    failed: Sequence[Block], total: int, arrays: Mapping[str, xr.DataArray], error: BlockError
) -> str:
    names = [block_name(arrays[block.variable], block.place) for block in failed[:3]]
    shown = "; ".join(names) + ("; …" if len(failed) > 3 else "")
    return (
        f"{len(failed)} of {total} blocks failed ({shown}): {error.__cause__}. The others are "
        f"stored. Mend the cause and pass resume=True to do those that are missing."
    )


def block_name(array: xr.DataArray, place: tuple[int, ...]) -> str:
    """Name a block by its labels, such as "volume, z 0.02 mm, channel 64 to 127"."""
    names = [str(array.name)]
    for (dim, chunks), number in zip(array.chunksizes.items(), place, strict=True):
        first, last = sum(chunks[:number]), sum(chunks[: number + 1]) - 1
        if len(chunks) > 1 and first == last and dim in array.coords:
            label = array[dim].values[first]
            names.append(f"{dim} {label:g} {array[dim].attrs.get('units', '')}".rstrip())
        elif len(chunks) > 1:
            names.append(f"{dim} {first} to {last}")
    return ", ".join(names)


def _written(array: xr.DataArray, target: Path) -> da.Array:
    """Make an array of which each block is the writing of one."""
    return da.map_blocks(
        write_shard,
        array.data,
        path=str((target / str(array.name)).resolve()),
        extent=tuple(block_of(array).values()),
        chunks=tuple((1,) * count for count in array.data.numblocks),
        dtype=bool,
        meta=np.empty((0,) * array.ndim, dtype=bool),
    )


def write_shard(
    block: np.ndarray, *, path: str, extent: tuple[int, ...], block_id: tuple[int, ...]
) -> np.ndarray:
    """Write one block as one shard of the array at ``path``; return a single True."""
    region = tuple(
        slice(index * size, index * size + length)
        for index, size, length in zip(block_id, extent, block.shape, strict=True)
    )
    open_for_writing(path)[region] = block
    return np.ones((1,) * block.ndim, dtype=bool)


def write_here(values: np.ndarray, array: xr.DataArray, target: Path) -> None:
    """Write what is in memory from this process: it need not travel to the workers."""
    path, extent = target / str(array.name), tuple(block_of(array).values())
    every = (Block(str(array.name), place) for place in np.ndindex(*array.data.numblocks))
    for block in missing(every, target):
        region = tuple(
            slice(number * size, (number + 1) * size)
            for number, size in zip(block.place, extent, strict=True)
        )
        write_shard(values[region], path=str(path), extent=extent, block_id=block.place)
