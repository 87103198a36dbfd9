"""Detector frames integrated to a sinogram, each frame read once, in the order of the disk."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.block_sizes import frames_block
from ndtomo_dask.calibration import read_instrument, wavelength_of
from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.frames.grid import (
    CORE,
    NO_FRAME,
    FrameGrid,
    grid_in_order,
    grid_of_bins,
    grid_of_positions,
)
from ndtomo_dask.kernels.integration import Average, Instrument, table_of
from ndtomo_dask.schema import label
from ndtomo_dask.variables import (
    ANGLE,
    FRAME_NUMBER,
    FRAMES,
    MASK,
    MONITOR,
    PIXEL_MASK,
    SINOGRAM,
    SINOGRAM_VARIANCE,
    TRANSLATION,
    Z,
)

LOGGER = logging.getLogger("ndtomo_dask")
METHODS = ("mean", "trimmed", "median", "sigma_clip")
READER, TABLE_BYTES = "reader", "table_bytes"
"""Keys in the encoding of frames, and of what is integrated: what reads them, and its table."""
_MOMENTS = 2
Steps = Sequence[float] | Mapping[str, float] | np.ndarray | None
"""Positions along an axis, or ``{"first": 0, "last": 179, "count": 180}``."""


class Reader(Protocol):
    """What reads frames by their numbers, in any process."""

    count: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield each number with its frame, or with something that has a ``reason``."""

    def name(self, number: int) -> str:
        """Say where a frame lies."""


def integrate(
    ds: xr.Dataset,
    calibration: str | Path,
    *,
    mask: str | Path | np.ndarray | None = None,
    points: int = 2000,
    unit: Literal["q", "tth"] = "q",
    limits: Sequence[float] | None = None,
    method: Literal["mean", "trimmed", "median", "sigma_clip"] = "mean",
    percentiles: Sequence[float] = (10, 90),
    cutoff: float = 3.0,
    threshold: float | None = None,
    polarization: float | None = None,
    solid_angle: bool = True,
    splitting: Literal["no", "bbox", "full"] = "bbox",
    angles: Steps = None,
    translations: Steps = None,
    fast: Literal["angle", "translation"] = "angle",
    snake: bool = False,
    repeats: Literal["refuse", "mean"] = "refuse",
) -> xr.Dataset:
    """Integrate detector frames azimuthally to the sinogram of a scan, by pyFAI.

    Each sample is the mean count per pixel of a frame along each ring, corrected for solid angle
    and polarization; its variance is that of Poisson counts, or of ``"sigma_clip"`` that of the
    scatter along the ring. Frames are read one at a time, each
    once, in the order in which they lie on disk. A frame that cannot be read becomes NaN, is
    ``True`` in ``mask`` and is named in the log. Save the result before you correct it: what is
    lazy would be integrated again by every ``find_`` verb.

    Parameters
    ----------
    ds
        What `open_frames` returned, or a part of it.
    calibration
        Path of the detector's .poni file, as pyFAI-calib2 writes it.
    mask
        Pixels to leave out (not zero): an .npy, EDF, CBF or TIFF file, or an array. Pixels below
        zero, pixels at the greatest value of their type, and those that the detector or the file
        of frames marks are left out anyway.
    points, unit, limits
        Points of a pattern, evenly spaced in ``"q"`` (1/Å) or ``"tth"`` (degrees), and the range
        they cover; by default all that the detector sees.
    method
        How the pixels of a point become one number: ``"mean"``; ``"trimmed"``, the mean between
        two ``percentiles``; ``"median"``; ``"sigma_clip"``, the mean without pixels further than
        ``cutoff`` standard deviations. All but the first remove the spots of single crystals.
    percentiles, cutoff
        Of ``"trimmed"`` and ``"sigma_clip"``.
    threshold
        Counts from which on a pixel is hot and left out.
    polarization
        Polarization factor of the beam, such as 0.95 of an undulator; None corrects nothing.
    solid_angle
        Whether pixels seen aslant are corrected for their solid angle.
    splitting
        How a pixel is shared among points: not, by its bounding box, or by its outline.
    angles, translations
        The grid of the scan, where the frames have no positions: degrees and mm. Where they have,
        the grid on which they are binned, each frame being shared between its neighbors by linear
        weights. Numbers in order, or ``{"first": 0, "last": 179, "count": 180}``.
    fast, snake
        Of frames without positions: the axis of one line of the scan, and whether every other line
        was scanned backwards.
    repeats
        Of frames at one position: ``"refuse"`` them, or take their ``"mean"``.

    Returns
    -------
        ``sinogram`` and ``sinogram_variance ([z,] angle, translation, channel)``, ``mask (angle,
        translation)`` unless there are several ``z``, ``frame_number``, and ``monitor`` where the
        frames have it.

    Raises
    ------
    SchemaError
        The calibration is of another detector, or the frames do not tell where they were taken.
    BackendError
        pyFAI is not installed.
    """
    reader, numbers = _frames_of(ds)
    average = _average(method, percentiles, cutoff, threshold)
    instrument = read_instrument(
        calibration, reader.shape, mask=mask, marked=_marked(ds), points=points, unit=unit,
        limits=cast(Any, limits), splitting=splitting, solid_angle=solid_angle,
        polarization=polarization,
    )  # fmt: skip
    grid = _grid(ds, numbers, angles, translations, fast, snake, repeats)

    cells, weights = _in_blocks(grid)
    _plan(cells, reader, instrument)

    patterns = apply_kernel(
        integrate_block, cells, weights, core=("entry",),
        out={"moment": _MOMENTS, "channel": points}, dtype="float32",
        reader=reader, instrument=instrument, average=average,
    )  # fmt: skip

    made = _labelled(ds, patterns, grid, instrument, numbers)
    options = {"calibration": Path(calibration).name, "points": points, "unit": unit,
               "method": method, "digest": _digest(instrument, average, grid)}  # fmt: skip
    arrays = {SINOGRAM: made["sinogram"], SINOGRAM_VARIANCE: made["sinogram_variance"]}
    made = derive_axes(label(made, arrays, step="integrate", **options))
    made.encoding |= {READER: reader, TABLE_BYTES: table_of(instrument).nbytes}
    return made


