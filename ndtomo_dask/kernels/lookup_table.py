"""The look-up table of a detector by pyFAI: which pixel counts how much in which point.

pyFAI builds it of the whole detector at once, and holds up to 190 bytes per pixel meanwhile. Here
it builds one strip of rows after the other, and the strips are joined: the same numbers, bit by
bit, for little more than the table twice.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.instrument import UNITS, Instrument, geometry_of, geometry_unit

STRIP_PIXELS = 2**17
"""Pixels of a strip: the least that does not cost time."""
BUILDING_WORK = 260
"""Bytes that pyFAI holds per pixel of a strip, at most: measured, by outlines of pixels."""


class LookUpTable(NamedTuple):
    """A sparse matrix of points by pixels, row after row, and what pixels are divided by."""

    weights: np.ndarray
    pixels: np.ndarray
    starts: np.ndarray
    """Entry at which each point begins, and the end of the last one."""
    centers: np.ndarray
    """Of the points, in the unit of the instrument."""
    normalization: np.ndarray
    """Counts of a pixel over those of one at the center, by its solid angle and polarization."""

    strip: int
    """Pixels of which it was built at once."""

    @property
    def nbytes(self) -> int:
        """Bytes that the table holds."""
        return sum(part.nbytes for part in self[:-1])

    @property
    def building_bytes(self) -> int:
        """Bytes that were held beside it while it was built: its strips, and the work on one."""
        return self.nbytes + self.strip * BUILDING_WORK


def build_table(instrument: Instrument) -> LookUpTable:
    """Build the look-up table of an instrument."""
    strips = _Strips(instrument)
    shares, limits = [], []
    for strip in strips:
        shares.append(strip.normalization().ravel())
        if instrument.limits is None and not strip.mask.all():
            limits.append(strip.limits())
    ends = _ends(instrument, limits)
    parts, centers = [], np.empty(0)
    for strip in strips:
        engine = strip.engine(instrument.points, ends)
        pixels = np.asarray(engine.indices) + np.int32(strip.first * instrument.shape[1])
        parts.append([np.array(engine.data), pixels, np.array(engine.indptr)])
        centers = np.asarray(engine.bin_centers, dtype=np.float64)
    scale = geometry_unit(UNITS[instrument.unit]).scale
    largest = max(share.size for share in shares)
    return LookUpTable(*_joined(parts), centers * scale, np.concatenate(shares), largest)


def _ends(instrument: Instrument, limits: list[tuple[float, float]]) -> tuple[float, float]:
    """First and last position on the axis, in pyFAI's own unit: as given, else of all pixels."""
    if instrument.limits is not None:
        scale = geometry_unit(UNITS[instrument.unit]).scale
        return instrument.limits[0] / scale, instrument.limits[1] / scale
    if not limits:
        raise OptionError("the mask leaves no pixel of the detector: pass another one.")
    first, last = zip(*limits, strict=True)
    return min(first), max(last)


class _Strips:
    """The strips of a detector, one after the other; each ends the one before."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._geometry = geometry_of(instrument.calibration)
        self._detector = self._geometry.detector
        self._detector.shape = instrument.shape
        gaps, self._mask = self._detector.mask, instrument.masked()
        if gaps is not None and np.shape(gaps) == instrument.shape:
            self._mask |= np.asarray(gaps) != 0

    def __iter__(self) -> Iterator["_Strip"]:
        rows, columns = self._instrument.shape
        count = max(1, STRIP_PIXELS // columns) if self._is_plain() else rows
        for first in range(0, rows, count):
            last = min(first + count, rows)
            self._geometry.detector = _Rows(self._detector, first, last)
            self._geometry.reset(collect_garbage=False)
            yield _Strip(self._geometry, self._instrument, first, self._mask[first:last])

    def _is_plain(self) -> bool:
        """Tell whether pixels are where their row and column say; pyFAI takes others as a whole."""
        detector = self._detector
        return bool(
            detector.IS_FLAT and detector.IS_CONTIGUOUS and detector.spline is None
            and getattr(self._geometry, "parallax", None) is None
        )  # fmt: skip


class _Strip(NamedTuple):
    """Rows of a detector, and pyFAI's geometry of them."""

    geometry: Any
    instrument: Instrument
    first: int
    mask: np.ndarray

    def normalization(self) -> np.ndarray:
        """Share of what a pixel would count whose solid angle and polarization are the center's."""
        share = np.ones(self.mask.shape, dtype=np.float32)
        if self.instrument.solid_angle:
            share *= self.geometry.solidAngleArray(self.mask.shape)
        if self.instrument.polarization is not None:
            share *= self.geometry.polarization(self.mask.shape, self.instrument.polarization)
        return share

    def limits(self) -> tuple[float, float]:
        """First and last position that a pixel has on the axis."""
        engine = self.engine(1, None)
        return engine.pos0_min, engine.pos0_maxin

    def engine(self, points: int, ends: tuple[float, float] | None) -> Any:
        """Return pyFAI's integrator of these rows."""
        return self.geometry.setup_sparse_integrator(
            self.mask.shape, points, mask=self.mask.astype(np.int8), mask_checksum=0,
            unit=UNITS[self.instrument.unit], split=self.instrument.splitting, algo="CSR",
            pos0_range=ends, empty=np.nan, scale=False,
        )  # fmt: skip


class _Rows:
    """Some rows of a detector, to pyFAI a detector of its own."""

    def __init__(self, whole: Any, first: int, last: int) -> None:
        self._whole, self._first = whole, first
        self.shape = (last - first, whole.shape[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def calc_cartesian_positions(self, d1: Any, d2: Any, *given: Any, **options: Any) -> Any:
        return self._whole.calc_cartesian_positions(d1 + self._first, d2, *given, **options)


def _joined(parts: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join the tables of strips point by point; ``parts`` are emptied meanwhile."""
    counts = np.array([np.diff(part[2]) for part in parts])
    before = np.cumsum(counts, axis=0) - counts
    starts = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
    joined = []
    for kind in range(2):
        whole = np.empty(starts[-1], dtype=parts[0][kind].dtype)
        for part, count, done in zip(parts, counts, before, strict=True):
            shift = starts[:-1] + done - part[2][:-1]
            whole[np.repeat(shift, count) + np.arange(part[2][-1])] = part[kind]
            part[kind] = whole[:0]
        joined.append(whole)
    return joined[0], joined[1], starts.astype(np.int32)
