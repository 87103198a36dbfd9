"""Corrections of sinograms, and the estimates that they apply.

A correction is lazy and leaves its input alone. What it needs to know of the whole scan has a
``find_`` twin that computes it once; a correction that is not given that estimate works it out
along the way, at the price of reading the data once more.
"""

from ndtomo_dask.correct.absorption import absorption_correction
from ndtomo_dask.correct.air import find_air, remove_air
from ndtomo_dask.correct.background import subtract_background
from ndtomo_dask.correct.bins import rebin, rebin_axis
from ndtomo_dask.correct.circle import mask_circle
from ndtomo_dask.correct.extent import crop, pad
from ndtomo_dask.correct.flux import (
    find_projection_scale,
    normalize_monitor,
    normalize_projections,
)
from ndtomo_dask.correct.masks import find_bad_channels, interpolate_masked, mask_channels
from ndtomo_dask.correct.outliers import remove_outliers
from ndtomo_dask.correct.rings import remove_rings
from ndtomo_dask.correct.self_absorption import self_absorption_correction
from ndtomo_dask.correct.translations import find_translation_scale, normalize_translations
from ndtomo_dask.correct.transmission import flat_field

__all__ = [
    "absorption_correction",
    "crop",
    "find_air",
    "find_bad_channels",
    "find_projection_scale",
    "find_translation_scale",
    "flat_field",
    "interpolate_masked",
    "mask_channels",
    "mask_circle",
    "normalize_monitor",
    "normalize_projections",
    "normalize_translations",
    "pad",
    "rebin",
    "rebin_axis",
    "remove_air",
    "remove_outliers",
    "remove_rings",
    "self_absorption_correction",
    "subtract_background",
]
