"""Frames in HDF5: ESRF masters, Eiger masters, and any dataset of frames."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ndtomo_dask.errors import SchemaError, StoreError
from ndtomo_dask.io.frame_files import Found, FrameRun
from ndtomo_dask.io.hdf5 import dataset_paths, find_dataset, open_file
from ndtomo_dask.io.motors import NAMES, named_column
from ndtomo_dask.io.nxdata import attribute_text

ENTRY = re.compile(r"^(\d+)\.(\d+)$")
"""An ESRF scan, such as "3.1"."""
EIGER_PART = re.compile(r"^data_\d+$")
EIGER_MASK = "entry/instrument/detector/detectorSpecific/pixel_mask"
_TALLY = (
    "entry/instrument/detector/detectorSpecific/nimages",
    "entry/instrument/detector/detectorSpecific/ntrigger",
)


def find_in_hdf5(
    path: Path, frames: str | None, names: Mapping[str, str] | None, units: Mapping[str, str]
) -> Found:
    """Find the frames of an HDF5 file, and with ``names`` their positions; no frame is read."""
    with open_file(path) as file:
        entries = _entries(file)
        if entries:
            return _find_esrf(file, entries, frames, names, units)
        if frames is None and _eiger_parts(file):
            found = _find_eiger(file)
        else:
            found = _find_one(file, frames or _only_stack(file))
        if names is not None:
            _take_motors(found, _columns(file, found.count, names), names, units, str(path))
        return found


def _entries(file: h5py.File) -> list[str]:
    """List the scans of an ESRF master, in the order in which they were taken."""
    known = [ENTRY.match(name) for name in file]
    scans = [match for match in known if match and f"{match[0]}/measurement" in file]
    return [match[0] for match in sorted(scans, key=lambda m: (int(m[1]), int(m[2])))]


def _find_esrf(
    file: h5py.File,
    entries: list[str],
    frames: str | None,
    names: Mapping[str, str] | None,
    units: Mapping[str, str],
) -> Found:
    """Bring the scans of a master together that have frames of one detector."""
    detector = frames or _detector(file, entries)
    parts = [entry for entry in entries if detector in file[entry]["measurement"]]
    if not parts:
        raise StoreError(f"no scan of {file.filename} has 'measurement/{detector}'.")
    found: Found | None = None
    values: dict[str, list[np.ndarray]] = {}
    for entry in parts:
        columns = _esrf_columns(file[entry], detector)
        part = _esrf_part(file, f"{entry}/measurement/{detector}", columns, found)
        count = part.count
        for name, column in columns.items():
            values.setdefault(name, []).append(_of_length(column, count))
        found = part if found is None else _joined(found, part)
    assert found is not None
    whole = {name: np.concatenate(column) for name, column in values.items()
             if len(column) == len(parts)}  # fmt: skip
    if names is not None:
        _take_motors(found, whole, names, units, file.filename)
    return found


def _detector(file: h5py.File, entries: list[str]) -> str:
    for entry in entries:
        group = file[entry]["measurement"]
        for name in group:
            dataset = group.get(name)
            if isinstance(dataset, h5py.Dataset) and dataset.ndim == 3:
                return str(name)
    for entry in entries:  # none of whose files is there
        group = file[entry]["measurement"]
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                return str(name)
    raise StoreError(
        f"{file.filename} has no detector frames: no 'measurement' of its {len(entries)} scans "
        f"holds a stack of images."
    )


def _esrf_columns(scan: h5py.Group, detector: str) -> dict[str, np.ndarray]:
    """Motors and counters of a scan: of each point, or once for all."""
    columns = {}
    for place in ("instrument/positioners", "instrument/positioners_start", "measurement"):
        group = scan.get(place)
        for name in group if isinstance(group, h5py.Group) else ():
            if name == detector:
                continue
            dataset = group.get(name)
            if _is_numbers(dataset) and dataset.ndim <= 1:
                columns[str(name)] = np.atleast_1d(np.asarray(dataset[()], dtype=np.float64))
    return columns


def _is_numbers(dataset: Any) -> bool:
    return isinstance(dataset, h5py.Dataset) and dataset.dtype.kind in "iuf"


def _of_length(column: np.ndarray, count: int) -> np.ndarray:
    """Values of each frame, from one for all; what is missing at the end is NaN."""
    if column.size == 1:
        return np.full(count, column[0])
    lacking = max(0, count - column.size)
    return np.concatenate([column[:count], np.full(lacking, np.nan)])


def _esrf_part(
    file: h5py.File, name: str, columns: Mapping[str, np.ndarray], before: Found | None
) -> Found:
    """Find the frames of one scan; of a file that is absent, as many as there are positions."""
    try:
        return _find_one(file, name)
    except StoreError:
        link = file.get(name, getlink=True)
        points = max((column.size for column in columns.values()), default=0)
        if before is None or not isinstance(link, h5py.ExternalLink) or points == 0:
            raise
        target = str(Path(file.filename).parent / link.filename)
        run = FrameRun(target, link.path, 0, points)
        return Found((run,), before.shape, before.dtype)


def _joined(found: Found, part: Found) -> Found:
    if (found.shape, found.dtype) != (part.shape, part.dtype):
        raise SchemaError(
            f"frames of {part.runs[0].path}:{part.runs[0].dataset} have {part.shape} pixels of "
            f"{part.dtype}, those before {found.shape} of {found.dtype}: open one kind at a time."
        )
    return Found((*found.runs, *part.runs), found.shape, found.dtype)


def _find_one(file: h5py.File, name: str) -> Found:
    dataset = find_dataset(file, name)
    if dataset.ndim < 2 or dataset.dtype.kind not in "iuf":
        raise SchemaError(
            f"{file.filename}:{name} holds {dataset.dtype} {dataset.shape}, not frames."
        )
    shape = (int(dataset.shape[-2]), int(dataset.shape[-1]))
    return Found(tuple(_runs(dataset)), shape, dataset.dtype)


def _runs(dataset: h5py.Dataset) -> Iterator[FrameRun]:
    """Say where the frames of a dataset lie; those of a virtual one in the files it is made of."""
    count = int(np.prod(dataset.shape[:-2]))
    holder = str(Path(dataset.file.filename).absolute())
    sources = _sources(dataset, Path(holder).parent) if dataset.is_virtual else None
    if sources is None:
        yield FrameRun(holder, dataset.name, 0, count)
        return
    reached = 0
    for start, run in sorted(sources, key=lambda entry: entry[0]):
        if start > reached:
            yield FrameRun("", dataset.name, reached, start - reached)
        yield run
        reached = start + run.count
    if reached < count:
        yield FrameRun("", dataset.name, reached, count - reached)


def _sources(dataset: h5py.Dataset, folder: Path) -> list[tuple[int, FrameRun]] | None:
    """Files of a virtual dataset, with the first frame of each; None where it is not plain."""
    found = []
    for source in dataset.virtual_sources():
        first, last = source.vspace.get_select_bounds()
        count = last[0] - first[0] + 1
        inner = _first_of(source.src_space, count)
        whole = tuple(last[1:]) == tuple(size - 1 for size in dataset.shape[1:])
        if dataset.ndim != 3 or not whole or inner is None or "%b" in source.file_name:
            return None
        path = dataset.file.filename if source.file_name == "." else source.file_name
        run = FrameRun(str(folder / path), source.dset_name, inner, int(count))
        found.append((int(first[0]), run))
    return found


def _first_of(space: Any, count: int) -> int | None:
    """Return the first frame that a virtual dataset takes of a source; None if not in a row."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return 0
    first, last = space.get_select_bounds()
    return int(first[0]) if len(first) == 3 and last[0] - first[0] + 1 == count else None


