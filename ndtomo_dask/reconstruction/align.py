"""Where the rays pass: the rotation center, and how far each projection is displaced.

Both belong to the geometry. Applying them moves the rays of the projector; data are not resampled.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import planned_sinogram
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels import alignment, centering
from ndtomo_dask.kernels.reprojection import reprojection_shifts
from ndtomo_dask.reconstruction.sampling import Part, sampled
from ndtomo_dask.schema import label, record, require, without_masked
from ndtomo_dask.variables import PROJECTION_SHIFT, ROTATION_CENTER, SINOGRAM


def find_rotation_center(
    ds: xr.Dataset,
    *,
    method: centering.Method = "auto",
    channels: Part = None,
    slices: Part = None,
    search: Sequence[float] | None = None,
) -> xr.Dataset:
    """Find the translation index onto which the rotation axis projects.

    Channels and slices are averaged, so the data are read once, and of a large scan only a sample:
    4 GB of evenly spread slices, or of evenly spread runs of 16 channels of one slice. Where the
    projections have been aligned, their shifts are taken into account.

    Parameters
    ----------
    ds
        A scan with ``sinogram`` and ``angle``; any order of angles.
    method
        ``"mass"``: the center of mass follows a sine; ``"opposite"``: projections 180° apart are
        mirror images; ``"fourier"``: the Fourier transform of a sinogram is empty outside a double
        wedge (Vo et al., Optics Express 22, 19078 (2014)); ``"entropy"``, ``"sharpness"``: the
        image has the fewest gray values, or the fewest negative ones (Donath et al., J. Opt. Soc.
        Am. A 23, 1048 (2006)); ``"auto"``: the two that suit the angles best.
    channels, slices
        How many to read, spread evenly, or a range of indices (first, behind the last): channels in
        which the sample is bright.
    search
        Translation indices, first and last, between which the axis lies; default: the middle half.

    Returns
    -------
        ``rotation_center`` and ``rotation_center_error``, in translation steps (0-based);
        ``rotation_center_check``, what the second method of ``"auto"`` found; and the curve
        ``score (candidate)`` to look at: its smallest value is the best.

    Raises
    ------
    SchemaError
        Fewer than three angles, an image without contrast, or an axis outside ``search``.
    OptionError
        An unknown method, or a part of the scan that it does not have.
    """
    image = _summed_image(ds, "find_rotation_center", channels, slices)
    shifts = np.asarray(ds.get("projection_shift", xr.zeros_like(image.angle)), dtype=float)
    aligned = alignment.shift_rows(image.values, shifts)
    limits = None if search is None else _limits(search, image.sizes["translation"])

    found = centering.find_center(
        aligned, np.deg2rad(image.angle.values), method=method, search=limits
    )

    curve = xr.DataArray(found.scores, coords={"candidate": found.candidates}, dims="candidate")
    error = xr.DataArray(found.error, attrs={"units": "1", "long_name": "standard error"})
    result = xr.Dataset({"rotation_center_error": error, "score": curve})
    if found.checked_by:
        about = {"units": "1", "long_name": f"rotation axis by {found.checked_by}"}
        result["rotation_center_check"] = xr.DataArray(found.check, attrs=about)
    center = {ROTATION_CENTER: xr.DataArray(found.center)}
    told = {"channels": channels, "slices": slices, "search": search}
    given = {name: value for name, value in told.items() if value is not None}
    return label(result, center, step="find_rotation_center", method=found.method, **given)


def _limits(search: Sequence[float], translations: int) -> tuple[float, float]:
    limits = [float(limit) for limit in search]
    if len(limits) != 2 or not 0 <= limits[0] < limits[1] <= translations - 1:
        raise OptionError(
            f"search={search!r} is no range of translations: pass (first, last), within 0 and "
            f"{translations - 1}."
        )
    return limits[0], limits[1]


def set_rotation_center(ds: xr.Dataset, center: xr.Dataset | float) -> xr.Dataset:
    """Tell the geometry where the rotation axis projects; no data are resampled.

    ``center`` is what `find_rotation_center` returned, or a translation index, 0-based and
    fractional.
    """
    if isinstance(center, xr.Dataset):
        center = float(require(center, ROTATION_CENTER, verb="set_rotation_center"))
    value = float(center)
    last = require(ds, SINOGRAM, verb="set_rotation_center").sizes["translation"] - 1
    if not 0 <= value <= last:
        raise SchemaError(
            f"rotation_center {value:g} lies outside the translations, indices 0 to {last}."
        )
    about = {"units": ROTATION_CENTER.units, "long_name": ROTATION_CENTER.long_name}
    ds = ds.assign_coords(rotation_center=xr.Variable((), value, about))
    return record(ds, "set_rotation_center", center=value)


def find_projection_shifts(
    ds: xr.Dataset,
    *,
    method: Literal["mass", "reprojection"] = "mass",
    channels: Part = None,
    slices: Part = None,
) -> xr.Dataset:
    """Find how far each projection is displaced across the beam.

    Shifts that follow a constant, a cosine or a sine of the angle cannot be told from another
    center or another mounting of the sample, and are not found.

    Parameters
    ----------
    ds
        A scan with ``sinogram`` and ``angle``.
    method
        ``"mass"``: the center of mass of a projection follows ``c + a cos θ + b sin θ``, and what
        deviates is the shift; the sample must lie inside the field of view. ``"reprojection"``:
        each projection is registered to that of the image which all give, and again (Dengler,
        Ultramicroscopy 30, 337 (1989)): for noise, and samples that leave the field of view.
    channels, slices
        As in `find_rotation_center`.

    Returns
    -------
        ``projection_shift (angle)``, in translation steps, and the ``rotation_center``: c, or for
        ``"reprojection"`` that of the scan, which is found where it is not set.
    """
    check_choice("method", method, ("mass", "reprojection"))
    image = _summed_image(ds, "find_projection_shifts", channels, slices)
    theta = np.deg2rad(image.angle.values)

    if method == "mass":
        shifts, center = alignment.projection_shifts(image.values, theta)
    else:
        known = ROTATION_CENTER.name in ds
        center = float(ds[ROTATION_CENTER.name]) if known else _center(image.values, theta)
        shifts = reprojection_shifts(image.values, theta, center=center)

    found = {
        PROJECTION_SHIFT: xr.DataArray(shifts, dims="angle", coords={"angle": image.angle}),
        ROTATION_CENTER: xr.DataArray(center),
    }
    return label(xr.Dataset(), found, step="find_projection_shifts", method=method)


def _center(image: np.ndarray, theta: np.ndarray) -> float:
    return centering.find_center(image, theta).center


def align_projections(ds: xr.Dataset, shifts: xr.Dataset) -> xr.Dataset:
    """Tell the geometry how far each projection is displaced; no data are resampled.

    ``shifts`` is what `find_projection_shifts` returned: its ``projection_shift (angle)``.
    """
    sinogram = require(ds, SINOGRAM, verb="align_projections")
    # A dead projection has no shift, and is left out of the reconstruction anyway.
    values = np.nan_to_num(
        np.asarray(require(shifts, PROJECTION_SHIFT, verb="align_projections"), dtype=float)
    )
    if values.shape != (sinogram.sizes["angle"],):
        raise SchemaError(
            f"align_projections was given {values.size} shifts, but the scan has "
            f"{sinogram.sizes['angle']} angles."
        )
    about = {"units": PROJECTION_SHIFT.units, "long_name": PROJECTION_SHIFT.long_name}
    ds = ds.assign_coords(projection_shift=xr.Variable("angle", values, about))
    return record(ds, "align_projections", largest=float(np.abs(values).max()))


def _summed_image(
    ds: xr.Dataset, verb: str, channels: Part = None, slices: Part = None
) -> xr.DataArray:
    sinogram = planned_sinogram(ds, verb)
    if "angle" not in ds.coords:
        raise SchemaError(
            f"{verb} needs projection angles: ds.assign_coords(angle=('angle', degrees))."
        )
    others = [dim for dim in sinogram.dims if dim not in ("angle", "translation")]
    sinogram = without_masked(ds, sinogram, verb=verb)
    sinogram = sampled(sinogram, channels=channels, slices=slices, verb=verb)
    total = sinogram.where(np.isfinite(sinogram)).mean(others, dtype="float64")
    (image,) = compute_arrays([total], verb)
    return image.transpose("angle", "translation")
