"""Pictures of ``docs/explanation/real-fits.md``: iron, fluorescence, rings of CeO2."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from benchmarks import real_ceria, real_fluorescence, real_iron

INK, BLUE, RED, GREEN, GRAY = "#1c2430", "#4c72b0", "#c44e52", "#55a868", "#8a93a3"
PURPLE, SAND = "#8172b3", "#ccb974"
NOTHING = "#c9cdd4"
"""Color of pixels in which nothing was fitted."""


def new(height: float, rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """Start a figure as wide as a page."""
    figure = Figure(figsize=(12.4, height), layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, **options)


def name(axes: Axes, title: str, x: str, y: str) -> None:
    """Name the panel and both axes."""
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(labelsize=7)


def image(axes: Axes, array: xr.DataArray, title: str, label: str, **options: Any) -> None:
    """Draw a map with its colorbar; pixels that are NaN are gray."""
    y, x = array["y"].values, array["x"].values
    half = (x[1] - x[0]) / 2
    extent = (x[0] - half, x[-1] + half, y[-1] + half, y[0] - half)
    shown = axes.imshow(array.values, extent=extent, interpolation="nearest", **options)
    axes.set_facecolor(NOTHING)
    assert isinstance(axes.figure, Figure)
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    units = array["x"].attrs["units"].replace("um", "µm")
    name(axes, title, f"x ({units})", f"y ({units})")


def iron(ds: xr.Dataset, maps: xr.Dataset, mean: xr.Dataset) -> Figure:
    """Mean spectrum and its parts; four maps; L3/L2 beside thickness."""
    figure, panels = new(6.4, 2, 3)
    first, second, third, fourth, fifth, last = panels.ravel()
    _iron_spectrum(first, ds, mean)
    image(
        second,
        maps["l3_area"],
        "L3: area",
        "optical density × eV",
        vmin=0,
        vmax=4.5,
        cmap="viridis",
    )
    image(third, maps["l3_high_position"], "L3, upper line: position", "eV", vmin=709.3,
          vmax=709.9, cmap="RdBu_r")  # fmt: skip
    image(fourth, maps["l2_position"], "L2: position", "eV", vmin=720.3, vmax=721.7, cmap="RdBu_r")
    image(fifth, maps["ratio"], "L3/L2: ratio of areas", "ratio", vmin=2, vmax=5, cmap="magma")
    _iron_ratio(last, ds, maps)
    return figure


def _iron_spectrum(axes: Axes, ds: xr.Dataset, mean: xr.Dataset) -> None:
    energy = ds.energy.values
    chosen = (ds["sample"] & ds["bright"]).values
    data = ds.density.values[chosen].mean(axis=0)
    parts = real_iron.parts(mean)
    under = parts.pop("background")
    axes.plot(energy, data, ".", color=INK, ms=3, label="mean of the sample")
    colors = (BLUE, BLUE, GREEN, GREEN, SAND)
    for (part, values), color in zip(parts.items(), colors, strict=True):
        axes.fill_between(energy, under, under + values, color=color, alpha=0.35, lw=0, label=part)
    axes.plot(energy, under, color=GRAY, lw=1, label="steps")
    total = under + sum(parts.values())
    axes.plot(energy, total, color=RED, lw=0.9, label="model")
    axes.plot(energy, data - total, color=PURPLE, lw=0.8, label="data − model")
    axes.legend(
        fontsize=6.5, frameon=False, ncols=3, loc="center", bbox_to_anchor=(0.5, 0.33),
        handlelength=1.2, columnspacing=1.0,
    )  # fmt: skip
    name(axes, "mean spectrum", "energy (eV)", "optical density")


def _iron_ratio(axes: Axes, ds: xr.Dataset, maps: xr.Dataset) -> None:
    edge, ratio = ds.edge.values, maps["ratio"].values
    known = np.isfinite(ratio)
    axes.plot(edge[known], ratio[known], ".", color=GRAY, ms=1, alpha=0.5)
    for row in iron_bins(ds, maps):
        axes.errorbar(row["edge"], row["ratio"], row["error"], fmt="o", color=RED, ms=4, capsize=2)
        axes.errorbar(row["edge"], row["ratio"], row["scatter"], fmt="none", color=BLUE, capsize=4)
    axes.plot([], [], "o-", color=RED, ms=4, label="median, its pixels' error")
    axes.plot([], [], "-", color=BLUE, label="half of 16 to 84 %: scatter")
    axes.legend(fontsize=7, frameon=False)
    axes.set_ylim(0, 8)
    name(axes, "L3/L2 beside thickness", "jump of the density at L3", "L3/L2")


def iron_bins(ds: xr.Dataset, maps: xr.Dataset) -> list[dict[str, float]]:
    """Median ratio, error of a pixel and scatter over pixels, by thickness."""
    edge, ratio, error = (array.values for array in (ds.edge, maps["ratio"], maps["ratio_error"]))
    rows = []
    for low, high in ((0.15, 0.25), (0.25, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.4)):
        inside = (edge >= low) & (edge < high) & np.isfinite(ratio)
        bottom, middle, top = np.percentile(ratio[inside], [16, 50, 84])
        rows.append(
            {
                "edge": (low + high) / 2,
                "ratio": middle,
                "scatter": (top - bottom) / 2,
                "error": float(np.nanmedian(error[inside])),
                "pixels": int(inside.sum()),
            }
        )
    return rows


def fluorescence(fitted: xr.Dataset, ratios: Mapping[str, tuple[float, ...]]) -> Figure:
    """Mean spectrum, patterns and residuals; amounts of Ca beside their error; ratios and MAPS."""
    figure, panels = new(6.4, 2, 3, width_ratios=(2.2, 1, 1), height_ratios=(2, 1))
    _lines(panels[0, 0], panels[1, 0], fitted)
    for axes, line in zip(panels[0, 1:], ("Ca Kα", "Fe Kα"), strict=True):
        amount = fitted.reference_amount.sel(reference=line)
        image(axes, amount, f"{line}: amount", "counts", cmap="viridis")
    _scatter(panels[1, 1], fitted)
    _ratios(panels[1, 2], ratios)
    return figure


def _lines(above: Axes, below: Axes, fitted: xr.Dataset) -> None:
    energy, mean = fitted.energy.values, fitted.volume.mean(("y", "x")).values
    amounts = fitted.reference_amount.mean(("y", "x")).values
    parts = amounts[:, None] * fitted.reference_pattern.values
    for row, line in zip(parts, fitted.reference.values, strict=True):
        above.fill_between(energy, 1e-3, row, alpha=0.35, lw=0)
        if row.max() > 4.5 and line != "La Lβ3":
            place = energy[row.argmax()]
            above.text(
                place,
                max(10, row.max()) * 1.5,
                line.split(",")[0],
                fontsize=6,
                rotation=90,
                ha="center",
                color=INK,
            )
    under = real_fluorescence.background(energy, mean - parts.sum(axis=0))
    total = parts.sum(axis=0) + under
    above.plot(energy, mean, ".", color=INK, ms=1.6)
    above.plot(energy, total, color=RED, lw=0.8)
    above.plot(energy, np.maximum(under, 1e-3), color=GRAY, lw=0.8)
    above.set(yscale="log", ylim=(0.05, 900), xlim=real_fluorescence.RANGE)
    name(above, "mean spectrum of 121 pixels, lines and model", "energy (keV)", "counts")
    pixels = fitted.sizes["y"] * fitted.sizes["x"]
    below.plot(
        energy, (mean - total) / np.sqrt(np.maximum(total, 0.05) / pixels), color=PURPLE, lw=0.6
    )
    below.axhline(0, color=GRAY, lw=0.6)
    below.set(xlim=real_fluorescence.RANGE)
    name(below, "what is left of the mean of all pixels", "energy (keV)", "standard deviations")


def _scatter(axes: Axes, fitted: xr.Dataset) -> None:
    scatter = fitted.reference_amount.std(("y", "x"), ddof=1)
    error = fitted.reference_amount_error.median(("y", "x"))
    held = (fitted.reference_amount == 0).mean(("y", "x")) > 0.02
    top = float(max(scatter.max(), error.max())) * 1.1
    axes.plot([0, top], [0, top], color=GRAY, lw=0.8)
    axes.plot(error[~held], scatter[~held], "o", color=BLUE, ms=3.5)
    axes.plot(
        error[held], scatter[held], "o", color=BLUE, ms=3.5, mfc="none", label="often held at 0"
    )
    axes.legend(fontsize=7, frameon=False)
    name(axes, "a dot per line", "error of a pixel (counts)", "scatter of pixels (counts)")


def _ratios(axes: Axes, ratios: Mapping[str, tuple[float, ...]]) -> None:
    for place, (mine, spread, theirs, other) in enumerate(ratios.values()):
        axes.errorbar(place - 0.1, mine, spread, fmt="o", color=RED, ms=4, capsize=3)
        axes.errorbar(place + 0.1, theirs, other, fmt="s", color=BLUE, ms=4, capsize=3)
    axes.plot([], [], "o", color=RED, ms=4, label="fit_references")
    axes.plot([], [], "s", color=BLUE, ms=4, label="MAPS")
    axes.set_xticks(range(len(ratios)), [line.split()[0] + "/Fe" for line in ratios])
    axes.set(xlim=(-0.5, 2.6), ylim=(0.8, 1.9))
    axes.legend(fontsize=7, frameon=False)
    name(axes, "ratios of Kα: mean, scatter of pixels", "", "ratio")


def ceria(frame: np.ndarray, fitted: xr.Dataset) -> Figure:
    """Frame; positions and their harmonics, widths, and lattice parameters by azimuth."""
    figure, panels = new(6.6, 2, 2, width_ratios=(1, 1.35))
    shown = panels[0, 0].imshow(
        frame, norm=LogNorm(200, 2e4), cmap="magma", interpolation="nearest"
    )
    panels[0, 0].set_facecolor("white")
    bar = figure.colorbar(shown, ax=panels[0, 0], fraction=0.046, pad=0.03)
    bar.set_label("counts", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    name(panels[0, 0], "frame; gaps and broken pixels are white", "column", "row")
    _positions(panels[0, 1], fitted)
    _widths(panels[1, 0], fitted)
    _lattice(panels[1, 1], fitted)
    return figure


def _positions(axes: Axes, fitted: xr.Dataset) -> None:
    azimuth = fitted.azimuth.values
    for ring, color in zip(("111", "311", "400", "420"), (BLUE, GREEN, SAND, RED), strict=True):
        one = fitted.sel(peak=ring)
        place, error = one.peak_position.values, one.peak_position_error.values
        terms = real_ceria.harmonics(place, error, azimuth)
        axes.errorbar(azimuth, 1e3 * (place - terms[0]), 1e3 * error, fmt="o", ms=2.5, lw=0.8,
                      color=color, label=ring)  # fmt: skip
        fine = np.linspace(0, 360, 361)
        axes.plot(
            fine, 1e3 * (real_ceria.harmonic_curve(terms, fine) - terms[0]), color=color, lw=0.8
        )
    axes.axhspan(-3, 3, color="#e6e8ec", zorder=0)
    axes.legend(fontsize=7, frameon=False, ncols=4)
    axes.set(xlim=(0, 360), ylim=(-7, 9))
    name(axes, "2θ less its mean, terms to 2φ; band: ± 0.003°", "azimuth φ (degree)", "10⁻³ degree")


def _widths(axes: Axes, fitted: xr.Dataset) -> None:
    place = fitted.peak_position.median("azimuth")
    axes.plot(
        fitted.peak_position.values.ravel(), fitted.peak_fwhm.values.ravel(), ".", color=GRAY, ms=3
    )
    axes.errorbar(
        place,
        fitted.peak_fwhm.median("azimuth"),
        fitted.peak_fwhm_error.median("azimuth"),
        fmt="o",
        color=RED,
        ms=4,
        capsize=2,
        label="median, a sector's error",
    )
    axes.axhline(0.0133, color=BLUE, lw=0.8, ls="--", label="one pixel, along its side")
    axes.legend(fontsize=7, frameon=False)
    axes.set(ylim=(0.009, 0.024))
    name(axes, "widths of the rings", "2θ (degree)", "fwhm (degree)")


def _lattice(axes: Axes, fitted: xr.Dataset) -> None:
    value = fitted.lattice_parameter.isel(lattice=0)
    error = fitted.lattice_parameter_error.isel(lattice=0)
    axes.errorbar(
        fitted.azimuth, value, error, fmt="o", ms=3, color=INK, lw=0.8, capsize=2, label="sectors"
    )
    axes.axhline(
        float(value.mean()), color=RED, lw=0.9, label=f"their mean, {float(value.mean()):.5f} Å"
    )
    axes.axhline(real_ceria.CERTIFIED, color=BLUE, lw=0.9, ls="--", label="SRM 674b, 5.411651 Å")
    axes.legend(fontsize=7, frameon=False)
    axes.set(xlim=(0, 360))
    name(axes, "lattice parameter from all rings", "azimuth φ (degree)", "a (Å)")
