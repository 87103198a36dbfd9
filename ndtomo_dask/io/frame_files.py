"""Where the frames of a scan lie, and reading them: each once, in the order of the disk."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ndtomo_dask.errors import BackendError, StoreError
from ndtomo_dask.io.hdf5 import register_filters

_HEAD = 2**16
"""Bytes in which the header of an image ends."""
_MARKS = {
    ".cbf": (b"\x0c\x1a\x04\xd5", re.compile(rb"X-Binary-Size:\s*(\d+)")),
    ".edf": (b"}\n", re.compile(rb"(?:EDF_BinarySize|Size)\s*=\s*(\d+)")),
}
"""What ends a header, and where it says how many bytes follow."""
READ_BYTES = 64 * 2**20
"""Frames that share a chunk of a file are read together up to this size."""


@dataclass(frozen=True)
class FrameRun:
    """Frames that lie one after the other in one dataset, or in one image file."""

    path: str
    dataset: str
    """Empty where the file is an image."""
    first: int
    count: int


@dataclass(frozen=True)
class Unreadable:
    """Stands for a frame that cannot be read."""

    reason: str


@dataclass
class Found:
    """What a file or a folder of frames turned out to hold."""

    runs: tuple[FrameRun, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    positions: dict[str, np.ndarray] = field(default_factory=dict)
    """Of each frame, in degrees and mm."""
    monitor: np.ndarray | None = None
    motors: tuple[str, ...] = ()
    """Names that could be positions."""
    pixel_mask: np.ndarray | None = None
    assumed: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of frames."""
        return sum(run.count for run in self.runs)


class Located:
    """The runs of a scan, in which frames are found by their numbers."""

    def __init__(self, runs: Sequence[FrameRun]) -> None:
        self._runs = runs
        self._starts = np.cumsum([0, *(run.count for run in runs)])

    def place(self, number: int) -> tuple[FrameRun, int]:
        """Return the run that has a frame, and the frame's index in the dataset."""
        which = int(np.searchsorted(self._starts, number, side="right")) - 1
        run = self._runs[which]
        return run, run.first + number - int(self._starts[which])

    def name(self, number: int) -> str:
        """Say where a frame lies."""
        run, index = self.place(number)
        file = "/".join(Path(run.path).parts[-2:])  # all files of a beamline may have one name
        if not run.dataset:
            return f"{file}[{index}]" if index else file
        return f"{file}:{run.dataset}[{index}]"

    def read(
        self, numbers: Sequence[int], shape: tuple[int, int]
    ) -> Iterator[tuple[int, np.ndarray | Unreadable]]:
        """Read frames, in the order of ``numbers``; each comes with its number."""
        placed = [(number, *self.place(number)) for number in numbers]
        for run, together in groupby(placed, key=lambda entry: entry[1]):
            inside = [(number, index) for number, _, index in together]
            indexes = [index for _, index in inside]
            found = _read_image(run, indexes) if not run.dataset else _read_dataset(run, indexes)
            for (number, _), frame in zip(inside, found, strict=True):
                yield number, _checked(frame, shape)


def _checked(frame: np.ndarray | Unreadable, shape: tuple[int, int]) -> np.ndarray | Unreadable:
    if isinstance(frame, np.ndarray) and frame.shape != shape:
        return Unreadable(f"it has {frame.shape} pixels, the first frame {shape}")
    return frame


def _read_dataset(run: FrameRun, indexes: Sequence[int]) -> Iterator[np.ndarray | Unreadable]:
    import h5py

    register_filters()
    if not run.path:
        yield from _all_unreadable(run, indexes, "no file of the virtual dataset holds it")
        return
    try:
        file = h5py.File(run.path, "r")
    except OSError as error:
        yield from _all_unreadable(run, indexes, _brief(error))
        return
    with file:
        try:
            dataset = file[run.dataset]
        except (KeyError, RuntimeError, OSError) as error:
            yield from _all_unreadable(run, indexes, _brief(error))
            return
        yield from _frames_of(dataset, indexes)


def _all_unreadable(run: FrameRun, indexes: Sequence[int], reason: str) -> Iterator[Unreadable]:
    where = Path(run.path).name or run.dataset
    for _ in indexes:
        yield Unreadable(f"{where}: {reason}")


