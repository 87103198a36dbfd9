"""Several samples made one, block by block: blocks end where bins end."""

from collections.abc import Callable, Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ndtomo_dask.apply import is_lazy


def trimmed(array: xr.DataArray, bins: Mapping[str, int]) -> xr.DataArray:
    """Leave out the samples of bins that are not full, and let blocks end where bins end.

    A bin that two blocks share goes to the second: no more than a bin moves.
    """
    inside = {dim: size for dim, size in bins.items() if dim in array.dims}
    whole = {dim: slice(array.sizes[dim] // size * size) for dim, size in inside.items()}
    array = array.isel(whole)
    if not is_lazy(array):
        return array
    cut = {}
    for dim, size in inside.items():
        ends = np.cumsum(array.chunksizes[dim]) // size * size
        ends[-1] = array.sizes[dim]
        cut[dim] = tuple(int(part) for part in np.diff(ends, prepend=0) if part)
    return array.chunk(cut)


def apply_to_bins(
    kernel: Callable[..., Any],
    array: xr.DataArray,
    *beside: xr.DataArray,
    bins: Mapping[str, int],
    dtype: np.typing.DTypeLike,
    **options: Any,
) -> xr.DataArray:
    """Map ``kernel(block, *beside, bins by axis)``, which makes one sample of a bin, over blocks.

    All arrays have the same dimensions. The result has the coordinates of dimensions without bins.
    """
    inside = {dim: size for dim, size in bins.items() if dim in array.dims}
    arrays = [trimmed(one.transpose(*array.dims), inside) for one in (array, *beside)]
    by_axis = {array.dims.index(dim): size for dim, size in inside.items()}
    first, dtype = next(filter(is_lazy, arrays), arrays[0]), np.dtype(dtype)
    if not is_lazy(first):
        data = kernel(*(one.values for one in arrays), by_axis, **options)
    else:
        chunks = tuple(
            tuple(part // by_axis.get(axis, 1) for part in cut)
            for axis, cut in enumerate(first.data.chunks)
        )
        blocks = [one.chunk(first.chunksizes).data for one in arrays]
        data = da.map_blocks(
            _binned, *blocks, kernel=kernel, bins=by_axis, **options, chunks=chunks,
            dtype=dtype, meta=np.empty((0,) * first.ndim, dtype), token=kernel.__name__,
        )  # fmt: skip
    kept = {name: axis for name, axis in array.coords.items() if not set(axis.dims) & set(inside)}
    return xr.DataArray(data, dims=array.dims, coords=kept, name=array.name, attrs=array.attrs)


def _binned(*blocks: np.ndarray, kernel: Callable[..., Any], bins: Any, **options: Any) -> Any:
    return kernel(*blocks, bins, **options)
