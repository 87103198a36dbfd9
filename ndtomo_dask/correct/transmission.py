"""Transmitted intensity turned into absorbance."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import planned_sinogram
from ndtomo_dask.correct.correction import Side, correct_blocks, correct_variance
from ndtomo_dask.kernels.corrections import sinogram as kernel
from ndtomo_dask.schema import label, require
from ndtomo_dask.variables import DARK, FLAT, SINOGRAM


def flat_field(ds: xr.Dataset, *, width: int = 2, side: Side = "both") -> xr.Dataset:
    """Turn transmitted intensity into absorbance, -log((I - dark) / (flat - dark)).

    Uses ``flat`` and ``dark ([z,] translation, channel)`` where the scan has them. A scan without
    flats is divided by its own edge: the mean of ``width`` translations at ``side``, which must lie
    beside the sample. Samples with no transmission left become NaN. By the Beer-Lambert law.
    ``sinogram_variance`` is divided by (I - dark)²; the noise of flats, darks and edges is
    neglected.
    """
    sinogram = planned_sinogram(ds, "flat_field", whole=["translation"])

    kernel.check_edges(sinogram.sizes["translation"], width, side)
    if "flat" in ds:
        flat = require(ds, FLAT, verb="flat_field")
        dark = require(ds, DARK, verb="flat_field") if "dark" in ds else xr.zeros_like(flat)
        absorbance = correct_blocks(absorbance_block, sinogram, flat, dark)
        beside: tuple[xr.DataArray, ...] = (sinogram, flat, dark)
    else:
        absorbance = correct_blocks(edge_absorbance_block, sinogram, width=width, side=side)
        beside = (sinogram,)

    made = {SINOGRAM: absorbance.assign_attrs(units="1", long_name="absorbance")}
    made |= correct_variance(ds, "flat_field", absorbance_variance_block, *beside, units="1")
    return label(ds, made, step="flat_field", width=width, side=side)


def absorbance_block(block: np.ndarray, flat: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """Absorbance by flats and darks, (angle, translation, channel) twice (translation, channel)."""
    return kernel.absorbance(block, flat, dark)


def edge_absorbance_block(block: np.ndarray, *, width: int, side: Side) -> np.ndarray:
    """Absorbance by the edge of each projection, (angle, translation, channel)."""
    return kernel.absorbance(block, kernel.flat_from_edges(block, width=width, side=side))


def absorbance_variance_block(
    variance: np.ndarray,
    block: np.ndarray,
    flat: np.ndarray | None = None,
    dark: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Variance of the absorbance; shapes as for `absorbance_block`, the variance first."""
    return kernel.absorbance_variance(variance, block, 1.0 if flat is None else flat, dark)
