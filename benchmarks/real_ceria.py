"""Rings of CeO2 on a Pilatus 2M, sector by sector: positions, widths, lattice parameters.

Pixels are sorted into sectors and bins of 2θ by their centers, from the calibration in the
``.poni`` file; every ring is fitted in every sector by `fit_peaks`.
"""

import math
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

import ndtomo_dask as nd

IMAGE, PONI = "ceria_pilatus2m.hdf5", "ceria_pilatus2m.poni"
DEAD = 9e5
"""Counts that only broken pixels show."""
RINGS = {
    "111": 3.708, "200": 4.282, "220": 6.056, "311": 7.103, "222": 7.419,
    "400": 8.569, "331": 9.340, "420": 9.583, "422": 10.500, "511": 11.139,
}  # fmt: skip
"""Where the README of the data expects each ring, 2θ in degrees; 333 lies under 511."""
CERTIFIED = 5.411651
"""Lattice parameter of CeO2 in Å, NIST SRM 674b."""
SECTORS = 36
STEP = 0.005
"""Width of a bin of 2θ in degrees: a pixel covers 0.0133°."""
REACH = 0.1
"""Half the width of a ring's window in degrees."""
SHARE = 0.9
"""Least share of a window's bins that must have pixels; elsewhere a gap may hide half a ring."""


def read_poni(path: Path) -> dict[str, float]:
    """Distance, beam center and wavelength in meters; all rotations must be nil."""
    words = dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)
    if any(float(words[f"Rot{axis}"]) for axis in (1, 2, 3)):
        raise ValueError(f"{path} has rotations, which a plain binning leaves out.")
    names = {"distance": "Distance", "y": "Poni1", "x": "Poni2", "wavelength": "Wavelength"}
    return {name: float(words[key]) for name, key in names.items()} | {"pixel": 172e-6}


def read_image(folder: Path) -> np.ndarray:
    """Counts; NaN in gaps and broken pixels."""
    with h5py.File(folder / IMAGE) as file:
        counts = file["imageseries/images"][0].astype(float)
    return np.where((counts >= 0) & (counts < DEAD), counts, np.nan)


def pixel_angles(shape: tuple[int, int], poni: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """2θ and azimuth of every pixel's center, in degrees; azimuth 90 is towards larger rows."""
    rows, columns = (
        (np.arange(count) + 0.5) * poni["pixel"] - poni[name]
        for count, name in zip(shape, ("y", "x"), strict=True)
    )
    radius = np.hypot(rows[:, None], columns)
    azimuth = np.arctan2(rows[:, None], columns)
    return np.degrees(np.arctan2(radius, poni["distance"])), np.degrees(azimuth) % 360


def sector_patterns(folder: Path, sectors: int = SECTORS) -> xr.Dataset:
    """Mean counts per pixel in every sector and bin of 2θ; NaN where there is no pixel."""
    poni, image = read_poni(folder / PONI), read_image(folder)
    tth, azimuth = pixel_angles(image.shape, poni)
    low, high = min(RINGS.values()) - 2 * REACH, max(RINGS.values()) + 2 * REACH
    bins = math.ceil((high - low) / STEP)
    number = np.floor((tth - low) / STEP).astype(int)
    sector = np.floor(azimuth / (360 / sectors)).astype(int)
    used = np.isfinite(image) & (number >= 0) & (number < bins)
    place = sector[used] * bins + number[used]
    pixels = np.bincount(place, minlength=sectors * bins)
    counts = np.bincount(place, image[used], minlength=sectors * bins)
    mean = np.divide(counts, pixels, out=np.full(counts.shape, np.nan), where=pixels > 0)
    middle = (np.arange(sectors) + 0.5) * 360 / sectors
    about = {"units": "count", "long_name": "mean counts per pixel"}
    return xr.Dataset(
        {"spectrum": (("azimuth", "channel"), mean.reshape(sectors, bins), about)},
        coords={
            "azimuth": ("azimuth", middle, {"units": "degree"}),
            "tth": ("channel", low + (np.arange(bins) + 0.5) * STEP, {"units": "degree"}),
            "wavelength": poni["wavelength"] * 1e10,
        },
    )


def fit_rings(patterns: xr.Dataset) -> xr.Dataset:
    """Fit every ring of every sector, and the lattice parameter of every sector from all rings."""
    windows = {ring: (place - REACH, place + REACH) for ring, place in RINGS.items()}
    fitted = nd.fit_peaks(patterns, windows=windows, axis="tth", variable="spectrum").compute()
    full = [
        patterns.spectrum.where(abs(patterns.tth - place) < REACH, drop=True)
        .notnull()
        .mean("channel")
        for place in RINGS.values()
    ]
    whole = xr.concat(full, fitted.peak) >= SHARE
    for name in ("peak_position", "peak_fwhm", "peak_area", "peak_fraction"):
        for part in (name, f"{name}_error"):
            fitted[part] = fitted[part].where(whole.transpose(*fitted[part].dims))
    indices = {ring: tuple(map(int, ring)) for ring in RINGS}
    return nd.lattice_parameter(fitted, indices).compute()


def harmonics(values: np.ndarray, errors: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Fit mean, cos φ, sin φ, cos 2φ and sin 2φ of a ring's positions by their errors."""
    angle, known = np.radians(azimuth), np.isfinite(values)
    rows = [np.ones_like(angle), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    design, weight = np.array(rows).T[known], 1 / errors[known]
    return np.linalg.lstsq(design * weight[:, None], values[known] * weight, rcond=None)[0]


def harmonic_curve(terms: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Evaluate what `harmonics` found."""
    angle = np.radians(azimuth)
    rows = [np.ones_like(angle), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    return np.asarray(terms) @ np.array(rows)
