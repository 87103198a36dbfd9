"""The one bridge to Dask: map a kernel over blocks, reduce a kernel over blocks, compute.

A kernel sees NumPy arrays whose axes are the dimensions of the labelled array, in their order. Here
it is applied to every block of a Dask-backed array, lazily, or at once to a NumPy-backed one: the
numbers are the same.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, compress
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from dask.highlevelgraph import HighLevelGraph

from ndtomo_dask import plan
from ndtomo_dask.graphs import Batch, in_batches, merge_tree, twin
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import LEADING, SINOGRAM, require

Compute = Callable[[Iterable[Batch], int, str], Iterator[list[Any]]]

_UNLIMITED = 2**62
_GROUP = 1024
"""Blocks that one batch of a reduction takes: a power of two, so that the tree of merges is that of
all blocks at once."""


def is_lazy(array: xr.DataArray) -> bool:
    """Tell whether an array is made of Dask blocks."""
    return isinstance(array.data, da.Array)


def allowed_memory(allowed_mem: int | str | None) -> int:
    """Bytes one task may hold: as given, or the connected workers' limit, or one gigabyte."""
    if allowed_mem is None:
        allowed_mem = dask.config.get("ndtomo_dask.allowed_mem", plan.DEFAULT_ALLOWED_MEM)
    return plan.parse_bytes(allowed_mem)


@contextmanager
def unlimited_memory() -> Iterator[None]:
    """Let verbs plan without a limit inside a ``with`` block, where nothing will be computed."""
    with dask.config.set({"ndtomo_dask.allowed_mem": _UNLIMITED}):
        yield


def sizes_of(array: xr.DataArray) -> dict[str, int]:
    """Extent of an array along each dimension."""
    return {str(dim): size for dim, size in array.sizes.items()}


def block_of(array: xr.DataArray) -> dict[str, int]:
    """Extent of the largest block of an array along each dimension."""
    chunks = array.chunksizes
    return {str(dim): max(chunks.get(dim, (size,))) for dim, size in array.sizes.items()}


def split_blocks(array: xr.DataArray, block: Mapping[str, int]) -> xr.DataArray:
    """Cut blocks that are larger than ``block`` into pieces; never merge or move any.

    The pieces of a dimension have one size, so that equal blocks stay equal: a store needs that.
    """
    cut = {}
    for dim, chunks in array.chunksizes.items():
        largest = block.get(str(dim), max(chunks))
        if max(chunks) > largest:
            piece = plan.even(max(chunks), largest)
            cut[dim] = tuple(part for size in chunks for part in _pieces(size, piece))
    return array.chunk(cut) if cut else array


def _pieces(size: int, piece: int) -> list[int]:
    return [min(piece, size - start) for start in range(0, size, piece)]


def apply_kernel(
    kernel: Callable[..., Any],
    array: xr.DataArray,
    *beside: xr.DataArray,
    core: Sequence[str] = (),
    out: Mapping[str, int] | None = None,
    dtype: np.typing.DTypeLike | None = None,
    **options: Any,
) -> xr.DataArray:
    """Map a kernel over the blocks of an array, one slice or frame at a time.

    Parameters
    ----------
    kernel
        A module-level function ``kernel(block, *beside_blocks, **options)``; its name appears on
        the Dask dashboard. It never sees the leading dimensions ``time`` and ``z``.
    array
        The array that decides the blocks.
    beside
        Smaller arrays whose dimensions are among those of ``array``, cut where it is cut.
    core
        Dimensions which the kernel consumes; none of them may be split.
    out
        Dimensions which stand in their place, with their sizes; default: ``core``, unchanged.
    dtype
        Type of the result; default: that of ``array``.
    options
        Handed to the kernel.

    Returns
    -------
        An array without coordinates on the new dimensions; those on the others are kept.
    """
    dims = [str(dim) for dim in array.dims]
    out = {dim: array.sizes[dim] for dim in core} if out is None else dict(out)
    out_dims = _replace(dims, core, list(out))
    dtype = array.dtype if dtype is None else np.dtype(dtype)

    beside = tuple(other.transpose(*(dim for dim in dims if dim in other.dims)) for other in beside)
    frames = tuple(dim for dim in dims if dim in LEADING)
    framed = tuple(tuple(dim in other.dims for dim in frames) for other in (array, *beside))
    options |= {"kernel": kernel, "framed": framed}
    data: Any
    if is_lazy(array):
        data = _map_blocks(kernel, array, beside, dims, out_dims, out, core, dtype, options)
    else:
        data = _each_frame(array.values, *(other.values for other in beside), **options)
    kept = {name: coord for name, coord in array.coords.items() if set(coord.dims) <= set(out_dims)}
    return xr.DataArray(data, dims=out_dims, coords=kept, name=array.name)


