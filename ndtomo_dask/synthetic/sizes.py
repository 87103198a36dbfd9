"""How large a simulated scan is: sizes that follow from bytes, and what making it will cost."""

import time
from math import ceil

import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, block_of, sizes_of
from ndtomo_dask.byte_sizes import parse_bytes
from ndtomo_dask.errors import OptionError
from ndtomo_dask.variables import LEADING

WIDEST, NARROWEST = 512, 32
"""Translations of a scan of terabytes, and of one of megabytes."""
LEAST_SLICES = 16
_BYTES = 24
"""Bytes of a slice of n translations, 3/2 n projections and 4 n channels, over n³."""


def scan_sizes(nbytes: int | str) -> dict[str, int]:
    """Choose the sizes of a scan that takes ``nbytes``, a number or words such as ``"1TB"``.

    Projections are 3/2 and channels 4 times the translations; there are as many slices as it takes.

    >>> scan_sizes("1TB")
    {'size': 512, 'angles': 768, 'channels': 2048, 'slices': 311}
    """
    wanted = parse_bytes(nbytes)
    if wanted < _BYTES * NARROWEST**3:
        raise OptionError(
            f"a scan of {nbytes} is too small to choose its sizes: give --size as a number of "
            f"translations, or 1MB or more."
        )
    fitting = round((wanted / (_BYTES * LEAST_SLICES)) ** (1 / 3))
    size = min(WIDEST, max(NARROWEST, fitting // 16 * 16))
    slices = ceil(wanted / (_BYTES * size**3))
    return {"size": size, "angles": 3 * size // 2, "channels": 4 * size, "slices": slices}


def plan_scan(ds: xr.Dataset) -> plan.Plan:
    """Plan the making and writing of a simulated scan: a block is a shard of projections."""
    sinogram = ds["sinogram"]
    sizes, block = sizes_of(sinogram), block_of(sinogram)
    itemsize = sinogram.dtype.itemsize
    return plan.save("simulate", sizes, block, itemsize, allowed_mem=allowed_memory(None))


def seconds_per_block(ds: xr.Dataset) -> float:
    """Make two blocks of a scan, and time the second: the first compiles, and draws the sample."""
    block = block_of(ds["sinogram"])
    first = ds["sinogram"].isel({dim: 0 for dim in LEADING if dim in ds["sinogram"].dims})
    rows = block["angle"]
    first.isel(angle=slice(rows)).compute()
    start = time.perf_counter()
    first.isel(angle=slice(-rows, None)).compute()
    return time.perf_counter() - start
