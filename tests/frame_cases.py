"""Small scans of detector frames, for the tests of what reads and integrates them."""

from pathlib import Path

import numpy as np
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.coordinates import axis_variable, derive_axes

SHAPE = (90, 110)
PONI = """poni_version: 2
Detector: Detector
Detector_config: {{"pixel1": 0.0005, "pixel2": 0.0005, "max_shape": [{}, {}]}}
Distance: 0.3
Poni1: 0.0201
Poni2: 0.0253
Rot1: 0.02
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.0e-11
"""


def write_poni(path: Path, shape: tuple[int, int] = SHAPE) -> Path:
    path.write_text(PONI.format(*shape))
    return path


def patterns(angles: int = 8, translations: int = 5, channels: int = 300) -> xr.Dataset:
    """A scan whose patterns differ from point to point: one broad line on a slope, that moves."""
    tth = np.linspace(0.2, 8.0, channels)
    angle, step = np.arange(angles) * 22.5, np.arange(translations)
    middle = 3.0 + 0.1 * np.arange(angles)[:, None, None]
    height = 1 + step[None, :, None]
    line = height * np.exp(-0.5 * ((tth - middle) / 0.4) ** 2)
    flux = 100.0 - np.arange(angles)[:, None] - 0.1 * step
    ds = xr.Dataset(
        {"sinogram": (("angle", "translation", "channel"), 50 + 100 * line),
         "monitor": (("angle", "translation"), flux)},
        coords={
            "angle": axis_variable("angle", angle),
            "translation": axis_variable("translation", (step - 2) * 0.05),
            "tth": axis_variable("tth", tth),
            "wavelength": ((), 0.2, {"units": "angstrom"}),
        },
        attrs={"history": "made by hand"},
    )  # fmt: skip
    return derive_axes(ds)


def slices(count: int = 3) -> xr.Dataset:
    """Slices of a small sample, each brighter than the one below."""
    one = patterns(angles=4, translations=3, channels=100)
    many = [one.assign(sinogram=one.sinogram * (1 + number)) for number in range(count)]
    z = axis_variable("z", np.arange(count) * 0.2)
    return xr.concat(many, "z").assign_coords(z=z)


def write_scan(tmp_path: Path, *, noise: str = "poisson", **options: object) -> tuple[Path, Path]:
    """Write the frames of `patterns`; return what `open_frames` opens, and the calibration."""
    poni = write_poni(tmp_path / "detector.poni")
    frames = nd.simulate_frames(patterns(), poni, noise=noise, seed=3)
    return nd.export_frames(frames, tmp_path / "frames", **options), poni


def at_centers(truth: xr.Dataset, ds: xr.Dataset) -> np.ndarray:
    """Patterns of ``truth`` where ``ds`` has its points."""
    rows = truth.sinogram.values.reshape(-1, truth.sizes["channel"])
    made = [np.interp(ds.tth.values, truth.tth.values, row) for row in rows]
    return np.array(made).reshape(*truth.sinogram.shape[:2], -1)