def _frames_of(frames: Any) -> tuple[Reader, np.ndarray]:
    if not isinstance(frames, xr.Dataset) or FRAMES.name not in frames:
        kind = "a dataset without frames" if isinstance(frames, xr.Dataset) else repr(frames)
        raise SchemaError(
            f"integrate takes what open_frames returns, not {kind}: "
            f"integrate(open_frames('scan.h5'), 'detector.poni')."
        )
    reader = frames[FRAMES.name].encoding.get(READER)
    if reader is None or frames[FRAMES.name].shape[1:] != tuple(reader.shape):
        raise SchemaError(
            "integrate needs whole frames as open_frames returns them; leave pixels out by mask=."
        )
    return reader, np.asarray(frames["frame"], dtype=int)


def _average(
    method: str, percentiles: Sequence[float], cutoff: float, threshold: float | None
) -> Average:
    check_choice("method", method, METHODS)
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise OptionError(f"percentiles={percentiles!r} are not two of 0 to 100, such as (10, 90).")
    if not cutoff > 0:
        raise OptionError(f"cutoff={cutoff} is not a number of standard deviations: pass 3.")
    low, high = map(float, percentiles)
    return Average(cast(Any, method), (low, high), float(cutoff), threshold)


def _marked(frames: xr.Dataset) -> np.ndarray | None:
    return frames[PIXEL_MASK.name].values if PIXEL_MASK.name in frames else None


def _grid(
    frames: xr.Dataset,
    numbers: np.ndarray,
    angles: Steps,
    translations: Steps,
    fast: str,
    snake: bool,
    repeats: str,
) -> FrameGrid:
    check_choice("repeats", repeats, ("refuse", "mean"))
    grids = {ANGLE: angles, TRANSLATION: translations}
    given = {name: _steps(name, steps) for name, steps in grids.items() if steps is not None}
    positions = {
        name: np.asarray(frames[name], dtype=float)
        for name in (*CORE, Z)
        if name in frames.coords and frames[name].dims == ("frame",)
    }
    source = str(frames.attrs.get("source", "the frames")).split(":")[0]
    unknown = [name for name in CORE if name not in positions]
    for name in unknown:
        if name not in given:
            raise SchemaError(_no_motor(name, source, str(frames.attrs.get("motors", ""))))
    if unknown:
        known = {name: np.unique(positions[name]) for name in CORE if name in positions}
        return grid_in_order(numbers, known | given, fast=fast, snake=snake)
    if not given:
        return grid_of_positions(numbers, positions, repeats=repeats, where=source)
    others = {name: np.unique(positions[name]) for name in positions if name not in given}
    return grid_of_bins(numbers, positions, others | given)


def _no_motor(name: str, source: str, motors: str) -> str:
    has = f"It has: {motors[:300]}. " if motors else "It has none. "
    return (
        f"{source} has no motor that is known to be the {name}. {has}Name one: "
        f"open_frames(..., {name}='...'), or give the grid: integrate(..., {name}s=...)."
    )


def _steps(name: str, steps: Any) -> np.ndarray:
    if isinstance(steps, Mapping):
        if set(steps) != {"first", "last", "count"}:
            raise OptionError(
                f"{name}s={dict(steps)!r} is not written {{first: 0, last: 179, count: 180}}."
            )
        return np.linspace(steps["first"], steps["last"], int(steps["count"]))
    values = np.atleast_1d(np.asarray(steps, dtype=float))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise OptionError(f"{name}s are positions in a row, not an array of {values.shape}.")
    return values


