"""Corrections of sinograms, and the estimates that they apply.

A correction is lazy and leaves its input alone. What it needs to know of the whole scan has a
``find_`` twin that computes it once; a correction that is not given that estimate works it out
along the way, at the price of reading the data once more.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, detached, is_lazy, planned_sinogram
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels import sinogram as kernel
from ndtomo_dask.schema import (
    AIR,
    DARK,
    FLAT,
    MONITOR,
    PROJECTION_SCALE,
    SINOGRAM,
    Variable,
    floating,
    label,
    require,
    without_masked,
)

Side = Literal["both", "first", "last"]


def find_air(
    ds: xr.Dataset, *, width: int = 2, side: Side = "both", method: str = "separable"
) -> xr.Dataset:
    """Estimate the scatter of the beam's path beside the sample.

    Parameters
    ----------
    ds
        A scan with ``sinogram``.
    width
        Translations at the edge of the scan that see air only.
    side
        Which edge: ``"both"``, ``"first"`` or ``"last"``.
    method
        ``"separable"``: one spectrum times the flux of each projection; ``"channel"``: one number
        per channel; ``"projection"``: each projection by itself, which is noisy.

    Returns
    -------
        ``air ([z,] angle, channel)``.
    """
    sinogram = planned_sinogram(ds, "find_air", whole=["translation"])
    air = _air(without_masked(ds, sinogram, verb="find_air"), width, side, method)

    (air,) = compute_arrays([air], "find air")

    return label(xr.Dataset(), {AIR: air}, step="find_air", width=width, side=side, method=method)


def remove_air(
    ds: xr.Dataset,
    air: xr.Dataset | None = None,
    *,
    width: int = 2,
    side: Side = "both",
    method: str = "separable",
) -> xr.Dataset:
    """Subtract the scatter of the beam's path beside the sample from every projection.

    ``air`` is what `find_air` returned; without it the estimate is made with the other options.
    """
    sinogram = planned_sinogram(ds, "remove_air", whole=["translation"])

    estimate = (
        _air(without_masked(ds, detached(sinogram), verb="remove_air"), width, side, method)
        if air is None
        else _given(air, AIR, sinogram, "remove_air")
    )

    corrected = _corrected(subtract_air_block, sinogram, estimate)

    options = {"width": width, "side": side, "method": method}
    return label(ds, {SINOGRAM: corrected}, step="remove_air", **options)


def _given(
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


def _corrected(
    block: Callable[..., np.ndarray],
    sinogram: xr.DataArray,
    *beside: xr.DataArray,
    **options: Any,
) -> xr.DataArray:
    """Apply a correction that leaves the unit of the data as it was."""
    corrected = apply_kernel(block, sinogram, *beside, dtype=floating(sinogram.dtype), **options)
    return corrected.assign_attrs(sinogram.attrs)


def _air(sinogram: xr.DataArray, width: int, side: Side, method: str) -> xr.DataArray:
    kernel.check_edges(sinogram.sizes["translation"], width, side)
    edges = apply_kernel(
        edge_mean_block,
        sinogram,
        core=["translation"],
        out={},
        dtype="float64",
        width=width,
        side=side,
    )
    sizes = {dim: edges.sizes[dim] for dim in ("angle", "channel")}
    return apply_kernel(air_model_block, edges, core=list(sizes), out=sizes, method=method)


def edge_mean_block(block: np.ndarray, *, width: int, side: Side) -> np.ndarray:
    """Mean over the edge translations, (angle, translation, channel) -> (angle, channel)."""
    return kernel.air_mean(*kernel.air_partial(block, width=width, side=side))


def air_model_block(edges: np.ndarray, *, method: kernel.AirMethod) -> np.ndarray:
    """Air of each projection and channel, (angle, channel) -> (angle, channel)."""
    return kernel.air_model(edges, method=method)


def subtract_air_block(block: np.ndarray, air: np.ndarray) -> np.ndarray:
    """Subtract air, (angle, translation, channel), (angle, channel) -> the former."""
    return kernel.subtract_air(block, air)


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
    the reconstruction.
    """
    sinogram = planned_sinogram(ds, "normalize_projections", ["translation"])

    estimate = (
        _scale(without_masked(ds, detached(sinogram), verb="normalize_projections"), reference)
        if scale is None
        else _given(scale, PROJECTION_SCALE, sinogram, "normalize_projections")
    )

    corrected = _corrected(divide_block, sinogram, estimate)

    return label(ds, {SINOGRAM: corrected}, step="normalize_projections", reference=reference)


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


def normalize_monitor(ds: xr.Dataset) -> xr.Dataset:
    """Divide every point by the incident flux measured with it, relative to the largest.

    Needs ``monitor ([z,] angle, translation)``. Points whose monitor is zero, negative or NaN
    become NaN.
    """
    sinogram = planned_sinogram(ds, "normalize_monitor")
    monitor = require(ds, MONITOR, verb="normalize_monitor")

    relative = _relative_flux(monitor)

    corrected = _corrected(divide_block, sinogram, relative)

    return label(ds, {SINOGRAM: corrected}, step="normalize_monitor")


def _relative_flux(monitor: xr.DataArray) -> xr.DataArray:
    """Incident flux over its greatest value, of all slices, so that these stay comparable."""
    if not is_lazy(monitor):
        return monitor.copy(data=kernel.monitor_scale(monitor.values))
    flux = monitor.astype("float64")
    alive = flux.where(np.isfinite(flux) & (flux > 0))
    return alive / alive.max()


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
        absorbance = _corrected(absorbance_block, sinogram, flat, dark)
    else:
        absorbance = _corrected(edge_absorbance_block, sinogram, width=width, side=side)

    absorbance = absorbance.assign_attrs(units="1", long_name="absorbance")
    return label(ds, {SINOGRAM: absorbance}, step="flat_field", width=width, side=side)


def absorbance_block(block: np.ndarray, flat: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """Absorbance by flats and darks, (angle, translation, channel) twice (translation, channel)."""
    return kernel.absorbance(block, flat, dark)


def edge_absorbance_block(block: np.ndarray, *, width: int, side: Side) -> np.ndarray:
    """Absorbance by the edge of each projection, (angle, translation, channel)."""
    return kernel.absorbance(block, kernel.flat_from_edges(block, width=width, side=side))
