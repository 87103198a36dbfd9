"""What turns frames into patterns: a calibration (.poni), a mask, an axis.

Files are read here, once; workers are given their content.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ndtomo_dask.errors import BackendError, OptionError, SchemaError, StoreError, check_choice
from ndtomo_dask.kernels.instrument import (
    Instrument,
    Splitting,
    geometry_of,
    packed,
    require_pyfai,
)

NEEDED = ("distance", "poni1", "poni2", "rot1", "rot2", "rot3")
"""What a .poni file must say beside its detector."""
_UNSPLIT = ("no", "bbox", "full")


def read_instrument(
    calibration: str | Path,
    shape: tuple[int, int],
    *,
    mask: str | Path | np.ndarray | None,
    marked: np.ndarray | None,
    points: Any,
    unit: str,
    limits: tuple[float, float] | None,
    splitting: Splitting,
    solid_angle: bool,
    polarization: float | None,
) -> Instrument:
    """Bring together all that decides how frames of a shape are integrated, and check it.

    ``marked`` are pixels that the files of frames leave out, beside those of ``mask``.
    """
    check_choice("unit", unit, ("q", "tth"))
    check_choice("splitting", splitting, _UNSPLIT)
    if not isinstance(points, int) or points < 1:
        raise OptionError(f"points={points!r} is not a number of points: pass 1 or more.")
    if polarization is not None and not -1 <= polarization <= 1:
        raise OptionError(f"polarization={polarization} is not between -1 and 1.")
    about = read_calibration(calibration)
    check_detector(about, shape, calibration)
    if unit == "q" and "wavelength" not in about:
        raise SchemaError(f"{calibration} has no wavelength, which q needs: pass unit='tth'.")
    given = [read_mask(some, shape) for some in (mask, marked) if some is not None]
    masked = np.logical_or.reduce([np.zeros(shape, bool), *given])
    return Instrument(
        calibration=tuple(about.items()), shape=shape, points=points, unit=unit,
        limits=_checked_limits(limits), mask=packed(masked), splitting=splitting,
        solid_angle=solid_angle, polarization=polarization,
    )  # fmt: skip


def wavelength_of(instrument: Instrument) -> float | None:
    """Wavelength of a calibration, in Å; None if it does not say."""
    meters = dict(instrument.calibration).get("wavelength")
    return None if meters is None else float(meters) * 1e10


def read_calibration(path: str | Path) -> dict[str, str]:
    """Return the lines of a .poni file, or say what it lacks."""
    require_pyfai()
    if not isinstance(path, str | Path):
        raise OptionError(f"calibration is the path of a .poni file, not {type(path).__name__}.")
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"calibration {path} does not exist: pass the .poni file of the detector.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SchemaError(f"calibration {path} is not text, so it is no .poni file.") from error
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
    about = {key.strip().lower(): value.strip() for key, value in pairs}
    missing = [key for key in NEEDED if key not in about]
    if missing:
        raise SchemaError(
            f"calibration {path} has no {missing[0].capitalize()!r}, so it is no .poni file: make "
            f"one with pyFAI-calib2."
        )
    return about


def check_detector(about: Mapping[str, str], shape: tuple[int, int], path: str | Path) -> None:
    """Refuse a calibration of another detector than the frames'."""
    try:
        detector = geometry_of(tuple(about.items())).detector
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise SchemaError(f"calibration {path} cannot be understood: {error}.") from error
    if detector.pixel1 is None or detector.pixel2 is None:
        raise SchemaError(f"calibration {path} names no detector and no size of its pixels.")
    wanted = detector.max_shape
    if wanted is not None and tuple(map(int, wanted)) != tuple(shape):
        raise SchemaError(
            f"calibration {path} is of a detector of {_size(wanted)} pixels, but the frames have "
            f"{_size(shape)}: pass the .poni file that belongs to them."
        )


def detector_of(
    about: Mapping[str, str], path: str | Path
) -> tuple[tuple[int, int], np.ndarray | None]:
    """Rows and columns of a calibration's detector, and its gaps, True; None where it has none."""
    try:
        detector = geometry_of(tuple(about.items())).detector
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise SchemaError(f"calibration {path} cannot be understood: {error}.") from error
    if detector.max_shape is None:
        raise SchemaError(f"calibration {path} does not say how many pixels its detector has.")
    rows, columns = map(int, detector.max_shape)
    gaps = detector.mask
    return (rows, columns), None if gaps is None or not gaps.any() else np.asarray(gaps != 0)


def _size(shape: Any) -> str:
    return " × ".join(str(int(count)) for count in shape)


def _checked_limits(limits: Any) -> tuple[float, float] | None:
    if limits is None:
        return None
    if len(limits) != 2 or not limits[0] < limits[1]:
        raise OptionError(f"limits={limits!r} is not a range: pass two numbers, such as (1, 8).")
    return float(limits[0]), float(limits[1])


def read_mask(mask: str | Path | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask of pixels (True: left out) from an array or an .npy, EDF, CBF or TIFF file."""
    where = "mask" if isinstance(mask, np.ndarray) else f"mask {mask}"
    values = mask if isinstance(mask, np.ndarray) else _mask_file(Path(mask))
    values = np.squeeze(values)
    if values.shape != tuple(shape):
        raise SchemaError(
            f"{where} has {_size(values.shape)} pixels, but the frames have {_size(shape)}."
        )
    return np.asarray(values != 0)


def _mask_file(path: Path) -> np.ndarray:
    if not path.is_file():
        raise StoreError(f"mask {path} does not exist.")
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path))
        return np.asarray(_fabio().open(str(path)).data)
    except Exception as error:  # whatever a reader of images raises
        if isinstance(error, BackendError):
            raise
        raise StoreError(
            f"mask {path} cannot be read ({error}): pass an .npy, EDF, CBF or TIFF file."
        ) from error


def _fabio() -> Any:
    try:
        import fabio
    except ImportError as error:
        raise BackendError(
            f"reading images needs fabio, which is not installed here: "
            f"pip install 'ndtomo-dask[frames]' ({error})."
        ) from error
    return fabio
