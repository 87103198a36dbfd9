"""Files as nDTomo writes them: arrays at the root of an HDF5 file, told apart by their names.

nDTomo's volumes lie as (x, y, channel) with the first axis horizontal, its sinograms as
(translation, angle, channel). Its files carry no units; what is taken for granted is recorded in
``attrs["assumed"]``.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import xarray as xr

from ndtomo_dask.coordinates import axis_variable, derive_axes, in_unit
from ndtomo_dask.errors import SchemaError, StoreError, check_choice
from ndtomo_dask.io.companions import as_float, variable_attrs
from ndtomo_dask.io.dimensions import refuse_constant
from ndtomo_dask.io.hdf5 import (
    BLOCK_BYTES,
    HDF5_SUFFIXES,
    HDF5Array,
    dataset_paths,
    describe,
    lazy,
    open_file,
)
from ndtomo_dask.io.nxdata import attribute_text
from ndtomo_dask.variables import ANGLE, CHANNEL, COORDINATES, TRANSLATION, VARIABLES, X, Y, Z

Kind = Literal["volume", "sinogram"]

AXIS_NAMES = {
    "d": "d",
    "q": "q",
    "twotheta": "tth",
    "Energy": "energy",
    "tth": "tth",
    "energy": "energy",
    "xaxis": CHANNEL,
    "Channel": CHANNEL,
}
"""Names of nDTomo's spectral axis, in the order in which it looks for them, and ours."""
ANGLE_NAMES = ("angle", "angles", "theta")
TEXT_SUFFIXES = (".xy", ".asc", ".dat", ".txt")
OTHER_AXES = "axes"
"""Group in which `export` keeps further spectral axes, so that nDTomo finds only one."""

EV_ABOVE = 500.0
"""An energy axis without unit reaching beyond this is in eV: no such X-rays have 500 keV."""

FIT_NAMES = {
    "Area": "peak_area",
    "Position": "peak_position",
    "FWHM": "peak_fwhm",
    "gamma": "peak_fraction",
}
"""Maps of a single fitted peak; the background is ``bkga * axis + bkgb``."""
PEAK_NAMES = {"Area": "peak_area", "Position": "peak_position", "FWHM": "peak_fwhm"}
_PEAK = re.compile(r"Peak_(Area|Position|FWHM)_(\d+)")

_DIMS: dict[tuple[str, int], tuple[str, ...]] = {
    ("volume", 3): (X, Y, CHANNEL),
    ("volume", 4): (X, Y, Z, CHANNEL),
    ("sinogram", 2): (TRANSLATION, ANGLE),
    ("sinogram", 3): (TRANSLATION, ANGLE, CHANNEL),
}
_ORDER = {
    "volume": (Z, Y, X, CHANNEL),
    "sinogram": (ANGLE, TRANSLATION, CHANNEL),
}


def is_ndtomo(path: str | Path) -> bool:
    """Say whether a file follows nDTomo's convention: arrays at the root, under its names."""
    path = Path(path)
    if path.suffix.lower() in TEXT_SUFFIXES:
        return path.is_file()
    if path.suffix.lower() not in HDF5_SUFFIXES:
        return False
    with open_file(path) as file:
        names = _arrays(file)
        return bool({"data", "I", "Area"} & set(names)) or any(
            _PEAK.fullmatch(name) or name.startswith("peak_") for name in names
        )


def open_ndtomo(
    path: str | Path, *, kind: Kind | None = None, block_bytes: int = BLOCK_BYTES
) -> xr.Dataset:
    """Open a file of nDTomo: a volume, a sinogram, an image, a pattern, or maps of fitted peaks.

    ``/data`` is a sinogram where an ``angle``, ``angles`` or ``theta`` of matching length lies
    beside it, and a volume elsewhere; ``kind`` decides where the file does not. The channel axis is
    the one as long as the spectral axis, the last one where several are. Energies without unit are
    keV, or eV if they reach beyond 500.

    Raises
    ------
    SchemaError
        No axis of the data is as long as the spectral axis, or an axis is not monotonic.
    StoreError
        The file is missing, unreadable, or holds nothing that nDTomo writes.
    """
    if kind is not None:
        check_choice("kind", kind, ("volume", "sinogram"))
    if Path(path).suffix.lower() in TEXT_SUFFIXES:
        return _open_text(Path(path))
    with open_file(path) as file:
        names = _arrays(file)
        if "data" in names:
            ds = _open_data(file, kind, block_bytes)
        elif "I" in names:
            ds = _open_intensity(file)
        elif "Area" in names or any(_PEAK.fullmatch(name) for name in names):
            ds = _open_peaks(file, names)
        else:
            ds = _open_maps(file, names)
        history = attribute_text(file, "history")
    return ds.assign_attrs(history=history) if history else ds


