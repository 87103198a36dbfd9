"""Azimuthal integration of detector frames by pyFAI: a frame in, a pattern and its variance out.

The look-up table of an instrument, which says which pixel counts how much in which point, is built
once in a process. Threads share it; each has a buffer of its own.
"""

import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import ndtri

from ndtomo_dask.errors import BackendError
from ndtomo_dask.kernels.compiled import compiled

Method = Literal["mean", "trimmed", "median", "sigma_clip"]
Splitting = Literal["no", "bbox", "full"]
UNITS = {"q": "q_A^-1", "tth": "2th_deg"}
"""Axes of a pattern, by the names that pyFAI has for their units."""
MEDIAN_OF_NORMAL = np.pi / 2
"""Variance of a median over that of the mean, of many normal values."""
ROUNDED = 1 / 12
"""Variance that a median of whole numbers has because it is one of them."""
_KEPT = 2
"""Tables that a process keeps: those of an instrument, and of the one before."""


@dataclass(frozen=True)
class Instrument:
    """All that decides which pixel counts how much in which point of a pattern."""

    calibration: tuple[tuple[str, str], ...]
    """What the .poni file says, line by line."""
    shape: tuple[int, int]
    points: int
    unit: str
    """``"q"`` or ``"tth"``."""
    limits: tuple[float, float] | None = None
    mask: bytes = b""
    """Pixels that are left out, one bit each, compressed; see `packed`."""
    splitting: Splitting = "bbox"
    solid_angle: bool = True
    polarization: float | None = None

    def masked(self) -> np.ndarray:
        """Pixels that are left out, True, in the shape of a frame."""
        if not self.mask:
            return np.zeros(self.shape, dtype=bool)
        bits = np.frombuffer(zlib.decompress(self.mask), dtype=np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).reshape(self.shape) > 0


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


def packed(mask: np.ndarray) -> bytes:
    """Pack a mask of pixels into few bytes; none where nothing is masked."""
    return zlib.compress(np.packbits(np.asarray(mask, dtype=bool)).tobytes()) if mask.any() else b""


class Table:
    """A look-up table, with what the pixels' counts are divided by."""

    def __init__(self, instrument: Instrument) -> None:
        geometry = geometry_of(instrument.calibration)
        unit, shape = UNITS[instrument.unit], instrument.shape
        mask = instrument.masked()
        if geometry.detector.mask is not None and geometry.detector.mask.shape == shape:
            mask = mask | (geometry.detector.mask != 0)
        engine = geometry.setup_sparse_integrator(
            shape, instrument.points, mask=mask.astype(np.int8), mask_checksum=0, unit=unit,
            split=instrument.splitting, algo="CSR", pos0_range=instrument.limits, empty=np.nan,
        )  # fmt: skip
        scale = geometry_unit(unit).scale
        self.centers = np.asarray(engine.bin_centers, dtype=np.float64) * scale
        self.lut = tuple(np.array(part) for part in (engine.data, engine.indices, engine.indptr))
        self.normalization = _normalization(geometry, instrument).ravel()
        self._threads = threading.local()
        ones = self.integrator().integrate_ng(np.ones(mask.size, np.float32), **self._norm())
        with np.errstate(invalid="ignore", divide="ignore"):
            weights = np.asarray(ones.normalization), np.asarray(ones.norm_sq)
            self.pixels = np.where(weights[1] > 0, weights[0] ** 2 / weights[1], np.nan)
            """Pixels of each point, by their weights."""

    @property
    def nbytes(self) -> int:
        """Bytes that the table holds."""
        return sum(part.nbytes for part in (*self.lut, self.normalization))

    def integrator(self) -> Any:
        """Return this thread's integrator, whose buffer no other thread writes to."""
        if not hasattr(self._threads, "integrator"):
            self._threads.integrator = _integrator(self.lut, self.normalization.size, self.centers)
        return self._threads.integrator

    def _norm(self) -> dict[str, Any]:
        return {"solidangle": self.normalization}

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
    made = table.integrator().sigma_clip(counts, cutoff=average.cutoff, **scatter)
    return made.intensity, np.square(made.sem)


def _trimmed(table: Table, counts: np.ndarray, average: Average, given: _Given) -> Any:
    low, high = (part / 100 for part in average.percentiles)
    made = table.integrator().medfilt(counts, quant_min=low, quant_max=high, **given)
    return made.intensity, np.square(made.sem) * trimmed_variance(low, high)


def _median(table: Table, counts: np.ndarray, _: Average, given: _Given) -> Any:
    made = table.integrator().medfilt(counts, quant_min=0.5, quant_max=0.5, **given)
    whole_numbers = ROUNDED if given["variance"] is counts else 0.0
    return made.intensity, np.square(made.std) * MEDIAN_OF_NORMAL / table.pixels + whole_numbers


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


@lru_cache(maxsize=_KEPT)
def _table(instrument: Instrument) -> Table:
    return Table(instrument)


_BUILDING = threading.Lock()


def table_of(instrument: Instrument) -> Table:
    """Return the table of an instrument, built once in this process."""
    with _BUILDING:
        return _table(instrument)


def geometry_of(calibration: tuple[tuple[str, str], ...]) -> Any:
    """Return pyFAI's integrator for a calibration."""
    require_pyfai()
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator
    from pyFAI.io.ponifile import PoniFile

    integrator = AzimuthalIntegrator()
    integrator._init_from_poni(PoniFile(data=dict(calibration)))
    return integrator


def geometry_unit(unit: str) -> Any:
    """Return pyFAI's description of a unit."""
    from pyFAI.units import to_unit

    return to_unit(unit)


def _normalization(geometry: Any, instrument: Instrument) -> np.ndarray:
    """Share of what a pixel would count whose solid angle and polarization are those of center."""
    share = np.ones(instrument.shape, dtype=np.float32)
    if instrument.solid_angle:
        share *= geometry.solidAngleArray(instrument.shape)
    if instrument.polarization is not None:
        share *= geometry.polarization(instrument.shape, instrument.polarization)
    return share


def _integrator(lut: tuple[np.ndarray, ...], size: int, centers: np.ndarray) -> Any:
    from pyFAI.ext.splitBBoxCSR import CsrIntegrator

    class Integrator(CsrIntegrator):
        """A table of pyFAI's that is made already; masked pixels are not in it."""

        check_mask, cmask, bin_centers = False, None, centers

    return Integrator(lut, size, np.nan)


def _variance_model(name: str = "VARIANCE") -> Any:
    from pyFAI.containers import ErrorModel

    return ErrorModel[name]


def require_pyfai() -> None:
    """Raise `BackendError` where pyFAI is not installed."""
    try:
        import pyFAI  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise BackendError(
            "integrating frames needs pyFAI, which is not installed here: "
            "pip install 'ndtomo-dask[frames]'."
        ) from error
