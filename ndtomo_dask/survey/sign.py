"""Which way the sample turned, where the file says about which vector it did.

Parallel projections cannot tell: the mirror image of a sample, turned the other way, has the same
ones. NXtransformations can: a rotation has a ``vector``, about which it turns counterclockwise, in
coordinates whose y points up, and may ride on others, which ``depends_on`` names.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ndtomo_dask.io.hdf5 import open_file
from ndtomo_dask.io.nxdata import attribute_text
from ndtomo_dask.survey.finding import Finding, undetermined
from ndtomo_dask.survey.numbers import Numbers
from ndtomo_dask.variables import ANGLE

Float64 = NDArray[np.float64]

QUESTION = "rotation sign"
UPRIGHT = 0.7
"""Cosine between the axis and the vertical from which on there is an above and a below."""
SAME = 0.01
"""Share of the span by which the ends of two lists of angles may differ."""
DEEPEST = 20
"""Transformations that are followed."""
SILENT = (
    "parallel projections cannot tell: the mirror image turned the other way has the same ones; "
    "and the file names no vector of the rotation (NXtransformations)"
)


def survey_sign(path: Path, numbers: Sequence[Numbers], ds: xr.Dataset) -> Finding:
    """Say which way the sample turned, seen from above, by the vector of its rotation."""
    lists = [one.path for one in numbers if np.prod(one.shape) > 2]
    if ANGLE not in ds.coords or not lists:
        return undetermined(QUESTION, SILENT)
    angles = np.asarray(ds[ANGLE].values, dtype=float)
    with open_file(path) as file:
        found = {place: _axis(file, place) for place in lists if _turns(file[place], angles)}
    axes = {place: axis for place, axis in found.items() if axis is not None}
    if not axes:
        return undetermined(QUESTION, SILENT)
    heights = np.array([axis[1] for axis in axes.values()])
    place, axis = next(iter(axes.items()))
    told = f"{place} turns about ({', '.join(f'{part:.3g}' for part in axis)}), y upward"
    figures = {"up": float(heights[0])}
    if np.abs(heights).min() < UPRIGHT or np.ptp(np.sign(heights)):
        why = "its axis is not upright" if len(axes) == 1 else f"{', '.join(axes)} do not agree"
        return undetermined(QUESTION, f"{told}: {why}", **figures)
    if heights[0] > 0:
        return Finding(QUESTION, "counterclockwise, seen from above", f"{told}: images are as seen "
                       f"from below, and with -angle from above", "look", figures)  # fmt: skip
    return Finding(QUESTION, "clockwise, seen from above", f"{told}: images are as seen from above",
                   "fine", figures)  # fmt: skip


def _turns(entry: h5py.Dataset, angles: Float64) -> bool:
    """Say whether a dataset is a rotation by the angles of the scan."""
    if attribute_text(entry, "transformation_type") != "rotation" or "vector" not in entry.attrs:
        return False
    values = _degrees(entry)
    ends = np.array([values.min() - angles.min(), values.max() - angles.max()])
    return bool(np.abs(ends).max() <= SAME * max(float(np.ptp(angles)), 1e-9))


def _degrees(entry: h5py.Dataset) -> Float64:
    values = np.asarray(entry[()], dtype=float)
    unit = (attribute_text(entry, "units") or "").lower()
    return np.rad2deg(values) if unit.startswith("rad") else values


def _axis(file: h5py.File, place: str) -> Float64 | None:
    """Direction of a rotation's axis in the laboratory; None where that is not fixed."""
    axis = _vector(file[place])
    for _ in range(DEEPEST):
        parent = attribute_text(file[place], "depends_on") or "."
        if parent == ".":
            return axis
        place = parent if parent.startswith("/") else f"{file[place].parent.name}/{parent}"
        entry = file.get(place)
        if not isinstance(entry, h5py.Dataset):
            return None
        if attribute_text(entry, "transformation_type") == "rotation":
            turn = np.unique(_degrees(entry))
            if turn.size > 1:
                return None
            axis = _turned(axis, _vector(entry), float(np.deg2rad(turn[0])))
    return None


def _vector(entry: h5py.Dataset) -> Float64:
    vector = np.asarray(entry.attrs.get("vector", (0, 0, 0)), dtype=float).ravel()
    length = float(np.linalg.norm(vector)) if vector.size == 3 else 0.0
    return vector / length if length > 0 else np.zeros(3)


def _turned(vector: Float64, axis: Float64, angle: float) -> Float64:
    """Turn a vector counterclockwise about a unit axis (Rodrigues).

    >>> _turned(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.pi).round(6) + 0.0
    array([ 0., -1.,  0.])
    """
    along = axis * (axis @ vector) * (1 - np.cos(angle))
    return np.asarray(vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle) + along)
