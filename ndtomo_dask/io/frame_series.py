"""Frames as a series of image files, CBF, EDF or TIFF, with a table of their positions."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ndtomo_dask.errors import SchemaError, StoreError, nearest
from ndtomo_dask.io.frame_files import Found, FrameRun, Unreadable, read_image, require_fabio
from ndtomo_dask.io.motors import NAMES, named_column

SUFFIXES = (".cbf", ".edf", ".tif", ".tiff")
TABLE = "positions.csv"
"""Table that is looked for in the folder of a series."""
_FILE = ("file", "filename", "name", "path", "frame")


def is_series(path: Path) -> bool:
    """Tell whether a path is a folder, a pattern or an image, rather than an HDF5 file."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES or "*" in path.name


def find_series(
    path: Path,
    names: Mapping[str, str] | None,
    units: Mapping[str, str],
    positions: Path | None,
) -> Found:
    """Find the image files of a series, and with ``names`` the positions of a table."""
    files = series_files(path)
    frames_in_file, shape, dtype = _first_readable(files)
    runs = tuple(FrameRun(str(file), "", 0, frames_in_file) for file in files)
    found = Found(runs, shape, dtype)
    if names is None:
        return found
    table = _table_path(path, positions)
    if table is not None:
        _take_table(found, table, files, names, units)
    elif names:
        raise SchemaError(
            f"{path} has no table of positions to find {next(iter(names.values()))!r} in: pass "
            f"positions='positions.csv', with columns file, angle and translation."
        )
    return found


def series_files(path: Path) -> list[Path]:
    """List the images of a folder or of a pattern, in natural order: 9 before 10."""
    folder, pattern = (path, "*") if path.is_dir() else (path.parent, path.name)
    if not folder.is_dir():
        raise StoreError(f"{folder} does not exist.")
    files = [file for file in folder.glob(pattern) if file.suffix.lower() in SUFFIXES]
    if not files:
        raise StoreError(f"{path} has no frames: no file there ends in {', '.join(SUFFIXES)}.")
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) > 1:
        raise StoreError(
            f"{path} has files of several kinds ({', '.join(kinds)}): name one, such as "
            f"'{folder / f'*{kinds[0]}'}'."
        )
    return sorted(files, key=lambda file: _natural(file.name))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Key by which "f9" sorts before "f10"."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _first_readable(files: list[Path]) -> tuple[int, tuple[int, int], np.dtype]:
    fabio = require_fabio()
    for file in files:
        frame = read_image(str(file))
        if isinstance(frame, Unreadable) or frame.ndim != 2:
            continue
        with fabio.open(str(file)) as image:
            count = int(getattr(image, "nframes", 1) or 1)
        return count, (frame.shape[0], frame.shape[1]), frame.dtype
    raise StoreError(f"no frame of {files[0].parent} can be read: {len(files)} files were tried.")


def _table_path(path: Path, positions: Path | None) -> Path | None:
    if positions is None:
        beside = (path if path.is_dir() else path.parent) / TABLE
        return beside if beside.is_file() else None
    if not positions.is_file():
        raise StoreError(f"positions {positions} does not exist.")
    return positions


def _take_table(
    found: Found,
    table: Path,
    files: list[Path],
    names: Mapping[str, str],
    units: Mapping[str, str],
) -> None:
    columns = _read_table(table)
    key = next((name for name in columns if name.lower() in _FILE), None)
    rows = _rows(columns.pop(key) if key else None, columns, table, files, found.count)
    values = {name: _numbers(column, name, table)[rows] for name, column in columns.items()}
    found.motors = tuple(values)
    for axis in NAMES:
        column = named_column(axis, values, names, units, where=str(table))
        if column is not None and axis == "monitor":
            found.monitor = column
        elif column is not None:
            found.positions[axis] = column


def _read_table(path: Path) -> dict[str, list[str]]:
    text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = next((sign for sign in (",", ";", "\t") if lines and sign in lines[0]), " ")
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise SchemaError(
            f"{path} is no table: its first line names the columns, such as 'file,angle,"
            f"translation', and each other line has as many entries."
        )
    return {name.strip(): [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def _rows(
    listed: list[str] | None,
    columns: Mapping[str, list[str]],
    table: Path,
    files: list[Path],
    frames: int,
) -> np.ndarray:
    """Return which row of the table each frame has: by file name, else in order."""
    if listed is None:
        count = len(next(iter(columns.values()))) if columns else 0
        if count != frames:
            raise SchemaError(
                f"{table} has {count} rows, but there are {frames} frames: add a column 'file', or "
                f"a row for each."
            )
        return np.arange(frames)
    rows = {Path(name.strip()).name: row for row, name in enumerate(listed)}
    absent = [file.name for file in files if file.name not in rows]
    if absent:
        raise SchemaError(
            f"{table} has no row for {absent[0]} and {len(absent) - 1} others. "
            f"{nearest(absent[0], list(rows)[:1000])}"
        )
    return np.array([rows[file.name] for file in files])


def _numbers(column: list[str], name: str, table: Path) -> np.ndarray:
    try:
        return np.array([float(entry) for entry in column])
    except ValueError as error:
        raise SchemaError(f"column {name!r} of {table} holds more than numbers: {error}.") from None
