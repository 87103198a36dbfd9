"""Scans whose truth is known by formula, and how volumes made of them are judged and shown."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from benchmarks import truth

SIZE, CHANNELS, COUNTS = 97, 3, 400.0
ANGLES = (180, 60, 20)
WIDTH = 1.5
"""Standard deviation in pixels of the window of SSIM, as of Wang et al. (2004)."""


@dataclass(frozen=True)
class Data:
    """A scan, and the image that it is of."""

    ds: xr.Dataset
    image: np.ndarray
    inside: np.ndarray
    noise: float
    """Root of the mean variance of the samples."""

    @property
    def theta(self) -> truth.Float64:
        """Angles in radians."""
        return np.deg2rad(self.ds["angle"].values)

    @property
    def sinogram(self) -> np.ndarray:
        """Samples, (angle, translation, channel)."""
        return np.asarray(self.ds["sinogram"].values)


@dataclass(frozen=True)
class Row:
    """What one method made of one scan."""

    name: str
    told: str
    volume: np.ndarray
    rmse: float
    ssim: float


def make_data(angles: int, noisy: bool, *, size: int = SIZE, channels: int = CHANNELS) -> Data:
    """Simulate a scan of the head phantom, whose details grow from channel to channel.

    The image is 0 or more, as `mlem` takes it; noise is of counts, ``COUNTS`` in the largest
    sample of each channel.
    """
    theta = np.linspace(0, np.pi, angles, endpoint=False)
    contrast = np.linspace(0.4, 1.0, channels)
    densities = truth.ELLIPSES[:, :1] * np.where(np.arange(10)[:, None] < 2, 1.0, contrast)
    sinogram, noise = truth.head_sinogram(theta, size) @ densities, 0.0
    if noisy:
        unit = sinogram.max(axis=(0, 1)) / COUNTS
        noise = float(np.sqrt((sinogram * unit).mean()))
        sinogram = np.random.default_rng(4).poisson(np.clip(sinogram, 0, None) / unit) * unit
    ds = xr.Dataset(
        {"sinogram": (("angle", "translation", "channel"), sinogram.astype(np.float32))},
        {"angle": np.rad2deg(theta), "translation": np.arange(float(size))},
    )
    return Data(ds, truth.head_image(size) @ densities, truth.circle(size), noise)


def judge(data: Data, name: str, told: str, volume: np.ndarray) -> Row:
    """Compare a volume with the truth, within the circle that all projections see."""
    rmse = truth.relative_rmse(volume, data.image, data.inside)
    return Row(name, told, volume, rmse, similarity(volume, data.image, data.inside))


def similarity(found: np.ndarray, image: np.ndarray, inside: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), the mean over pixels inside and over channels."""
    from skimage.metrics import structural_similarity

    maps = [
        structural_similarity(
            np.asarray(found[..., c], dtype=float), image[..., c], full=True, sigma=WIDTH,
            gaussian_weights=True, use_sample_covariance=False, data_range=float(np.ptp(image)),
        )[1]
        for c in range(image.shape[-1])
    ]  # fmt: skip
    return float(np.stack(maps, axis=-1)[inside].mean())


def table(rows: dict[int, list[Row]]) -> str:
    """Write one table in Markdown: methods down, numbers of projections across."""
    head = " | ".join(f"{angles} projections" for angles in rows)
    lines = [f"| | {head} |", "| --- " * (1 + len(rows)) + "|"]
    for same in zip(*rows.values(), strict=True):
        cells = (f"{row.rmse:.3f} / {row.ssim:.3f} ({row.told})" for row in same)
        lines.append(f"| {same[0].name} | {' | '.join(cells)} |")
    return "\n".join(lines)
