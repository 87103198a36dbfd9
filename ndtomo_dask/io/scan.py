"""Opening whatever holds a scan, and turning it into a store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from ndtomo_dask.apply import allowed_memory, sizes_of
from ndtomo_dask.block_sizes import LARGEST_BLOCK, shard_of_projections
from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.coordinates import derive_axes
from ndtomo_dask.errors import OptionError, SchemaError, StoreError, nearest
from ndtomo_dask.io.dimensions import KINDS
from ndtomo_dask.io.families import known_map
from ndtomo_dask.io.growing import growing_store
from ndtomo_dask.io.layout import open_store
from ndtomo_dask.io.line_series import is_line_series, open_lines
from ndtomo_dask.io.ndtomo import is_ndtomo, open_ndtomo
from ndtomo_dask.io.nexus import open_followed, open_mapped
from ndtomo_dask.io.pieces import Place
from ndtomo_dask.io.store import is_store, save
from ndtomo_dask.schema import record

TEXT_SUFFIXES = (".xy", ".asc")


def open_scan(
    path: str | Path,
    *,
    layout: str | None = None,
    group: str | None = None,
    dims: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    kind: Literal["volume", "sinogram"] | None = None,
    allowed_mem: int | str | None = None,
    follow: bool = False,
    expect: Mapping[str, int] | None = None,
    **datasets: Place,
) -> xr.Dataset:
    """Open a scan lazily: a Zarr store of ours, an nDTomo file, or any NeXus/HDF5 file.

    Parameters
    ----------
    path
        A store (folder), or an HDF5 file; ``.xy`` and ``.asc`` hold one spectrum. A folder of CBF,
        EDF or TIFF files with one line each has a table ``positions.csv`` beside them.
    layout
        Of a store: ``"images"`` (default) for corrections and `reconstruct`, ``"spectra"`` for
        `find_components` and `fit_peaks`. A file is read in the blocks that its own chunks allow.
    group
        Group inside a store; of a file, the entry or the scan to take, such as ``"2.1"``.
    dims
        Dimensions of the main dataset, in the file's order, where its attributes and the lengths
        of the axes do not settle them, such as ``("angle", "z", "translation")``.
    units
        Unit of an axis whose dataset has no ``units`` attribute, such as ``{"energy": "eV"}``.
    kind
        Of an nDTomo file: ``"volume"`` or ``"sinogram"``, where it does not tell.
    allowed_mem
        Bytes one task may hold; decides the blocks.
    follow
        Open a NeXus/HDF5 file or a store that is still being written, as it will be at its end.
        What is read of a file before it is there is waited for, a minute at most.
    expect
        How many entries a dimension will have, such as ``{"z": 30}``, where the scan has fewer as
        yet; without ``follow``, a scan that has another number is refused.
    datasets
        Which dataset is what, by the names of the data model: ``sinogram="entry/data/data"``,
        ``angle="entry/data/theta"``, ``translation=…``, ``tth=…``, ``monitor=…``, ``flat=…``,
        ``dark=…``, or ``volume=…``, ``energy=…``, ``x=…``, ``y=…``. A list of paths is a scan in
        pieces; ``"a + b"`` adds detectors; ``"energy[:2000]"`` takes the first entries of an axis.
        Without any, what the file itself says is followed: its default NXdata group, or the layout
        of Bliss, NXxrdct, MAPS or Data Exchange. Points listed one after the other are put on
        the grid of their motors.

    Raises
    ------
    StoreError
        The file is missing, truncated, or has no such dataset.
    SchemaError
        An axis has another length than the data, or is not monotonic, or there are no angles.
    """
    path = Path(path)
    _check_expected(expect)
    block_bytes = min(LARGEST_BLOCK, max(MB, allowed_memory(allowed_mem) // 4))
    if is_line_series(path):
        ds = record(open_lines(path), "open_scan", path=path.name)
        return _as_expected(ds, expect, path)
    if path.is_dir():
        if datasets:
            raise OptionError(
                f"{path} is a store, whose variables have names: leave out {[*datasets]}."
            )
        ds = open_store(path, layout=layout or "images", group=group, allowed_mem=allowed_mem)
        ds = growing_store(ds, path if group is None else path / group) if follow else ds
        return _as_expected(ds, expect, path)
    if follow:
        ds = open_followed(path, datasets or None, expect=expect or {}, dims=dims, units=units,
                           block_bytes=block_bytes)  # fmt: skip
    elif datasets:
        ds = open_mapped(path, datasets, dims=dims, units=units, block_bytes=block_bytes)
    elif path.suffix in TEXT_SUFFIXES or is_ndtomo(path):
        ds = open_ndtomo(path, kind=kind, block_bytes=block_bytes)
    else:
        ds = open_mapped(
            path, known_map(path, group), dims=dims, units=units, block_bytes=block_bytes
        )
    ds = record(derive_axes(ds), "open_scan", path=path.name, **datasets)
    return _as_expected(ds, expect, path)


def _check_expected(expect: Any) -> None:
    known = {dim for dims in KINDS.values() for dim in dims}
    if not isinstance(expect, Mapping | None):
        raise OptionError(f"expect is written {{z: 30}}, not {expect!r}.")
    for dim, wanted in (expect or {}).items():
        if dim not in known:
            raise OptionError(f"expect has {dim!r}. {nearest(str(dim), known)}")
        if not isinstance(wanted, int) or wanted < 1:
            raise OptionError(f"expect has {dim}: {wanted!r}, not a number of entries.")


def _as_expected(ds: xr.Dataset, expect: Mapping[str, int] | None, path: Path) -> xr.Dataset:
    """Refuse a scan that is not as long as it should be."""
    for dim, wanted in (expect or {}).items():
        if dim not in ds.dims:
            raise SchemaError(
                f"expect has {dim!r}, which {path} does not have. {nearest(dim, map(str, ds.dims))}"
            )
        if ds.sizes[dim] != wanted:
            raise SchemaError(
                f"{path} has {ds.sizes[dim]} entries along {dim!r}, but {wanted} are expected. If "
                f"it is still being written, follow it: ndtomo-dask run --follow."
            )
    return ds


def convert(
    path: str | Path,
    store: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Copy a scan from a file into a Zarr store, at the speed of the disk and in bounded memory.

    Sinograms are written by projection, in shards cut inside along the channels, so that the store
    can then be opened in whole images. ``options`` are those of `open_scan`.
    """
    if is_store(Path(path)):
        raise StoreError(f"{path} is a store already. Copy the folder.")
    ds = open_scan(path, **options)

    save(by_projection(ds), store, resume=resume, overwrite=overwrite)


def by_projection(ds: xr.Dataset) -> xr.Dataset:
    """Give a sinogram the blocks in which it is stored: some angles, all else."""
    if "sinogram" not in ds:
        return ds
    sinogram = ds["sinogram"]
    sizes = sizes_of(sinogram)
    return ds.assign(sinogram=sinogram.chunk(shard_of_projections(sizes, sinogram.dtype.itemsize)))
