"""Detector frames written as beamlines write them, one line of the scan at a time."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xarray as xr

from ndtomo_dask.errors import SchemaError, StoreError, check_choice
from ndtomo_dask.io.frame_files import require_fabio
from ndtomo_dask.io.frame_series import TABLE
from ndtomo_dask.variables import ANGLE, FRAMES, MONITOR, TRANSLATION, Z

Format = Literal["esrf", "eiger", "cbf", "edf", "tif"]
DETECTOR = "detector"
_MOTORS = {ANGLE: ("rot", "deg"), TRANSLATION: ("dty", "mm"), Z: ("dtz", "mm")}
"""Motors of the ESRF, and their units."""
_GONIOMETER = {ANGLE: "sample/goniometer/omega", TRANSLATION: "sample/positioners/dty",
               Z: "sample/positioners/dtz", MONITOR.name: "control/i0"}  # fmt: skip
"""Where an Eiger master has the positions."""
_AT_ONCE = 8
"""Frames that are computed together."""
_WRITERS = {"cbf": "CbfImage", "edf": "EdfImage", "tif": "TifImage"}


def export_frames(
    ds: xr.Dataset,
    folder: str | Path,
    *,
    format: Format = "esrf",
    fast: Literal["angle", "translation"] = "angle",
    snake: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write the frames of a scan as a beamline would, in the order in which it takes them.

    Parameters
    ----------
    ds
        A scan with ``frames ([z,] angle, translation, row, column)``, as `simulate_frames` returns
        it. Slices follow one after the other.
    folder
        Where the files go.
    format
        ``"esrf"``: ``master.h5`` with a scan ``N.1`` for each line, motors ``rot``, ``dty`` and
        ``dtz``, monitor ``fpico6``, and external links to a file of frames per line, in chunks of a
        frame compressed by bitshuffle and LZ4. ``"eiger"``: ``scan_master.h5`` with such links as
        ``entry/data/data_000001`` …, the detector's pixel mask, and the positions of all frames.
        ``"cbf"``, ``"edf"``, ``"tif"``: a file per frame, and ``positions.csv``.
    fast
        The axis along which a line is scanned.
    snake
        Whether every other line is scanned backwards.
    overwrite
        Write into a folder that has files.

    Returns
    -------
        What `open_frames` opens: the master, or the folder.
    """
    check_choice("format", format, ("esrf", "eiger", *_WRITERS))
    check_choice("fast", fast, (ANGLE, TRANSLATION))
    wanted = (ANGLE, TRANSLATION, "row", "column")
    if FRAMES.name not in ds or ds[FRAMES.name].dims not in (wanted, (Z, *wanted)):
        raise SchemaError(
            "export_frames needs frames ([z,] angle, translation, row, column): ds = "
            "simulate_frames(ds, 'detector.poni')."
        )
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise StoreError(f"{folder} has files. Name another folder, or pass overwrite=True.")
    folder.mkdir(parents=True, exist_ok=True)
    lines = _lines(ds, fast, snake=snake)
    if format in _WRITERS:
        return _write_series(lines, folder, format)
    return _write_esrf(lines, folder) if format == "esrf" else _write_eiger(lines, folder)


def _lines(ds: xr.Dataset, fast: str, *, snake: bool) -> Iterator[xr.Dataset]:
    """Cut a scan into its lines, each in the order in which it is scanned."""
    slow = TRANSLATION if fast == ANGLE else ANGLE
    names = [name for name in (FRAMES.name, MONITOR.name) if name in ds]
    frames = ds[names]
    for scan in [frames.isel(z=number) for number in range(ds.sizes.get(Z, 0))] or [frames]:
        for number in range(scan.sizes[slow]):
            line = scan.transpose(fast, slow, ...).isel({slow: number}).rename_dims({fast: "point"})
            yield line.isel(point=slice(None, None, -1)) if snake and number % 2 else line


def _frames(line: xr.Dataset) -> Iterator[np.ndarray]:
    for first in range(0, line.sizes["point"], _AT_ONCE):
        yield from line[FRAMES.name].isel(point=slice(first, first + _AT_ONCE)).values


