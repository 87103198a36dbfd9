"""Whose file is it: what a file's own layout says about which dataset is the scan."""

from pathlib import Path

import h5py

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.bliss import bliss_map, is_bliss
from ndtomo_dask.io.hdf5 import open_file
from ndtomo_dask.io.maps import is_maps, maps_map
from ndtomo_dask.io.nxdata import default_of
from ndtomo_dask.io.pieces import Place
from ndtomo_dask.io.xrdct import entry_of, xrdct_map


def known_map(path: str | Path, group: str | None = None) -> dict[str, Place]:
    """Map what a file says is its scan, as `open_mapped` wants it.

    Master files of Bliss, NXxrdct, maps of MAPS, the default plot of a NeXus file, Data Exchange.
    ``group`` is the scan or entry to take, where there are several.

    Raises
    ------
    SchemaError
        The file does not say it.
    """
    with open_file(path) as file:
        found = _map(file, group)
    if found is None:
        name = Path(path).name
        raise SchemaError(
            f"{path} does not say which dataset is the scan. Name it: "
            f"open_scan({name!r}, sinogram='entry/data/data', angle='entry/data/theta')."
        )
    return found


def _map(file: h5py.File, group: str | None) -> dict[str, Place] | None:
    if is_bliss(file):
        return bliss_map(file, group)
    if group is not None and not isinstance(file.get(group), h5py.Group):
        raise SchemaError(f"{file.filename} has no group {group!r}; it has {', '.join(file)}.")
    entry = entry_of(file)
    if entry is not None:
        return xrdct_map(entry)
    if is_maps(file):
        return maps_map(file)
    found = default_of(file if group is None else file[group])
    return None if found is None else {**found}