def _arrays(file: h5py.File) -> list[str]:
    return [name for name, entry in file.items() if isinstance(entry, h5py.Dataset)]


def _open_data(file: h5py.File, kind: str | None, block_bytes: int) -> xr.Dataset:
    array = describe(file, "data")
    channel, coords = _spectral_axes(file, array.shape)
    angle, angles = _angles(file, array.shape, channel)
    kind = kind or ("volume" if angle is None else "sinogram")
    if kind == "volume" and array.ndim == 2:
        return _image(file, "data", array, {})
    dims = _data_dims(kind, array, channel, angle)
    data = xr.DataArray(as_float(lazy(array, block_bytes=block_bytes)), dims=dims)
    if CHANNEL not in dims:
        data = data.expand_dims(CHANNEL, axis=-1)
    data = data.transpose(*[dim for dim in _ORDER[kind] if dim in data.dims])
    attrs = variable_attrs(kind) | _units(file["data"])
    ds = xr.Dataset({kind: data.assign_attrs(attrs)}, attrs={"source": array.source})
    if kind == "sinogram" and angles is not None:
        coords[ANGLE] = angles
    return _with_coordinates(ds, file, coords)


def _spectral_axes(file: h5py.File, shape: tuple[int, ...]) -> tuple[int, dict[str, xr.Variable]]:
    """Return the axis of the channels (-1: none), and the spectral axes of that length."""
    if len(shape) == 2:
        return -1, {}
    found = {name: file[name] for name in AXIS_NAMES if _is_line(file.get(name))}
    fitting = [name for name, entry in found.items() if entry.size in shape]
    if found and not fitting:
        name, entry = next(iter(found.items()))
        raise SchemaError(
            f"axis {name!r} of {file.filename} has {entry.size} values, but no axis of 'data' "
            f"{shape} is that long. Remove the axis from the file, or write the right one."
        )
    if not fitting:
        return len(shape) - 1, {}
    size = found[fitting[0]].size
    channel = len(shape) - 1 if shape[-1] == size else shape.index(size)
    values = {name: entry for name, entry in found.items() if entry.size == size}
    group = file.get(OTHER_AXES)
    if isinstance(group, h5py.Group):
        values |= {name: group[name] for name in AXIS_NAMES if _is_line(group.get(name))}
    return channel, _named_axes(values)


def _is_line(entry: object) -> bool:
    return isinstance(entry, h5py.Dataset) and entry.ndim == 1 and entry.dtype.kind in "iuf"


def _named_axes(entries: dict[str, h5py.Dataset]) -> dict[str, xr.Variable]:
    """Read axes under our names; ``xaxis`` is a copy where another axis is there."""
    coords: dict[str, xr.Variable] = {}
    for name, entry in entries.items():
        key = AXIS_NAMES[name]
        if key == CHANNEL and coords:
            continue
        if key == CHANNEL:
            key = attribute_text(entry, "quantity") or CHANNEL
        coords.setdefault(key, _axis(key, entry))
    return coords


def _axis(key: str, entry: h5py.Dataset) -> xr.Variable:
    values = np.asarray(entry[()], dtype=np.float64)
    refuse_constant(key, values, where=f"axis {entry.name[1:]!r} of {entry.file.filename}")
    unit, assumed = attribute_text(entry, "units"), {}
    if key == CHANNEL:
        assumed = {"assumed": f"{entry.name[1:]!r} is of unknown quantity"}
        unit = None
    elif unit is None:
        unit = "eV" if key == "energy" and np.nanmax(values) > EV_ABOVE else COORDINATES[key].units
        assumed = {"assumed": f"{entry.name[1:]!r} has no unit in the file; read as {unit}"}
    variable = axis_variable(key, in_unit(values, axis=key, given=unit))
    variable.attrs.update(assumed)
    return variable


