"""Iron's L3 and L2 lines over an image of optical densities, four lines, a shoulder and two steps.

Incident counts are those of the clear pixels of the same image. The model of a pixel is

a (700/E)³ + b (700/E)³ [2 S(E - 709.7) + S(E - 722)]/3 + five peaks,

S(x) = ½ + arctan(π x)/π, in eV: what else absorbs, and the two ionization steps of iron, as 4 to 2
like the electrons of their shells (double arctangents: van Aken & Liebscher, Phys. Chem. Minerals
29, 188 (2002)).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

import ndtomo_dask as nd

FILE = "als_stxm_fe_ledge.h5"
PRE_EDGE, L3_TOP = (0.0, 705.0), (709.0, 710.3)
CLEAR, SAMPLE, DARK = 0.03, 0.15, 60.0
"""Densities at the edge below which a pixel is clear and above which it is sample; counts at the
top of L3 below which stray light and the detector's zero count too much."""
STEPS = (709.7, 722.0)
SPLITTING = 2.0
"""Distance of the two parts of L2 in eV, which noise hides in single pixels."""
PLACES = {"L3 low": 708.0, "L3 high": 709.6, "shoulder": 712.0, "L2": 721.0, "L2 high": 723.0}
BOUNDS = {
    "L3 low.position": (707.2, 708.8), "L3 high.position": (709.0, 710.4),
    "shoulder.position": (710.5, 714.0), "L2.position": (720.0, 722.0), "fwhm": (0.4, 8.0),
}  # fmt: skip
START = {"L2.position": 721.0, "L2.fwhm": 2.4}
"""Of the mean spectrum, which has a second, worse minimum with one wide line for both parts."""
WEAK = (719.0, 723.0)
"""Where the first part of L2 may be in a single pixel."""
FIXED = (
    "L3 low.fraction", "L2.fraction", "L2.fwhm", "shoulder.position", "shoulder.fwhm",
)  # fmt: skip
"""What the mean spectrum decides for all pixels."""
L3, L2 = ("L3 low", "L3 high", "shoulder"), ("L2", "L2 high")


def read_counts(folder: Path) -> xr.DataArray:
    """Transmitted counts (y, x, channel) over energy in eV."""
    with h5py.File(folder / FILE) as file:
        counts = np.moveaxis(file["counts"][()].astype(float), 0, -1)
        energy, y, x = file["energy_eV"][()], file["y_um"][()], file["x_um"][()]
    return xr.DataArray(
        counts, dims=("y", "x", "channel"), coords={
            "energy": ("channel", energy, {"units": "eV"}),
            "y": ("y", y - y[0], {"units": "um"}), "x": ("x", x - x[0], {"units": "um"}),
        },
    )  # fmt: skip


def mean_over(array: xr.DataArray, span: tuple[float, float]) -> xr.DataArray:
    """Mean of the channels within a span of energy."""
    return array.isel(
        channel=(array.energy.values > span[0]) & (array.energy.values < span[1])
    ).mean("channel")


def optical_density(counts: xr.DataArray) -> xr.Dataset:
    """Densities over the clear pixels, their variance, and which pixels are fitted."""
    first = -np.log(counts)
    edge = mean_over(first, L3_TOP) - mean_over(first, PRE_EDGE)
    bright = counts.mean("channel")
    clear = (edge < CLEAR) & (bright > 0.95 * bright.quantile(0.9))
    incident = counts.where(clear).mean(("y", "x"))
    density = -np.log(counts / incident)
    edge = mean_over(density, L3_TOP) - mean_over(density, PRE_EDGE)
    return xr.Dataset({
        "density": density, "clear": clear, "edge": edge,
        "sample": (edge > SAMPLE), "bright": mean_over(counts, L3_TOP) > DARK,
        "variance": _noise(density, counts) / counts,
    })  # fmt: skip


def _noise(density: xr.DataArray, counts: xr.DataArray) -> float:
    """Variance of a density times its counts, from what is not a line before the edge."""
    before = density.energy.values < PRE_EDGE[1]
    energy, values = (
        density.energy.values[before],
        density.values[..., before].reshape(-1, before.sum()),
    )
    line = np.polyfit(energy - energy.mean(), values.T, 1)
    left = values.T - np.vander(energy - energy.mean(), 2) @ line
    variance = (left**2).sum(axis=0) / (before.sum() - 2)
    return float(np.mean(variance * counts.values[..., before].mean(axis=-1).ravel()))


