"""NeXus and other HDF5 scans: by an explicit map of names to datasets, or by following NXdata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import xarray as xr

from ndtomo_dask import axes
from ndtomo_dask.coordinates import axis_variable, derive_axes, in_unit
from ndtomo_dask.errors import SchemaError, nearest
from ndtomo_dask.io.companions import (
    COMPANIONS,
    FIELDS,
    MEASURED_BESIDE,
    as_float,
    by_image_key,
    companion,
    image_key,
    variable_attrs,
)
from ndtomo_dask.io.dimensions import (
    GROWS,
    KINDS,
    explicit,
    line_of,
    named,
    refuse_constant,
    settle,
)
from ndtomo_dask.io.flattened import Grid, find_grid, is_flattened
from ndtomo_dask.io.growing import WATCHED, GrowingDataset, final_shape, limits_of, present_shape
from ndtomo_dask.io.hdf5 import BLOCK_BYTES, HDF5Array, find_dataset, lazy, open_file
from ndtomo_dask.io.nxdata import attribute_text, axis_words, default_of, find_default, siblings
from ndtomo_dask.io.pieces import (
    Place,
    describe_pieces,
    gridded,
    read_numbers,
    unit_place,
)
from ndtomo_dask.io.swmr import describe_growing, read_whole, refuse_untellable
from ndtomo_dask.io.xrdct import is_by_length
from ndtomo_dask.variables import ANGLE, CHANNEL, COORDINATES, LEADING, TRANSLATION, VARIABLES, Z

__all__ = ["find_default", "open_followed", "open_mapped"]

SCALARS = ("wavelength", "beam_energy")
AXES = tuple(name for name in COORDINATES if name != CHANNEL)
KEYS = (*KINDS, *AXES, *FIELDS, *COMPANIONS, *SCALARS)


@dataclass(frozen=True)
class _Axis:
    """A coordinate as read: its values in the data model's unit."""

    name: str
    values: np.ndarray
    grows: bool = False
    """Whether its dataset can get longer."""

    @property
    def dimension(self) -> str:
        return COORDINATES[self.name].dimension


