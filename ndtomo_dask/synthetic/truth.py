"""The defects of a simulated scan, written beside it as they truly are."""

import math

import numpy as np
import xarray as xr

from ndtomo_dask.kernels.simulation.defects import (
    Defects,
    channel_states,
    draw_spots,
    missing_projections,
    stripe_gain,
)
from ndtomo_dask.variables import ANGLE, LEADING

SPOT_FIELDS = ("angle", "translation", "channel", "height")


def true_defects(ds: xr.Dataset, defects: Defects) -> xr.Dataset:
    """Add to the truth what `ndtomo_dask.kernels.simulation.defects` does to the data."""
    angles, translations = ds.sizes["angle"], ds.sizes["translation"]
    if defects.stripes:
        gain = stripe_gain(defects, angles, translations)
        ds = ds.assign(true_stripe_gain=(("angle", "translation"), gain))
    if defects.spots:
        ds = ds.assign(_true_spots(ds, defects))
    if defects.hot_channels or defects.dead_channels:
        states = channel_states(defects, ds.sizes["channel"])
        ds = ds.assign(true_channel_state=("channel", states))
    if defects.missing:
        ds = ds.assign(true_missing=("angle", missing_projections(defects, angles)))
    return ds


def _true_spots(ds: xr.Dataset, defects: Defects) -> dict[str, xr.Variable]:
    sizes = ds.sizes["angle"], ds.sizes["translation"], ds.sizes["channel"]
    lead = [dim for dim in LEADING if dim in ds.dims]
    shape = tuple(ds.sizes[dim] for dim in lead)
    drawn = [draw_spots(defects, *sizes, number) for number in range(math.prod(shape))]
    fields = {name: np.stack([getattr(spots, name) for spots in drawn]) for name in SPOT_FIELDS}
    return {
        f"true_spot_{name}": xr.Variable((*lead, "spot"), values.reshape(*shape, defects.spots))
        for name, values in fields.items()
    }


def projection_numbers(ds: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Give each projection of the whole scan its number, slice after slice."""
    dims = tuple(dim for dim in (*LEADING, ANGLE) if dim in ds.dims)
    shape = [ds.sizes[dim] for dim in dims]
    coords = {dim: ds[dim] for dim in dims if dim in ds.coords}
    return xr.DataArray(np.arange(np.prod(shape)).reshape(shape), dims=dims, coords=coords)
