"""Reading all of a store and saying what is damaged or missing."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from dask._task_spec import Task
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.computing import compute
from ndtomo_dask.errors import StoreError
from ndtomo_dask.graphs import Batch
from ndtomo_dask.io.damage import Damage, Verification, of_blocks, of_metadata, of_variable
from ndtomo_dask.io.heartbeat import LOGGER
from ndtomo_dask.io.repair import METADATA, nodes, record_of, stamp, write_record
from ndtomo_dask.io.shards import DENIED, MISSING, ShardFiles
from ndtomo_dask.io.store import DIGEST

Part = list[tuple[str, int, int]]
"""Blocks of some arrays, from where to where in the grid of each: what one task reads."""
Fault = tuple[str, tuple[int, ...], str]
"""Array, place in its grid, and what is wrong there."""
_PART_BYTES, _PART_BLOCKS = 256 * MB, 256
"""What one task reads at most, as its values are in memory; it holds one megabyte at a time."""
_BATCH = 256
"""Tasks that are handed over at a time."""


def verify(path: str | Path) -> list[Damage]:
    """Read everything in a store and list what is damaged or missing.

    Each chunk is held against the checksum that it was stored with, without decoding it; chunks
    without checksums, in stores of other programs, are decoded. Nothing in the store is changed;
    ``….verify.json`` beside it records what was found, for ``resume`` to make again.

    Parameters
    ----------
    path
        The store.

    Returns
    -------
        What is wrong, block by block: its labels, its file and the reason; empty if all is whole.

    Raises
    ------
    StoreError
        There is no store, or some of its files may not be read.
    """
    return verify_store(path).damages


def verify_store(path: str | Path) -> Verification:
    """Read everything in a store; return what was read and what was found."""
    store = Path(path).resolve()
    found = dict(nodes(store)) if store.is_dir() else {}
    if not found:
        raise StoreError(f"{path} is not a Zarr v3 store: it has no zarr.json.")
    arrays = {folder: ShardFiles(folder) for folder, kind in found.items() if kind == "array"}

    parts = list(_parts(arrays))
    computed = compute(_batches(parts), len(parts), f"verify {store.name}")
    results = [result for batch in computed for result in batch]

    damages = [of_metadata(store, folder) for folder, kind in found.items() if kind == "damaged"]
    damages += [of_variable(store, folder) for folder in _lost(store, found)]
    for folder, faults in _by_array(fault for _, some in results for fault in some).items():
        damages += of_blocks(store, folder, faults)
    verification = Verification(
        store=Path(path),
        blocks=sum(prod(files.grid) for files in arrays.values()),
        variables=len(arrays),
        nbytes=sum(nbytes for nbytes, _ in results),
        damages=damages,
    )
    _record(store, verification)
    return verification


def _parts(arrays: Mapping[Path, ShardFiles]) -> Iterator[Part]:
    """Share the blocks out to tasks."""
    part: Part = []
    nbytes, blocks = 0, 0
    for folder, files in arrays.items():
        first, end = 0, prod(files.grid)
        while first < end:
            fits = max(1, (_PART_BYTES - nbytes) // max(1, files.nbytes))
            count = min(end - first, fits, _PART_BLOCKS - blocks)
            part.append((str(folder), first, first + count))
            first, blocks, nbytes = first + count, blocks + count, nbytes + count * files.nbytes
            if nbytes >= _PART_BYTES or blocks >= _PART_BLOCKS:
                yield part
                part, nbytes, blocks = [], 0, 0
    if part:
        yield part


def _batches(parts: Sequence[Part]) -> Iterator[Batch]:
    name = f"verify-{uuid4().hex}"  # never taken for an earlier reading of the same files
    tasks = [Task((name, number), check_blocks, part) for number, part in enumerate(parts)]
    for first in range(0, len(tasks), _BATCH):
        batch = tasks[first : first + _BATCH]
        layer = MaterializedLayer({task.key: task for task in batch})
        graph = HighLevelGraph({name: layer}, {name: set()})
        yield Batch(graph, tuple(task.key for task in batch), wanted=True)


def check_blocks(part: Part) -> tuple[int, list[Fault]]:
    """Read some blocks; return how many bytes there were, and what is wrong with which."""
    nbytes, faults = 0, []
    for folder, first, end in part:
        files = ShardFiles(Path(folder))
        for place in islice(files.places(), first, end):
            fault = files.fault(place)
            nbytes += stamp(files.file(place))["size"] or 0
            if fault is not None:
                faults.append((folder, place, fault))
    return nbytes, faults


def _by_array(faults: Iterable[Fault]) -> dict[Path, dict[tuple[int, ...], str]]:
    """Sort out what is wrong by arrays; a block that another program left out is fill value."""
    result: dict[Path, dict[tuple[int, ...], str]] = {}
    for name, place, reason in faults:
        if reason == DENIED:
            file = ShardFiles(Path(name)).file(place)
            raise StoreError(f"{file} may not be read by you. Ask its owner to verify the store.")
        result.setdefault(Path(name), {})[place] = reason
    sparse = {folder for folder in result if not _is_ours(folder.parent)}
    for folder in sparse:
        kept = {place: why for place, why in result.pop(folder).items() if why != MISSING}
        result |= {folder: kept} if kept else {}
    return result


def _is_ours(group: Path) -> bool:
    """Tell whether `save` wrote a group: it marks its variables, and leaves no block out."""
    arrays = (folder for folder, kind in nodes(group) if kind == "array")
    return any(DIGEST in _attributes(folder) for folder in arrays if folder.parent == group)


def _attributes(folder: Path) -> dict[str, Any]:
    return json.loads((folder / METADATA).read_bytes()).get("attributes") or {}


def _lost(store: Path, found: Mapping[Path, str]) -> list[Path]:
    """Variables that are not there, though the recipe saves them or others name them as axes."""
    lost = {store / name for name in _saved(store)} if found.get(store) == "group" else set()
    for folder, kind in found.items():
        if kind == "array" and DIGEST in (attributes := _attributes(folder)):
            lost |= {folder.parent / name for name in attributes.get("coordinates", "").split()}
    return sorted(lost - set(found))


def _saved(store: Path) -> set[str]:
    with suppress(yaml.YAMLError, KeyError, TypeError, AttributeError):
        return set(yaml.safe_load(_attributes(store)["recipe"]).get("save") or ())
    return set()


def _record(store: Path, verification: Verification) -> None:
    try:
        write_record(store, verification.record())
    except OSError as error:
        LOGGER.warning("%s cannot be written: %s.", record_of(store), error.strerror)
