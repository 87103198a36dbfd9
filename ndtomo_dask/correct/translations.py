"""Gains of translations: what a position across the beam counts too much in all channels."""

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, is_lazy, planned_sinogram, sizes_of
from ndtomo_dask.coarse_blocks import apply_to_bins
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.correct.correction import correct_blocks, correct_variance, given_estimate
from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.corrections import sinogram as kernel
from ndtomo_dask.kernels.corrections import translation_gains as gains
from ndtomo_dask.scan_geometry import geometry_of
from ndtomo_dask.schema import label, valid_mask
from ndtomo_dask.variables import ANGLE, CHANNEL, MASK, SINOGRAM, TRANSLATION, TRANSLATION_SCALE


def find_translation_scale(
    ds: xr.Dataset,
    *,
    strength: float = 0.05,
    drift: bool = True,
    groups: int = gains.GROUPS,
    passes: int = gains.PASSES,
) -> xr.Dataset:
    """Find what each translation counts too much or too little, in all channels alike.

    Such gains make stripes in a sinogram and rings in its images. They are found together with
    images of some channels: what all channels share, what follows no pixel through the angles, and
    what would give the sample edges along circles, is a gain (after Paleo & Mirone, J. Synchrotron
    Rad. 22, 1268 (2015)). The data are read once, and summed to groups of neighboring channels.

    Parameters
    ----------
    ds
        A scan with ``sinogram`` and ``angle``, without air, its projections normalized and its
        rotation center set: rays that pass elsewhere would be taken for gains.
    strength
        Standard deviation that gains are expected to have.
    drift
        Whether gains may change from the first projection to the last, linearly, and about half as
        much as they differ.
    groups
        Groups of channels that are told apart, at least; those that do not fill one are left out.
    passes
        How often images and gains are made again, at most: they end when gains have settled. With
        few, gains come out too small.

    Returns
    -------
        ``translation_scale ([z,] angle, translation)``, for each slice by itself; its mean,
        weighted by what each translation tells, is 1. Where nothing was measured it is 1.

    Notes
    -----
    A ring of the sample about the axis, such as a capillary, is told from a gain by ``strength``
    alone. Gains that differ from channel to channel are for `remove_rings`. A ray with a sample
    that is NaN, or masked by itself, tells nothing; channels that are masked as a whole are left
    out.
    """
    _check_options(strength, groups, passes)
    sinogram = planned_sinogram(ds, "find_translation_scale")
    geometry = geometry_of(ds, verb="find_translation_scale")

    _check_memory(sinogram, groups)
    width = max(1, sinogram.sizes[CHANNEL] // groups)

    summed = apply_to_bins(
        gains.sum_channels, _unmasked(ds, sinogram), bins={CHANNEL: width}, dtype="float32"
    )
    scale = apply_kernel(
        gains_block, summed, core=[ANGLE, TRANSLATION, CHANNEL],
        out={dim: summed.sizes[dim] for dim in (ANGLE, TRANSLATION)}, dtype="float64",
        geometry=geometry, strength=strength, drift=drift, passes=passes,
    )  # fmt: skip
    (scale,) = compute_arrays([scale], "find translation scale")

    options = {"strength": strength, "drift": drift, "groups": groups, "passes": passes}
    return label(xr.Dataset(), {TRANSLATION_SCALE: scale}, step="find_translation_scale", **options)


def normalize_translations(ds: xr.Dataset, scale: xr.Dataset) -> xr.Dataset:
    """Divide every ray by the gain of its translation.

    ``scale`` is what `find_translation_scale` returned, or a dataset with gains as a standard
    across the beam gave them: ``translation_scale ([z,] [angle,] translation)``.
    ``sinogram_variance`` is divided by the squared gain; the noise of the gain is neglected.
    """
    sinogram = planned_sinogram(ds, "normalize_translations")

    estimate = _given(scale, sinogram)

    made = {SINOGRAM: correct_blocks(divide_block, sinogram, estimate)}
    made |= correct_variance(ds, "normalize_translations", divide_variance_block, estimate)

    return label(ds, made, step="normalize_translations")


def gains_block(
    groups: np.ndarray, *, geometry: ParallelGeometry, strength: float, drift: bool, passes: int
) -> np.ndarray:
    """Find the gains of a slice, (angle, translation, group) -> (angle, translation)."""
    return gains.translation_gains(groups, geometry, strength=strength, drift=drift, passes=passes)


def divide_block(block: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Divide rays by their gain, (angle, translation, channel), (angle, translation)."""
    return kernel.divide_projections(block, scale)


def divide_variance_block(variance: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Divide variances by the squared gain; shapes as for `divide_block`."""
    return kernel.divide_projections(variance, np.asarray(scale, dtype=np.float64) ** 2)


def _unmasked(ds: xr.Dataset, sinogram: xr.DataArray) -> xr.DataArray:
    """Set channels that are masked to 0, by which they add to no group, and masked rays to NaN."""
    if MASK.name not in ds:
        return sinogram
    mask = valid_mask(ds, verb="find_translation_scale")
    return sinogram.where(~mask, 0 if mask.dims == (CHANNEL,) else np.nan)


def _given(scale: xr.Dataset, sinogram: xr.DataArray) -> xr.DataArray:
    name = TRANSLATION_SCALE.name
    if name in getattr(scale, "data_vars", ()) and ANGLE not in scale[name].dims:
        scale = scale.assign({name: scale[name].expand_dims({ANGLE: sinogram.sizes[ANGLE]})})
    return given_estimate(scale, TRANSLATION_SCALE, sinogram, "normalize_translations")


def _check_options(strength: float, groups: int, passes: int) -> None:
    told = "find_translation_scale takes"
    if not 0 < strength < 1:
        raise OptionError(f"{told} strength={strength}; it must be between 0 and 1.")
    for name, count in {"groups": groups, "passes": passes}.items():
        if count < 1:
            raise OptionError(f"{told} {name}={count}; it must be 1 or more.")


def _check_memory(sinogram: xr.DataArray, groups: int) -> None:
    if is_lazy(sinogram):
        planned = plan.translation_gains(
            sizes_of(sinogram), groups, gains.COMPONENTS, allowed_mem=allowed_memory(None)
        )
        planned.checked("Pass fewer groups, or give workers more memory.")
