"""Azimuthal integration of detector frames by pyFAI: a frame in, a pattern and its variance out.

The look-up table of an instrument, which says which pixel counts how much in which point, is built
once in a process. Threads share it; each has a buffer of its own.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import ndtri
from threadpoolctl import ThreadpoolController

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.instrument import Instrument
from ndtomo_dask.kernels.lookup_table import build_table

Method = Literal["mean", "trimmed", "median", "sigma_clip"]
MEDIAN_OF_NORMAL = np.pi / 2
"""Variance of a median over that of the mean, of many normal values."""
ROUNDED = 1 / 12
"""Variance that a median of whole numbers has because it is one of them."""
SORTING = ("trimmed", "median")
"""Methods for which the pixels of each point are sorted."""
SORTED_ENTRIES = 2**21
"""Entries of the table that are sorted together: few, since each is copied."""
ENTRY_BYTES = 16


@dataclass(frozen=True)
class Average:
    """How the pixels of a point become one number."""

    method: Method = "mean"
    percentiles: tuple[float, float] = (10.0, 90.0)
    """Of ``"trimmed"``: between which percentiles the pixels are kept."""
    cutoff: float = 3.0
    """Of ``"sigma_clip"``: pixels further from the mean than so many standard deviations go."""
    threshold: float | None = None
    """Counts from which on a pixel is hot, and left out."""


class Pattern(NamedTuple):
    """What a frame integrates to; NaN where no pixel counts."""

    intensity: np.ndarray
    variance: np.ndarray


class Table:
    """The look-up table of an instrument, and what integrates frames by it."""

    def __init__(self, instrument: Instrument) -> None:
        self.lut = build_table(instrument)
        self.centers = self.lut.centers
        self._threads = threading.local()

    def sorting_bytes(self, average: Average) -> int:
        """Bytes of the entries that are copied to be sorted."""
        if average.method not in SORTING:
            return 0
        longest = int(np.diff(self.lut.starts).max(initial=0))
        return min(self.lut.weights.size, max(SORTED_ENTRIES, longest)) * ENTRY_BYTES

    @cached_property
    def pixels(self) -> np.ndarray:
        """Pixels of each point, by their weights."""
        ones = np.ones(self.lut.normalization.size, np.float32)
        made = self._of_points(0, self.centers.size).integrate_ng(ones, **self._norm())
        with np.errstate(invalid="ignore", divide="ignore"):
            weight, square = np.asarray(made.normalization), np.asarray(made.norm_sq)
            return np.where(square > 0, weight**2 / square, np.nan)

    def integrator(self) -> Any:
        """Return this thread's integrator, whose buffer no other thread writes to."""
        if not hasattr(self._threads, "integrator"):
            self._threads.integrator = self._of_points(0, self.centers.size)
        return self._threads.integrator

    def in_parts(self) -> Iterator[Any]:
        """Yield integrators of some points each, since sorting copies every entry of them."""
        first, last = 0, self.centers.size
        while first < last:
            most = int(self.lut.starts[first]) + SORTED_ENTRIES
            next_ = int(np.searchsorted(self.lut.starts, most, side="right")) - 1
            yield self._of_points(first, max(next_, first + 1))
            first = max(next_, first + 1)

    def _of_points(self, first: int, last: int) -> Any:
        starts = self.lut.starts[first : last + 1]
        entries = slice(starts[0], starts[-1])
        lut = self.lut.weights[entries], self.lut.pixels[entries], starts - starts[0]
        made = _integrator_class()(lut, self.lut.normalization.size, np.nan)
        made.bin_centers = self.centers[first:last]
        return made

    def _norm(self) -> dict[str, Any]:
        return {"solidangle": self.lut.normalization}

    def integrate(self, frame: np.ndarray, average: Average) -> Pattern:
        """Integrate one frame of counts."""
        counts = valid_counts(frame, average.threshold)
        variance = counts if frame.dtype.kind in "iu" else np.maximum(counts, 0, dtype=np.float32)
        # Not pyFAI's own model of Poisson counts: it takes no variance less than one.
        given = {"variance": variance, "error_model": _variance_model(), **self._norm()}
        made = _AVERAGES[average.method](self, counts, average, given)
        return Pattern(*(np.asarray(part, dtype=np.float64) for part in made))


_Given = Mapping[str, Any]


def _mean(table: Table, counts: np.ndarray, _: Average, given: _Given) -> Any:
    made = table.integrator().integrate_ng(counts, **given)
    return made.intensity, np.square(made.sem)


