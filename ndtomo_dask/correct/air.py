"""Scatter of the air: what a beam sees beside the sample."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, detached, planned_sinogram
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.correct.correction import Side, correct_blocks, given_estimate
from ndtomo_dask.kernels.corrections import sinogram as kernel
from ndtomo_dask.schema import label, without_masked
from ndtomo_dask.variables import AIR, SINOGRAM


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
    ``sinogram_variance`` stays as it is: the noise of the estimate, a mean over many samples, is
    neglected. It is not small with ``method="projection"``, where few samples are averaged.
    """
    sinogram = planned_sinogram(ds, "remove_air", whole=["translation"])

    estimate = (
        _air(without_masked(ds, detached(sinogram), verb="remove_air"), width, side, method)
        if air is None
        else given_estimate(air, AIR, sinogram, "remove_air")
    )

    corrected = correct_blocks(subtract_air_block, sinogram, estimate)

    options = {"width": width, "side": side, "method": method}
    return label(ds, {SINOGRAM: corrected}, step="remove_air", **options)


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
