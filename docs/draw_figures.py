"""Draw the pictures of the documentation: ``python docs/draw_figures.py DEMO_FOLDER``.

``DEMO_FOLDER`` is what ``ndtomo-dask demo DEMO_FOLDER`` left. Writes ``demo.png``,
``geometry.png``, ``models.png`` and ``region.png`` in ``docs/images``.
"""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.optimize import linear_sum_assignment

import ndtomo_dask as nd
from ndtomo_dask.demo import COUNTS, GRAINS, PEAKS
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.projectors.reference import projection_matrix
from ndtomo_dask.kernels.solvers import fbp
from ndtomo_dask.synthetic import true_peaks

IMAGES = Path(__file__).parent / "images"
PEAK = "Cu 200"
CERTAIN = 0.3
"""A position is drawn where the area's standard error is below this share of the area…"""
STRONG = 0.1
"""…and the area above this share of the strongest."""
COLORS = ("#4c72b0", "#c44e52", "#8172b3", "#55a868", "#dd8452")
INK = "#1c2430"


def draw_demo(folder: Path) -> Figure:
    """Mean slice and component maps above; spectra, and one peak beside its truth, below."""
    ds = nd.open_scan(folder / "result.zarr").load()
    size, angles = ds.sizes["y"], ds.sizes["angle"]
    simulated = nd.simulate_scan(size=size, angles=angles, counts=COUNTS, grains=GRAINS)
    truth = true_peaks(simulated, PEAKS, counts=COUNTS).sel(peak=PEAK)
    matched = _match(simulated["true_phase_map"], ds["component_map"])

    figure = Figure(figsize=(12.4, 4.6), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 6)
    mean = figure.add_subplot(grid[0, 0])
    _image(mean, ds["volume"].mean("channel").values, "mean of all channels", "gray")
    for column, (phase, component) in enumerate(matched.items(), start=1):
        axes = figure.add_subplot(grid[0, column])
        _image(axes, ds["component_map"].isel(component=component).values, f"component: {phase}")
    _spectra(figure.add_subplot(grid[1, :2]), ds, matched)
    _peak(figure, grid, ds.sel(peak=PEAK), truth)
    return figure


def _match(phases: xr.DataArray, components: xr.DataArray) -> dict[str, int]:
    """Which component is which phase: the pairing of maps that correlates best."""
    ours = components.values.reshape(-1, components.sizes["component"])
    true = phases.values.reshape(-1, phases.sizes["phase"])
    correlation = np.corrcoef(true.T, ours.T)[: true.shape[1], true.shape[1] :]
    rows, columns = linear_sum_assignment(-correlation)
    names = phases["phase"].values[rows]
    return {str(name): int(column) for name, column in zip(names, columns, strict=True)}


def _spectra(axes: Axes, ds: xr.Dataset, matched: dict[str, int]) -> None:
    spectra = ds["component_spectrum"]
    for row, (phase, component) in enumerate(matched.items()):
        values = spectra.isel(component=component).values
        offset = len(matched) - 1 - row
        axes.plot(ds["q"], values / values.max() * 0.92 + offset, color=COLORS[row], lw=1)
        axes.text(4.57, offset + 0.22, phase, color=COLORS[row], ha="right", fontsize=8)
    axes.set_title("component spectra (NMF)", fontsize=9, color=INK)
    axes.set_xlabel("q (1/Å)", fontsize=8)
    axes.set_xlim(float(ds["q"].min()), float(ds["q"].max()))
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _peak(figure: Figure, grid: mpl.gridspec.GridSpec, ds: xr.Dataset, truth: xr.Dataset) -> None:
    area, true_area = ds["peak_area"], truth["true_peak_area"]
    true_position = truth["true_peak_position"].where(true_area > 0)
    strong = (area > STRONG * true_area.max()) & (ds["peak_area_error"] < CERTAIN * area)
    low, high = (float(true_position.quantile(share)) for share in (0.01, 0.99))
    panels = [
        (area.where(area > 0, 0), "area, fitted", "viridis", (0, float(true_area.max()))),
        (true_area, "area, truth", "viridis", (0, float(true_area.max()))),
        (ds["peak_position"].where(strong), "position, fitted", "coolwarm", (low, high)),
        (true_position, "position, truth", "coolwarm", (low, high)),
    ]
    for column, (values, title, cmap, limits) in enumerate(panels, start=2):
        axes = figure.add_subplot(grid[1, column])
        shown = _image(axes, values.values, f"{PEAK} {title}", cmap, limits)
        below = axes.inset_axes((0.0, -0.075, 1.0, 0.045))
        bar = figure.colorbar(shown, cax=below, orientation="horizontal")
        bar.locator = mpl.ticker.MaxNLocator(3)
        bar.ax.tick_params(labelsize=7, length=2)
        bar.outline.set_visible(False)