def _sigma_clip(table: Table, counts: np.ndarray, average: Average, given: _Given) -> Any:
    # By the scatter along the ring: beside a spot, every pixel is far from a mean of counts.
    scatter = {"error_model": _variance_model("AZIMUTHAL"), "solidangle": given["solidangle"]}
    # A pixel that one point clips is clipped for its neighbor, whichever thread comes first.
    with _openmp().limit(limits=1):
        made = table.integrator().sigma_clip(counts, cutoff=average.cutoff, **scatter)
    return made.intensity, np.square(made.sem)


def _trimmed(table: Table, counts: np.ndarray, average: Average, given: _Given) -> Any:
    low, high = (part / 100 for part in average.percentiles)
    intensity, error, _ = _sorted(table, counts, low, high, given)
    return intensity, np.square(error) * trimmed_variance(low, high)


def _median(table: Table, counts: np.ndarray, _: Average, given: _Given) -> Any:
    intensity, _error, scatter = _sorted(table, counts, 0.5, 0.5, given)
    whole_numbers = ROUNDED if given["variance"] is counts else 0.0
    return intensity, np.square(scatter) * MEDIAN_OF_NORMAL / table.pixels + whole_numbers


def _sorted(
    table: Table, counts: np.ndarray, low: float, high: float, given: _Given
) -> tuple[np.ndarray, ...]:
    """Mean between two quantiles of the pixels of each point, its error, and their scatter."""
    parts = [integrator.medfilt(counts, quant_min=low, quant_max=high, **given)
             for integrator in table.in_parts()]  # fmt: skip
    names = ("intensity", "sem", "std")
    return tuple(np.concatenate([getattr(part, name) for part in parts]) for name in names)


_AVERAGES = {"mean": _mean, "trimmed": _trimmed, "median": _median, "sigma_clip": _sigma_clip}


def trimmed_variance(low: float, high: float) -> float:
    """Variance of a trimmed mean of normal values over that of the mean of as many as were kept.

    The Winsorized variance over the share that is kept (Huber, Robust Statistics, section 3.3).

    >>> round(trimmed_variance(0.0, 1.0), 3), round(trimmed_variance(0.1, 0.9), 3)
    (1.0, 0.848)
    """
    first, last = ndtri([low, high])
    density = np.exp(-0.5 * np.array([first, last]) ** 2) / np.sqrt(2 * np.pi)
    ends = np.where(np.isfinite([first, last]), [first, last], 0.0)
    kept = high - low
    mean = low * ends[0] + density[0] - density[1] + (1 - high) * ends[1]
    square = kept + ends[0] * density[0] - ends[1] * density[1]
    square += low * ends[0] ** 2 + (1 - high) * ends[1] ** 2
    return float((square - mean**2) / kept)


def valid_counts(frame: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Return the counts of all pixels as float32, in one row, NaN where a pixel is not valid.

    Of integers, those below zero and the greatest of the type mark gaps and dead pixels; anything
    of at least ``threshold`` is hot.
    """
    high = np.inf if threshold is None else float(threshold)
    low = -np.inf
    if frame.dtype.kind in "iu":
        low, high = 0.0, min(high, float(np.iinfo(frame.dtype).max))
    out = np.empty(frame.size, dtype=np.float32)
    _valid(np.ascontiguousarray(frame).ravel(), low, high, out)
    return out


@compiled()
def _valid(frame: Any, low: float, high: float, out: np.ndarray) -> None:
    for place in range(frame.size):
        value = frame[place]
        out[place] = value if low <= value < high else np.nan


_KEPT: dict[Instrument, Table] = {}
"""The table that this process keeps: that of the last instrument, so that memory is for one."""
_BUILDING = threading.Lock()


def table_of(instrument: Instrument) -> Table:
    """Return the table of an instrument, built once in this process."""
    with _BUILDING:
        if instrument not in _KEPT:
            _KEPT.clear()
            _KEPT[instrument] = Table(instrument)
        return _KEPT[instrument]


@lru_cache(maxsize=1)
def _integrator_class() -> Any:
    from pyFAI.ext.splitBBoxCSR import CsrIntegrator

    class Integrator(CsrIntegrator):
        """A table of pyFAI's that is made already; masked pixels are not in it."""

        check_mask, cmask = False, None

    return Integrator


@lru_cache(maxsize=1)
def _openmp() -> Any:
    """Return the threads of pyFAI, which is loaded."""
    return ThreadpoolController().select(user_api="openmp")


def _variance_model(name: str = "VARIANCE") -> Any:
    from pyFAI.containers import ErrorModel

    return ErrorModel[name]
