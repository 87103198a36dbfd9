"""What corrections share: estimates checked, blocks mapped, units kept, variance carried.

A correction changes ``sinogram_variance`` with ``sinogram`` where a dataset has it: to first order
in the noise of a sample, and as if the estimate that is applied had none.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, is_lazy, sizes_of
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.schema import floating, require, valid_mask
from ndtomo_dask.variables import CHANNEL, MASK, SINOGRAM, SINOGRAM_VARIANCE, VOLUME, Variable

Side = Literal["both", "first", "last"]


def given_estimate(
    found: xr.Dataset, variable: Variable, sinogram: xr.DataArray, verb: str
) -> xr.DataArray:
    """Return an estimate that a ``find_`` verb made, if it is one of this scan."""
    estimate = require(found, variable, verb=verb)
    for dim, size in estimate.sizes.items():
        if sinogram.sizes.get(dim) != size:
            raise SchemaError(
                f"{verb} was given {variable.name!r} with {size} entries along {dim!r}, but the "
                f"sinogram has {sinogram.sizes.get(dim, 'none')}. Find it in the same scan."
            )
    return estimate


def correct_blocks(
    block: Callable[..., np.ndarray],
    sinogram: xr.DataArray,
    *beside: xr.DataArray,
    **options: Any,
) -> xr.DataArray:
    """Apply a correction that leaves the unit of the data as it was."""
    corrected = apply_kernel(block, sinogram, *beside, dtype=floating(sinogram.dtype), **options)
    return corrected.assign_attrs(sinogram.attrs)


def planned_volume(ds: xr.Dataset, verb: str) -> xr.DataArray:
    """Return the volume in whole spectra, if a verb can work on it in the memory allowed."""
    volume = require(ds, VOLUME, verb=verb, whole=[CHANNEL])
    if is_lazy(volume):
        itemsize = volume.dtype.itemsize
        planned = plan.correct(
            verb, sizes_of(volume), block_of(volume), itemsize, allowed_mem=allowed_memory(None)
        )
        planned.checked("Open the store in smaller blocks: open_scan(path, allowed_mem=...).")
    return volume


def mask_beside(ds: xr.Dataset, verb: str) -> tuple[list[xr.DataArray], dict[str, Any]]:
    """Return ``mask``, to stand beside the sinogram, and the option that says where it lies.

    A kernel hands both to `gaps.kept_samples`. Nothing and no option where the scan has no mask.
    """
    if MASK.name not in ds:
        return [], {}
    mask = valid_mask(ds, verb=verb)
    dims = [axis for axis, dim in enumerate(SINOGRAM.dims) if dim in mask.dims]
    return [mask], {"mask_dims": dims}


def correct_variance(
    ds: xr.Dataset,
    verb: str,
    block: Callable[..., np.ndarray],
    *beside: xr.DataArray,
    units: str | None = None,
    **options: Any,
) -> dict[Variable, xr.DataArray]:
    """Apply the rule of a correction for variances, or nothing where the scan has none.

    ``block`` and what stands ``beside`` are as for `correct_blocks`; ``units`` are new ones.
    """
    if SINOGRAM_VARIANCE.name not in ds:
        return {}
    variance = require(ds, SINOGRAM_VARIANCE, verb=verb)
    made = correct_blocks(block, variance, *beside, **options)
    return {SINOGRAM_VARIANCE: made if units is None else made.assign_attrs(units=units)}
