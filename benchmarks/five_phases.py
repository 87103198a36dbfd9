"""A noisy scan of five phases, and of a sixth in twelve pixels that no variance shows."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import Projector, load_projector

GRAINS = 40
SPOTS = ((0.35, 0.40), (0.55, 0.65), (0.70, 0.37))
"""Where the minority's spots of 2 x 2 pixels are, as shares of the grid."""
PLACE = 0.73
"""Where its one peak is, as a share of the channels; the other phases have none near it."""


@dataclass
class Scene:
    """A scan and what is known of it."""

    scan: xr.Dataset
    clean: np.ndarray
    """The sinogram without noise."""
    common: np.ndarray
    """The same without the minority phase."""
    spots: np.ndarray
    """True where the minority is, (y, x)."""
    peak: slice
    """The channels of its peak, as wide as half its height."""

    def amount(self, volume: np.ndarray, common: np.ndarray) -> float:
        """Mean intensity of the minority in its pixels and channels, in excess of ``common``."""
        excess = np.asarray(volume)[self.spots][:, self.peak] - common[self.spots][:, self.peak]
        return float(excess.mean())


def five_phases(
    size: int = 96, angles: int = 150, channels: int = 240, *, width: float = 6.0,
    counts: float = 20.0, strain: float = 0.0, minority: float = 1.0, seed: int = 0,
) -> Scene:  # fmt: skip
    """Simulate a scan with ``counts`` per bin on average, Poisson noise, and peaks ``width`` wide.

    ``strain`` shifts all peaks by as much of their position, from one side of the sample to the
    other. ``minority`` is the height of the sixth phase's peak, where those of the others are 1.
    """
    rng = np.random.default_rng(seed)
    maps, column = _grains(size, rng)
    centers, rare = _centers(channels, width, rng), PLACE * channels
    spots = np.zeros((size, size), dtype=bool)
    for row, place in SPOTS:
        spots[int(row * size) :, int(place * size) :][:2, :2] = True

    geometry = ParallelGeometry.centered(np.pi * np.arange(angles) / angles, size)
    A = load_projector("cpu", geometry)
    common = _project(A, maps, column, centers, channels, width, strain)
    line = minority * _peaks(np.arange(channels), [rare], width).astype(np.float32)
    scale = np.float32(counts / common.mean())
    common *= scale
    clean = common + A(spots[..., None].astype(np.float32)) * (scale * line)
    sinogram = np.empty_like(clean)
    for projection, mean in zip(sinogram, clean, strict=True):
        projection[:] = rng.poisson(mean)
    scan = xr.Dataset(
        {"sinogram": (("angle", "translation", "channel"), sinogram)},
        coords={"angle": np.degrees(geometry.angles), "channel": np.arange(channels)},
        attrs={"history": "simulated"},
    )
    half = int(width / 2)
    peak = slice(round(rare) - half, round(rare) + half + 1)
    scan.sinogram.attrs |= {"units": "count", "long_name": "intensity"}
    return Scene(scan, clean, common, spots, peak)


def _grains(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Amounts of five phases in grains of a disc, (y, x, phase), and the pixels' columns."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    seeds = rng.uniform(-size / 2, size / 2, (GRAINS, 2))
    grain = ((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2).argmin(axis=-1)
    amounts = np.eye(5)[rng.integers(0, 5, GRAINS)] * rng.uniform(0.6, 1, (GRAINS, 1))
    return amounts[grain] * (np.hypot(y, x) < 0.44 * size)[..., None], x


def _centers(channels: int, width: float, rng: np.random.Generator) -> list[np.ndarray]:
    places = [rng.uniform(0.05, 0.95, 6) * channels for _ in range(5)]
    return [place[np.abs(place - PLACE * channels) > 2.5 * width] for place in places]


def _project(
    A: Projector, maps: np.ndarray, column: np.ndarray, centers: list[np.ndarray], channels: int,
    width: float, strain: float,
) -> np.ndarray:  # fmt: skip
    """Sinogram of all channels; strain changes from column to column of the sample."""
    channel = np.arange(channels)
    background = 0.5 * np.exp(-2 * channel / channels) + 0.2

    def spectra(shift: float) -> np.ndarray:
        return np.array([_peaks(channel, place * shift, width) for place in centers]) + background

    if not strain:
        return np.asarray(A(maps.astype(np.float32)) @ spectra(1.0).astype(np.float32))
    volume = np.empty((*maps.shape[:2], channels), dtype=np.float32)
    for number, x in enumerate(column[0]):
        volume[:, number] = maps[:, number] @ spectra(1 + strain * 2 * x / maps.shape[1])
    return np.asarray(A(volume))


def _peaks(channel: np.ndarray, centers: np.ndarray | list[float], width: float) -> np.ndarray:
    offset = (channel - np.asarray(centers)[:, None]) / (width / 2.3548)
    return np.asarray(np.exp(-0.5 * offset**2).sum(axis=0))
