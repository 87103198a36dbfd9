"""The one bridge to Dask: map a kernel over blocks, reduce a kernel over blocks.

A kernel sees NumPy arrays whose axes are the dimensions of the labelled array, in their order. Here
it is applied to every block of a Dask-backed array, lazily, or at once to a NumPy-backed one: the
numbers are the same.
"""

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import concatenate_axes
from dask.layers import ArraySliceDep

from ndtomo_dask import plan
from ndtomo_dask.block_sizes import even
from ndtomo_dask.byte_sizes import parse_bytes
from ndtomo_dask.computing import GROUP, compute
from ndtomo_dask.graphs import Batch, blocks_per_batch, in_batches, merge_tree, mix_blocks, twin
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import require
from ndtomo_dask.variables import LEADING, SINOGRAM

_UNLIMITED = 2**62


def is_lazy(array: xr.DataArray) -> bool:
    """Tell whether an array is made of Dask blocks."""
    return isinstance(array.data, da.Array)


def allowed_memory(allowed_mem: int | str | None) -> int:
    """Bytes one task may hold: as given, or the connected workers' limit, or one gigabyte."""
    if allowed_mem is None:
        allowed_mem = dask.config.get("ndtomo_dask.allowed_mem", plan.DEFAULT_ALLOWED_MEM)
    return parse_bytes(allowed_mem)


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
            piece = even(max(chunks), largest)
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
        Arrays whose dimensions are among those of ``array``, cut where it is cut, or of ``out``;
        a dimension that neither has comes last and whole.
    core
        Dimensions which the kernel consumes. Where they are split, their blocks are joined first:
        the array must be a small one then, with nothing ``beside``.
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

    beside = tuple(_in_order(other, dims, out_dims) for other in beside)
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


def _in_order(other: xr.DataArray, dims: list[str], out_dims: list[str]) -> xr.DataArray:
    order = dims if set(other.dims) <= set(dims) else out_dims
    own = [str(dim) for dim in other.dims if dim not in order]
    return other.transpose(*(dim for dim in order if dim in other.dims), *own)


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
    joined = sorted(dims.index(dim) for dim in core) if _is_split(array, core) else []
    if joined and beside:
        raise ValueError(
            f"{kernel.__name__} joins blocks, and nothing else can be cut as they are."
        )
    # Where as many dimensions come as go, each takes the place of one: then Dask can join this
    # layer with those that read and write, and a block's task is spelled out once, not in pieces.
    stands_in = dict(zip(core, out, strict=True)) if len(core) == len(out) and not joined else {}
    inside = {dim: stands_in.get(dim, f"{dim} in" if dim in core else dim) for dim in dims}
    operands: list[Any] = [array.data, list(inside.values())]
    for other in beside:
        operands += [_beside(other, array), [inside.get(str(dim), str(dim)) for dim in other.dims]]
    cut = [_places_to_cut(other, array) for other in beside]
    if any(cut):
        operands += [ArraySliceDep(array.data.chunks), list(inside.values())]
        options = {**options, "cut": cut}
    return da.blockwise(
        _each_block,
        out_dims,
        *operands,
        token=kernel.__name__,
        new_axes={dim: size for dim, size in out.items() if dim not in inside.values()},
        adjust_chunks={dim: (size,) for dim, size in out.items() if dim in stands_in.values()},
        # A layer that joins blocks is told from the others: Dask would make it part of those that
        # use it, and do its work once for every block of theirs.
        concatenate=not joined,
        align_arrays=False,
        dtype=dtype,
        meta=np.empty((0,) * len(out_dims), dtype=dtype),
        joined=joined,
        **options,
    )


def _is_split(array: xr.DataArray, dims: Iterable[Hashable]) -> bool:
    return any(len(array.chunksizes[dim]) > 1 for dim in dims)


