"""Flux: what the beam brought to each projection, and to each point."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, detached, is_lazy, planned_sinogram
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.correct.correction import correct_blocks, correct_variance, given_estimate
from ndtomo_dask.kernels.corrections import sinogram as kernel
from ndtomo_dask.schema import label, require, without_masked
from ndtomo_dask.variables import MONITOR, PROJECTION_SCALE, SINOGRAM


def find_projection_scale(ds: xr.Dataset, *, reference: str = "max") -> xr.Dataset:
    """Estimate the relative flux of each projection from its total counts.

    Returns ``projection_scale ([z,] angle)``; 1 is the ``reference``: the brightest projection
    (``"max"``), the ``"mean"`` or the ``"median"``. A projection without counts is NaN.
    """
    sinogram = planned_sinogram(ds, "find_projection_scale", ["translation"])
    scale = _scale(without_masked(ds, sinogram, verb="find_projection_scale"), reference)

    (scale,) = compute_arrays([scale], "find projection scale")

    step = "find_projection_scale"
    return label(xr.Dataset(), {PROJECTION_SCALE: scale}, step=step, reference=reference)


def normalize_projections(
    ds: xr.Dataset, scale: xr.Dataset | None = None, *, reference: str = "max"
) -> xr.Dataset:
    """Divide each projection by its total counts relative to the brightest one's.

    In a parallel beam the total does not depend on the angle, as long as the sample stays in the
    field of view and the air is removed; what varies is the flux. ``scale`` is what
    `find_projection_scale` returned. A projection without counts becomes NaN and is left out of
    the reconstruction. ``sinogram_variance`` is divided by the squared scale; the noise of the
    scale itself, a sum over many samples, is neglected.
    """
    sinogram = planned_sinogram(ds, "normalize_projections", ["translation"])

    estimate = (
        _scale(without_masked(ds, detached(sinogram), verb="normalize_projections"), reference)
        if scale is None
        else given_estimate(scale, PROJECTION_SCALE, sinogram, "normalize_projections")
    )

    made = {SINOGRAM: correct_blocks(divide_block, sinogram, estimate)}
    made |= correct_variance(ds, "normalize_projections", divide_variance_block, estimate)

    return label(ds, made, step="normalize_projections", reference=reference)


def _scale(sinogram: xr.DataArray, reference: str) -> xr.DataArray:
    sums = apply_kernel(sums_block, sinogram, core=["translation"], out={}, dtype="float64")
    sizes = {"angle": sums.sizes["angle"]}
    return apply_kernel(
        scale_block,
        sums,
        core=["angle", "channel"],
        out=sizes,
        reference=reference,
    )


def sums_block(block: np.ndarray) -> np.ndarray:
    """Sum over translations, (angle, translation, channel) -> (angle, channel)."""
    return kernel.projection_sums(block)


def scale_block(sums: np.ndarray, *, reference: kernel.Reference) -> np.ndarray:
    """Relative flux from sums over translations, (angle, channel) -> (angle,)."""
    return kernel.projection_scale(kernel.projection_totals(sums), reference=reference)


def divide_block(block: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Divide projections by their scale, (angle, translation, channel), (angle[, translation])."""
    return kernel.divide_projections(block, scale)


def divide_variance_block(variance: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Divide variances by the squared scale; shapes as for `divide_block`."""
    return kernel.divide_projections(variance, np.asarray(scale, dtype=np.float64) ** 2)


def normalize_monitor(ds: xr.Dataset) -> xr.Dataset:
    """Divide every point by the incident flux measured with it, relative to the largest.

    Needs ``monitor ([z,] angle, translation)``. Points whose monitor is zero, negative or NaN
    become NaN. ``sinogram_variance`` is divided by the squared flux; the noise of the monitor is
    neglected.
    """
    sinogram = planned_sinogram(ds, "normalize_monitor")
    monitor = require(ds, MONITOR, verb="normalize_monitor")

    relative = _relative_flux(monitor)

    made = {SINOGRAM: correct_blocks(divide_block, sinogram, relative)}
    made |= correct_variance(ds, "normalize_monitor", divide_variance_block, relative)

    return label(ds, made, step="normalize_monitor")


def _relative_flux(monitor: xr.DataArray) -> xr.DataArray:
    """Incident flux over its greatest value, of all slices, so that these stay comparable."""
    if not is_lazy(monitor):
        return monitor.copy(data=kernel.monitor_scale(monitor.values))
    flux = monitor.astype("float64")
    alive = flux.where(np.isfinite(flux) & (flux > 0))
    return alive / alive.max()