def _image(
    axes: Axes,
    values: np.ndarray,
    title: str,
    cmap: str = "magma",
    limits: tuple[float, float] | None = None,
) -> mpl.image.AxesImage:
    low, high = limits or (0.0, float(np.nanpercentile(values, 99.7)))
    palette = mpl.colormaps[cmap].with_extremes(bad="#e9ecf1")
    shown = axes.imshow(values, cmap=palette, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return shown


def draw_geometry() -> Figure:
    """Draw an asymmetric phantom, and its sinogram with the path of its dot."""
    size, center, dot = 96, 53.5, (22, 70)
    phantom = np.zeros((size, size, 1))
    phantom[30:70, 34:40] = 1
    phantom[30:36, 40:60] = 1
    phantom[46:52, 40:54] = 1
    rows, columns = np.ogrid[:size, :size]
    phantom[(rows - dot[0]) ** 2 + (columns - dot[1]) ** 2 <= 10] = 2
    angles = np.linspace(0, np.pi, 180, endpoint=False)
    geometry = ParallelGeometry.centered(angles, size, rotation_center=center)
    sinogram = load_projector("cpu", geometry)(phantom)[..., 0]
    x, y = dot[1] - (size - 1) / 2, dot[0] - (size - 1) / 2
    path = center + x * np.cos(angles) - y * np.sin(angles)

    figure = Figure(figsize=(8.4, 3.7), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    left.imshow(phantom[..., 0], cmap="gray_r", interpolation="nearest")
    left.set(xlabel="x: column →", ylabel="← y: row, downwards")
    left.annotate(
        f"dot: x = {x:+.1f}, y = {y:+.1f}", (dot[1], dot[0]), (4, 10),
        color="#c44e52", fontsize=9, arrowprops={"arrowstyle": "->", "color": "#c44e52"},
    )  # fmt: skip
    left.plot((size - 1) / 2, (size - 1) / 2, "+", color="#4c72b0", ms=9)
    left.set_title("phantom (+: middle of the grid)", fontsize=10)
    right.imshow(sinogram, cmap="gray_r", aspect="auto", extent=(-0.5, size - 0.5, 180, 0))
    right.plot(path, np.rad2deg(angles), "--", color="#c44e52", lw=1.2, label="path of the dot")
    right.axvline(center, color="#4c72b0", lw=1, ls=":", label=f"rotation_center = {center}")
    right.set(xlabel="u: translation index →", ylabel="angle θ (degree)", yticks=range(0, 181, 45))
    right.legend(fontsize=8, loc="lower left")
    right.set_title("u = center + x cos θ − y sin θ", fontsize=10)
    return figure


MODELS = {
    "pixel": "pixel: shared by the two samples\nnearest to each pixel's center",
    "joseph": "joseph: between the two pixels\nnearest to each crossing",
    "line": "line: length inside each pixel",
    "strip": "strip: area inside each pixel",
}


def draw_models() -> Figure:
    """Draw which pixels one sample sees, and with which weights, for every model."""
    geometry = ParallelGeometry.centered(np.deg2rad([26.0]), 11, size=7)
    sample, half = 5, 3.5
    cos, sin = geometry.cos[0], geometry.sin[0]
    t = np.array([-8.0, 8.0])  # along the ray

    figure = Figure(figsize=(11.6, 3.4), layout="constrained", facecolor="white")
    for axes, (model, title) in zip(figure.subplots(1, 4), MODELS.items(), strict=True):
        weights = projection_matrix(geometry, model)[[sample]].toarray().reshape(7, 7)
        axes.imshow(
            np.where(weights > 5e-3, weights, np.nan), cmap="Oranges", vmin=0, vmax=1.4,
            extent=(-half, half, half, -half),
        )  # fmt: skip
        for (row, column), weight in np.ndenumerate(weights):
            x, y = column - 3, row - 3
            if weight > 5e-3:
                axes.text(x, y, f"{weight:.2f}", ha="center", va="center", fontsize=6, color=INK)
        u = sample - geometry.origins[0]
        edges = (-0.5, 0.5) if model == "strip" else (-1, 1) if model == "pixel" else ()
        for edge in edges:  # x cos − y sin = u + edge
            axes.plot(
                (u + edge) * cos + t * sin, -(u + edge) * sin + t * cos, color=COLORS[0],
                lw=0.8, ls="-" if model == "strip" else ":",
            )  # fmt: skip
        if model != "strip":
            axes.plot(u * cos + t * sin, -u * sin + t * cos, color=COLORS[0], lw=1.4)
        if model == "joseph":
            rows = np.arange(-3, 4)
            axes.plot((u + rows * sin) / cos, rows, ".", color=COLORS[1], ms=5)
        axes.set_xticks(np.arange(-half, 4), labels=[])
        axes.set_yticks(np.arange(-half, 4), labels=[])
        axes.grid(color="#c9ced8", lw=0.5)
        axes.tick_params(length=0)
        axes.set(xlim=(-half, half), ylim=(half, -half))
        axes.set_title(title, fontsize=9, color=INK)
    return figure


def draw_region() -> Figure:
    """Draw a grid of small pixels beside the axis, and what FBP makes of it."""
    angles = np.linspace(0, np.pi, 180, endpoint=False)
    fine = ParallelGeometry.centered(angles, 64, pixel_size=0.25, rotation_center=34.0)
    y, x = np.meshgrid(fine.y, fine.x, indexing="ij")
    phantom = 1.0 * (np.hypot(x, y) < 26) - 0.6 * (np.hypot(x - 8, y + 9) < 7)
    phantom += 0.8 * (np.abs(x - 8) + np.abs(y + 9) < 4) + 0.5 * (np.hypot(x + 10, y - 4) < 5)
    sinogram = load_projector("reference", fine, "strip")(phantom[..., None])
    whole = ParallelGeometry.centered(angles, 64, rotation_center=34.0)
    region = replace(whole, shape=(64, 48), pixel_size=0.3, grid_center=(-9.0, 8.0))

    figure = Figure(figsize=(8.4, 3.9), layout="constrained", facecolor="white")
    for axes, grid, title in zip(
        figure.subplots(1, 2),
        (whole, region),
        ("pixel_size = 1, shape = (64, 64)", "pixel_size = 0.3, shape = (64, 48)"),
        strict=True,
    ):
        volume = fbp(load_projector("reference", grid, "strip"), sinogram)[..., 0]
        axes.imshow(volume, cmap="gray_r", vmin=0, vmax=1.5, extent=_extent(grid))
        axes.set(xlabel="x (translation steps)", ylabel="y")
        axes.set_title(title, fontsize=10)
    left, right, bottom, top = _extent(region)
    outline = Rectangle((left, top), right - left, bottom - top, fill=False, ec=COLORS[1])
    figure.axes[0].add_patch(outline)
    figure.axes[0].plot(0, 0, "+", color=COLORS[0], ms=10)
    figure.axes[0].plot(8, -9, "x", color=COLORS[1], ms=6)
    figure.axes[0].annotate(
        "grid_center\ny = −9, x = 8", (8, -9), (2, 14), color=COLORS[1], fontsize=8,
        arrowprops={"arrowstyle": "->", "color": COLORS[1]},
    )  # fmt: skip
    return figure


def _extent(grid: ParallelGeometry) -> tuple[float, float, float, float]:
    half = grid.pixel_size / 2
    return (grid.x[0] - half, grid.x[-1] + half, grid.y[-1] + half, grid.y[0] - half)


def main() -> None:
    """Draw all pictures."""
    IMAGES.mkdir(exist_ok=True)
    draw_demo(Path(sys.argv[1])).savefig(IMAGES / "demo.png", dpi=100)
    draw_geometry().savefig(IMAGES / "geometry.png", dpi=90)
    draw_models().savefig(IMAGES / "models.png", dpi=100)
    draw_region().savefig(IMAGES / "region.png", dpi=90)


if __name__ == "__main__":
    main()