def _replace(dims: list[str], core: Sequence[str], out: list[str]) -> list[str]:
    if not core:
        return [*dims, *out]
    first = min(dims.index(dim) for dim in core)
    rest = [dim for dim in dims if dim not in core]
    return [*rest[:first], *out, *rest[first:]]


def _map_blocks(
    kernel: Callable[..., Any],
    array: xr.DataArray,
    beside: Sequence[xr.DataArray],
    dims: list[str],
    out_dims: list[str],
    out: Mapping[str, int],
    core: Sequence[str],
    dtype: np.typing.DTypeLike,
    options: Mapping[str, Any],
) -> da.Array:
    # Where as many dimensions come as go, each takes the place of one: then Dask can join this
    # layer with those that read and write, and a block's task is spelled out once, not in pieces.
    stands_in = dict(zip(core, out, strict=True)) if len(core) == len(out) else {}
    inside = {dim: stands_in.get(dim, f"{dim} in" if dim in core else dim) for dim in dims}
    operands: list[Any] = [array.data, list(inside.values())]
    for other in beside:
        chunks = tuple(array.chunksizes[dim] for dim in other.dims)
        data = other.data if is_lazy(other) else da.from_array(np.asarray(other), chunks=chunks)
        operands += [data.rechunk(chunks), [inside[str(dim)] for dim in other.dims]]
    return da.blockwise(
        _each_frame,
        out_dims,
        *operands,
        token=kernel.__name__,
        new_axes={dim: size for dim, size in out.items() if dim not in inside.values()},
        adjust_chunks={dim: (size,) for dim, size in out.items() if dim in stands_in.values()},
        concatenate=True,
        dtype=dtype,
        meta=np.empty((0,) * len(out_dims), dtype=dtype),
        **options,
    )


def _each_frame(
    *blocks: np.ndarray,
    kernel: Callable[..., Any],
    framed: Sequence[Sequence[bool]],
    **options: Any,
) -> np.ndarray:
    """Call a kernel once per slice or frame, so that kernels need not know of these dimensions."""
    frames = blocks[0].shape[: len(framed[0])]
    if not frames:
        return np.asarray(kernel(*blocks, **options))
    results = [
        kernel(
            *(_frame(block, index, has) for block, has in zip(blocks, framed, strict=True)),
            **options,
        )
        for index in np.ndindex(*frames)
    ]
    stacked = np.stack(results) if len(results) > 1 else np.asarray(results[0])
    return stacked.reshape(frames + np.shape(results[0]))


def _frame(block: np.ndarray, index: tuple[int, ...], has: Sequence[bool]) -> np.ndarray:
    return np.asarray(block[tuple(compress(index, has))])


def planned_sinogram(ds: xr.Dataset, verb: str, whole: Sequence[str] = ()) -> xr.DataArray:
    """Return the sinogram, if a verb can work on it in the memory that is allowed."""
    sinogram = require(ds, SINOGRAM, verb=verb, whole=whole)
    if is_lazy(sinogram):
        sizes, block, itemsize = sizes_of(sinogram), block_of(sinogram), sinogram.dtype.itemsize
        planned = plan.correct(verb, sizes, block, itemsize, allowed_mem=allowed_memory(None))
        planned.checked("Open the scan in smaller blocks: open_scan(path, allowed_mem=...).")
    return sinogram


def gathered(array: xr.DataArray, dims: Iterable[str]) -> xr.DataArray:
    """Join the blocks of a small array along some dimensions."""
    return array.chunk(dict.fromkeys(dims, -1)) if is_lazy(array) else array


