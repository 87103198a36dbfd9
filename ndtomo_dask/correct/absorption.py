"""Absorption in the sample itself: what a ray loses between the beam and the detector."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, planned_sinogram
from ndtomo_dask.attenuation import absorbing_map, rays_through
from ndtomo_dask.correct.correction import correct_blocks, correct_variance
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.corrections import sinogram as kernel
from ndtomo_dask.kernels.projectors import MODEL, load_projector
from ndtomo_dask.schema import label, require, step_of
from ndtomo_dask.variables import SINOGRAM, TRANSMISSION

LEAST = 1e-3
"""Transmission below which there is nothing left to correct."""


def absorption_correction(ds: xr.Dataset, *, attenuation: xr.Dataset | None = None) -> xr.Dataset:
    """Divide each ray by the share of it that the sample lets through.

    At small angles the beam and what it scatters take one and the same way, so all that is
    scattered on a ray is weakened alike, by its transmission T = exp(-∫ μ ds), and I / T is a line
    integral (the model of Hogan, Gonsalves & Krieger, IEEE Trans. Nucl. Sci. 38, 1721 (1991), for
    an exit along the beam). It is not meant for large angles, nor for fluorescence that is seen
    from the side: there each pixel is weakened by its own way out (`self_absorption_correction`).

    Parameters
    ----------
    ds
        A scan with ``sinogram``, and ``transmission ([z,] angle, translation)`` of the same rays,
        1 beside the sample, unless ``attenuation`` is given.
    attenuation
        A dataset with ``attenuation ([z,] y, x)``, μ in 1/mm (or what its ``units`` say): it is
        projected onto the rays of the scan. Its grid must hold the whole sample.

    Returns
    -------
        ``ds`` with the corrected ``sinogram``, and its variance divided by T². Where T is below
        0.001 or not finite, samples are NaN.

    Raises
    ------
    SchemaError
        Neither a transmission nor an attenuation is known, or it is of other rays.
    """
    verb = "absorption_correction"
    sinogram = planned_sinogram(ds, verb)
    if attenuation is None:
        if TRANSMISSION.name not in ds:
            raise SchemaError(
                f"{verb} needs 'transmission', which the scan does not have: "
                f"ds.assign(transmission=(('angle', 'translation'), values)), or pass a dataset "
                f"with 'attenuation'."
            )
        transmission = require(ds, TRANSMISSION, verb=verb)
    else:
        transmission = _projected(ds, attenuation, verb)
    corrected = correct_blocks(divide_transmission_block, sinogram, transmission)
    made = {SINOGRAM: corrected}
    made |= correct_variance(ds, verb, divide_variance_block, transmission)
    source = "transmission" if attenuation is None else "attenuation"
    return label(ds, made, step=verb, source=source)


def _projected(ds: xr.Dataset, attenuation: xr.Dataset, verb: str) -> xr.DataArray:
    """Transmission of the rays of a scan through a map of attenuation."""
    geometry, step = rays_through(ds, attenuation, verb=verb), step_of(ds, "translation")
    image = absorbing_map(attenuation, pixel=step * geometry.pixel_size, verb=verb)
    shape = {"angle": geometry.angles.size, "translation": geometry.translations}
    found = apply_kernel(
        transmission_block, image, core=["y", "x"], out=shape,
        geometry=geometry, step=step,
    )  # fmt: skip
    return found.drop_vars([name for name in found.coords if name not in found.dims])


def transmission_block(
    attenuation: np.ndarray, *, geometry: ParallelGeometry, step: float
) -> np.ndarray:
    """Transmission of rays through a map in 1/mm, (y, x) -> (angle, translation)."""
    paths = np.asarray(load_projector("cpu", geometry, MODEL)(attenuation[..., None]))[..., 0]
    return np.asarray(np.exp(-paths * paths.dtype.type(step)))


def divide_transmission_block(block: np.ndarray, transmission: np.ndarray) -> np.ndarray:
    """Divide by a transmission, (angle, translation, channel), (angle, translation)."""
    return kernel.divide_projections(block, _usable(transmission))


def divide_variance_block(variance: np.ndarray, transmission: np.ndarray) -> np.ndarray:
    """Divide a variance by a transmission squared; shapes as for `divide_transmission_block`."""
    return kernel.divide_projections(variance, _usable(transmission) ** 2)


def _usable(transmission: np.ndarray) -> np.ndarray:
    known = np.isfinite(transmission) & (transmission >= LEAST)
    return np.where(known, transmission, np.nan)
