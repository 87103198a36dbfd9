"""Bins: several samples made one, and spectra brought onto another axis."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled

Array = NDArray[np.number | np.bool_]
Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Overlaps(NamedTuple):
    """Which channels fall into which bin, and with what share: bin ``j`` has ``first[j:j + 2]``."""

    first: Int64
    channel: Int64
    share: Float64


def bin_sum(block: Array, bins: Mapping[int, int]) -> Float64:
    """Sum neighboring samples, ``bins[axis]`` at a time; NaN counts as nothing.

    The samples of a bin are added in one order, whatever the block. Extents must be multiples.

    >>> bin_sum(np.array([1.0, 2.0, np.nan, 4.0]), {0: 2})
    array([3., 4.])
    """
    total = np.nan_to_num(np.asarray(block, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    for axis, size in bins.items():
        lines = np.moveaxis(total, axis, 0)
        summed = lines[::size].copy()
        for place in range(1, size):
            summed += lines[place::size]
        total = np.moveaxis(summed, 0, axis)
    return total


def bin_block(block: Float, bins: Mapping[int, int], *, mean: bool) -> Float:
    """Sum, or average, neighboring samples; those that are not finite are made up for by the rest.

    A bin without a finite sample is NaN. float32 and float64 come back as they came.
    """
    made = _empty(block, bins)
    for inside, out in _slabs(block, bins):
        made[out] = _binned(block[inside], bins, mean)
    return made


def _binned(block: Float, bins: Mapping[int, int], mean: bool) -> Float64:
    known = bin_sum(np.isfinite(block), bins)
    whole = 1.0 if mean else float(np.prod(list(bins.values())))
    total = bin_sum(block, bins)
    return np.asarray(
        np.divide(total * whole, known, out=np.full(total.shape, np.nan), where=known > 0)
    )


def _empty(block: Float, bins: Mapping[int, int]) -> Float:
    shape = [size // bins.get(axis, 1) for axis, size in enumerate(block.shape)]
    return np.empty(shape, dtype=block.dtype)


def _slabs(block: Float, bins: Mapping[int, int]) -> Iterator[tuple[slice, slice]]:
    """Cut a block along its first axis: bins are summed in double precision, in little memory."""
    size = bins.get(0, 1)
    for place in range(block.shape[0] // size):
        yield slice(place * size, (place + 1) * size), slice(place, place + 1)


def bin_variance(variance: Float, block: Float, bins: Mapping[int, int], *, mean: bool) -> Float:
    """Variance of what `bin_block` makes of a block of independent samples."""
    made = _empty(variance, bins)
    for inside, out in _slabs(variance, bins):
        made[out] = _binned_variance(variance[inside], block[inside], bins, mean)
    return made


def _binned_variance(variance: Float, block: Float, bins: Mapping[int, int], mean: bool) -> Float64:
    finite = np.isfinite(block)
    known = bin_sum(finite, bins)
    whole = 1.0 if mean else float(np.prod(list(bins.values())))
    total = bin_sum(np.where(finite, variance, 0.0), bins)
    lost = bin_sum(finite & ~np.isfinite(variance), bins)
    good = (known > 0) & (lost == 0)
    scale = np.divide(whole, known, out=np.zeros(total.shape), where=known > 0)
    return np.where(good, total * scale**2, np.nan)


def edges_between(centers: Float64) -> Float64:
    """Edges of bins whose centers are given: midway between two, and as far beyond the ends.

    >>> edges_between(np.array([1.0, 2.0, 4.0]))
    array([0.5, 1.5, 3. , 5. ])
    """
    if centers.size == 1:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([
        [2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]],
    ])  # fmt: skip


def overlaps(old: Float64, new: Float64, *, mean: bool) -> Overlaps:
    """Share of each old bin in each new one, from their edges, in any order each.

    Of counts, the part of the old bin that lies in the new one, so that their sum is conserved
    inside the new range; with ``mean``, the part of the new bin that the old one covers.
    """
    source = np.sort(np.stack([old[:-1], old[1:]]), axis=0)
    target = np.sort(np.stack([new[:-1], new[1:]]), axis=0)
    first, channels, shares = [0], [], []
    for low, high in target.T:
        width = np.minimum(source[1], high) - np.maximum(source[0], low)
        inside = np.flatnonzero(width > 0)
        whole = (high - low) if mean else (source[1] - source[0])[inside]
        channels.append(inside)
        shares.append(width[inside] / whole)
        first.append(first[-1] + inside.size)
    return Overlaps(np.array(first), np.concatenate(channels), np.concatenate(shares))


def rebin_spectra(spectra: Float, parts: Overlaps, *, mean: bool) -> Float:
    """Bring spectra onto other bins, (spectrum, channel) -> (spectrum, bin).

    Samples that are not finite are made up for by the rest of their bin; a bin of which nothing is
    known is NaN.
    """
    made = np.empty((len(spectra), parts.first.size - 1), dtype=spectra.dtype)
    _add_parts(spectra, parts.first, parts.channel, parts.share, mean, made)
    return made


def rebin_variance(variance: Float, spectra: Float, parts: Overlaps, *, mean: bool) -> Float:
    """Variance of what `rebin_spectra` makes; neighbors that share a channel vary together."""
    made = np.empty((len(spectra), parts.first.size - 1), dtype=variance.dtype)
    _add_variances(variance, spectra, parts.first, parts.channel, parts.share, mean, made)
    return made


@compiled()
def _add_parts(
    spectra: Float, first: Int64, channel: Int64, share: Float64, mean: bool, made: Float
) -> None:
    for row in range(spectra.shape[0]):
        for place in range(made.shape[1]):
            total, known, whole = 0.0, 0.0, 0.0
            for part in range(first[place], first[place + 1]):
                value = spectra[row, channel[part]]
                whole += share[part]
                if np.isfinite(value):
                    total += share[part] * value
                    known += share[part]
            scale = (1.0 if mean else whole) / known if known > 0 else np.nan
            made[row, place] = total * scale


@compiled()
def _add_variances(
    variance: Float, spectra: Float, first: Int64, channel: Int64, share: Float64, mean: bool,
    made: Float,
) -> None:  # fmt: skip
    for row in range(spectra.shape[0]):
        for place in range(made.shape[1]):
            total, known, whole = 0.0, 0.0, 0.0
            for part in range(first[place], first[place + 1]):
                whole += share[part]
                if np.isfinite(spectra[row, channel[part]]):
                    total += share[part] ** 2 * variance[row, channel[part]]
                    known += share[part]
            scale = (1.0 if mean else whole) / known if known > 0 else np.nan
            made[row, place] = total * scale * scale


def mean_of_bins(values: Sequence[float] | Float64, size: int) -> Float64:
    """Mean of each ``size`` values in turn; those of an unfinished bin are left out.

    >>> mean_of_bins(np.array([0.0, 1.0, 2.0, 3.0, 9.0]), 2)
    array([0.5, 2.5])
    """
    given = np.asarray(values, dtype=np.float64)
    count = given.size // size
    return np.asarray(given[: count * size].reshape(count, size).mean(axis=1))
