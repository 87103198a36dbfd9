"""Fluorescence maps as MAPS and XRF-Maps write them at the APS: (energy, row, column) in ``/MAPS``.

The summed spectra are ``MAPS/mca_arr``; the raw ones of the four elements of a detector
``MAPS_RAW/data_a`` to ``data_d``. Files ``.h50`` to ``.h53`` hold one element each, laid out as the
sum. ``MAPS/energy`` may be longer than the spectra: its first entries are theirs.
"""

import h5py

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.pieces import PLUS, Place

SUM = ("MAPS/mca_arr", "MAPS/Spectra/mca_arr")
ELEMENTS = tuple(f"MAPS_RAW/data_{letter}" for letter in "abcd")


def is_maps(file: h5py.File) -> bool:
    """Say whether a file has fluorescence spectra where MAPS keeps them."""
    return any(isinstance(file.get(name), h5py.Dataset) for name in (*SUM, *ELEMENTS))


def maps_map(file: h5py.File) -> dict[str, Place]:
    """Map the spectra of all elements of the detector, as `open_mapped` wants it.

    Raises
    ------
    SchemaError
        The axes of the map are missing.
    """
    arrays = [name for name in SUM if isinstance(file.get(name), h5py.Dataset)][:1]
    arrays = arrays or [name for name in ELEMENTS if isinstance(file.get(name), h5py.Dataset)]
    channels = file[arrays[0]].shape[0]
    found: dict[str, Place] = {"volume": PLUS.join(arrays)}
    for key, name in (("energy", "energy"), ("y", "y_axis"), ("x", "x_axis")):
        places = (f"{group}/{name}" for group in ("MAPS", "MAPS/Scan", "MAPS/Spectra"))
        axis = next((place for place in places if place in file), None)
        if axis is None:
            raise SchemaError(
                f"{file.filename} has no MAPS/{name}. Name the axes that it has: "
                f"volume={arrays[0]!r}, {key}=..., dims=('channel', 'y', 'x')."
            )
        longer = key == "energy" and file[axis].shape[0] > channels
        found[key] = f"{axis}[:{channels}]" if longer else axis
    return found
