"""Draw the pictures of measured scans: ``python docs/draw_real_data.py STORES DATA``.

``STORES`` holds what the recipes in ``docs/examples`` made (``tooth.zarr``, ``catalyst.zarr``,
``gel_phantom.zarr``), ``DATA`` the measured files. Writes ``real-tooth.png``, ``real-catalyst.png``
and ``real-gel.png`` in ``docs/images``.
"""

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy import ndimage

import ndtomo_dask as nd

IMAGES = Path(__file__).parent / "images"
INK, BLUE, RED, GREEN, GRAY = "#1c2430", "#4c72b0", "#c44e52", "#55a868", "#8a93a3"
VOXEL = 0.4 * 100 / 300
"""Edge of a pixel of the gel's reference in mm: a detector pixel, seen at the axis."""
INSERTS = {"1": (-6.0, -2.7), "2": (0.6, -7.7), "3": (-0.4, 6.6), "4": (5.2, 4.3), "5": (7.1, -2.4)}
"""Middle (y, x) in mm of each insert of the gel."""


def panel(axes: Axes, image: np.ndarray, extent: tuple[float, ...], **options: Any) -> Any:
    """Draw an image with its colorbar; ``label`` is the bar's, ``title`` stands above."""
    title, label = options.pop("title"), options.pop("label")
    shown = axes.imshow(image, extent=extent, interpolation="nearest", **options)
    figure = axes.figure
    assert isinstance(figure, Figure)
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator] # annotated wrongly
    axes.set_title(title, fontsize=9, color=INK)
    axes.tick_params(labelsize=7)
    return shown


