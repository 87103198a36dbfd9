"""Virtual detector frames of a scan: the rings that its patterns make, and how they are counted."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.calibration import check_detector, detector_of, read_calibration
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.simulation.frames import FrameNoise, counted, frame_of_pattern, with_spots
from ndtomo_dask.schema import label, require
from ndtomo_dask.variables import ANGLE, FRAMES, SINOGRAM

_AXES = ("tth", "q")


def simulate_frames(
    ds: xr.Dataset,
    calibration: str | Path,
    *,
    scale: float = 1.0,
    solid_angle: bool = True,
    polarization: float | None = None,
    noise: FrameNoise = "poisson",
    spots: int = 0,
    spot_counts: float = 1e4,
    dtype: Literal["uint16", "uint32", "int32"] = "uint32",
    seed: int = 0,
) -> xr.Dataset:
    """Turn every pattern of a sinogram into the frame that a detector would count, by pyFAI.

    What `integrate` makes of the frames is the sinogram again, times ``scale``. Gaps of a detector
    that pyFAI knows hold the greatest number of the type, or -1. Frames are lazy, and each has a
    seed of its own.

    Parameters
    ----------
    ds
        A scan with ``sinogram (angle, translation, channel)`` and an axis ``tth`` or ``q``.
    calibration
        Path of the detector's .poni file.
    scale
        Counts per pixel for a sinogram of 1.
    solid_angle, polarization
        Whether pixels seen aslant count less, and the beam's polarization factor.
    noise
        ``"poisson"`` counts, or ``"none"``: the expected counts, rounded.
    spots, spot_counts
        Spots of single crystals in each frame, and the counts that each adds to its pixels.
    dtype
        Type of the pixels.
    seed
        Of everything that is random.

    Returns
    -------
        The scan with ``frames (angle, translation, row, column)``; `export_frames` writes them.
    """
    sinogram = require(ds, SINOGRAM, verb="simulate_frames")
    check_choice("noise", noise, ("poisson", "none"))
    check_choice("dtype", dtype, ("uint16", "uint32", "int32"))
    if not scale > 0 or spots < 0:
        raise OptionError("simulate_frames needs scale > 0 and spots >= 0.")
    unit = next((name for name in _AXES if name in ds.coords), None)
    if unit is None:
        raise SchemaError("simulate_frames needs a sinogram with an axis 'tth' or 'q'.")
    about = read_calibration(calibration)
    shape, gaps = detector_of(about, calibration)
    check_detector(about, shape, calibration)

    made = apply_kernel(
        frames_block, *_blocks(sinogram), core=("channel",),
        out={"row": shape[0], "column": shape[1]}, dtype=dtype,
        axis=spectral_axis(ds, unit, verb="simulate_frames").values, unit=unit,
        calibration=tuple(about.items()), shape=shape, gaps=gaps, scale=scale, seed=seed,
        solid_angle=solid_angle, polarization=polarization, noise=noise, spots=spots,
        spot_counts=spot_counts, counts_as=dtype,
    )  # fmt: skip

    options: dict[str, Any] = {"scale": scale, "noise": noise, "spots": spots, "seed": seed}
    return label(ds, {FRAMES: made}, step="simulate_frames", **options)


def _blocks(sinogram: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Whole patterns, a few to a task, and the number of each."""
    sizes = {dim: size for dim, size in sinogram.sizes.items() if dim != "channel"}
    block = dict.fromkeys(sizes, 1) | {ANGLE: 4}
    numbers = np.arange(np.prod(list(sizes.values()))).reshape(tuple(sizes.values()))
    chunked = sinogram.chunk({**block, "channel": -1})
    return chunked, xr.DataArray(numbers, dims=tuple(sizes)).chunk(block)


def frames_block(
    patterns: np.ndarray,
    numbers: np.ndarray,
    *,
    axis: np.ndarray,
    unit: str,
    calibration: tuple[tuple[str, str], ...],
    shape: tuple[int, int],
    gaps: np.ndarray | None,
    scale: float,
    seed: int,
    solid_angle: bool,
    polarization: float | None,
    noise: FrameNoise,
    spots: int,
    spot_counts: float,
    counts_as: str,
) -> np.ndarray:
    """Frames of patterns, (angle, translation, channel) -> (angle, translation, row, column)."""
    kind = np.dtype(counts_as)
    made = np.empty((*numbers.shape, *shape), dtype=kind)
    for place in np.ndindex(*numbers.shape):
        rng = np.random.default_rng((seed, int(numbers[place])))
        expected = frame_of_pattern(
            patterns[place] * scale, axis, calibration=calibration, unit=unit, shape=shape,
            solid_angle=solid_angle, polarization=polarization,
        )  # fmt: skip
        expected = with_spots(expected, rng, spots=spots, counts=spot_counts)
        made[place] = counted(expected, rng, noise, kind)
        if gaps is not None:
            made[place][gaps] = -1 if kind.kind == "i" else np.iinfo(kind).max
    return made