def _beside(other: xr.DataArray, array: xr.DataArray) -> da.Array:
    """Blocks of another array, as ``array`` is cut; one block along a dimension may stay one."""
    chunks = {dim: array.chunksizes.get(dim, (size,)) for dim, size in other.sizes.items()}
    if not is_lazy(other):
        return da.from_array(np.asarray(other), chunks=tuple(chunks.values()))
    return other.chunk({dim: cut for dim, cut in chunks.items() if _is_split(other, [dim])}).data


def _places_to_cut(other: xr.DataArray, array: xr.DataArray) -> dict[int, int]:
    """Axes of ``other`` that come whole where ``array`` is split, and its axis of each."""
    if not is_lazy(other):
        return {}
    return {
        axis: array.dims.index(dim)
        for axis, dim in enumerate(other.dims)
        if dim in array.dims and _is_split(array, [dim]) and not _is_split(other, [dim])
    }


def _each_block(
    *blocks: Any, joined: Sequence[int], cut: Sequence[Mapping[int, int]] = (), **options: Any
) -> np.ndarray:
    """Join a list of blocks along ``joined`` axes, or cut what came whole; call the kernel."""
    if joined:
        (parts,) = blocks
        blocks = (concatenate_axes(parts, joined),)
    elif cut:
        first, *beside, where = blocks
        blocks = first, *(_cut(other, axes, where) for other, axes in zip(beside, cut, strict=True))
    return _each_frame(*blocks, **options)


def _cut(block: np.ndarray, axes: Mapping[int, int], where: Sequence[slice]) -> np.ndarray:
    everything = slice(None)
    region = (where[axes[axis]] if axis in axes else everything for axis in range(block.ndim))
    return np.asarray(block[tuple(region)])


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


def mix_kernel(
    kernel: Callable[[Any, Any], Any],
    array: xr.DataArray,
    matrix: xr.DataArray,
    *,
    chunks: Sequence[int] | None = None,
) -> xr.DataArray:
    """Replace a dimension by another, which mixes it: ``kernel(block, rows of matrix)``, summed.

    Each block is mixed by its own rows of ``matrix (from, to)``, which is a small array in memory,
    and the parts are added two by two, in order. So no task holds all blocks along ``from``.
    ``chunks`` are the blocks' extents along ``to``; one block unless given. The result has the
    dtype of the matrix, its coordinates on ``to``, and those of ``array`` on other dimensions.
    """
    old, new = map(str, matrix.dims)
    array = array.transpose(..., old)
    lead = [str(dim) for dim in array.dims[:-1]]
    if is_lazy(array):
        data = mix_blocks(kernel, array.data, matrix.values, chunks or (matrix.sizes[new],))
    else:
        with one_blas_thread():
            data = kernel(array.values, matrix.values)
    kept = {name: axis for name, axis in array.coords.items() if old not in axis.dims}
    added = {name: axis for name, axis in matrix.coords.items() if axis.dims == (new,)}
    return xr.DataArray(data, dims=[*lead, new], coords=kept | added, name=array.name)


def planned_sinogram(ds: xr.Dataset, verb: str, whole: Sequence[str] = ()) -> xr.DataArray:
    """Return the sinogram, if a verb can work on it in the memory that is allowed."""
    sinogram = require(ds, SINOGRAM, verb=verb, whole=whole)
    if is_lazy(sinogram):
        sizes, block, itemsize = sizes_of(sinogram), block_of(sinogram), sinogram.dtype.itemsize
        planned = plan.correct(verb, sizes, block, itemsize, allowed_mem=allowed_memory(None))
        planned.checked("Open the scan in smaller blocks: open_scan(path, allowed_mem=...).")
    return sinogram


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
        # A key of its own: one that was just released may be forgotten while it is wanted again.
        name=f"reduce-{uuid4().hex}",
    )
    places = list(np.ndindex(*boxed.numblocks))
    size = blocks_per_batch(boxed, GROUP)
    groups = [places[first : first + size] for first in range(0, len(places), size)]
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
