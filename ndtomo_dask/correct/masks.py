"""Channels that are left out, and samples that are filled from their neighbors."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, planned_sinogram
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.correct.correction import correct_blocks, correct_variance, mask_beside
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.corrections.channel_faults import channel_faults
from ndtomo_dask.kernels.corrections.interpolation import fill_along
from ndtomo_dask.kernels.gaps import kept_samples
from ndtomo_dask.schema import floating, label, require, without_masked
from ndtomo_dask.variables import (
    BAD_CHANNEL,
    CHANNEL,
    FILLED,
    LEADING,
    MASK,
    REPLACED_SAMPLES,
    SINOGRAM,
    Variable,
)

_RAYS = ("angle", "translation")


def find_bad_channels(ds: xr.Dataset, *, contrast: float = 3.0, neighbors: int = 3) -> xr.Dataset:
    """Find channels that count what is not there (hot), or nothing (dead).

    A channel is dead if all its samples are alike. It is hot if its mean over all rays and its
    least sample exceed those of its neighbors ``contrast`` times: the median of ``neighbors`` on
    either side. A reflection is bright where the sample is, a hot channel beside it as well; in a
    scan without rays beside the sample narrow reflections may be taken for hot channels.

    Returns
    -------
        ``bad_channel (channel)``: 0 good, 1 hot, 2 dead.
    """
    if contrast <= 1 or neighbors < 1:
        raise OptionError(
            f"contrast={contrast} and neighbors={neighbors} must be more than 1, and 1 or more."
        )
    sinogram = planned_sinogram(ds, "find_bad_channels")
    sinogram = without_masked(ds, sinogram, verb="find_bad_channels")
    known = sinogram.where(np.isfinite(sinogram))
    others = [dim for dim in known.dims if dim != CHANNEL]
    sums = [known.mean(others, dtype="float64"), known.min(others), known.max(others)]

    mean, least, most = compute_arrays(sums, "find bad channels")
    faults = channel_faults(
        *(np.asarray(found, dtype=np.float64) for found in (mean, least, most)),
        contrast=contrast, neighbors=neighbors,
    )  # fmt: skip

    about = {"flag_values": [0, 1, 2], "flag_meanings": "good hot dead"}
    found = xr.DataArray(faults, dims=CHANNEL, coords=mean.coords, attrs=about)
    options = {"contrast": contrast, "neighbors": neighbors}
    return label(xr.Dataset(), {BAD_CHANNEL: found}, step="find_bad_channels", **options)


def mask_channels(
    ds: xr.Dataset,
    bad: xr.Dataset | None = None,
    *,
    channels: Sequence[int] | None = None,
    ranges: Sequence[Sequence[float]] | None = None,
    axis: str | None = None,
) -> xr.Dataset:
    """Mark channels to be left out, in ``mask``; data are not touched.

    Parameters
    ----------
    ds
        A scan with ``sinogram``.
    bad
        What `find_bad_channels` returned.
    channels
        Numbers of channels, from 0; negative ones count from the end.
    ranges
        Pairs of first and last value along ``axis``.
    axis
        Axis that the ranges are given in, such as ``"q"``; default: the first that the data have.

    Returns
    -------
        The scan with ``mask``: with what it marked before, along all dimensions of both.
    """
    size = require(ds, SINOGRAM, verb="mask_channels").sizes[CHANNEL]
    if bad is None and channels is None and ranges is None:
        raise OptionError(
            "mask_channels was told no channels: give what find_bad_channels returned, "
            "channels=[3, 4] or ranges=[[1.0, 1.2]]."
        )

    marked = np.zeros(size, dtype=bool)
    if bad is not None:
        marked |= _given(bad, size)
    marked[_numbers(channels or (), size)] = True
    for pair in ranges or ():
        marked |= _between(spectral_axis(ds, axis, verb="mask_channels"), pair)

    mask = xr.DataArray(marked, dims=CHANNEL)
    if MASK.name in ds:
        mask = ds[MASK.name].astype(bool).drop_vars(list(ds[MASK.name].coords)) | mask
        mask = mask.transpose(*(dim for dim in (*LEADING, *MASK.dims) if dim in mask.dims))
    return label(ds, {MASK: mask}, step="mask_channels", masked=int(marked.sum()))


def _given(bad: xr.Dataset, size: int) -> np.ndarray:
    found = require(bad, BAD_CHANNEL, verb="mask_channels")
    if found.sizes[CHANNEL] != size:
        raise SchemaError(
            f"mask_channels was given 'bad_channel' of {found.sizes[CHANNEL]} channels, but the "
            f"sinogram has {size}. Find them in the same scan."
        )
    return np.asarray(found.values != 0)


def _numbers(channels: Sequence[int], size: int) -> list[int]:
    for number in channels:
        if not -size <= number < size:
            raise OptionError(f"channel {number} does not exist: there are {size}, from 0.")
    return list(channels)


def _between(values: xr.DataArray, pair: Sequence[float]) -> np.ndarray:
    if len(pair) != 2 or not pair[0] <= pair[1]:
        raise OptionError(f"range {pair!r} must be two values in order, such as [1.0, 1.2].")
    inside = (values.values >= pair[0]) & (values.values <= pair[1])
    if not inside.any():
        raise OptionError(
            f"range {pair[0]:g} to {pair[1]:g} has no channel: axis {values.name!r} goes from "
            f"{float(values.min()):g} to {float(values.max()):g}."
        )
    return np.asarray(inside)


def interpolate_masked(
    ds: xr.Dataset, *, along: Literal["channel", "angle", "translation"] = "channel"
) -> xr.Dataset:
    """Fill samples that are masked or not finite linearly from their neighbors along one axis.

    At the ends the nearest sample is repeated; a line without any stays as it is. Solvers that
    weigh samples do better without: they leave out what ``mask`` marks. FBP needs something there.

    Returns
    -------
        The scan with ``sinogram`` filled, and ``replaced_samples ([z,] channel)``, how many, where
        images are whole. ``mask`` becomes ``filled``, since what is filled is to be used;
        ``sinogram_variance`` is NaN there.
    """
    check_choice("along", along, SINOGRAM.dims)
    sinogram = planned_sinogram(ds, "interpolate_masked", [along])

    mask, where = mask_beside(ds, "interpolate_masked")
    options: dict[str, Any] = {"axis": SINOGRAM.dims.index(along), **where}
    corrected = correct_blocks(fill_block, sinogram, *mask, **options)
    made: dict[Variable, xr.DataArray] = {SINOGRAM: corrected}
    made |= correct_variance(ds, "interpolate_masked", blank_filled_block, sinogram, *mask, **where)
    if all(len(sinogram.chunksizes.get(dim, ())) < 2 for dim in _RAYS):
        counted = apply_kernel(
            count_filled_block, sinogram, *mask, core=_RAYS, out={}, dtype="int64", **options
        )
        made[REPLACED_SAMPLES] = counted.drop_attrs()
    if mask:
        made[FILLED] = ds[MASK.name].drop_attrs()
        ds = ds.drop_vars(MASK.name)
    return label(ds, made, step="interpolate_masked", along=along)


def fill_block(
    block: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    axis: int,
    mask_dims: Sequence[int] = (),
) -> np.ndarray:
    """Fill missing samples along an axis, (angle, translation, channel) -> the same."""
    values = block.astype(floating(block.dtype), copy=False)
    return fill_along(values, kept_samples(values, mask, mask_dims), axis=axis)


def blank_filled_block(
    variance: np.ndarray,
    block: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    mask_dims: Sequence[int] = (),
) -> np.ndarray:
    """Set variances to NaN where samples are missing; shapes as for `fill_block`."""
    return np.where(kept_samples(block, mask, mask_dims), variance, np.nan)


def count_filled_block(
    block: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    axis: int,
    mask_dims: Sequence[int] = (),
) -> np.ndarray:
    """Count the samples that are filled, (angle, translation, channel) -> (channel,)."""
    kept = kept_samples(block, mask, mask_dims)
    filled = ~kept & kept.any(axis=axis, keepdims=True)
    return np.asarray(np.count_nonzero(filled, axis=(0, 1)))
