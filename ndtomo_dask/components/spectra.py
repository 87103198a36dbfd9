"""The spectra that a verb was given: of one dataset or of several, and which of them count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.apply import reduce_kernel
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.schema import floating, require, variable_named
from ndtomo_dask.variables import CHANNEL, MASK

Data = xr.Dataset | Sequence[xr.Dataset]

PLACES = 3
"""Patches along each dimension of the pixels."""


@dataclass(frozen=True)
class Spectra:
    """The spectra of one dataset, or of several together."""

    verb: str
    datasets: tuple[xr.Dataset, ...]
    arrays: tuple[xr.DataArray, ...]
    """One of each dataset, in whole spectra; NaN where ``mask`` marks a pixel."""
    used: np.ndarray
    """Channels that ``mask`` does not mark."""
    masked: int
    """Spectra that ``mask`` marks."""

    @property
    def channels(self) -> int:
        """Channels of the data, used or not."""
        return int(self.used.size)

    @property
    def count(self) -> int:
        """Spectra of the data, finite or not."""
        return sum(array.size // max(1, self.channels) for array in self.arrays)


def spectra_of(ds: Data, variable: str, *, verb: str) -> Spectra:
    """Return the spectra that a verb was given, or say what is wrong with them."""
    datasets = (ds,) if isinstance(ds, xr.Dataset) else tuple(ds)
    if not datasets:
        raise SchemaError(f"{verb} needs a dataset, but was given an empty list.")
    about = variable_named(variable, verb=verb)
    arrays = [require(one, about, verb=verb, whole=[CHANNEL]) for one in datasets]
    channels = {array.sizes[CHANNEL] for array in arrays}
    if len(channels) > 1:
        raise SchemaError(
            f"{verb} was given datasets of {' and '.join(map(str, sorted(channels)))} channels. "
            f"Give it datasets with the same channels."
        )
    masks = [_mask_of(one, array) for one, array in zip(datasets, arrays, strict=True)]
    used = np.ones(channels.pop(), dtype=bool)
    for _, out in masks:
        used &= ~out
    kept = [
        array if mask is None else array.astype(floating(array.dtype)).where(~mask)
        for array, (mask, _) in zip(arrays, masks, strict=True)
    ]
    masked = sum(_count(mask, array) for array, (mask, _) in zip(arrays, masks, strict=True))
    return Spectra(verb, datasets, tuple(kept), used, masked)


def _mask_of(ds: xr.Dataset, array: xr.DataArray) -> tuple[xr.DataArray | None, np.ndarray]:
    """Return the pixels that are masked in some used channel, and the channels masked in all."""
    out = np.zeros(array.sizes[CHANNEL], dtype=bool)
    if MASK.name not in ds or not set(ds[MASK.name].dims) <= set(array.dims):
        return None, out
    mask = ds[MASK.name].astype(bool).compute().reset_coords(drop=True)
    if CHANNEL in mask.dims:
        out = mask.all([dim for dim in mask.dims if dim != CHANNEL]).values
        mask = mask[..., ~out].any(CHANNEL)
    return (mask if mask.dims else None), out


def _count(mask: xr.DataArray | None, array: xr.DataArray) -> int:
    if mask is None:
        return 0
    repeats = [size for dim, size in array.sizes.items() if dim not in (*mask.dims, CHANNEL)]
    return int(mask.sum()) * int(np.prod(repeats, dtype=int))


def thinned(spectra: Spectra, wanted: int) -> Spectra:
    """Take every so-manieth pixel along each dimension, so that about as many as wanted are left.

    Which they are does not depend on blocks; blocks that hold none are not read.
    """
    share = spectra.count / wanted
    return replace(spectra, arrays=tuple(_thinned(array, share) for array in spectra.arrays))


def _thinned(array: xr.DataArray, share: float) -> xr.DataArray:
    steps = {}
    dims = sorted((dim for dim in array.dims if dim != CHANNEL), key=lambda dim: array.sizes[dim])
    for left, dim in zip(range(len(dims), 0, -1), dims, strict=True):
        step = max(1, min(int(share ** (1 / left)), array.sizes[dim]))
        steps[dim] = slice(step // 2, None, step)
        share /= step
    return array.isel(steps)


def patches(spectra: Spectra, wanted: int) -> Spectra:
    """Take small patches of pixels spread over the data, about as many spectra as wanted.

    Which they are does not depend on blocks. Blocks without a patch are not read, which are most
    of a large image: a lattice, as of `thinned`, has pixels in all of them.
    """
    each = -(-wanted // len(spectra.arrays))
    return replace(spectra, arrays=tuple(_patches(array, each) for array in spectra.arrays))


def _patches(array: xr.DataArray, wanted: int) -> xr.DataArray:
    dims = sorted((dim for dim in array.dims if dim != CHANNEL), key=lambda dim: array.sizes[dim])
    width, where = wanted / prod(min(PLACES, array.sizes[dim]) for dim in dims), {}
    for left, dim in zip(range(len(dims), 0, -1), dims, strict=True):
        edge = max(1, min(round(width ** (1 / left)), array.sizes[dim])) if left <= 2 else 1
        where[dim] = _windows(array.sizes[dim], edge)
        width /= edge
    return array.isel(where)


def _windows(size: int, width: int) -> np.ndarray:
    """Return indices of a few windows, evenly spread.

    >>> _windows(60, 2)
    array([ 9, 10, 29, 30, 49, 50])
    """
    if PLACES * width >= size:
        return np.arange(size)
    middles = (2 * np.arange(PLACES)[:, None] + 1) * size // (2 * PLACES)
    return (middles - width // 2 + np.arange(width)).ravel()


def reduce_spectra(
    spectra: Spectra, partial: Any, combine: Any, description: str, **options: Any
) -> Any:
    """Reduce the spectra of all datasets, as `reduce_kernel` does those of one."""
    parts = [
        reduce_kernel(array, partial, combine, description=description, **options)
        for array in spectra.arrays
    ]
    return reduce(combine, parts)


def channel_coordinates(spectra: Spectra) -> dict[Any, xr.DataArray]:
    """Coordinates of the first dataset that lie on the channels, or on nothing."""
    coords = spectra.datasets[0].coords.items()
    return {name: axis for name, axis in coords if axis.dims in ((CHANNEL,), ())}


def as_rows(block: np.ndarray) -> np.ndarray:
    """Spectra as rows of real numbers, (…, channel) -> (pixel, channel)."""
    return np.asarray(block.reshape(-1, block.shape[-1]), dtype=floating(block.dtype))


def check_counts(named: Iterable[tuple[str, int]]) -> None:
    """Refuse counts below one."""
    for name, value in named:
        if value < 1:
            raise OptionError(f"{name}={value} must be 1 or more.")
