"""Transmitted intensity turned into absorbance."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import planned_sinogram
from ndtomo_dask.correct.correction import Side, correct_blocks
from ndtomo_dask.kernels import sinogram as kernel
from ndtomo_dask.schema import label, require
from ndtomo_dask.variables import DARK, FLAT, SINOGRAM


def flat_field(ds: xr.Dataset, *, width: int = 2, side: Side = "both") -> xr.Dataset:
    """Turn transmitted intensity into absorbance, -log((I - dark) / (flat - dark)).

    Uses ``flat`` and ``dark ([z,] translation, channel)`` where the scan has them. A scan without
    flats is divided by its own edge: the mean of ``width`` translations at ``side``, which must lie
    beside the sample. Samples with no transmission left become NaN. By the Beer-Lambert law.
    """
    sinogram = planned_sinogram(ds, "flat_field", whole=["translation"])

    kernel.check_edges(sinogram.sizes["translation"], width, side)
    if "flat" in ds:
        flat = require(ds, FLAT, verb="flat_field")
        dark = require(ds, DARK, verb="flat_field") if "dark" in ds else xr.zeros_like(flat)
        absorbance = correct_blocks(absorbance_block, sinogram, flat, dark)
    else:
        absorbance = correct_blocks(edge_absorbance_block, sinogram, width=width, side=side)

    absorbance = absorbance.assign_attrs(units="1", long_name="absorbance")
    return label(ds, {SINOGRAM: absorbance}, step="flat_field", width=width, side=side)


def absorbance_block(block: np.ndarray, flat: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """Absorbance by flats and darks, (angle, translation, channel) twice (translation, channel)."""
    return kernel.absorbance(block, flat, dark)


def edge_absorbance_block(block: np.ndarray, *, width: int, side: Side) -> np.ndarray:
    """Absorbance by the edge of each projection, (angle, translation, channel)."""
    return kernel.absorbance(block, kernel.flat_from_edges(block, width=width, side=side))