def steps(energy: xr.DataArray) -> xr.DataArray:
    """What else absorbs, and iron's two steps, (pattern, channel)."""
    fall = (700 / energy) ** 3
    rise = [np.arctan(np.pi * (energy - place)) / np.pi + 0.5 for place in STEPS]
    return xr.concat([fall, fall * (2 * rise[0] + rise[1]) / 3], "pattern")


def line_options(ds: xr.Dataset) -> dict[str, Any]:
    """Options of `fit_peaks`: five peaks with tied widths and shapes on the steps."""
    energy = ds.energy
    pairs = [["L3 low", "L3 high"], ["L2", "L2 high"]]
    return {
        "windows": {"edge": (float(energy.min()), float(energy.max()))},
        "peaks": {"edge": PLACES}, "axis": "energy", "shape": {"shoulder": "gaussian"},
        "background": steps(energy), "significance": 0,
        "ties": {"L2 high.position": f"L2.position + {SPLITTING}", "fwhm": pairs,
                 "fraction": pairs},
    }  # fmt: skip


def fit_lines(ds: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Fit the mean spectrum of the sample, then every pixel with what it decides."""
    chosen, options = ds["sample"] & ds["bright"], line_options(ds)
    spectrum = ds.density.where(chosen).mean(("y", "x"))
    mean = nd.fit_peaks(
        ds[["density"]].assign(spectrum=spectrum), variable="spectrum", bounds=BOUNDS, start=START,
        **options,
    )  # fmt: skip

    fixed: dict[str, tuple[float, float]] = {}
    for name in FIXED:
        peak, _, parameter = name.rpartition(".")
        fixed[name] = (float(mean[f"peak_{parameter}"].sel(peak=peak)),) * 2
    fixed["L2.position"] = WEAK
    upper = float(mean.peak_area.sel(peak="L2 high") / mean.peak_area.sel(peak="L2"))
    options["ties"] |= {"L2 high.area": f"{upper!r} * L2.area"}
    dense = ds.assign(volume=ds.density.where(chosen), volume_variance=ds.variance)
    fit = nd.fit_peaks(dense, bounds=BOUNDS | fixed, likelihood="weighted", **options)
    return _maps(fit), mean


def _maps(fit: xr.Dataset) -> xr.Dataset:
    every = {name: fit.peak_area.sel(peak=name, drop=True) for name in fit.peak.values}
    errors = fit.peak_area_error
    area = {part: sum(every[name] for name in names) for part, names in _EDGES.items()}
    error = {
        "L3": ((errors.sel(peak=list(L3)) ** 2).sum("peak")) ** 0.5,
        "L2": errors.sel(peak="L2", drop=True) * area["L2"] / every["L2"],
    }
    ratio = area["L3"] / area["L2"]
    spread = ratio * np.hypot(error["L3"] / area["L3"], error["L2"] / area["L2"])
    maps = {
        "l3_area": area["L3"], "l2_area": area["L2"], "ratio": ratio, "ratio_error": spread,
        "reduced_chi_square": fit.peak_reduced_chi_square.sel(peak="L2", drop=True),
        "step": fit.peak_background.isel(window=0, term=1, drop=True),
        "low_share": every["L3 low"] / (every["L3 low"] + every["L3 high"]),
    }  # fmt: skip
    for name, peak in (("l3_low", "L3 low"), ("l3_high", "L3 high"), ("l2", "L2")):
        maps[f"{name}_position"] = fit.peak_position.sel(peak=peak, drop=True)
        maps[f"{name}_position_error"] = fit.peak_position_error.sel(peak=peak, drop=True)
    return xr.Dataset(maps).drop_vars("window", errors="ignore")


_EDGES: Mapping[str, tuple[str, ...]] = {"L3": L3, "L2": L2}


def parts(mean: xr.Dataset) -> dict[str, np.ndarray]:
    """Each peak of the mean spectrum's fit, and what lies under them."""
    found = nd.evaluate_peaks(mean, ["components", "background"])
    peaks = {str(name): found.fitted_component.sel(peak=name).values for name in found.peak.values}
    return peaks | {"background": found.fitted_background.values}
