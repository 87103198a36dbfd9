"""Self-absorption: what a sample absorbs of the beam that excites it, and of what it emits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import (
    allowed_memory,
    apply_kernel,
    block_of,
    is_lazy,
    sizes_of,
    split_blocks,
)
from ndtomo_dask.attenuation import absorbing_maps, ratios_of, rays_through
from ndtomo_dask.correct.correction import correct_blocks, correct_variance, mask_beside
from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.gaps import kept_samples
from ndtomo_dask.kernels.self_absorption import (
    Absorber,
    Beam,
    EmissionProjector,
    Setup,
    emission_share,
)
from ndtomo_dask.schema import floating, label, require, step_of
from ndtomo_dask.variables import SINOGRAM

VERB = "self_absorption_correction"
LEAST = 1e-3
"""Share of the emission below which there is nothing left to correct."""


def self_absorption_correction(
    ds: xr.Dataset,
    *,
    attenuation: xr.Dataset | None = None,
    emitted: xr.Dataset | None = None,
    ratio: Any = 1.0,
    detector: float = 90.0,
    opening: float = 0.0,
    beam: Beam = "down",
    iterations: int = 3,
) -> xr.Dataset:
    """Make fluorescence as if nothing had been absorbed: the line integrals of what is emitted.

    A pixel is excited by what is left of the beam, exp(-∫ μ ds) from where it enters, and of what
    it emits that share leaves which the way to the detector lets through, exp(-∫ μ' ds). So a ray
    sums pixels times weights (Hogan, Gonsalves & Krieger, IEEE Trans. Nucl. Sci. 38, 1721 (1991)).
    Where in a ray its light comes from is found, channel by channel, by maximum likelihood with
    these weights; the ray is then divided by the mean weight of what it saw.

    Parameters
    ----------
    ds
        A scan with ``sinogram``, whole along angle and translation. Channels may be the areas of
        lines (`peak_moments`), which have more counts than channels of spectra, and are fewer.
    attenuation
        A dataset with ``attenuation ([z,] y, x)``, μ of the beam in 1/mm (or what its ``units``
        say), on a grid that holds the whole sample; by default that of ``ds``.
    emitted
        The same for what is emitted, on the same grid; by default that of the beam.
    ratio
        What ``emitted`` is multiplied by: a number, or one for each channel. Between edges μ falls
        about with the third power of the energy: (beam energy / line energy)³.
    detector
        Where the detector is, in degrees from the beam onwards: 90 is on the side of the last
        translations, -90 on that of the first, 0 where the beam goes, 180 where it comes from.
    opening
        Degrees that the detector spans in the plane of the slice; 0 for one that is small. What it
        spans above and below is taken to pass the same.
    beam
        In the image at angle 0, the beam goes ``"down"``, from the first row to the last, or
        ``"up"``. A scan mounted the other way round is the mirror image: try both.
    iterations
        Passes over the projections in search of where the light comes from.

    Returns
    -------
        ``ds`` with the corrected ``sinogram``, and its variance divided by the square of the mean
        weight. A ray of which less than 0.001 is seen is NaN.

    Raises
    ------
    SchemaError
        There is no attenuation, the maps are of other grids or slices, or the sinogram is split.
    OptionError
        ``ratio`` has not one number for each channel, or the detector is not a direction.

    Notes
    -----
    NaN and masked samples are left out of the search, and masked ones are divided like others.
    Scattered and secondary fluorescence is not modelled. Noise grows with what is divided by;
    ``reconstruct(ds, method="sirt", weighted=True)`` weighs it, where there is a variance.

    Examples
    --------
    >>> from ndtomo_dask import simulate_scan
    >>> ds = simulate_scan(size=16, angles=12, channels=4).load()
    >>> ds = ds.assign(attenuation=0.5 * (ds.true_phase_map.sum("phase") > 0))
    >>> made = self_absorption_correction(ds, ratio=3.0)
    >>> bool((made.sinogram >= ds.sinogram).all())
    True
    """
    sinogram = require(ds, SINOGRAM, verb=VERB, whole=["angle", "translation"])
    setup = Setup(float(detector), float(opening), beam)
    ratios = ratios_of(ratio, sinogram, verb=VERB)
    attenuation = ds if attenuation is None else attenuation
    geometry = rays_through(ds, attenuation, verb=VERB)
    pixel = step_of(ds, "translation") * geometry.pixel_size
    maps = absorbing_maps(sinogram, attenuation, emitted, pixel=pixel, verb=VERB)
    _check_iterations(iterations)
    sinogram = _fitting(sinogram, geometry)

    mask, where = mask_beside(ds, VERB)
    share = apply_kernel(
        share_block, sinogram, *maps, ratios, *mask, dtype=floating(sinogram.dtype),
        geometry=geometry, setup=setup, iterations=iterations, **where,
    )  # fmt: skip
    corrected = correct_blocks(divide_share_block, sinogram, share)

    made = {SINOGRAM: corrected}
    made |= correct_variance(ds, VERB, divide_variance_block, share)
    options = {"detector": setup.detector, "opening": setup.opening, "beam": beam}
    return label(ds, made, step=VERB, **options, iterations=iterations)


def _check_iterations(iterations: int) -> None:
    if iterations < 1:
        raise OptionError(f"iterations={iterations} of {VERB} must be 1 or more.")


def _fitting(sinogram: xr.DataArray, geometry: ParallelGeometry) -> xr.DataArray:
    """Cut blocks along the channels until a task fits the memory allowed."""
    if not is_lazy(sinogram):
        return sinogram
    planned = plan.self_absorption(
        sizes_of(sinogram), sinogram.dtype.itemsize, block=block_of(sinogram),
        grid=geometry.shape, allowed_mem=allowed_memory(None),
    )  # fmt: skip
    return split_blocks(sinogram, dict(planned.block))


def share_block(
    sinogram: np.ndarray,
    incident: np.ndarray,
    emitted: np.ndarray,
    ratios: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    geometry: ParallelGeometry,
    setup: Setup,
    iterations: int,
    mask_dims: Sequence[int] = (),
) -> np.ndarray:
    """Share of the emission of each ray that is seen, (angle, translation, channel) -> the same."""
    values = sinogram.astype(floating(sinogram.dtype), copy=False)
    kept = kept_samples(values, mask, mask_dims)
    beam, light = (np.maximum(one, 0).astype(np.float64) for one in (incident, emitted))
    A = EmissionProjector(geometry, Absorber(beam, light, setup), ratios)
    return emission_share(values, kept, A, iterations=iterations)


def divide_share_block(block: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Divide by a share of the same shape; NaN where next to nothing is seen."""
    usable = np.where(share >= LEAST, share, np.nan)
    return np.asarray(block.astype(share.dtype, copy=False) / usable)


def divide_variance_block(variance: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Divide a variance by a share squared; shapes as for `divide_share_block`."""
    return divide_share_block(divide_share_block(variance, share), share)