def _in_blocks(grid: FrameGrid) -> tuple[xr.DataArray, xr.DataArray]:
    """Frames and weights of each cell, cut where tasks will be."""
    dims = (*grid.axes, "entry")
    sizes = {name: values.size for name, values in grid.axes.items()}
    block = frames_block(sizes, grid.fast)
    coords = {name: axis_variable(name, values) for name, values in grid.axes.items()}
    cells = xr.DataArray(grid.numbers, dims=dims, coords=coords).chunk(block)
    return cells, xr.DataArray(grid.weights, dims=dims).chunk(block)


def _plan(cells: xr.DataArray, reader: Reader, instrument: Instrument) -> plan.Plan:
    points = {"channel": instrument.points}
    sizes, block = sizes_of(cells) | points, block_of(cells) | points
    del sizes["entry"], block["entry"]
    return plan.integrate(
        sizes, block, 4, frame_pixels=reader.shape[0] * reader.shape[1],
        frame_itemsize=reader.dtype.itemsize, table_bytes=table_of(instrument).nbytes,
        allowed_mem=allowed_memory(None),
    )  # fmt: skip


def integrate_block(
    numbers: np.ndarray,
    weights: np.ndarray,
    *,
    reader: Reader,
    instrument: Instrument,
    average: Average,
) -> np.ndarray:
    """Patterns of cells and their variance, (angle, translation, entry) twice -> (…, 2, channel).

    Frames are read and added in the order of their numbers, so that the sums do not depend on how
    the scan is cut into blocks.
    """
    table = table_of(instrument)
    cells = numbers.reshape(-1, numbers.shape[-1])
    shares = weights.reshape(cells.shape)
    sums = np.zeros((3, len(cells), instrument.points))
    wanted = np.unique(cells[cells != NO_FRAME])
    unread: dict[str, list[int]] = {}
    for number, frame in reader.read(wanted.tolist()):
        if not isinstance(frame, np.ndarray):
            unread.setdefault(frame.reason, []).append(number)
            continue
        pattern = table.integrate(frame, average)
        seen = np.isfinite(pattern.intensity)
        for cell, entry in zip(*np.nonzero(cells == number), strict=True):
            share = shares[cell, entry]
            sums[0, cell, seen] += share * pattern.intensity[seen]
            sums[1, cell, seen] += share**2 * pattern.variance[seen]
            sums[2, cell, seen] += share
    for reason, lost in unread.items():
        others = f" and {len(lost) - 1} other frames" if len(lost) > 1 else ""
        LOGGER.warning("%s%s cannot be read: %s", reader.name(lost[0]), others, reason)
    return _means(sums).reshape(*numbers.shape[:-1], _MOMENTS, instrument.points)


def _means(sums: np.ndarray) -> np.ndarray:
    """Weighted means and their variance, NaN where nothing was seen, (cell, 2, channel)."""
    intensity, variance, weight = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([intensity / weight, variance / weight**2], axis=1).astype(np.float32)


def _labelled(
    frames: xr.Dataset,
    patterns: xr.DataArray,
    grid: FrameGrid,
    instrument: Instrument,
    numbers: np.ndarray,
) -> xr.Dataset:
    about: dict[str, Any] = {"long_name": "mean counts per pixel"}
    sinogram = patterns.isel(moment=0).assign_attrs(about)
    variance = patterns.isel(moment=1)
    ds = xr.Dataset({"sinogram": sinogram, "sinogram_variance": variance}, attrs=dict(frames.attrs))
    if Z not in grid.axes:  # a mask has no slices; there, NaN says it
        mask = sinogram.isnull().all("channel")
        ds[MASK.name] = mask.assign_attrs(units=MASK.units, long_name=MASK.long_name)
    about = {"units": FRAME_NUMBER.units, "long_name": FRAME_NUMBER.long_name}
    ds[FRAME_NUMBER.name] = (tuple(grid.axes), grid.numbers[..., 0], about)
    if MONITOR.name in frames:
        flux = np.zeros(int(numbers.max()) + 1)
        flux[numbers] = np.asarray(frames[MONITOR.name], dtype=float)
        attrs = {"units": MONITOR.units, "long_name": MONITOR.long_name}
        ds[MONITOR.name] = (tuple(grid.axes), grid.averaged(flux), attrs)
    axis = axis_variable(instrument.unit, table_of(instrument).centers)
    ds = ds.assign_coords({instrument.unit: axis})
    wavelength = wavelength_of(instrument)
    if wavelength is None:
        return ds
    return ds.assign_coords(
        wavelength=((), wavelength, {"units": "angstrom", "long_name": "wavelength"})
    )


def _digest(instrument: Instrument, average: Average, grid: FrameGrid) -> str:
    """Hash of all that decides the numbers, so that only the same integration is resumed."""
    content = blake2b(repr((instrument, average)).encode(), digest_size=8)
    content.update(grid.numbers.tobytes() + grid.weights.tobytes())
    return content.hexdigest()