def _frames_of(dataset: Any, indexes: Sequence[int]) -> Iterator[np.ndarray | Unreadable]:
    """Read frames of an open dataset, those of one chunk at once."""
    together = _together(dataset)
    for _, group in groupby(indexes, key=lambda index: index // together):
        some = list(group)
        if len(some) > 1 and some == list(range(some[0], some[-1] + 1)):
            block = _one(dataset, slice(some[0], some[-1] + 1), some[0])
            if isinstance(block, np.ndarray):
                yield from block
                continue
        for index in some:
            yield _one(dataset, _where(dataset, index), index)


def _together(dataset: Any) -> int:
    """Count the frames that share a chunk, as many of them as are read at once."""
    chunk = int(dataset.chunks[0]) if dataset.chunks and dataset.ndim == 3 else 1
    frame_bytes = int(dataset.dtype.itemsize * np.prod(dataset.shape[-2:]))
    return max(1, min(chunk, READ_BYTES // max(1, frame_bytes)))


def read_together(runs: Sequence[FrameRun]) -> int:
    """Count the frames that are read at once, as far as the first file that is there tells."""
    import h5py

    for run in runs:
        try:
            with h5py.File(run.path, "r") as file:
                return _together(file[run.dataset])
        except (OSError, KeyError, RuntimeError):
            continue  # an image, or a file that is absent
    return 1


def _where(dataset: Any, index: int) -> Any:
    lead = dataset.shape[:-2]
    return tuple(map(int, np.unravel_index(index, lead))) if lead else ()


def _one(dataset: Any, where: Any, index: int) -> np.ndarray | Unreadable:
    try:
        if dataset.chunks and dataset.ndim == 3 and not _is_written(dataset, index):
            return Unreadable("it was never written")
        return np.asarray(dataset[where])
    except (OSError, ValueError, KeyError, RuntimeError, IndexError) as error:
        if "not registered" in str(error) or "plugin" in str(error):
            raise StoreError(
                f"{dataset.file.filename}:{dataset.name} is compressed by a filter that hdf5plugin "
                f"does not have: repack the file with gzip."
            ) from error
        return Unreadable(_brief(error))


def _is_written(dataset: Any, index: int) -> bool:
    """Tell whether a chunk is there: HDF5 itself would hand out its fill value."""
    chunk = dataset.chunks
    corner = (index // chunk[0] * chunk[0], 0, 0)
    return dataset.id.get_chunk_info_by_coord(corner).byte_offset is not None


def _read_image(run: FrameRun, indexes: Sequence[int]) -> Iterator[np.ndarray | Unreadable]:
    for index in indexes:
        yield read_image(run.path, index)


def read_image(path: str, index: int = 0) -> np.ndarray | Unreadable:
    """Read a frame of an image file by fabio."""
    fabio = require_fabio()
    if not _is_whole(Path(path)):
        return Unreadable(f"{Path(path).name}: its end is missing")
    try:
        with fabio.open(path) as image:
            frame = image.data if index == 0 else image.get_frame(index).data
            return np.array(frame)
    except Exception as error:  # fabio's readers raise whatever they meet
        return Unreadable(f"{Path(path).name}: {_brief(error)}")


def _is_whole(path: Path) -> bool:
    """Tell whether a CBF or EDF file has as many bytes as its header says.

    fabio fills the end of a short EDF file with zeros, and never returns from a short CBF header.
    """
    end, size = _MARKS.get(path.suffix.lower(), (b"", None))
    if size is None:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return True  # which fabio will say better
    mark = head.find(end)
    found = size.search(head[:mark]) if mark >= 0 else None
    if found is None:
        return mark >= 0
    return path.stat().st_size >= mark + len(end) + int(found[1])


def _brief(error: BaseException) -> str:
    words = str(error).splitlines()[0] if str(error) else type(error).__name__
    return words if len(words) <= 160 else f"{words[:157]}…"


def require_fabio() -> Any:
    """Return fabio, which reads images of detectors."""
    try:
        import fabio
    except ImportError as error:
        raise BackendError(
            "reading CBF, EDF and TIFF frames needs fabio, which is not installed here: "
            "pip install 'ndtomo-dask[frames]'."
        ) from error
    return fabio


def stamp_of(runs: Sequence[FrameRun], main: Path) -> str:
    """Name and state of all files that hold the frames, by which a scan is known again."""
    paths = dict.fromkeys([str(main), *(run.path for run in runs if run.path)])
    content, size = blake2b(digest_size=8), 0
    for name in paths:
        path = Path(name)
        if path.is_file():
            stat = path.stat()
            size += stat.st_size
            content.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns};".encode())
        else:
            content.update(f"{path.name} absent;".encode())
    return f"{main.name}: {len(paths)} files, {size} bytes, {content.hexdigest()}"