def name(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(labelsize=7)


def edges(ds: xr.Dataset, scale: float = 1.0) -> tuple[float, float, float, float]:
    """Outer edges of the grid as matplotlib takes them: left, right, bottom, top."""
    x, y = ds["x"].values * scale, ds["y"].values * scale
    half = (x[1] - x[0]) / 2
    return (x[0] - half, x[-1] + half, y[-1] + half, y[0] - half)


def draw_tooth(folder: Path) -> Figure:
    """Absorbance, slice, enamel in detail, and the two densities of a tooth."""
    ds = nd.open_scan(folder / "tooth.zarr").isel(z=0, channel=0).load()
    center = float(ds["rotation_center"])
    figure = Figure(figsize=(12.4, 3.2), layout="constrained", facecolor="white")
    first, second, third, fourth = figure.subplots(1, 4)
    sinogram = ds["sinogram"].values
    panel(
        first, sinogram, (-0.5, 639.5, 179.5, -0.5), cmap="gray_r", vmin=0, aspect=640 / 180,
        title="absorbance, row 0", label="absorbance",
    )  # fmt: skip
    first.axvline(center, color=RED, lw=0.9, ls="--")
    first.text(430, 172, f"axis {center:.1f}", color=RED, fontsize=8)
    name(first, "translation step", "angle (degree)")
    volume = ds["volume"].values * 1e3
    look = {"cmap": "gray", "vmin": -0.5, "vmax": 9.5, "label": "10⁻³ per step"}
    panel(second, volume, edges(ds), title="FBP, Hann window", **look)
    second.set(xlim=(-160, 190), ylim=(190, -160))
    name(second, "x (steps)", "y (steps)")
    low, high = -100, 20
    part = ds.sel(y=slice(-115, 5), x=slice(low, high))
    panel(third, part["volume"].values * 1e3, edges(part), title="detail", **look)
    name(third, "x (steps)", "y (steps)")
    second.plot([low, high, high, low, low], [-115, -115, 5, 5, -115], color=RED, lw=0.9)
    _densities(fourth, volume, np.hypot(ds["x"], ds["y"]).values < 280)
    return figure


def _densities(axes: Axes, volume: np.ndarray, inside: np.ndarray) -> None:
    smooth = ndimage.gaussian_filter(volume, 1.5)
    axes.hist(smooth[inside], bins=np.arange(-1, 10, 0.08), color=GRAY)
    axes.set_yscale("log")
    told = {"air": smooth < 1, "dentine": abs(smooth - 4.6) < 0.6, "enamel": smooth > 7}
    for text, where in told.items():
        middle = float(np.median(volume[where & inside]))
        axes.axvline(middle, color=RED, lw=0.9, ls="--")
        side, offset = ("left", 0.15) if text == "air" else ("right", -0.15)
        axes.text(
            middle + offset,
            2.2e5,
            f"{text}\n{middle:.2f}",
            color=RED,
            fontsize=8,
            va="top",
            ha=side,
        )
    axes.set_ylim(10, 3e5)
    axes.set_box_aspect(1)
    axes.set_title("densities of the slice", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    name(axes, "10⁻³ per step", "pixels")


def draw_catalyst(folder: Path) -> Figure:
    """Sinogram, FBP about the axis only, FBP and TV of aligned projections, and a vertical cut."""
    ds = nd.open_scan(folder / "catalyst.zarr").load()
    height = 3
    figure = Figure(figsize=(12.4, 3.3), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 4)
    sinogram = ds["sinogram"].isel(z=height, channel=0).sortby("angle")
    x = sinogram["translation"].values
    panel(
        panels[0], sinogram.values, (x[0], x[-1], 220.5, -143.5), cmap="gray_r", vmin=0,
        aspect=(x[-1] - x[0]) / 364, title="absorbance, sorted by angle", label="absorbance",
    )  # fmt: skip
    name(panels[0], "translation (mm)", "angle (degree)")
    for axes, (title, one) in zip(panels[1:], _catalyst_volumes(ds).items(), strict=True):
        again = nd.project(one)
        left = again["projected_sinogram"] - again["sinogram"]
        misfit = float(np.sqrt((left**2).sum() / (again["sinogram"] ** 2).sum()))
        panel(
            axes, one["volume"].values[height, ..., 0], edges(ds, 1e3), cmap="magma",
            norm=PowerNorm(0.5, vmin=0, vmax=10, clip=True), label="absorption (1/mm)",
            title=f"{title}\nmisfit {misfit:.1%}",
        )  # fmt: skip
        name(axes, "x (µm)", "y (µm)")
    return figure


def _catalyst_volumes(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """Volumes to compare, each with the geometry that it was made with."""
    stored = ds[["sinogram", "volume"]]
    aligned = stored[["sinogram"]].drop_dims(["y", "x"], errors="ignore")
    plain = aligned.drop_vars(["projection_shift", "rotation_center"])
    center = nd.find_rotation_center(plain)
    found, error = (float(center[name]) for name in ("rotation_center", "rotation_center_error"))
    return {
        f"FBP, one axis ({found:.1f} ± {error:.1f})": nd.reconstruct(
            plain.pipe(nd.set_rotation_center, center)
        ),
        "FBP, projections aligned": nd.reconstruct(aligned),
        "TV, projections aligned": stored,
    }


def draw_gel(folder: Path, data: Path) -> Figure:
    """Our first and last frame beside the reference in the file; profiles; inserts over time."""
    ds = nd.open_scan(folder / "gel_phantom.zarr")[["volume"]].load()
    with h5py.File(data / "gel_phantom_17frames.h5") as file:
        before, after = (file[f"reference/fbp_{scan}_scan"][()] for scan in ("pre", "post"))
    figure = Figure(figsize=(12.4, 6.0), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 4, height_ratios=(1, 0.85))
    half = 128 * VOXEL
    theirs = (-half, half, half, -half)
    frames = [
        (ds["volume"].values[..., 0], edges(ds), "frame 0, ours"),
        (before, theirs, "before, reference in the file"),
        (ds["volume"].values[..., -1], edges(ds), "frame 16, ours"),
        (after, theirs, "after, reference in the file"),
    ]
    for column, (image, extent, title) in enumerate(frames):
        axes = figure.add_subplot(grid[0, column])
        panel(
            axes, image, extent, cmap="viridis", vmin=0.0, vmax=0.06, title=title,
            label="attenuation (1/mm)",
        )  # fmt: skip
        axes.set(xlim=(-half, half), ylim=(half, -half))
        name(axes, "x (mm)", "y (mm)")
        if column in (2, 3):
            axes.axhline(0, color="white", lw=0.7, ls=":")
        for label, (y, x) in INSERTS.items() if column == 0 else ():
            axes.text(x, y, label, color="white", fontsize=8, ha="center", va="center")
    _profiles(figure.add_subplot(grid[1, :2]), ds, after)
    _inserts(figure.add_subplot(grid[1, 2:]), ds)
    return figure


def _profiles(axes: Axes, ds: xr.Dataset, after: np.ndarray) -> None:
    """Attenuation along y = 0 after the agent came in, mean of lines within half a mm."""
    line = ds["volume"].isel(channel=-1).sel(y=slice(-0.5, 0.5)).mean("y")
    rows = abs((np.arange(256) - 127.5) * VOXEL) <= 0.5
    axes.plot(ds["x"], line, color=BLUE, lw=1.3, label="frame 16, ours")
    places = (np.arange(256) - 127.5) * VOXEL
    axes.plot(places, after[rows].mean(axis=0), color=RED, lw=1, label="after, reference")
    axes.set_title("attenuation along y = 0", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(-17, 17)
    axes.legend(fontsize=8, frameon=False, loc="lower center")
    name(axes, "x (mm)", "attenuation (1/mm)")


def _inserts(axes: Axes, ds: xr.Dataset) -> None:
    """Mean attenuation inside each insert, and of the gel between them, frame by frame."""
    for number, (label, (y, x)) in enumerate(INSERTS.items()):
        near = np.hypot(ds["y"] - y, ds["x"] - x) < 1.1
        color = (BLUE, RED, GREEN, "#8172b3", "#dd8452")[number]
        axes.plot(ds["volume"].where(near).mean(["y", "x"]), ".-", color=color, label=label)
    between = np.hypot(ds["y"], ds["x"]) < 3
    axes.plot(ds["volume"].where(between).mean(["y", "x"]), color=GRAY, lw=3, label="gel")
    axes.set_title("mean attenuation in the five inserts", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="upper left")
    name(axes, "frame", "attenuation (1/mm)")


def main() -> None:
    """Draw all pictures."""
    stores, data = map(Path, sys.argv[1:3])
    draw_tooth(stores).savefig(IMAGES / "real-tooth.png", dpi=100)
    draw_catalyst(stores).savefig(IMAGES / "real-catalyst.png", dpi=100)
    draw_gel(stores, data).savefig(IMAGES / "real-gel.png", dpi=84)


if __name__ == "__main__":
    main()
