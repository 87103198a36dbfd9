"""Graphs of Dask: batches that a scheduler can hold, trees of merges, and twins.

A graph is kept in layers, which are rules and not yet tasks. However large a scan is, only the
tasks of the next batches are ever spelled out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import (
    DependenciesMapping,
    List,
    Task,
    TaskRef,
    convert_legacy_graph,
    resolve_aliases,
)
from dask.array.optimization import optimize
from dask.base import clone_key
from dask.blockwise import Blockwise, optimize_blockwise
from dask.core import reverse_dict
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict

Key = tuple[Any, ...]
CARRIED = 64 * 10**6
"""Bytes of arrays that the tasks of one batch may carry: workers keep tasks until it is done."""
_FAN_IN = 2
"""Partial results merged at a time; the order of merging is fixed by the blocks' order."""


@dataclass(frozen=True)
class Batch:
    """Tasks to be computed together."""

    layers: HighLevelGraph
    keys: tuple[Key, ...]
    wanted: bool
    """Whether the results are fetched; those of writing are not."""

    def tasks(self) -> dict[Key, Any]:
        """Spell the tasks out, each chain of them joined into one."""
        tasks = optimize(ensure_dict(self.layers), list(self.keys))
        dependents = reverse_dict(DependenciesMapping(tasks))
        return dict(resolve_aliases(tasks, set(self.keys), dependents))


def in_batches(
    layers: HighLevelGraph,
    groups: Iterable[Sequence[Key]],
    *,
    wanted: bool,
    kept: Sequence[str] = (),
) -> Iterator[Batch]:
    """Cut the work for groups of keys out of a graph, a batch for each, when it is asked for.

    The groups' keys are of layers that no other layer needs, or that are named as ``kept``. A group
    whose tasks carry more than `CARRIED` becomes several batches.
    """
    outputs = [name for name, others in layers.dependents.items() if not others]
    layers = optimize_blockwise(layers, keys=[*outputs, *kept])
    for keys in groups:
        yield from _light(Batch(layers.cull(keys), tuple(keys), wanted))


def _light(batch: Batch) -> Iterator[Batch]:
    """Cut a batch whose tasks carry much, such as estimates that are in memory."""
    weight = _carried(batch.layers)
    if weight <= CARRIED or len(batch.keys) == 1:
        yield batch
        return
    size = ceil(len(batch.keys) / ceil(weight / CARRIED))
    for first in range(0, len(batch.keys), size):
        some = batch.keys[first : first + size]
        yield Batch(batch.layers.cull(some), some, batch.wanted)


def blocks_per_batch(array: da.Array, most: int) -> int:
    """Blocks to be computed together: ``most``, halved until their tasks carry little."""
    share, count = _carried(array.dask) / array.npartitions, most
    while count > 1 and count * share > CARRIED:
        count //= 2
    return count


def _carried(layers: HighLevelGraph) -> int:
    """Bytes of the arrays that are tasks themselves."""
    return sum(
        task.nbytes
        for layer in layers.layers.values()
        if isinstance(layer, MaterializedLayer)
        for task in layer.values()
        if isinstance(task, np.ndarray)
    )


def block_keys(array: da.Array, places: Iterable[tuple[int, ...]]) -> list[Key]:
    """Keys of the blocks of an array at some places in its grid."""
    return [(array.name, *place) for place in places]


def merge_tree(
    leaves: da.Array, places: Sequence[tuple[int, ...]], merge: Callable[..., Any]
) -> tuple[HighLevelGraph, Key]:
    """Merge blocks two by two, in order; ``merge`` is given a list of one or two."""
    level: list[Key] = block_keys(leaves, places)
    name = f"merge-{leaves.name}-{'-'.join(map(str, places[0]))}"
    tasks: dict[Key, Task] = {}
    while len(level) > 1:
        above = []
        for first in range(0, len(level), _FAN_IN):
            key = (name, len(tasks))
            parts = List(*(TaskRef(part) for part in level[first : first + _FAN_IN]))
            tasks[key] = Task(key, merge, parts)
            above.append(key)
        level = above
    layers = {**leaves.dask.layers, name: MaterializedLayer(tasks)}
    dependencies = {**leaves.dask.dependencies, name: {leaves.name}}
    return HighLevelGraph(layers, dependencies) if tasks else leaves.dask, level[0]


def mix_blocks(
    kernel: Callable[[Any, Any], Any], data: da.Array, matrix: np.ndarray, chunks: Sequence[int]
) -> da.Array:
    """Replace the last axis by ``chunks`` of the columns of a matrix, which says how it is mixed.

    The parts ``kernel(block, rows)`` of the blocks along that axis are added two by two, in order.
    """
    lead, old, new = list(range(data.ndim - 1)), data.ndim - 1, data.ndim
    alone = data.numblocks[-1] == 1
    rows = da.from_array(matrix, chunks=(data.chunks[-1], tuple(chunks)))
    parts = da.blockwise(
        _only_part if alone else _each_part, [*lead, new] if alone else [*lead, new, old],
        data, [*lead, old], rows, [old, new],
        # A layer that takes lists is told from the others: Dask would make what is mixed part of
        # it, and do its work once for each of ``chunks``.
        concatenate=False, adjust_chunks=None if alone else {old: 1}, align_arrays=False,
        token=kernel.__name__, dtype=matrix.dtype, kernel=kernel,
        meta=np.empty((0,) * (data.ndim if alone else data.ndim + 1), dtype=matrix.dtype),
    )  # fmt: skip
    return parts if alone else parts.sum(axis=-1, split_every=_FAN_IN, dtype=matrix.dtype)


def _only_part(
    blocks: Sequence[Any], rows: Sequence[Any], *, kernel: Callable[[Any, Any], Any]
) -> np.ndarray:
    return np.asarray(kernel(blocks[0], rows[0]))


def _each_part(block: Any, rows: Any, *, kernel: Callable[[Any, Any], Any]) -> np.ndarray:
    return np.asarray(kernel(block, rows))[..., None]


def twin(data: da.Array) -> da.Array:
    """Copy a graph under other names.

    ``dask.graph_manipulation.clone`` (2026.8) leaves the tasks of materialized layers, such as
    those of a rechunk, with their old dependencies.
    """
    # Of its own for each array: a twin's twin must not share its reading with the first twin.
    seed = f"detached-{data.name}"
    keys = data.dask.get_all_external_keys()
    names = {key: clone_key(key, seed) for key in keys}
    layers = {
        clone_key(name, seed): layer.clone(keys, seed)[0]
        if isinstance(layer, Blockwise)
        else {
            names[key]: task.substitute(names, key=names[key])
            for key, task in convert_legacy_graph(dict(layer), keys).items()
        }
        for name, layer in data.dask.layers.items()
    }
    dependencies = {
        clone_key(name, seed): {clone_key(other, seed) for other in others}
        for name, others in data.dask.dependencies.items()
    }
    name = clone_key(data.name, seed)
    return da.Array(HighLevelGraph(layers, dependencies), name, data.chunks, meta=data._meta)
