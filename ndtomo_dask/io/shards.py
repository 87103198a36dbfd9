"""Looking at shards from outside: whether one is there, and whole.

A shard ends with its index: for each inner chunk an offset and a length (little-endian uint64, all
ones for an absent chunk), followed by the index's CRC-32C (Zarr v3, sharding-indexed codec 1.0).
"""

from collections.abc import Hashable, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from google_crc32c import value as crc32c

_ABSENT = np.uint64(2**64 - 1)


class ShardFiles:
    """The shard files of one stored array."""

    def __init__(self, path: Path) -> None:
        array = zarr.open_array(path, mode="r")
        self._path = path
        self._encode = array.metadata.encode_chunk_key
        self._inner = (
            0
            if array.shards is None
            else prod(a // b for a, b in zip(array.shards, array.chunks, strict=True))
        )

    def file(self, index: tuple[int, ...]) -> Path:
        """Path of the file that holds the shard at a place in the grid."""
        return self._path / self._encode(index)

    def is_complete(self, index: tuple[int, ...]) -> bool:
        """Tell whether a shard is there, its index intact and its bytes all present."""
        return self.is_whole(self.file(index))

    def is_whole(self, file: Path) -> bool:
        """Tell the same of a shard's file."""
        if not file.is_file():
            return False
        if not self._inner:
            return file.stat().st_size > 0
        return _index_is_intact(file, 16 * self._inner)


def _index_is_intact(file: Path, size: int) -> bool:
    length = file.stat().st_size
    if length < size + 4:
        return False
    with file.open("rb") as stream:
        stream.seek(length - size - 4)
        index, checksum = stream.read(size), stream.read(4)
    if crc32c(index) != int.from_bytes(checksum, "little"):
        return False
    entries = np.frombuffer(index, dtype="<u8").reshape(-1, 2)
    present = entries[(entries != _ABSENT).any(axis=1)]
    return present.size == 0 or int(present.sum(axis=1).max()) + size + 4 == length


def clear_partial_writes(path: Path) -> None:
    """Remove the temporary files that a killed task left behind."""
    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)


def block_name(
    variable: str,
    chunks: Mapping[Hashable, Sequence[int]],
    index: tuple[int, ...],
    axes: Mapping[Hashable, xr.DataArray],
) -> str:
    """Name a block by its labels, such as "volume, z 0.02 mm, channel 64 to 127"."""
    names = [variable]
    for (dim, lengths), number in zip(chunks.items(), index, strict=True):
        first, last = sum(lengths[:number]), sum(lengths[: number + 1]) - 1
        if len(lengths) > 1 and first == last and dim in axes:
            label = axes[dim].values[first]
            names.append(f"{dim} {label:g} {axes[dim].attrs.get('units', '')}".rstrip())
        elif len(lengths) > 1:
            names.append(f"{dim} {first} to {last}")
    return ", ".join(names)
