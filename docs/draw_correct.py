"""Draw the picture of docs/howto/correct-a-scan.md: ``python docs/draw_correct.py``."""

from pathlib import Path

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import ndtomo_dask as nd

IMAGE = Path(__file__).parent / "images" / "correct-a-scan.png"
SCAN = {"size": 96, "angles": 120, "channels": 200, "air": 0.0, "decay": 1.0, "jitter": 0.0}


def draw() -> Figure:
    """Three defects above, and what is left of them below."""
    figure = Figure(figsize=(11, 6), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 3)
    _spots(panels[:, 0])
    _channels(panels[:, 1])
    _background(panels[:, 2])
    return figure


def _spots(panels: list[Axes]) -> None:
    scan = nd.simulate_scan(**SCAN, spots=1500).load()
    done = nd.remove_outliers(scan)
    channel = int(done.replaced_samples.values.argmax())
    top = float(done.sinogram[..., channel].max())
    for axes, ds, title in zip(
        panels, (scan, done), ("spots of single crystals", "remove_outliers"), strict=True
    ):
        axes.imshow(ds.sinogram[..., channel], cmap="gray", vmax=2 * top, aspect="auto")
        axes.set(title=title, xlabel="translation", ylabel="angle")


def _channels(panels: list[Axes]) -> None:
    scan = nd.simulate_scan(**SCAN, hot_channels=4, dead_channels=4).load()
    done = nd.mask_channels(scan, nd.find_bad_channels(scan)).pipe(nd.interpolate_masked)
    for axes, ds, title in zip(
        panels,
        (scan, done),
        ("hot and dead channels", "mask_channels, interpolate_masked"),
        strict=True,
    ):
        _spectrum(axes, ds, title)


def _background(panels: list[Axes]) -> None:
    scan = nd.simulate_scan(**SCAN, amorphous=0.5).load()
    done = nd.subtract_background(scan, width=12, smooth=1)
    for axes, ds, title in zip(
        panels, (scan, done), ("amorphous matrix", "subtract_background"), strict=True
    ):
        _spectrum(axes, ds, title)


def _spectrum(axes: Axes, ds: xr.Dataset, title: str) -> None:
    axes.plot(ds.q, ds.sinogram.mean(["angle", "translation"]), lw=1, color="#4c72b0")
    axes.set(title=title, xlabel="q, 1/Å", ylabel="mean counts")
    axes.set_ylim(bottom=0)


if __name__ == "__main__":
    draw().savefig(IMAGE, dpi=90)