def first_block(array: xr.DataArray) -> xr.DataArray:
    """Return the first block of an array, or all of it if it is in memory."""
    return array.isel({dim: slice(chunks[0]) for dim, chunks in array.chunksizes.items()})


def detached(array: xr.DataArray) -> xr.DataArray:
    """Return the same array made by tasks of its own.

    A lazy verb that needs a number about the whole array would otherwise keep every block in memory
    until that number is known. Detached, the blocks are read twice and held never.
    """
    return array.copy(data=twin(array.data)) if is_lazy(array) else array


def reduce_kernel(
    array: xr.DataArray,
    partial: Callable[..., Any],
    combine: Callable[[Any, Any], Any],
    *,
    description: str,
    **options: Any,
) -> Any:
    """Compute a reduction: ``partial(block, **options)`` per block, merged two by two, in order."""
    if not is_lazy(array):
        with one_blas_thread():
            return partial(array.values, **options)
    boxed = da.map_blocks(
        _boxed,
        array.data,
        partial=partial,
        options=options,
        chunks=tuple((1,) * count for count in array.data.numblocks),
        dtype=object,
        meta=np.empty((0,) * array.ndim, dtype=object),
        name=None,
    )
    places = list(np.ndindex(*boxed.numblocks))
    groups = [places[first : first + _GROUP] for first in range(0, len(places), _GROUP)]
    merged = _Tree(combine)
    for (box,) in compute(_merges(boxed, groups, combine), len(groups), description):
        merged.add(box.item())
    return merged.result()


def _merges(
    boxed: da.Array, groups: Sequence[Sequence[tuple[int, ...]]], combine: Callable[[Any, Any], Any]
) -> Iterator[Batch]:
    for places in groups:
        layers, key = merge_tree(boxed, places, functools.partial(_merged, combine))
        yield from in_batches(layers, [[key]], wanted=True)


class _Tree:
    """Merge results two by two as they come, in the order in which a whole level would be."""

    def __init__(self, combine: Callable[[Any, Any], Any]) -> None:
        self._combine = combine
        self._parts: list[tuple[int, Any]] = []

    def add(self, value: Any) -> None:
        """Take the next result; two parts of the same height become one."""
        self._parts.append((0, value))
        while len(self._parts) > 1 and self._parts[-1][0] == self._parts[-2][0]:
            (height, left), (_, right) = self._parts[-2:]
            self._parts[-2:] = [(height + 1, self._combine(left, right))]

    def result(self) -> Any:
        """Merge what is left, the last first."""
        total = self._parts.pop()[1]
        while self._parts:
            total = self._combine(self._parts.pop()[1], total)
        return total


def _boxed(block: Any, *, partial: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    return _box(partial(block, **options), block.ndim)


def _box(value: Any, ndim: int) -> Any:
    box = np.empty((1,) * ndim, dtype=object)
    box[(0,) * ndim] = value
    return box


def _merged(combine: Callable[[Any, Any], Any], boxes: Sequence[Any]) -> Any:
    result = boxes[0].item()
    for box in boxes[1:]:
        result = combine(result, box.item())
    return _box(result, boxes[0].ndim)


def compute_arrays(arrays: Sequence[xr.DataArray], description: str) -> list[xr.DataArray]:
    """Load small arrays together, so that what they share is computed once."""
    lazy = [index for index, array in enumerate(arrays) if is_lazy(array)]
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
    groups = [keys[first : first + _GROUP] for first in range(0, len(keys), _GROUP)]
    layers = HighLevelGraph.merge(*(data.dask for data in arrays))
    batches = in_batches(layers, groups, wanted=True, kept=[data.name for data in arrays])
    blocks = chain.from_iterable(compute(batches, len(keys), description))
    for (n, region), block in zip(regions, blocks, strict=True):
        whole[n][region] = block
    return whole


def compute_here(
    batches: Iterable[Batch],
    total: int,  # noqa: ARG001
    description: str,  # noqa: ARG001
) -> Iterator[list[Any]]:
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
