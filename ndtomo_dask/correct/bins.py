"""Fewer samples: neighbors binned, and spectra brought onto another axis."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, planned_sinogram
from ndtomo_dask.coarse_blocks import apply_to_bins
from ndtomo_dask.coordinates import axis_variable, derive_axes, spectral_axis
from ndtomo_dask.correct.correction import planned_volume
from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.kernels.corrections import binning
from ndtomo_dask.schema import floating, record, require, without_masked
from ndtomo_dask.variables import (
    CHANNEL,
    FILLED,
    MASK,
    SINOGRAM,
    SINOGRAM_VARIANCE,
    SPECTRAL_AXES,
    VOLUME,
    VOLUME_VARIANCE,
)

Reduce = Literal["auto", "sum", "mean"]
VARIANCES = {SINOGRAM.name: SINOGRAM_VARIANCE.name, VOLUME.name: VOLUME_VARIANCE.name}
_MARKS = (MASK.name, FILLED.name)


def rebin(
    ds: xr.Dataset,
    *,
    angle: int = 1,
    translation: int = 1,
    channel: int = 1,
    y: int = 1,
    x: int = 1,
    reduce: Reduce = "auto",
) -> xr.Dataset:
    """Make one sample of several neighbors, along any dimensions.

    Parameters
    ----------
    ds
        A scan or a result; every variable that has one of the dimensions is binned.
    angle, translation, channel, y, x
        How many neighbors make one. Those that do not fill a bin at the end are dropped.
    reduce
        ``"sum"``, by which counts are conserved; ``"mean"``, by which intensities are; ``"auto"``:
        the sum of what has the unit count, the mean of all else.

    Returns
    -------
        The dataset with fewer samples, their coordinates the means of those binned. A sample that
        is NaN or masked is made up for by the others of its bin; a bin without any is NaN, and is
        masked where all of it was. Variances are those of sums, or means, of independent samples.

    Notes
    -----
    Sums of projections and translations are counts of more beam: a volume made of them is brighter
    as many times. With ``reduce="mean"`` it stays as bright. Angles are averaged as they stand, so
    they must follow one another, as in one turn.
    """
    given = {"angle": angle, "translation": translation, "channel": channel, "y": y, "x": x}
    bins = _checked(ds, given, reduce)
    if SINOGRAM.name in ds:
        ds = ds.assign(sinogram=planned_sinogram(ds, "rebin"))

    coords = _binned_coordinates(ds, bins)
    spoilt = _without_marked(ds, verb="rebin")
    made = {
        str(name): _binned(spoilt, str(name), bins, reduce)
        for name, array in ds.data_vars.items() if set(bins) & set(array.dims)
    }  # fmt: skip

    binned = ds.drop_vars([*made, *(name for name in ds.coords if set(ds[name].dims) & set(bins))])
    binned = derive_axes(binned.assign(made).assign_coords(coords))
    return record(binned, "rebin", **bins, reduce=reduce)


def _checked(ds: xr.Dataset, given: Mapping[str, int], reduce: str) -> dict[str, int]:
    check_choice("reduce", reduce, ("auto", "sum", "mean"))
    bins = {dim: size for dim, size in given.items() if size != 1}
    for dim, size in bins.items():
        if size < 1 or size > ds.sizes.get(dim, 0):
            raise OptionError(
                f"{dim}={size} samples cannot be binned: the data have {ds.sizes.get(dim, 0)}."
            )
    return bins


def _without_marked(ds: xr.Dataset, *, verb: str) -> xr.Dataset:
    if SINOGRAM.name not in ds:
        return ds
    return ds.assign(sinogram=without_masked(ds, ds[SINOGRAM.name], verb=verb))


def _binned(ds: xr.Dataset, name: str, bins: Mapping[str, int], reduce: str) -> xr.DataArray:
    array = ds[name]
    if name in _MARKS:
        return apply_to_bins(all_marked_block, array.astype(bool), bins=bins, dtype=bool)
    mean = _is_mean(ds, name, reduce)
    options: dict[str, Any] = {"bins": bins, "dtype": floating(array.dtype), "mean": mean}
    of = next((data for data, spread in VARIANCES.items() if spread == name), None)
    if of in ds:
        return apply_to_bins(bin_variance_block, array, ds[of], **options)
    return apply_to_bins(bin_block, array, **options)


def _is_mean(ds: xr.Dataset, name: str, reduce: str) -> bool:
    of = next((data for data, spread in VARIANCES.items() if spread == name), name)
    return reduce == "mean" or (
        reduce == "auto" and ds.get(of, ds[name]).attrs.get("units") != "count"
    )


def _binned_coordinates(ds: xr.Dataset, bins: Mapping[str, int]) -> dict[str, Any]:
    """Means of coordinates; of spectral axes that follow from one another, of the first."""
    coords: dict[str, Any] = {}
    for name, axis in ds.coords.items():
        size = bins.get(str(axis.dims[0])) if axis.ndim == 1 else None
        follows = name in ("q", "d") and {"tth", "q"} & set(ds.coords) - {name}
        if size and not follows and axis.dtype.kind in "fiu":
            values = binning.mean_of_bins(axis.values, size)
            coords[str(name)] = xr.Variable(axis.dims, values, axis.attrs)
    across = bins.get("translation", 1)
    if "projection_shift" in ds.coords and "angle" in bins:
        shifts = binning.mean_of_bins(ds["projection_shift"].values, bins["angle"])
        coords["projection_shift"] = ("angle", shifts / across, ds["projection_shift"].attrs)
    elif "projection_shift" in ds.coords and across > 1:
        coords["projection_shift"] = ds["projection_shift"].variable / across
    if "rotation_center" in ds.coords and across > 1:
        center = (float(ds["rotation_center"]) - (across - 1) / 2) / across
        coords["rotation_center"] = xr.Variable((), center, ds["rotation_center"].attrs)
    return coords


def bin_block(block: np.ndarray, bins: Mapping[int, int], *, mean: bool) -> np.ndarray:
    """Bin a block of any dimensions; ``bins`` by axis."""
    values = block.astype(floating(block.dtype), copy=False)
    return binning.bin_block(values, bins, mean=mean)


def bin_variance_block(
    variance: np.ndarray, block: np.ndarray, bins: Mapping[int, int], *, mean: bool
) -> np.ndarray:
    """Variance of a block that is binned, of the same shape."""
    values = variance.astype(floating(variance.dtype), copy=False)
    return binning.bin_variance(values, block, bins, mean=mean)


def all_marked_block(marks: np.ndarray, bins: Mapping[int, int]) -> np.ndarray:
    """Tell which bins are marked wholly."""
    return np.asarray(binning.bin_sum(~marks, bins) == 0)


def rebin_axis(
    ds: xr.Dataset,
    axis: str,
    *,
    points: int | None = None,
    values: Sequence[float] | None = None,
    variable: Literal["sinogram", "volume"] = "sinogram",
    reduce: Reduce = "auto",
) -> xr.Dataset:
    """Bring spectra onto another axis, such as even steps of q, by the overlap of its bins.

    Parameters
    ----------
    ds
        A scan with ``sinogram``, or a result with ``volume``, whole along channel.
    axis
        A spectral axis that the data have: ``"tth"``, ``"q"``, ``"d"`` or ``"energy"``.
    points
        How many even steps, from the first center to the last.
    values
        Centers of the new bins, in order, in place of ``points``.
    variable
        Whose spectra. Other variables along channel are dropped.
    reduce
        ``"sum"``: a bin gets the part of each old one that lies in it, so that counts are conserved
        inside the new range; ``"mean"``: the mean over the bin, by which intensities are;
        ``"auto"``: the sum of what has the unit count, the mean of all else.

    Returns
    -------
        The dataset with the new axis and those that follow from it. Bins reach from midway to
        midway between centers. What is NaN or masked is made up for by the rest of a bin; a bin of
        which nothing is known is NaN. The variance is that of each bin; bins that share an old one
        vary together, which it does not tell.
    """
    check_choice("variable", variable, VARIANCES)
    check_choice("reduce", reduce, ("auto", "sum", "mean"))
    rays = variable == "sinogram"
    spectra = (
        planned_sinogram(ds, "rebin_axis", [CHANNEL]) if rays else planned_volume(ds, "rebin_axis")
    )
    if axis not in SPECTRAL_AXES:
        raise OptionError(f"axis={axis!r} is not one of {', '.join(SPECTRAL_AXES)}.")
    old = np.asarray(spectral_axis(ds, axis, verb="rebin_axis"), dtype=np.float64)
    new = _centers(old, points, values)

    mean = _is_mean(ds, variable, reduce)
    parts = binning.overlaps(binning.edges_between(old), binning.edges_between(new), mean=mean)
    if rays:
        spectra = without_masked(ds, spectra, verb="rebin_axis")
    options: dict[str, Any] = {"parts": parts, "mean": mean, "size": new.size}
    made: dict[str, xr.DataArray] = {}
    made[variable] = _rebinned(rebin_spectra_block, spectra, **options)
    spread = SINOGRAM_VARIANCE if rays else VOLUME_VARIANCE
    if spread.name in ds:
        given = require(ds, spread, verb="rebin_axis")
        made[spread.name] = _rebinned(rebin_variance_block, given, spectra, **options)

    kept = ds.drop_dims(CHANNEL).assign(made)
    kept = kept.assign_coords({axis: axis_variable(axis, new)})
    told = {"axis": axis, "points": new.size, "variable": variable, "reduce": reduce}
    return record(derive_axes(kept), "rebin_axis", **told)


def _rebinned(
    kernel: Callable[..., Any],
    spectra: xr.DataArray,
    *beside: xr.DataArray,
    size: int,
    **options: Any,
) -> xr.DataArray:
    bare = [
        one.drop_vars([name for name, axis in one.coords.items() if CHANNEL in axis.dims])
        for one in (spectra, *beside)
    ]
    made = apply_kernel(
        kernel, *bare, core=[CHANNEL], out={CHANNEL: size}, dtype=floating(spectra.dtype), **options
    )
    return made.assign_attrs(spectra.attrs)


def _centers(old: np.ndarray, points: int | None, values: Sequence[float] | None) -> np.ndarray:
    if (points is None) == (values is None):
        raise OptionError("rebin_axis takes points=1000 or values=[...], one of them.")
    if points is not None:
        if points < 1:
            raise OptionError(f"points={points} must be 1 or more.")
        return np.linspace(old.min(), old.max(), points)
    new = np.asarray(values, dtype=np.float64)
    steps = np.diff(new)
    if new.ndim != 1 or not new.size or not ((steps > 0).all() or (steps < 0).all()):
        raise OptionError("values of rebin_axis must be numbers in order, such as [1.0, 1.1].")
    return new


def rebin_spectra_block(block: np.ndarray, *, parts: binning.Overlaps, mean: bool) -> np.ndarray:
    """Bring spectra onto other bins, (..., channel) -> (..., bin)."""
    values = block.astype(floating(block.dtype), copy=False)
    made = binning.rebin_spectra(_rows(values), parts, mean=mean)
    return made.reshape(*block.shape[:-1], -1)


def rebin_variance_block(
    variance: np.ndarray, block: np.ndarray, *, parts: binning.Overlaps, mean: bool
) -> np.ndarray:
    """Variance of what `rebin_spectra_block` makes, (..., channel) twice -> (..., bin)."""
    values = variance.astype(floating(variance.dtype), copy=False)
    made = binning.rebin_variance(_rows(values), _rows(block), parts, mean=mean)
    return made.reshape(*variance.shape[:-1], -1)


def _rows(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block).reshape(-1, block.shape[-1])