def _angles(
    file: h5py.File, shape: tuple[int, ...], channel: int
) -> tuple[int | None, xr.Variable | None]:
    """Return the axis of the angles, after the translations where both are as long."""
    for name in ANGLE_NAMES:
        entry = file.get(name)
        if not _is_line(entry):
            continue
        places = [i for i, size in enumerate(shape) if size == entry.size and i != channel]
        if not places:
            raise SchemaError(
                f"axis {name!r} of {file.filename} has {entry.size} values, but no axis of 'data' "
                f"{shape} is that long."
            )
        if entry.size == 0:
            raise SchemaError(f"{file.filename} has no projection angles: {name!r} is empty.")
        return places[-1], _axis(ANGLE, entry)
    return None, None


def _data_dims(kind: str, array: HDF5Array, channel: int, angle: int | None) -> tuple[str, ...]:
    if (kind, array.ndim) not in _DIMS:
        raise SchemaError(f"'data' in {array.path} has shape {array.shape}, which is no {kind}.")
    rest = [dim for dim in _DIMS[kind, array.ndim] if dim != CHANNEL]
    if angle is not None and kind == "sinogram":
        rest = [TRANSLATION, TRANSLATION]
        rest[angle - (0 <= channel < angle)] = ANGLE
    if channel >= 0:
        rest.insert(channel, CHANNEL)
    return tuple(rest)


def _with_coordinates(
    ds: xr.Dataset, file: h5py.File, coords: dict[str, xr.Variable]
) -> xr.Dataset:
    for name in (TRANSLATION, X, Y, Z):
        entry = file.get(name)
        if name in ds.dims and _is_line(entry) and entry.size == ds.sizes[name]:
            coords[name] = _axis(name, entry)
    if "wavelength" in file and file["wavelength"].size == 1:
        value = in_unit(
            np.ravel(file["wavelength"][()]),
            axis="d",
            given=_units(file["wavelength"]).get("units"),
        )
        attrs = {"units": "angstrom", "long_name": "wavelength"}
        coords["wavelength"] = xr.Variable((), float(value[0]), attrs)
    for name, variable in coords.items():
        if variable.ndim and variable.size != ds.sizes.get(str(variable.dims[0]), variable.size):
            raise SchemaError(f"axis {name!r} has {variable.size} values, but the data have "
                              f"{ds.sizes[variable.dims[0]]}.")  # fmt: skip
    return derive_axes(ds.assign_coords(coords))


def _units(entry: h5py.Dataset) -> dict[str, str]:
    unit = attribute_text(entry, "units")
    return {"units": unit} if unit else {}


def _open_intensity(file: h5py.File) -> xr.Dataset:
    """Open a pattern (``I``, ``xaxis``) or an image (``I``, ``Channel`` or ``chi`` and ``chf``)."""
    array = describe(file, "I")
    if array.ndim == 2:
        span = {"Channel": "channel", "chi": "first_channel", "chf": "last_channel"}
        numbers = {ours: int(file[name][()]) for name, ours in span.items() if name in file}
        return _image(file, "I", array, numbers)
    if array.ndim != 1:
        raise SchemaError(
            f"'I' in {array.path} has shape {array.shape}: neither pattern nor image."
        )
    _, coords = _spectral_axes(file, array.shape)
    ds = xr.Dataset(
        {"spectrum": (CHANNEL, as_float(lazy(array)), variable_attrs("spectrum"))},
        attrs={"source": array.source},
    )
    return _with_coordinates(ds, file, coords)


def _image(file: h5py.File, name: str, array: HDF5Array, numbers: dict[str, int]) -> xr.Dataset:
    data = xr.DataArray(as_float(lazy(array)), dims=(X, Y)).transpose(Y, X)
    attrs = variable_attrs("image") | _units(file[name]) | numbers
    ds = xr.Dataset({"image": data.assign_attrs(attrs)}, attrs={"source": array.source})
    return _with_coordinates(ds, file, {})


