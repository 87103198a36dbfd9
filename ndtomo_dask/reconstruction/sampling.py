"""A bounded part of a scan from which one number can be found, the same whatever the blocks."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import xarray as xr

from ndtomo_dask.apply import sizes_of
from ndtomo_dask.byte_sizes import GB
from ndtomo_dask.errors import OptionError
from ndtomo_dask.variables import CHANNEL, LEADING

SAMPLE = 4 * GB
"""Bytes of a scan that are read to find one number, unless more are asked for."""
RUN = 16
"""Neighboring channels that are taken together, as they are stored."""
Part = int | Sequence[int] | None
"""How many, spread evenly; or the first and the one behind the last; or as many as are worth it."""


def sampled(
    array: xr.DataArray, *, channels: Part = None, slices: Part = None, verb: str
) -> xr.DataArray:
    """Select channels and slices: those asked for, or evenly spread ones of at most `SAMPLE` bytes.

    What is selected follows from the sizes alone, so it is the same in any blocks.
    """
    picked = picks(sizes_of(array), array.dtype.itemsize, channels, slices, verb=verb)
    for dim, ranges in picked.items():
        parts = [array.isel({dim: slice(*one)}) for one in ranges]
        array = parts[0] if len(parts) == 1 else xr.concat(parts, dim)
    return array


def picks(
    sizes: Mapping[str, int], itemsize: int, channels: Part, slices: Part, *, verb: str
) -> dict[str, list[tuple[int, int]]]:
    """Ranges of indices that are read along each dimension that is not read whole.

    >>> picks({"z": 8, "angle": 10**5, "translation": 100, "channel": 100}, 4, 16, 1, verb="find")
    {'z': [(4, 5)], 'channel': [(42, 58)]}
    """
    found: dict[str, list[tuple[int, int]]] = {}
    left = dict(sizes)
    for dim in (dim for dim in LEADING if dim in sizes):
        frame = prod(left.values()) // left[dim] * itemsize
        count = _wanted(slices, sizes[dim], max(1, SAMPLE // frame), f"{verb}: slices")
        found[dim] = _spread(count, sizes[dim], 1)
        left[dim] = sum(last - first for first, last in found[dim])
    one = prod(left.values()) // left[CHANNEL] * itemsize
    most = max(RUN, SAMPLE // one)
    found[CHANNEL] = _spread(_wanted(channels, sizes[CHANNEL], most, f"{verb}: channels"),
                             sizes[CHANNEL], RUN)  # fmt: skip
    return {dim: ranges for dim, ranges in found.items() if ranges != [(0, sizes[dim])]}


def _wanted(part: Part, size: int, usual: int, what: str) -> int | tuple[int, int]:
    if part is None:
        return min(size, usual)
    if isinstance(part, int) and not isinstance(part, bool):
        if part < 1:
            raise OptionError(f"{what}={part} must be 1 or more.")
        return min(size, part)
    limits = [] if isinstance(part, int | str) else [*part]
    if len(limits) != 2 or not 0 <= int(limits[0]) < int(limits[1]) <= size:
        raise OptionError(
            f"{what}={part!r} is neither a number nor a range of indices: pass 16, or (0, {size})."
        )
    return int(limits[0]), int(limits[1])


def _spread(count: int | tuple[int, int], size: int, run: int) -> list[tuple[int, int]]:
    """Cut ``count`` of ``size`` into runs, and spread these evenly."""
    if isinstance(count, tuple):
        return [count]
    if count >= size:
        return [(0, size)]
    runs = max(1, count // run)
    length = count // runs
    places = np.ceil((np.arange(runs) + 0.5) * (size / runs) - length / 2).astype(int)
    starts = np.clip(places, 0, size - length)
    return [(int(start), int(start) + length) for start in starts]
