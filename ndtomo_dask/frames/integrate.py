"""Detector frames integrated to a sinogram, each frame read once, in the order of the disk."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.block_sizes import frames_block
from ndtomo_dask.calibration import read_instrument, wavelength_of
from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.frames.block import MOMENTS, Reader, integrate_block
from ndtomo_dask.frames.grid import FrameGrid
from ndtomo_dask.frames.placing import Steps, grid_of
from ndtomo_dask.kernels.instrument import Instrument
from ndtomo_dask.kernels.integration import Average, table_of
from ndtomo_dask.schema import label
from ndtomo_dask.variables import (
    FRAME_NUMBER,
    FRAMES,
    MASK,
    MONITOR,
    PIXEL_MASK,
    SINOGRAM,
    SINOGRAM_VARIANCE,
)

METHODS = ("mean", "trimmed", "median", "sigma_clip")
READER, COST = "reader", "cost"
"""Keys in the encoding of frames, and of what is integrated: what reads them, what a task holds."""


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
        ``sinogram`` and ``sinogram_variance ([z,] angle, translation, channel)``; ``mask`` and
        ``frame_number ([z,] angle, translation)``, and ``monitor`` where the frames have it.

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
    grid = grid_of(ds, numbers, angles, translations, fast, snake, repeats)

    cells, weights = _in_blocks(grid)
    cost = _cost(reader, instrument, average)
    _plan(cells, points, cost)

    patterns = apply_kernel(
        integrate_block, cells, weights, core=("entry",),
        out={"moment": MOMENTS, "channel": points}, dtype="float32",
        reader=reader, instrument=instrument, average=average,
    )  # fmt: skip

    made = _labelled(ds, patterns, grid, instrument, numbers)
    options = {"calibration": Path(calibration).name, "points": points, "unit": unit,
               "method": method, "digest": _digest(instrument, average, grid)}  # fmt: skip
    arrays = {SINOGRAM: made["sinogram"], SINOGRAM_VARIANCE: made["sinogram_variance"]}
    made = derive_axes(label(made, arrays, step="integrate", **options))
    made.encoding |= {READER: reader, COST: cost}
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


def _in_blocks(grid: FrameGrid) -> tuple[xr.DataArray, xr.DataArray]:
    """Frames and weights of each cell, cut where tasks will be."""
    dims = (*grid.axes, "entry")
    sizes = {name: values.size for name, values in grid.axes.items()}
    block = frames_block(sizes, grid.fast)
    coords = {name: axis_variable(name, values) for name, values in grid.axes.items()}
    cells = xr.DataArray(grid.numbers, dims=dims, coords=coords).chunk(block)
    return cells, xr.DataArray(grid.weights, dims=dims).chunk(block)


def _cost(reader: Reader, instrument: Instrument, average: Average) -> plan.FrameCost:
    table = table_of(instrument)
    return plan.FrameCost(
        pixels=reader.shape[0] * reader.shape[1], itemsize=reader.dtype.itemsize,
        together=reader.together, table_bytes=table.lut.nbytes,
        building_bytes=table.lut.building_bytes, sorting_bytes=table.sorting_bytes(average),
    )  # fmt: skip


def _plan(cells: xr.DataArray, points: int, cost: plan.FrameCost) -> plan.Plan:
    channel = {"channel": points}
    sizes, block = sizes_of(cells) | channel, block_of(cells) | channel
    del sizes["entry"], block["entry"]
    return plan.integrate(sizes, block, 4, cost=cost, allowed_mem=allowed_memory(None))


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