def _open_peaks(file: h5py.File, names: list[str]) -> xr.Dataset:
    """Open maps of one peak (``Area`` …) or of several (``Peak_Area_0`` …)."""
    numbered: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = _PEAK.fullmatch(name)
        if match:
            numbered.setdefault(PEAK_NAMES[match[1]], []).append((int(match[2]), name))
    if not numbered:
        numbered = {ours: [(0, name)] for name, ours in FIT_NAMES.items() if name in names}
    maps = {ours: _stacked(file, sorted(found), ours) for ours, found in numbered.items()}
    if len({len(found) for found in numbered.values()}) > 1 or "peak_area" not in numbered:
        raise SchemaError(
            f"{file.filename} has not as many areas as positions and widths of peaks: "
            f"{ {ours: len(found) for ours, found in numbered.items()} }."
        )
    for name in sorted({"bkga", "bkgb"} & set(names)):
        maps[name] = _stacked(file, [(0, name)], name)
    labels = _peak_labels(file, sorted(numbered["peak_area"]))
    ds = xr.Dataset(maps, attrs={"source": describe(file, numbered["peak_area"][0][1]).source})
    return _with_coordinates(ds, file, {"peak": xr.Variable("peak", labels)})


def _stacked(file: h5py.File, found: list[tuple[int, str]], ours: str) -> xr.DataArray:
    layers = [
        xr.DataArray(as_float(lazy(describe(file, name))), dims=(X, Y)).transpose(Y, X)
        for _, name in found
    ]
    attrs = variable_attrs(ours) if ours in VARIABLES else _BACKGROUND[ours]
    if ours == "peak_fraction":
        attrs |= {"assumed": "nDTomo's gamma is the Lorentzian share of its pseudo-Voigt"}
    data = xr.concat(layers, "peak").transpose(Y, X, "peak")
    return data.assign_attrs(attrs | _units(file[found[0][1]]))


_BACKGROUND = {
    "bkga": {"long_name": "slope of the background along the spectral axis"},
    "bkgb": {"long_name": "background where the spectral axis is zero"},
}


def _peak_labels(file: h5py.File, found: list[tuple[int, str]]) -> list[str]:
    return [attribute_text(file[name], "peak") or str(number) for number, name in found]


def _open_maps(file: h5py.File, names: list[str]) -> xr.Dataset:
    """Open result maps under their own names, such as ``peak_area_gt``, as (y, x)."""
    found = [name for name in names if file[name].ndim == 2 and file[name].dtype.kind in "iufb"]
    if not found:
        raise StoreError(
            f"{file.filename} holds nothing that nDTomo writes: there is no 'data', 'I', 'Area' or "
            f"map at its root. It has: {', '.join(dataset_paths(file)[:8]) or 'nothing'}."
        )
    shape = Counter(file[name].shape for name in found).most_common(1)[0][0]
    maps = {}
    for name in found:
        array = describe(file, name)
        dims = tuple(
            dim if size == usual else f"{dim}_{size}"
            for dim, size, usual in zip((Y, X), array.shape, shape, strict=True)
        )
        maps[name] = (dims, as_float(lazy(array)), _units(file[name]))
    return xr.Dataset(maps, attrs={"source": describe(file, found[0]).source})


def _open_text(path: Path) -> xr.Dataset:
    """Read two columns, position and intensity, as a spectrum over an axis of unknown quantity."""
    if not path.is_file():
        raise StoreError(f"{path} does not exist.")
    try:
        table = np.loadtxt(path, ndmin=2, comments=("#", "!", "'"))
    except ValueError as error:
        raise StoreError(f"{path} is not a table of numbers: {error}.") from error
    if table.shape[1] < 2 or not table.shape[0]:
        raise StoreError(f"{path} has {table.shape[1]} columns; expected two: axis and intensity.")
    refuse_constant(CHANNEL, table[:, 0], where=f"the first column of {path}")
    axis = axis_variable(CHANNEL, table[:, 0])
    axis.attrs["assumed"] = "the first column is of unknown quantity"
    return xr.Dataset(
        {"spectrum": (CHANNEL, table[:, 1], variable_attrs("spectrum"))},
        coords={CHANNEL: axis},
        attrs={"source": f"{path.name} {path.stat().st_size} bytes"},
    )