def _positions(line: xr.Dataset) -> dict[str, np.ndarray]:
    """Where each frame of a line was taken, and the monitor of each."""
    names = [name for name in (*_MOTORS, MONITOR.name) if name in line.variables]
    values = {name: np.asarray(line[name], dtype=float) for name in names}
    return {name: np.broadcast_to(one, (line.sizes["point"],)) for name, one in values.items()}


def _write_esrf(lines: Iterator[xr.Dataset], folder: Path) -> Path:
    master = folder / "master.h5"
    with h5py.File(master, "w") as file:
        for number, line in enumerate(lines, start=1):
            name = f"scan{number:04d}/{DETECTOR}_0000.h5"
            _write_line(line, folder / name, "entry_0000/measurement/data")
            scan = file.create_group(f"{number}.1")
            scan["title"] = f"fscan rot {line.sizes['point']} points"
            measurement = scan.create_group("measurement")
            measurement[DETECTOR] = h5py.ExternalLink(name, "/entry_0000/measurement/data")
            positioners = scan.create_group("instrument/positioners")
            columns = _positions(line)
            for axis in (axis for axis in _MOTORS if axis in columns):
                motor, unit = _MOTORS[axis]
                moves = line[axis].ndim > 0
                place = measurement if moves else positioners
                place[motor] = columns[axis] if moves else columns[axis][0]
                place[motor].attrs["units"] = unit
            if MONITOR.name in columns:
                measurement["fpico6"] = columns[MONITOR.name]
    return master


def _write_eiger(lines: Iterator[xr.Dataset], folder: Path) -> Path:
    master = folder / "scan_master.h5"
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    with h5py.File(master, "w") as file:
        entry = file.create_group("entry")
        number = 0
        for number, line in enumerate(lines, start=1):
            name = f"scan_data_{number:06d}.h5"
            first = _write_line(line, folder / name, "entry/data/data")
            entry[f"data/data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            for column, values in _positions(line).items():
                columns[column].append(values)
        specific = entry.create_group("instrument/detector/detectorSpecific")
        specific["nimages"], specific["ntrigger"] = line.sizes["point"], number
        specific["pixel_mask"] = _is_dead(first).astype(np.uint32)
        for column, parts in columns.items():
            entry[_GONIOMETER[column]] = np.concatenate(parts)
            if column in _MOTORS:
                entry[_GONIOMETER[column]].attrs["units"] = _MOTORS[column][1]
    return master


def _is_dead(frame: np.ndarray) -> np.ndarray:
    """Pixels in gaps of the detector, by the numbers that stand for them."""
    if frame.dtype.kind not in "iu":
        return np.asarray(np.isnan(frame))
    return np.asarray((frame < 0) | (frame == np.iinfo(frame.dtype).max))


def _write_line(line: xr.Dataset, path: Path, name: str) -> np.ndarray:
    """Write the frames of a line into a file of their own; return the last one."""
    import hdf5plugin

    path.parent.mkdir(exist_ok=True)
    frames = line[FRAMES.name]
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            name, shape=frames.shape, dtype=frames.dtype,
            chunks=(1, *frames.shape[1:]), compression=hdf5plugin.Bitshuffle(cname="lz4"),
        )  # fmt: skip
        for number, frame in enumerate(_frames(line)):
            data[number] = frame
    return frame


def _write_series(lines: Iterator[xr.Dataset], folder: Path, kind: str) -> Path:
    write = _image_writer(kind)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        table: Any = None
        number = 0
        for line in lines:
            columns = _positions(line)
            if table is None:
                table = csv.writer(file)
                table.writerow(["file", *columns])
            for row, frame in enumerate(_frames(line)):
                name = f"frame_{number:06d}.{kind}"
                write(frame, str(folder / name))
                table.writerow([name, *(repr(float(column[row])) for column in columns.values())])
                number += 1
    return folder


def _image_writer(kind: str) -> Any:
    fabio = require_fabio()
    image = getattr(getattr(fabio, _WRITERS[kind].lower()), _WRITERS[kind])
    wanted = np.int32 if kind == "cbf" else None  # the one type that CBF compresses

    def write(frame: np.ndarray, path: str) -> None:
        image(data=frame if wanted is None else frame.astype(wanted)).write(path)

    return write
