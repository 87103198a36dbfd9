"""From a scan's labels to its geometry, and from a reconstruction grid back to labels.

Labels are in degrees and mm; a `ParallelGeometry` is in radians and translation steps.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.coordinates import TO_UNIT, axis_variable
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.schema import step_of, valid_mask, without_masked
from ndtomo_dask.variables import ANGLE, TRANSLATION, X, Y

Region = Mapping[str, tuple[float, float]]
"""A range in mm along ``"y"``, ``"x"`` or both."""
_HAIR = 1e-6
"""Part of a step by which evenly spaced coordinates may be off."""
_ENOUGH = 10
"""Projections of which a span of a few degrees is suspicious; fewer may be a part of a scan."""
_CONVERT = "ds.assign_coords(angle=('angle', np.rad2deg(ds.angle.values)))"


def geometry_of(
    ds: xr.Dataset, *, verb: str, region: Region | None = None, pixel_size: float | None = None
) -> ParallelGeometry:
    """Read the parallel-beam geometry of a scan from its labels.

    Angles are coordinates in degrees; ``rotation_center`` (translation steps; the middle when it is
    absent) and ``projection_shift`` are optional. The grid is square, as wide as the translations,
    in pixels of ``pixel_size`` mm (default: the translation step); of it, those pixels are kept
    whose centers lie in ``region``.
    """
    if ANGLE not in ds.coords:
        raise SchemaError(
            f"{verb} needs projection angles: ds.assign_coords(angle=('angle', degrees))."
        )
    step, translations = step_of(ds, TRANSLATION), ds.sizes[TRANSLATION]
    pixel = 1.0 if pixel_size is None else _positive(pixel_size) / step
    whole = ParallelGeometry.centered(
        np.deg2rad(_degrees(ds, verb)),
        translations,
        rotation_center=_rotation_center(ds, translations),
        shifts=_shifts(ds),
        pixel_size=pixel,
    )
    return whole if region is None else _inside(whole, region, step)


def without_masked_rays(
    ds: xr.Dataset, sinogram: xr.DataArray, geometry: ParallelGeometry, *, verb: str
) -> tuple[xr.DataArray, ParallelGeometry]:
    """Leave masked projections out; where single samples or channels are masked, make them NaN."""
    if "mask" not in ds or ds["mask"].dims != (ANGLE,):
        return without_masked(ds, sinogram, verb=verb), geometry
    kept = ~valid_mask(ds, verb=verb).values
    return sinogram.isel(angle=kept), geometry.select(kept)


def _degrees(ds: xr.Dataset, verb: str) -> np.ndarray:
    """Return the projection angles, unless their unit or their span says that they are radians."""
    unit = str(ds[ANGLE].attrs.get("units", "degree"))
    if TO_UNIT["degree"].get(unit.lower(), 1.0) != 1:
        raise SchemaError(f"{verb} needs angles in degrees, but theirs is {unit!r}: {_CONVERT}.")
    degrees = np.asarray(ds[ANGLE], dtype=float)
    _refuse_radians(degrees, verb, _CONVERT)
    return degrees


def _refuse_radians(degrees: np.ndarray, verb: str, convert: str) -> None:
    """Refuse a half or a full turn in radians; warn of any other span that would fit into one.

    A turn may lack its end, and an uneven one a step more. No sample can be reconstructed from a
    few degrees, but a part of a scan may be tried.
    """
    if degrees.size < _ENOUGH or not np.isfinite(degrees).all():
        return
    span = float(np.ptp(degrees))
    step = span / (degrees.size - 1)
    told = f"{degrees.size} projections span {span:.3g} degrees"
    for turn in (np.pi, 2 * np.pi):
        if 0 <= turn * (1 + 1e-3) - span <= 2 * step:
            raise SchemaError(
                f"{verb} needs angles in degrees, but {told}, a turn in radians: {convert}."
            )
    if 0 < span <= 2 * np.pi:
        warnings.warn(f"{told}; if they are radians, {convert}.", stacklevel=4)


def _positive(pixel_size: float) -> float:
    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise OptionError(f"pixel_size={pixel_size} is not a length: pass mm, greater than 0.")
    return float(pixel_size)


def _rotation_center(ds: xr.Dataset, translations: int) -> float:
    return float(ds["rotation_center"]) if "rotation_center" in ds else (translations - 1) / 2


def _shifts(ds: xr.Dataset) -> np.ndarray:
    return np.asarray(ds["projection_shift"], float) if "projection_shift" in ds else np.zeros(0)


def _inside(whole: ParallelGeometry, region: Region, step: float) -> ParallelGeometry:
    """Keep the pixels of a grid whose centers lie in a region."""
    if not region or not set(region) <= {Y, X}:
        raise OptionError(
            f"region={dict(region)!r} names no range along y or x. "
            "Pass mm, such as {'y': (-0.5, 0.5), 'x': (0, 1)}."
        )
    kept = [
        _kept(centers * step, name, region.get(name))
        for name, centers in ((Y, whole.y), (X, whole.x))
    ]
    rows, columns = kept
    return replace(
        whole,
        shape=(rows.stop - rows.start, columns.stop - columns.start),
        grid_center=(float(whole.y[rows].mean()), float(whole.x[columns].mean())),
    )


def _kept(centers: np.ndarray, name: str, limits: tuple[float, float] | None) -> slice:
    if limits is None:
        return slice(0, centers.size)
    low, high = sorted(float(limit) for limit in limits)
    inside = np.flatnonzero((centers >= low) & (centers <= high))
    if not inside.size:
        raise OptionError(
            f"region={{{name!r}: {tuple(limits)}}} has no pixel: {name} goes from "
            f"{centers[0]:.4g} to {centers[-1]:.4g} mm."
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)


def grid_coordinates(geometry: ParallelGeometry, step: float) -> dict[str, xr.Variable]:
    """Label the pixels of a grid in mm from the rotation axis, for translations of ``step`` mm."""
    return {Y: axis_variable(Y, geometry.y * step), X: axis_variable(X, geometry.x * step)}


def ray_coordinates(geometry: ParallelGeometry, pixel: float) -> dict[str, xr.Variable]:
    """Label the rays through a grid whose pixels have an edge of ``pixel`` mm."""
    step = pixel / geometry.pixel_size
    places = (np.arange(geometry.translations) - geometry.rotation_center) * step
    return {
        ANGLE: axis_variable(ANGLE, np.rad2deg(geometry.angles)),
        TRANSLATION: axis_variable(TRANSLATION, places),
    }


def geometry_of_volume(
    ds: xr.Dataset, *, verb: str, angles: Any = None, translations: int | None = None
) -> ParallelGeometry:
    """Read from its labels how a volume is to be projected.

    Projections are taken at the scan's ``angle`` and ``translation``, or at ``angles`` in degrees
    and over ``translations`` steps as wide as a pixel where these are given.
    """
    if angles is None and ANGLE not in ds.coords:
        raise SchemaError(
            f"{verb} needs projection angles, which the volume does not have: "
            f"pass angles=np.arange(0, 180), in degrees."
        )
    if angles is None:
        degrees = _degrees(ds, verb)
    else:
        degrees = np.atleast_1d(np.asarray(angles, dtype=float))
        _refuse_radians(degrees, verb, "pass angles=np.rad2deg(angles)")
    known = TRANSLATION in ds.sizes and translations is None
    count = ds.sizes[TRANSLATION] if known else (translations or ds.sizes[X])
    pixel = _pixel_edge(ds, verb)
    step = step_of(ds, TRANSLATION) if known else pixel
    center = _rotation_center(ds, count) if known else (count - 1) / 2
    shifts = _shifts(ds) if angles is None else np.zeros(0)
    middle = [float(np.mean(ds[dim])) / step if dim in ds.coords else 0.0 for dim in (Y, X)]
    return ParallelGeometry(
        np.deg2rad(degrees),
        count,
        center,
        (ds.sizes[Y], ds.sizes[X]),
        shifts,
        pixel / step,
        (middle[0], middle[1]),
    )


def _pixel_edge(ds: xr.Dataset, verb: str) -> float:
    """Edge of the pixels of a volume, in mm, which must be squares."""
    edges = [step_of(ds, dim) for dim in (Y, X) if ds.sizes[dim] > 1] or [1.0]
    if abs(edges[0] - edges[-1]) > _HAIR * edges[0]:
        raise SchemaError(
            f"{verb} needs square pixels, but they are {edges[0]:g} mm along y and {edges[-1]:g} "
            "mm along x."
        )
    return edges[0]
