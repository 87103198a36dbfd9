"""Computing: batches of tasks one after the other, in the way the runtime has set up.

Whoever has work to do calls `compute`; who decides where it is done is told by `computing_with` or
by Dask's setting ``ndtomo_dask.compute``, and by nothing else.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from dask.highlevelgraph import HighLevelGraph

from ndtomo_dask.graphs import Batch, in_batches
from ndtomo_dask.kernels.threads import one_blas_thread

Compute = Callable[[Iterable[Batch], int, str], Iterator[list[Any]]]

GROUP = 1024
"""Results that one batch brings: a power of two, so that the tree of merges of a reduction is that
of all blocks at once."""
RESULTS = 64 * 10**6
"""Bytes of the results that one batch brings, at most, unless one alone is larger: workers hold
them until they are fetched."""


def compute_here(batches: Iterable[Batch], _total: int, _description: str) -> Iterator[list[Any]]:
    """Compute batches one after the other with Dask's own scheduler of this moment."""
    get = dask.base.get_scheduler() or dask.threaded.get
    for batch in batches:
        results = list(get(batch.tasks(), list(batch.keys)))
        yield results if batch.wanted else []


_COMPUTE: ContextVar[Compute | None] = ContextVar("compute", default=None)


def compute(batches: Iterable[Batch], total: int, description: str) -> Iterator[list[Any]]:
    """Compute batches of tasks in the way the runtime has set up, with its progress and retries.

    ``total`` is the number of results in all; each batch's are yielded in order, if they are
    ``wanted``, else an empty list.
    """
    usual: Compute = dask.config.get("ndtomo_dask.compute", compute_here)
    with one_blas_thread():
        yield from (_COMPUTE.get() or usual)(batches, total, description)


@contextmanager
def computing_with(function: Compute) -> Iterator[None]:
    """Let ``function(batches, total, description)`` do the computing inside a ``with`` block."""
    token = _COMPUTE.set(function)
    try:
        yield
    finally:
        _COMPUTE.reset(token)


def compute_arrays(arrays: Sequence[xr.DataArray], description: str) -> list[xr.DataArray]:
    """Load small arrays together, so that what they share is computed once."""
    lazy = [index for index, array in enumerate(arrays) if dask.is_dask_collection(array)]
    result = list(arrays)
    if not lazy:
        return result
    loaded = _fetched([arrays[index].data for index in lazy], description)
    for index, data in zip(lazy, loaded, strict=True):
        # Where the data have blocks, scalar coordinates are lazy too.
        result[index] = arrays[index].copy(data=data).compute()
    return result


def _fetched(arrays: Sequence[da.Array], description: str) -> list[np.ndarray]:
    """Fetch all blocks, and join them here: no worker holds more than its blocks."""
    whole = [np.empty(data.shape, dtype=data.dtype) for data in arrays]
    keys = [(data.name, *place) for data in arrays for place in np.ndindex(data.numblocks)]
    regions = [(n, one) for n, data in enumerate(arrays) for one in slices_from_chunks(data.chunks)]
    largest = max(region.nbytes for region in (whole[n][part] for n, part in regions))
    count = max(1, min(GROUP, RESULTS // max(1, largest)))
    groups = [keys[first : first + count] for first in range(0, len(keys), count)]
    layers = HighLevelGraph.merge(*(data.dask for data in arrays))
    batches = in_batches(layers, groups, wanted=True, kept=[data.name for data in arrays])
    blocks = chain.from_iterable(compute(batches, len(keys), description))
    for (n, region), block in zip(regions, blocks, strict=True):
        whole[n][region] = block
    return whole
