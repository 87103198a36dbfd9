"""A program that writes a scan as an acquisition would: slice by slice, with pauses.

``python tests/scan_writer.py KIND SCAN.npz TARGET FOLDER`` waits, before its last piece, until
FOLDER has a file ``go``; then it writes that piece and a file ``done``.
"""

import sys
import time
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import xarray as xr
import zarr

PAUSE, PATIENCE = 0.3, 300.0
AXES = ("z", "angle", "translation", "tth")


def begin(path, scan, *, libver=None, dims=AXES, **options):
    """Make the file with its axes, as long as they will be, and an empty dataset."""
    file = h5py.File(path, "w", libver=libver)
    data = file.create_group("data")
    data.attrs.update(NX_class="NXdata", signal="sinogram", axes=list(dims))
    for name in dims:
        data[name] = scan[name]
    shape = options.pop("shape", tuple(scan[name].size for name in dims))
    projections = tuple(
        5 if dim == "angle" else 1 if dim == "z" else scan[dim].size for dim in dims
    )
    return file, data.create_dataset(
        "sinogram", shape=shape, dtype="f4", chunks=projections, compression="gzip", **options
    )


def swmr(path, scan):
    """Append slices to a dataset without a limit, in SWMR mode."""
    slices, *frame = scan["sinogram"].shape
    file, data = begin(path, scan, libver="latest", shape=(0, *frame), maxshape=(None, *frame))
    file.swmr_mode = True
    for number in range(slices):
        yield
        data.resize(number + 1, axis=0)
        data[number] = scan["sinogram"][number]
        data.flush()
    file.close()


def angles(path, scan):
    """Append projections of one slice, in SWMR mode."""
    values = scan["sinogram"][0]
    shape, limit = (0, *values.shape[1:]), (None, *values.shape[1:])
    file, data = begin(path, scan, libver="latest", dims=AXES[1:], shape=shape, maxshape=limit)
    file.swmr_mode = True
    for number in range(len(values)):
        if number % 10 == 0:
            yield
        data.resize(number + 1, axis=0)
        data[number] = values[number]
        data.flush()
    file.close()


def closing(path, scan):
    """Fill a dataset of its final shape; the file is closed between slices."""
    begin(path, scan)[0].close()
    for number, values in enumerate(scan["sinogram"]):
        yield
        with h5py.File(path, "a") as file:
            for angle, projection in enumerate(values):
                file["data/sinogram"][number, angle] = projection


def store(path, scan):
    """Write shards of a Zarr store, one per slice."""
    dims = (*AXES[:3], "channel")
    coords = {name: ("channel" if name == "tth" else name, scan[name]) for name in AXES}
    empty = xr.DataArray(da.zeros(scan["sinogram"].shape, dtype="f4"), coords, dims)
    shard = (1, *scan["sinogram"].shape[1:])
    empty.to_dataset(name="sinogram").to_zarr(
        path, compute=False, consolidated=False, zarr_format=3,
        encoding={"sinogram": {"shards": shard, "chunks": (*shard[:3], shard[3] // 2)}},
    )  # fmt: skip
    for number, values in enumerate(scan["sinogram"]):
        yield
        zarr.open_array(path / "sinogram", mode="r+")[number] = values


def main(kind, scan, target, folder):
    """Write all pieces, the last when it is asked for."""
    with np.load(scan) as content:
        writer = {"swmr": swmr, "angles": angles, "closing": closing, "store": store}[kind](
            Path(target), dict(content)
        )
    folder, pieces = Path(folder), {"angles": 2}.get(kind, 3)
    for number, _ in enumerate(writer, 1):
        (folder / "begun").touch()
        deadline = time.monotonic() + PATIENCE
        while number == pieces and not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(PAUSE)
    (folder / "done").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