def _eiger_parts(file: h5py.File) -> list[str]:
    group = file.get("entry/data")
    names = list(group) if isinstance(group, h5py.Group) else []
    return sorted(name for name in names if EIGER_PART.match(name))


def _find_eiger(file: h5py.File) -> Found:
    """Bring together the parts of an Eiger master; an absent one is as long as those before."""
    parts = _eiger_parts(file)
    known: dict[str, Found] = {}
    for name in parts:
        try:
            known[name] = _find_one(file, f"entry/data/{name}")
        except StoreError:
            continue
    if not known:
        raise StoreError(
            f"{file.filename} links to {len(parts)} files of frames, none of which can be opened: "
            f"put them beside it."
        )
    like = next(iter(known.values()))
    length, total = max(part.count for part in known.values()), _tally(file)
    runs: list[FrameRun] = []
    for number, name in enumerate(parts):
        if name in known:
            runs += known[name].runs
            continue
        link = file.get(f"entry/data/{name}", getlink=True)
        left = total - number * length if total else length
        target = str(Path(file.filename).parent / link.filename)
        runs.append(FrameRun(target, link.path, 0, max(1, min(length, left))))
    found = Found(tuple(runs), like.shape, like.dtype)
    found.pixel_mask = _pixel_mask(file, like.shape)
    return found


