"""Powder patterns for Rietveld programs: position, intensity and error, a file per pixel or region.

TOPAS and GSAS-II read three columns, `xye`. No line of comment is written: GSAS-II takes one that
has the letter q for a wavelength. It also leaves out points at or below 0.
"""

import csv
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import OptionError, SchemaError, StoreError, check_choice
from ndtomo_dask.kernels.fitting.peak_search import bridged, noise_of
from ndtomo_dask.schema import require, variable_named
from ndtomo_dask.variables import CHANNEL, SPECTRAL_AXES

Errors = Literal["variance", "counts", "noise"]
ERRORS = ("variance", "counts", "noise")
INDEX = "index.csv"
"""Which pattern is where; written last."""
Regions = xr.DataArray | Mapping[str, xr.DataArray]


def export_patterns(
    ds: xr.Dataset,
    folder: str | Path,
    *,
    variable: str = "volume",
    regions: Regions | None = None,
    axis: str | None = None,
    errors: Errors | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a powder pattern per pixel, or per region, for TOPAS or GSAS-II, and an index of them.

    Every file has three columns: position, intensity and its standard error. ``index.csv`` says
    which file is which pixel or region, how many pixels it is the mean of, and their total
    intensity. Pixels without a finite sample have no file. The folder appears under its name only
    when it is whole.

    Parameters
    ----------
    ds
        A dataset with ``variable``; for a file per pixel in whole spectra
        (``open_scan(store, layout="spectra")``).
    folder
        Where to write; it must not exist yet.
    variable
        ``"volume"``, or another variable with a channel axis.
    regions
        Masks by their names, or one array of masks or numbers, of which 0 is left out: a file for
        the mean of each. A file per pixel without.
    axis
        The first column; ``"tth"`` by default, which these programs expect.
    errors
        ``"variance"``: from ``<variable>_variance``; ``"counts"``: Poisson's; ``"noise"``: one
        error for all points, from the second differences of the pattern. Default: the first of
        these that the data allow.
    overwrite
        Whether a folder that an earlier call wrote is replaced.

    Returns
    -------
        The path of the index.

    Raises
    ------
    StoreError
        The folder exists, or the disk is full.
    SchemaError
        There is no 2θ axis, no variance, the spectra are split, or no region has a pixel.
    """
    folder = Path(folder)
    whole = [CHANNEL] if regions is None else []
    array = require(
        ds, variable_named(variable, verb="export_patterns"), verb="export_patterns", whole=whole
    )
    position = _position(ds, axis)
    kind = _kind(ds, array, errors)
    variance = ds[f"{variable}_variance"].transpose(*array.dims) if kind == "variance" else None

    found = (
        _pixels(array, variance) if regions is None else _regions(array, variance, _masks(regions))
    )
    with _new_folder(folder, overwrite=overwrite) as partial:
        rows = []
        for name, labels, mean, spread, count in found:
            y, error = mean, _errors(mean, spread, count, kind)
            write_columns(partial / f"{name}.xye", position, y, error)
            total = float(np.nansum(mean) * count)
            rows.append({"file": f"{name}.xye", **labels, "pixels": count, "intensity": total})
        if not rows:
            raise SchemaError("export_patterns found no pixel, or region, with a finite value.")
        _write_index(partial / INDEX, rows)
    return folder / INDEX


def write_xye(ds: xr.Dataset, name: str, path: Path) -> None:
    """Write the mean of a variable over everything but its channels, with errors."""
    array = ds[name]
    if CHANNEL not in array.dims:
        raise SchemaError(f"an .xye file holds a pattern, but {name!r} has {array.dims}.")
    position, kind = _position(ds, None), _kind(ds, array, None)
    variance = ds[f"{name}_variance"].transpose(*array.dims) if kind == "variance" else None
    everything = xr.DataArray(True)
    for _, _, mean, spread, count in _regions(array, variance, {"mean": everything}):
        write_columns(path, position, mean, _errors(mean, spread, count, kind))


def write_columns(path: Path, x: np.ndarray, y: np.ndarray, error: np.ndarray) -> None:
    """Write three columns, by rising ``x``, without the points that are not finite."""
    columns = np.column_stack([x, y, error])
    columns = columns[np.isfinite(columns).all(axis=1)]
    np.savetxt(path, columns[np.argsort(columns[:, 0])], fmt="%.9g")


def _position(ds: xr.Dataset, axis: str | None) -> np.ndarray:
    if axis is None and "tth" in ds.coords:
        axis = "tth"
    if axis is None and any(name in ds.coords for name in SPECTRAL_AXES):
        raise SchemaError(
            "a powder pattern is read by 2θ, but the data have no 'tth': "
            "ds.assign_coords(wavelength=0.2) in Å, then derive_axes(ds); or pass axis='q'."
        )
    return np.asarray(spectral_axis(ds, axis, verb="export_patterns"), dtype=np.float64)


def _kind(ds: xr.Dataset, array: xr.DataArray, errors: str | None) -> str:
    has = f"{array.name}_variance" in ds
    if errors is None:
        counts = array.attrs.get("units") == "count"
        return "variance" if has else "counts" if counts else "noise"
    check_choice("errors", errors, ERRORS)
    if errors == "variance" and not has:
        raise SchemaError(
            f"errors='variance' needs '{array.name}_variance', which the dataset does not have: "
            f"reconstruct(ds, variance=True), or errors='noise'."
        )
    return errors


def _errors(mean: np.ndarray, spread: np.ndarray | None, count: int, kind: str) -> np.ndarray:
    """Return standard errors of a mean of ``count`` spectra, none of them 0."""
    if kind == "variance" and spread is not None:
        return np.asarray(np.sqrt(np.where(spread > 0, spread, np.nan)))
    if kind == "counts":
        return np.asarray(np.sqrt(np.maximum(mean * count, 1)) / count)
    noise = noise_of(bridged(mean))
    return np.full(
        mean.shape, noise if noise > 0 else max(1e-6 * float(np.nanmax(np.abs(mean))), 1e-300)
    )


Found = tuple[str, dict[str, Any], np.ndarray, np.ndarray | None, int]
"""Name, labels for the index, mean, its variance, and how many spectra it is the mean of."""


def _pixels(array: xr.DataArray, variance: xr.DataArray | None) -> Iterator[Found]:
    """Compute spectra block by block, in order, and yield one after the other."""
    dims = [str(dim) for dim in array.dims if dim != CHANNEL]
    digits = {dim: max(1, len(str(array.sizes[dim] - 1))) for dim in dims}
    edges = [
        np.concatenate([[0], np.cumsum(array.chunksizes.get(dim, (array.sizes[dim],)))])
        for dim in dims
    ]
    for place in product(*[range(edge.size - 1) for edge in edges]):
        first = {dim: int(e[i]) for dim, e, i in zip(dims, edges, place, strict=True)}
        last = {dim: int(e[i + 1]) for dim, e, i in zip(dims, edges, place, strict=True)}
        region = {dim: slice(first[dim], last[dim]) for dim in dims}
        wanted = [one.isel(region) for one in (array, variance) if one is not None]
        loaded = compute_arrays(wanted, "spectra")
        for inside in np.ndindex(*[last[dim] - first[dim] for dim in dims]):
            spectra = [np.asarray(one.values[inside], dtype=np.float64) for one in loaded]
            if not np.isfinite(spectra[0]).any():
                continue
            index = {dim: first[dim] + step for dim, step in zip(dims, inside, strict=True)}
            name = "_".join(f"{dim}{number:0{digits[dim]}d}" for dim, number in index.items())
            labels = index | {
                f"{dim}_position": float(array[dim][number]) for dim, number in index.items()
                if dim in array.coords
            }  # fmt: skip
            yield (
                name or "pattern",
                labels,
                spectra[0],
                spectra[1] if variance is not None else None,
                1,
            )


def _masks(regions: Regions) -> dict[str, xr.DataArray]:
    if isinstance(regions, Mapping):
        masks = {str(name): mask.astype(bool) for name, mask in regions.items()}
    elif regions.dtype == bool:
        masks = {"region" if regions.name is None else str(regions.name): regions}
    else:
        numbers = np.unique(regions.values)
        numbers = numbers[np.isfinite(numbers) & (numbers != 0)]
        masks = {f"region_{number:g}": regions == number for number in numbers}
    for name in masks:
        if not name or not set(name) <= set(_LETTERS):
            raise OptionError(
                f"the region {name!r} cannot name a file; use letters, digits, '_', '-' and '.'."
            )
    if not masks:
        raise SchemaError("export_patterns was given regions without a pixel.")
    return masks


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."


def _regions(
    array: xr.DataArray, variance: xr.DataArray | None, masks: Mapping[str, xr.DataArray]
) -> Iterator[Found]:
    """Compute the means of all regions together, so that the data are read once."""
    along = [dim for dim in array.dims if dim != CHANNEL]
    wanted = []
    for mask in masks.values():
        counted = array.notnull() & mask
        kept = array.where(counted)
        wanted += [kept.sum(along, dtype=np.float64), counted.sum(along)]
        if variance is not None:
            wanted.append(variance.where(counted).sum(along, dtype=np.float64))
    loaded = [
        np.asarray(one.values, dtype=np.float64) for one in compute_arrays(wanted, "patterns")
    ]
    each = len(loaded) // len(masks)
    for number, name in enumerate(masks):
        total, count, *spread = loaded[number * each : (number + 1) * each]
        if not count.any():
            raise SchemaError(f"region {name!r} has no pixel with a finite value.")
        count = np.where(count > 0, count, np.nan)
        variances = spread[0] / count**2 if spread else None
        yield name, {}, total / count, variances, int(np.nanmax(count))


def _write_index(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def _new_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Hand out a temporary folder, and give it its name when the block ends well."""
    if folder.exists() and not overwrite:
        raise StoreError(f"{folder} exists. Pass overwrite=True to replace it.")
    if folder.exists() and not (folder / INDEX).is_file():
        raise StoreError(
            f"{folder} is no folder of patterns, because it has no {INDEX}, and is left as it is. "
            f"Choose another name."
        )
    if not folder.parent.is_dir():
        raise StoreError(f"the folder {folder.parent} does not exist. Create it first.")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        partial.mkdir()
        yield partial
        _exchange(partial, folder, old)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise StoreError(f"{folder} cannot be written: {why}.") from error
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def _exchange(new: Path, folder: Path, old: Path) -> None:
    """Give ``new`` the name of ``folder``; if that fails, leave the folder that was there."""
    if folder.exists():
        folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
