"""Which motor is which axis, by the names that beamlines give them."""

from collections.abc import Mapping

import numpy as np

from ndtomo_dask.coordinates import in_unit
from ndtomo_dask.errors import SchemaError, nearest

NAMES = {
    "angle": ("angle", "rot", "srot", "rotm", "hrsrot", "diffrz", "rotation", "rotation_angle",
              "omega", "phi", "theta", "rz"),
    "translation": ("translation", "dty", "diffty", "ty", "samy", "sy", "samx", "trans", "y_trans",
                    "sample_x", "x"),
    "z": ("z", "dtz", "difftz", "samz", "sz", "height"),
    "monitor": ("monitor", "fpico6", "i0", "mon", "ic0", "fpico", "pico", "ct_monitor"),
}  # fmt: skip
"""Names under which each axis is looked for, the usual ones first."""


def named_column(
    axis: str,
    values: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    units: Mapping[str, str],
    *,
    where: str,
) -> np.ndarray | None:
    """Return the values of an axis, by the name given for it or a usual one, in our unit."""
    name = names.get(axis)
    if name is None:
        known = {column.lower(): column for column in values}
        name = next((known[word] for word in NAMES[axis] if word in known), None)
    elif name not in values:
        raise SchemaError(
            f"{where} has no {name!r} for {axis!r}. {nearest(name, values)}"
            if values
            else f"{where} has no {name!r} for {axis!r}, nor any other motor."
        )
    if name is None:
        return None
    column = np.asarray(values[name], dtype=np.float64)
    if axis == "monitor":
        return column
    return in_unit(column, axis=axis, given=units.get(axis) or units.get(name))
