"""Looking at shards from outside: whether one is there, whole, and as it was written.

A shard ends with its index: for each inner chunk an offset and a length (little-endian uint64, all
ones for an absent chunk), followed by the index's CRC-32C (Zarr v3, sharding-indexed codec 1.0). A
chunk ends with its own CRC-32C (codec crc32c), so stored bytes are checked without decoding them.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zarr
from google_crc32c import extend as extend_crc32c
from google_crc32c import value as crc32c
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

MISSING = "missing"
TRUNCATED = "truncated"
INDEX_WRONG = "index checksum wrong, or truncated"
LENGTH_WRONG = "longer or shorter than its index says"
CHUNK_WRONG = "chunk checksum wrong"
UNDECODABLE = "cannot be decoded"
UNREADABLE = "cannot be read"
DENIED = "may not be read"
_ABSENT = np.uint64(2**64 - 1)
_CRC_BYTES = 4
_PIECE = 1 << 20
"""Bytes held at a time, however large a chunk is."""


class ShardFiles:
    """The shard files of one stored array."""

    def __init__(self, path: Path) -> None:
        array = zarr.open_array(path, mode="r")
        codecs: tuple[Any, ...] = getattr(array.metadata, "codecs", ())
        sharding = codecs[0] if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) else None
        inside = codecs if sharding is None else ()
        self.shape = array.shape
        self.extent = array.shards or array.chunks
        self.grid = tuple(-(-a // b) for a, b in zip(array.shape, self.extent, strict=True))
        self.nbytes = prod(self.extent) * array.dtype.itemsize
        self._path = path
        self._chunks = array.chunks
        self._encode = array.metadata.encode_chunk_key
        self._inner = 0
        if sharding is not None and _has_index_at_end(sharding):
            self._inner = prod(a // b for a, b in zip(self.extent, array.chunks, strict=True))
            inside = sharding.codecs
        self._guarded = bool(inside) and isinstance(inside[-1], Crc32cCodec)

    def file(self, index: tuple[int, ...]) -> Path:
        """Path of the file that holds the shard at a place in the grid."""
        return self._path / self._encode(index)

    def places(self) -> Iterator[tuple[int, ...]]:
        """Places of the grid, in order."""
        return iter(np.ndindex(*self.grid))

    def is_complete(self, index: tuple[int, ...]) -> bool:
        """Tell whether a shard is there, its index intact and its bytes all present."""
        return self.is_whole(self.file(index))

    def is_whole(self, file: Path) -> bool:
        """Tell the same of a shard's file; one without an index, being small, is checked fully."""
        if not file.is_file():
            return False
        with file.open("rb", buffering=0) as stream:
            length = file.stat().st_size
            if self._inner:
                return isinstance(_index(stream, length, self._inner), np.ndarray)
            return length > 0 and (not self._guarded or _is_intact(stream, 0, length))

    def fault(self, index: tuple[int, ...]) -> str | None:
        """Read a shard, and say what is wrong with it; None if nothing is."""
        try:
            with self.file(index).open("rb", buffering=0) as stream:
                length = self.file(index).stat().st_size
                fault = TRUNCATED if length == 0 else self._fault(stream, length)
        except FileNotFoundError:
            return MISSING
        except PermissionError:
            return DENIED
        except OSError as error:
            return f"{UNREADABLE}: {error.strerror}"
        return fault if fault or self._guarded else self._decoding_fault(index)

    def _fault(self, stream: BinaryIO, length: int) -> str | None:
        chunks = [(0, length)]
        if self._inner:
            entries = _index(stream, length, self._inner)
            if isinstance(entries, str):
                return entries
            chunks = sorted((int(offset), int(nbytes)) for offset, nbytes in entries)
        if self._guarded and not all(_is_intact(stream, *chunk) for chunk in chunks):
            return CHUNK_WRONG
        return None

    def _decoding_fault(self, index: tuple[int, ...]) -> str | None:
        """Decode chunk by chunk what has no checksums, such as a store of another program."""
        array = zarr.open_array(self._path, mode="r")
        for region in self._regions(index):
            try:
                array[region]
            except OSError as error:
                return f"{UNREADABLE}: {error.strerror}"
            except Exception:  # whatever its codecs raise
                return UNDECODABLE
        return None

    def _regions(self, index: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
        starts = [number * size for number, size in zip(index, self.extent, strict=True)]
        ends = [
            min(start + size, whole)
            for start, size, whole in zip(starts, self.extent, self.shape, strict=True)
        ]
        counts = [
            -(-(end - start) // chunk)
            for start, end, chunk in zip(starts, ends, self._chunks, strict=True)
        ]
        for place in np.ndindex(*counts):
            yield tuple(
                slice(start + number * chunk, min(start + (number + 1) * chunk, end))
                for start, end, number, chunk in zip(starts, ends, place, self._chunks, strict=True)
            )


def _has_index_at_end(codec: ShardingCodec) -> bool:
    plain: tuple[Any, ...] = (BytesCodec(), Crc32cCodec())
    return codec.index_location.value == "end" and tuple(codec.index_codecs) == plain


def _index(stream: BinaryIO, length: int, count: int) -> np.ndarray | str:
    """Offsets and lengths of the chunks in a shard; or what is wrong with it."""
    size = 16 * count
    if length < size + _CRC_BYTES:
        return TRUNCATED
    stream.seek(length - size - _CRC_BYTES)
    index, checksum = stream.read(size), stream.read(_CRC_BYTES)
    if crc32c(index) != int.from_bytes(checksum, "little"):
        return INDEX_WRONG
    entries = np.frombuffer(index, dtype="<u8").reshape(-1, 2)
    present: np.ndarray = entries[(entries != _ABSENT).any(axis=1)]
    if present.size and int(present.sum(axis=1).max()) + size + _CRC_BYTES != length:
        return LENGTH_WRONG
    return present


def _is_intact(stream: BinaryIO, start: int, length: int) -> bool:
    """Tell whether a chunk's bytes have the checksum with which they end."""
    stream.seek(start)
    left, checksum = length - _CRC_BYTES, 0
    while left > 0 and (piece := stream.read(min(left, _PIECE))):
        checksum = extend_crc32c(checksum, piece)
        left -= len(piece)
    return left == 0 and checksum == int.from_bytes(stream.read(_CRC_BYTES), "little")


def clear_partial_writes(path: Path) -> None:
    """Remove the temporary files that a killed task left behind."""
    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)
