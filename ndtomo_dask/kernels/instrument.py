"""What decides where the pixels of a detector go, and pyFAI's geometry of it."""

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ndtomo_dask.errors import BackendError

Splitting = Literal["no", "bbox", "full"]
UNITS = {"q": "q_A^-1", "tth": "2th_deg"}
"""Axes of a pattern, by the names that pyFAI has for their units."""


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


def packed(mask: np.ndarray) -> bytes:
    """Pack a mask of pixels into few bytes; none where nothing is masked."""
    return zlib.compress(np.packbits(np.asarray(mask, dtype=bool)).tobytes()) if mask.any() else b""


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


def require_pyfai() -> None:
    """Raise `BackendError` where pyFAI is not installed."""
    try:
        import pyFAI  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise BackendError(
            "integrating frames needs pyFAI, which is not installed here: "
            "pip install 'ndtomo-dask[frames]'."
        ) from error
