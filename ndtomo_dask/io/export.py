"""Files for other programs: nDTomo's HDF5, NeXus, columns of text, and pictures."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from ndtomo_dask.errors import BackendError, SchemaError, StoreError, check_choice, nearest
from ndtomo_dask.io.write_hdf5 import write_ndtomo, write_nexus
from ndtomo_dask.io.xye import write_xye
from ndtomo_dask.variables import CHANNEL, SPECTRAL_AXES, X, Y

Format = Literal["ndtomo", "nexus", "xy", "xye", "png"]
SUFFIXES: dict[str, Format] = {
    ".h5": "ndtomo",
    ".hdf5": "ndtomo",
    ".nxs": "nexus",
    ".xy": "xy",
    ".xye": "xye",
    ".png": "png",
}
FORMATS = ("ndtomo", "nexus", "xy", "xye", "png")
_PREFERRED = {
    "ndtomo": ("volume", "sinogram", "image", "spectrum", "peak_area"),
    "nexus": ("volume", "sinogram", "image", "spectrum"),
    "xy": ("spectrum", "volume"),
    "xye": ("spectrum", "volume"),
    "png": ("image",),
}


def export(
    ds: xr.Dataset | xr.DataArray,
    path: str | Path,
    *,
    variable: str | None = None,
    format: Format | None = None,
    overwrite: bool = False,
) -> Path:
    """Compute one variable and write it for other programs, block by block in bounded memory.

    The file appears under its name only when it is whole.

    Parameters
    ----------
    ds
        The dataset, or one variable of it.
    path
        Where to write; the suffix chooses the format.
    variable
        What to write; the volume, else the sinogram, image, spectrum or peak maps, if not given.
        Any of the peak maps writes them all.
    format
        "ndtomo" (``.h5``, ``.hdf5``: float32 arrays in nDTomo's order and under its names),
        "nexus" (``.nxs``: NXdata in the array's own dtype, with the monitor and what else belongs
        to the scan), "xy" (two columns: axis and intensity, averaged over everything else), "xye"
        (the same by 2θ and with errors; `export_patterns` writes one per pixel) or "png" (one
        image, rows downwards, NaN transparent).
    overwrite
        Whether a file of that name is replaced.

    Raises
    ------
    StoreError
        The file exists, its folder does not, or the disk is full.
    SchemaError
        The dataset has no such variable, or it does not fit the format.
    BackendError
        A picture is asked for and matplotlib is not installed.
    """
    path = Path(path)
    format = _format(path, format)
    if isinstance(ds, xr.DataArray):
        ds = ds.to_dataset(name="image" if ds.name is None else ds.name)
    name = _chosen(ds, variable, format)
    with _new_file(path, overwrite=overwrite) as partial:
        _WRITERS[format](ds, name, partial)
    return path


def _format(path: Path, given: Format | None) -> Format:
    if given is not None:
        check_choice("format", given, FORMATS)
        return given
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise StoreError(
            f"{path} has suffix {suffix!r}, which export does not know. {nearest(suffix, SUFFIXES)}"
        )
    return SUFFIXES[suffix]


def _chosen(ds: xr.Dataset, variable: str | None, format: str) -> str:
    names = [str(name) for name in ds.data_vars]
    if variable is not None:
        if variable not in names:
            raise SchemaError(
                f"export was asked for {variable!r}, which the dataset does not have. "
                f"{nearest(variable, names)}"
            )
        return variable
    found = [name for name in _PREFERRED[format] if name in names] or names
    if not found or (len(names) > 1 and found is names):
        raise SchemaError(
            f"export does not know which variable to write. Choose one: variable=... of "
            f"{', '.join(names) or 'none'}."
        )
    return found[0]


@contextmanager
def _new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Hand out a temporary name, and rename it to ``path`` when the block ends well."""
    if path.exists() and not overwrite:
        raise StoreError(f"{path} exists. Pass overwrite=True to replace it.")
    if not path.parent.is_dir():
        raise StoreError(f"the folder {path.parent} does not exist. Create it first.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        full = error.errno == errno.ENOSPC or "No space left" in str(error)
        if isinstance(error, StoreError) or not (full or error.errno):
            raise
        why = "the disk is full" if full else error.strerror
        raise StoreError(f"{path} cannot be written: {why}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _write_xy(ds: xr.Dataset, name: str, path: Path) -> None:
    array = ds[name]
    if CHANNEL not in array.dims:
        raise SchemaError(f"an .xy file holds a spectrum, but {name!r} has {array.dims}.")
    rest = [dim for dim in array.dims if dim != CHANNEL]
    mean = array.mean(rest, skipna=True, dtype=np.float64) if rest else array
    present = [axis for axis in (*SPECTRAL_AXES, CHANNEL) if axis in array.coords]
    axis = array[present[0]].values if present else np.arange(array.sizes[CHANNEL])
    np.savetxt(path, np.column_stack([axis, mean.values]), fmt="%.9g")


def _write_png(ds: xr.Dataset, name: str, path: Path) -> None:
    try:
        from matplotlib.image import imsave
    except ImportError as error:
        raise BackendError(
            "pictures need matplotlib, which is not installed here: "
            "pip install 'ndtomo-dask[plot]'."
        ) from error
    array = ds[name].squeeze(
        [dim for dim, n in ds[name].sizes.items() if n == 1 and dim not in (Y, X)]
    )
    if set(array.dims) != {Y, X}:
        other = next((dim for dim in array.dims if dim not in (Y, X)), "peak")
        raise SchemaError(
            f"a picture shows (y, x), but {name!r} has {array.dims}. Select one image first, "
            f"for instance ds.isel({other}=0)."
        )
    values = np.asarray(array.transpose(Y, X).values, dtype=float)
    imsave(path, np.ma.masked_invalid(values), cmap="viridis", origin="upper", format="png")


_WRITERS: dict[str, Callable[[xr.Dataset, str, Path], None]] = {
    "ndtomo": write_ndtomo,
    "nexus": write_nexus,
    "xy": _write_xy,
    "xye": write_xye,
    "png": _write_png,
}
