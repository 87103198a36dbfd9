"""`open_frames`: the detector frames of a scan, wherever a beamline has put them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ndtomo_dask.errors import SchemaError, StoreError
from ndtomo_dask.io.frame_files import Found, Located, Unreadable, read_together, stamp_of
from ndtomo_dask.io.frame_masters import find_in_hdf5
from ndtomo_dask.io.frame_series import find_series, is_series
from ndtomo_dask.schema import record
from ndtomo_dask.variables import COORDINATES, FRAMES, MONITOR, PIXEL_MASK

READER = "reader"
"""Key in the encoding of ``frames`` under which `integrate` finds what reads them."""
_SHOWN = 8
"""Frames per block of the lazy array, which is there to be looked at."""


@dataclass(frozen=True)
class FrameReader:
    """Reads frames by their numbers; light enough to travel with every task.

    Where the frames lie is worked out again in each process, once.
    """

    path: str
    options: tuple[tuple[str, str], ...]
    count: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    stamp: str
    together: int
    """Frames that share a chunk of their file, and are read at once."""

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray | Unreadable]]:
        """Read frames in the order of ``numbers``; each comes with its number."""
        return _located(self.path, self.options, self.stamp).read(numbers, self.shape)

    def name(self, number: int) -> str:
        """Say where a frame lies."""
        return _located(self.path, self.options, self.stamp).name(number)

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return self.path, self.options, self.stamp


@dataclass(frozen=True)
class FrameStack:
    """Frames as an array, of which Dask reads pieces; what cannot be read is dead pixels."""

    reader: FrameReader

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return (self.reader.count, *self.reader.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.reader.dtype

    ndim = 3

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        numbers = range(*key[0].indices(self.reader.count))
        frames = [
            self._dead if isinstance(frame, Unreadable) else frame
            for _, frame in self.reader.read(numbers)
        ]
        return np.stack(frames)[:, *key[1:]]

    @property
    def _dead(self) -> np.ndarray:
        """A frame of nothing but dead pixels."""
        kind = self.dtype
        dead = np.nan if kind.kind == "f" else -1 if kind.kind == "i" else np.iinfo(kind).max
        return np.full(self.shape[1:], dead, kind)

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return self.reader.__dask_tokenize__()


def open_frames(
    path: str | Path,
    *,
    frames: str | None = None,
    angle: str | None = None,
    translation: str | None = None,
    z: str | None = None,
    monitor: str | None = None,
    positions: str | Path | None = None,
    units: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Open the detector frames of a scan lazily; `integrate` turns them into a sinogram.

    Parameters
    ----------
    path
        An ESRF master (``1.1/measurement`` …), an Eiger master (``entry/data/data_000001`` …), any
        other HDF5 file, or a folder or pattern of CBF, EDF or TIFF files (``"run7/*.cbf"``).
    frames
        Dataset that has the frames, where the file has several; of an ESRF master, the detector.
    angle, translation, z, monitor
        Names of the motors and of the monitor, where they are not usual ones: of a counter in
        ``measurement``, of a dataset, or of a column of ``positions``.
    positions
        Table of a series of files: a column ``file``, one for each motor. By default
        ``positions.csv`` beside them.
    units
        Units of the motors where they are not degrees and mm: ``{"translation": "um"}``.

    Returns
    -------
        ``frames (frame, row, column)``, and along ``frame`` the positions ``angle``,
        ``translation`` and ``z``, and ``monitor``, as far as the file has them. ``isel(frame=…)``
        leaves frames out; ``assign_coords(angle=("frame", …))`` gives positions.

    Raises
    ------
    StoreError
        There is no such file, or no frame of it can be read.
    SchemaError
        The frames or a motor that was named are not found.
    """
    path = Path(path)
    names = {"angle": angle, "translation": translation, "z": z, "monitor": monitor}
    given = {axis: name for axis, name in names.items() if name is not None}
    table = None if positions is None else Path(positions)
    found = _find(path, frames, given, dict(units or {}), table)
    if found.count == 0:
        raise StoreError(f"{path} holds no frames.")

    options = (("frames", frames),) if frames is not None else ()
    reader = FrameReader(
        str(path.absolute()), options, found.count, found.shape, np.dtype(found.dtype),
        stamp_of(found.runs, path), read_together(found.runs),
    )  # fmt: skip

    ds = _labelled(found, reader)
    return record(ds, "open_frames", path=path.name, **given)


def _find(
    path: Path,
    frames: str | None,
    names: Mapping[str, str] | None,
    units: Mapping[str, str],
    positions: Path | None,
) -> Found:
    """Find frames; without ``names``, not even an empty one, no positions are looked for."""
    for axis in units:
        if axis not in (*(names or {}).values(), "angle", "translation", "z"):
            raise SchemaError(f"units names {axis!r}: give those of angle, translation or z.")
    if is_series(path):
        return find_series(path, names, units, positions)
    return find_in_hdf5(path, frames, names, units)


@lru_cache(maxsize=4)
def _located(path: str, options: tuple[tuple[str, str], ...], _stamp: str) -> Located:
    found = _find(Path(path), dict(options).get("frames"), None, {}, None)
    return Located(found.runs)


def _labelled(found: Found, reader: FrameReader) -> xr.Dataset:
    stack = FrameStack(reader)
    blocks = (_SHOWN, *found.shape)
    lazy = da.from_array(
        stack, chunks=blocks, asarray=False, fancy=False, inline_array=True,
        meta=np.empty((0, 0, 0), found.dtype),
    )  # fmt: skip
    about = {"units": FRAMES.units, "long_name": FRAMES.long_name}
    variables = {FRAMES.name: xr.Variable(FRAMES.dims, lazy, about, encoding={READER: reader})}
    if found.monitor is not None:
        variables[MONITOR.name] = xr.Variable(
            "frame", found.monitor, {"units": MONITOR.units, "long_name": MONITOR.long_name}
        )
    if found.pixel_mask is not None:
        variables[PIXEL_MASK.name] = xr.Variable(PIXEL_MASK.dims, found.pixel_mask)
    coords = {
        axis: xr.Variable("frame", values, {"units": COORDINATES[axis].units})
        for axis, values in found.positions.items()
    }
    attrs = {"source": reader.stamp, "motors": ", ".join(found.motors)}
    if found.assumed:
        attrs["assumed"] = "; ".join(found.assumed)
    numbers = {"frame": np.arange(found.count)}
    return xr.Dataset(variables, coords={**numbers, **coords}, attrs=attrs)