def _tally(file: h5py.File) -> int:
    counts = [file.get(name) for name in _TALLY]
    known = [int(np.asarray(count[()])) for count in counts if isinstance(count, h5py.Dataset)]
    return int(np.prod(known)) if known else 0


def _pixel_mask(file: h5py.File, shape: tuple[int, int]) -> np.ndarray | None:
    dataset = file.get(EIGER_MASK)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != shape:
        return None
    return np.asarray(dataset[()] != 0)


def _only_stack(file: h5py.File) -> str:
    """Name the one stack of frames that a file holds."""
    stacks = [name for name in dataset_paths(file)
              if len(file[name].shape or ()) >= 3 and _is_numbers(file[name])]  # fmt: skip
    if len(stacks) != 1:
        held = f"holds {len(stacks)}: {', '.join(stacks[:5])}" if stacks else "holds none"
        raise SchemaError(
            f"{file.filename} does not say which dataset has the frames, and {held}. Name it: "
            f"open_frames({Path(file.filename).name!r}, frames='entry/data/data')."
        )
    return stacks[0]


def _columns(file: h5py.File, count: int, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Datasets that have a number for each frame, by path, and by name where it is usual."""
    usual = {word for words in NAMES.values() for word in words}
    columns: dict[str, np.ndarray] = {}
    for path in dataset_paths(file):
        dataset, leaf = file[path], path.split("/")[-1].lower()
        if not _is_numbers(dataset) or dataset.size not in (1, count):
            continue
        if path in names.values() or leaf in usual:
            values = np.asarray(dataset[()], dtype=np.float64).ravel()
            columns[path] = _of_length(_converted(dataset, values), count)
            columns.setdefault(leaf, columns[path])
    for name in names.values():  # behind a link, which no walk follows
        if name.strip("/") not in columns:
            values = np.asarray(find_dataset(file, name)[()], dtype=np.float64).ravel()
            columns[name] = _of_length(values, count)
    return columns


def _converted(dataset: h5py.Dataset, values: np.ndarray) -> np.ndarray:
    """Turn radians and lengths other than millimeters into our units, by the file's attribute."""
    unit = (attribute_text(dataset, "units") or "").lower()
    factors = {"rad": 180 / np.pi, "radian": 180 / np.pi, "um": 1e-3, "µm": 1e-3, "m": 1e3}
    return values * factors.get(unit, 1.0)


def _take_motors(
    found: Found,
    columns: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    units: Mapping[str, str],
    where: str,
) -> None:
    found.motors = tuple(columns)
    for axis in NAMES:
        column = named_column(axis, columns, names, units, where=where)
        if column is None:
            continue
        if axis == "monitor":
            found.monitor = column
            lacking = int(np.isnan(column).sum())
            if lacking:
                found.assumed = (*found.assumed, f"the monitor lacks {lacking} values")
        elif np.isfinite(column).all() and (axis != "z" or np.ptp(column) > 0):
            found.positions[axis] = column
        elif not np.isfinite(column).all():
            raise SchemaError(
                f"{where} has fewer positions of {axis!r} than frames: the last "
                f"{int(np.isnan(column).sum())} have none. Leave the frames out that lack them, or "
                f"give the grid: integrate(..., angles=..., translations=...)."
            )