def open_mapped(
    path: str | Path,
    mapping: Mapping[str, Place],
    *,
    dims: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> xr.Dataset:
    """Open any HDF5 scan lazily, told which dataset is what.

    Only one-dimensional axes are read now. Integers become float32 when they are read. Angles keep
    the order of the file.

    Parameters
    ----------
    path
        The HDF5 or NeXus file.
    mapping
        Name in the data model to path in the file, such as ``{"sinogram": "entry/data/data",
        "angle": "entry/data/theta"}``. One of "sinogram", "volume", "image", "spectrum"; any
        coordinate; "monitor", "flat", "dark" (frames are averaged), "mask"; and the scalars
        "wavelength" (Å) or "beam_energy" (keV), which may be given as numbers.
    dims
        Dimension of each axis of the data as it lies in the file. Without it they are settled by
        the file's ``axes`` attributes, then by the lengths of the coordinates.
    units
        Unit of a coordinate, such as ``{"energy": "eV"}``; goes before the file's own attribute.
        Without either, values are taken to be in the unit of the data model.
    block_bytes
        Size to which blocks are grown.

    Raises
    ------
    SchemaError
        An axis does not fit, is not monotonic or has an unknown unit, or the dimensions are
        ambiguous.
    StoreError
        The file or a dataset is missing or unreadable.
    """
    with open_file(path) as file:
        return _open(file, mapping, dims=dims, units=units, block_bytes=block_bytes)


def open_followed(
    path: str | Path,
    mapping: Mapping[str, Place] | None,
    *,
    expect: Mapping[str, int],
    dims: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> xr.Dataset:
    """Open a scan that is being written as it will be at its end, a slice per block.

    The number of entries that there will be is taken from ``expect``, from the length of the axes,
    or from the limit of the dataset's growth. Without a map the file's default NXdata is followed.
    Monitors and variances, which grow with the scan, are left out.
    """

    def read(file: h5py.File) -> xr.Dataset:
        known = mapping or default_of(file)
        if known is None:
            raise SchemaError(
                f"{path} does not say which dataset is the scan. Name it in the recipe: "
                f"input: {{path: ..., sinogram: entry/data/data, angle: entry/data/theta}}."
            )
        known = {name: place for name, place in known.items() if name not in MEASURED_BESIDE}
        return _open(file, known, dims=dims, units=units, block_bytes=block_bytes, expect=expect)

    return read_whole(path, read)


def _open(
    file: h5py.File,
    mapping: Mapping[str, Place],
    *,
    dims: Sequence[str] | None,
    units: Mapping[str, str] | None,
    block_bytes: int,
    expect: Mapping[str, int] | None = None,
) -> xr.Dataset:
    kind, units, follow = _kind(mapping), _checked_units(units), expect is not None
    pieces = describe_pieces(file, mapping[kind])
    array = pieces[0]
    beside = siblings(file, array.dataset, kind, fitting=not follow)
    mapping = beside | dict(mapping)
    counts = [piece.shape[0] if piece.ndim else 1 for piece in pieces]
    found = [
        _read_axis(file, mapping[name], name, units, counts) for name in AXES if name in mapping
    ]
    grid = None if follow or dims else _grid(pieces, found)
    if grid is not None:
        array, order = gridded(pieces, grid), _listed_dims(pieces[0], grid)
        found = [replace(axis, values=grid.positions.get(axis.name, axis.values)) for axis in found]
    elif expect is not None:
        found = [axis for axis in found if not (axis.grows and axis.dimension in LEADING)]
        array, order = _final(file, array, kind, dims, found, expect)
    else:
        order = _dimensions(file, array, kind, dims, found)
    sizes = dict(zip(order, array.shape, strict=True))
    _check_core(array, kind, sizes)
    companions = {
        name: companion(file, mapping[name], name, sizes, block_bytes, follow=follow, grid=grid)
        for name in (*FIELDS, *COMPANIONS)
        if name in mapping
    }
    scalars = _wavelength(file, mapping, units)
    single = [axis for axis, dim in enumerate(order) if dim in LEADING] if follow else []
    values = as_float(lazy(array, block_bytes=block_bytes, single=single))
    main = _labelled(kind, values, order)
    ds = xr.Dataset({kind: main, **companions}, attrs=_file_attrs(file, array))
    assumed = _against_names(file, array, kind, order) if grid is None else grid.words
    ds.attrs |= {"assumed": assumed} if assumed else {}
    ds = derive_axes(ds.assign_coords(scalars).assign_coords(_coordinates(found, ds)))
    if grid is None and not follow:
        ds = by_image_key(ds, image_key(file, array.dataset))
    if follow:
        ds.encoding[WATCHED] = GrowingDataset(array.path, array, order)
    return ds


def _final(
    file: h5py.File,
    array: HDF5Array,
    kind: str,
    dims: Sequence[str] | None,
    found: Sequence[_Axis],
    expect: Mapping[str, int],
) -> tuple[HDF5Array, tuple[str, ...]]:
    """Return a dataset that is being written in the shape that it will have, and its dimensions."""
    dataset = find_dataset(file, array.dataset)
    fixed = [axis for axis in found if not axis.grows]
    now = replace(array, shape=present_shape(dataset))
    told = {dim: n for dim, n in expect.items() if n in now.shape or GROWS in now.shape}
    order = _dimensions(file, now, kind, dims, fixed, told)
    refuse_untellable(dataset, array, tuple(i for i, dim in enumerate(order) if dim in LEADING))
    lengths = {axis.dimension: axis.values.size for axis in fixed if axis.dimension in order}
    where = f"{array.path}:{array.dataset}"
    shape = final_shape(dataset.shape, limits_of(dataset), order, {**lengths, **expect}, where)
    return describe_growing(file, array.dataset, shape), order


def _kind(mapping: Mapping[str, Place]) -> str:
    for key in mapping:
        if key not in KEYS:
            raise SchemaError(f"the map has {key!r}, which is no name of the data model. "
                              f"{nearest(key, KEYS)}")  # fmt: skip
    kinds = [key for key in KINDS if key in mapping]
    if len(kinds) != 1:
        raise SchemaError(
            f"the map needs exactly one of {', '.join(map(repr, KINDS))}, not {len(kinds)}: "
            f"for instance {{'sinogram': 'entry/data/data'}}."
        )
    return kinds[0]


def _checked_units(units: Mapping[str, str] | None) -> Mapping[str, str]:
    for name in units or {}:
        if name not in (*AXES, *SCALARS):
            raise SchemaError(f"units names {name!r}. {nearest(name, (*AXES, *SCALARS))}")
    return units or {}


def _read_axis(
    file: h5py.File, place: Place, name: str, units: Mapping[str, str], counts: Sequence[int]
) -> _Axis:
    where = f"axis {name!r} at {place!r}"
    values = line_of(read_numbers(file, place, name, counts), where=where)
    refuse_constant(name, values, where=where)
    dataset = find_dataset(file, unit_place(place))
    unit = units.get(name) or attribute_text(dataset, "units")
    return _Axis(name, in_unit(values, axis=name, given=unit), dataset.maxshape != dataset.shape)


def _grid(pieces: Sequence[HDF5Array], found: Sequence[_Axis]) -> Grid | None:
    """Return the grid of a scan that was written as a list of points; None for any other."""
    motors = {axis.name: axis.values for axis in found if axis.name in (ANGLE, TRANSLATION)}
    points = sum(piece.shape[0] for piece in pieces if piece.ndim)
    shape = (points, *pieces[0].shape[1:])
    where = f"{pieces[0].dataset} {shape}"
    if len(motors) == 2 and is_flattened(shape, motors[ANGLE], motors[TRANSLATION]):
        return find_grid(motors[ANGLE], motors[TRANSLATION], where=where)
    if len(pieces) > 1:
        raise SchemaError(
            f"{where} lies in {len(pieces)} pieces, so it needs the angle and the translation of "
            f"each of the {points} points: angle=[...], translation=[...], a dataset per piece."
        )
    return None


def _against_names(
    file: h5py.File, array: HDF5Array, kind: str, order: Sequence[str]
) -> str | None:
    """Say that the lengths of the axes were believed, if the file's names for them were not."""
    names = axis_words(file, array.dataset, array.ndim)
    words = named(names, kind)
    if all(word in (None, dim) for word, dim in zip(words, order, strict=True)):
        return None
    return f"axes {', '.join(order)} of {array.dataset} by length, though it calls them {names}"


def _listed_dims(piece: HDF5Array, grid: Grid) -> tuple[str, ...]:
    if piece.ndim > 2:
        raise SchemaError(
            f"{piece.dataset} {piece.shape} holds detector frames. Integrate them, "
            f"nd.integrate(nd.open_frames(...), calibration='x.poni'), or map a dataset with a "
            f"spectrum or a number per point."
        )
    return (grid.slow, grid.fast, CHANNEL)[: piece.ndim + 1]


def _dimensions(
    file: h5py.File,
    array: HDF5Array,
    kind: str,
    dims: Sequence[str] | None,
    found: Sequence[_Axis],
    expect: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    if dims is not None:
        return explicit(dims, array.shape, kind, array.dataset)
    lengths = {axis.dimension: axis.values.size for axis in found if axis.values.size > 1}
    known = KINDS[kind]
    foreign = [dim for dim in lengths if dim not in known]
    if foreign:
        raise SchemaError(f"a {kind} has no {foreign[0]!r} axis; it has {', '.join(known)}.")
    words = named(axis_words(file, array.dataset, array.ndim), kind)
    if is_by_length(file, array.dataset):
        words = [None] * array.ndim
    if ANGLE in lengths and ANGLE not in words and Z not in lengths:
        words = [None if word == Z else word for word in words]  # rows, each at an angle of its own
    lengths |= {axis.dimension: axis.values.size for axis in found if axis.dimension in words}
    if len(array.shape) > len(known):
        raise SchemaError(f"{array.dataset} {array.shape} has more axes than a {kind}: {known}.")
    return settle(array.shape, words, lengths | dict(expect or {}), kind, array.dataset)


def _check_core(array: HDF5Array, kind: str, sizes: Mapping[str, int]) -> None:
    missing = [dim for dim in VARIABLES[kind].dims if dim not in sizes and dim != CHANNEL]
    if missing:
        raise SchemaError(
            f"a {kind} needs an axis {missing[0]!r}, but {array.dataset} {array.shape} has "
            f"{', '.join(sizes) or 'no axes'} only."
        )
    for dim, size in sizes.items():
        if size == 0:
            what = "projection angles" if dim == ANGLE else f"entries along {dim!r}"
            raise SchemaError(f"{array.path}:{array.dataset} {array.shape} has no {what}.")


def _labelled(kind: str, array: da.Array, dims: Sequence[str]) -> xr.DataArray:
    """Put the axes in canonical order, with a channel axis of size 1 where there is none."""
    data = xr.DataArray(array, dims=dims)
    if CHANNEL in KINDS[kind] and CHANNEL not in dims:
        data = data.expand_dims(CHANNEL, axis=-1)
    data = data.transpose(*[dim for dim in KINDS[kind] if dim in data.dims])
    return data.assign_attrs(variable_attrs(kind))


def _wavelength(
    file: h5py.File, mapping: Mapping[str, Place], units: Mapping[str, str]
) -> dict[str, xr.Variable]:
    for name, axis in (("wavelength", "d"), ("beam_energy", "energy")):
        if name in mapping:
            value = _scalar(file, mapping[name], name, axis, units)
            found = value if name == "wavelength" else float(axes.wavelength_from_energy(value))
            attrs = {"units": "angstrom", "long_name": "wavelength"}
            return {"wavelength": xr.Variable((), found, attrs)}
    return {}


def _scalar(file: h5py.File, place: Place, name: str, axis: str, units: Mapping[str, str]) -> float:
    unit = units.get(name)
    if not isinstance(place, float | int):
        dataset = find_dataset(file, unit_place(place))
        unit = unit or attribute_text(dataset, "units")
        values = np.unique(np.asarray(dataset[()], dtype=np.float64))
    else:
        values = np.array([place], dtype=np.float64)
    if values.size != 1 or not (np.isfinite(values).all() and values[0] > 0):
        raise SchemaError(
            f"{name!r} at {place!r} is not one positive number. Give the number itself: "
            f"{{{name!r}: 0.2}}."
        )
    return float(in_unit(values, axis=axis, given=unit)[0])


def _file_attrs(file: h5py.File, array: HDF5Array) -> dict[str, str]:
    history = attribute_text(file, "history")
    return {"source": array.source} | ({"history": history} if history else {})


def _coordinates(found: Sequence[_Axis], ds: xr.Dataset) -> dict[str, xr.Variable]:
    coords = {}
    for axis in found:
        variable = axis_variable(axis.name, axis.values, size=ds.sizes.get(axis.dimension))
        if axis.dimension in ds.dims:
            coords[axis.name] = variable
        elif variable.size == 1:
            coords[axis.name] = xr.Variable((), variable.values[0], variable.attrs)
    return coords
