"""Outliers: hot samples, and reflections of single crystals that one projection shows."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, planned_sinogram
from ndtomo_dask.correct.correction import correct_blocks, correct_variance, mask_beside
from ndtomo_dask.errors import check_choice
from ndtomo_dask.kernels.corrections import outliers
from ndtomo_dask.kernels.gaps import kept_samples
from ndtomo_dask.schema import floating, label, require
from ndtomo_dask.variables import REPLACED_SAMPLES, SINOGRAM, SINOGRAM_VARIANCE

_RAYS = ("angle", "translation")


def remove_outliers(
    ds: xr.Dataset,
    *,
    method: Literal["angle", "percentile"] = "angle",
    width: int = 2,
    threshold: float = 6.0,
    kind: outliers.Kind = "high",
    percentiles: tuple[float, float] = (0.1, 99.9),
    fill: Literal["estimate", "nan"] = "estimate",
) -> xr.Dataset:
    """Replace hot samples and spots of single crystals, which would become streaks.

    What the sample contains is seen in the projections before and after as well, at most a
    translation aside. A sample that is brighter than its neighbors in angle, which do not show the
    like, is an outlier.

    Parameters
    ----------
    ds
        A scan with ``sinogram``, whole along angle and translation.
    method
        ``"angle"``: against the median of the neighbors in angle, as above; ``"percentile"``:
        samples beyond ``percentiles`` of their channel, whatever they are.
    width
        Neighbors in angle, on either side. A spot may last half of that.
    threshold
        Times the noise that a sample must stand out. The noise is the scatter of the neighbors, or
        of all angles of that ray, or the root of ``sinogram_variance``, whichever is largest.
    kind
        ``"high"``, ``"low"`` or ``"both"``.
    percentiles
        Of each channel over all angles and translations.
    fill
        ``"estimate"``: the median of the neighbors, or the percentile; ``"nan"``.

    Returns
    -------
        The scan with ``sinogram`` corrected and ``replaced_samples ([z,] channel)``, how many.
        ``sinogram_variance`` is NaN where a sample was replaced: it has no weight.
    """
    sinogram = planned_sinogram(ds, "remove_outliers", _RAYS)
    check_choice("method", method, ("angle", "percentile"))
    check_choice("fill", fill, ("estimate", "nan"))
    low, high = percentiles
    outliers.check_options(width, threshold, kind, (low, high))

    options: dict[str, Any] = {"keep_nan": fill == "nan"}
    mask, where = mask_beside(ds, "remove_outliers")
    beside = list(mask)
    if method == "percentile":
        options["percentiles"] = (low, high)
    else:
        options |= {"width": width, "threshold": threshold, "kind": kind}
        if SINOGRAM_VARIANCE.name in ds:
            beside.append(require(ds, SINOGRAM_VARIANCE, verb="remove_outliers"))
    corrected = correct_blocks(
        remove_outliers_block, sinogram, *beside, masked=bool(mask), **where, **options
    )
    made = {SINOGRAM: corrected, REPLACED_SAMPLES: _count(corrected, sinogram)}
    made |= correct_variance(ds, "remove_outliers", blank_block, sinogram, corrected)

    told = {name: value for name, value in options.items() if name != "keep_nan"}
    return label(ds, made, step="remove_outliers", method=method, fill=fill, **told)


def _count(corrected: xr.DataArray, sinogram: xr.DataArray) -> xr.DataArray:
    counted = apply_kernel(
        count_replaced_block, corrected, sinogram, core=_RAYS, out={}, dtype="int64"
    )
    return counted.drop_attrs()


def remove_outliers_block(
    block: np.ndarray,
    *beside: np.ndarray,
    masked: bool,
    mask_dims: Sequence[int] = (),
    **options: Any,
) -> np.ndarray:
    """Replace outliers, (angle, translation, channel) -> the same; beside: mask, variance."""
    values = block.astype(floating(block.dtype), copy=False)
    mask, rest = (beside[0], beside[1:]) if masked else (None, beside)
    kept = kept_samples(values, mask, mask_dims)
    if "percentiles" in options:
        return outliers.clip_percentiles(values, kept, **options)
    return outliers.replace_outliers(values, kept, *rest, **options)


def count_replaced_block(corrected: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Count what a correction replaced, (angle, translation, channel) twice -> (channel,)."""
    replaced = outliers.changed(block.astype(corrected.dtype), corrected)
    return np.asarray(np.count_nonzero(replaced, axis=(0, 1)))


def blank_block(variance: np.ndarray, block: np.ndarray, corrected: np.ndarray) -> np.ndarray:
    """Set variances to NaN where a correction replaced samples; all of one shape."""
    return np.where(outliers.changed(block.astype(corrected.dtype), corrected), np.nan, variance)
