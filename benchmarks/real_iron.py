"""Iron's L3 and L2 lines over an image of optical densities, four lines, a shoulder and two steps.

Incident counts are those of the clear pixels of the same image. The model of a pixel is

a (700/E)³ + b (700/E)³ [2 S(E - 709.7) + S(E - 722)]/3 + five peaks,

S(x) = ½ + arctan(π x)/π, in eV: what else absorbs, and the two ionization steps of iron, as 4 to 2
like the electrons of their shells (double arctangents: van Aken & Liebscher, Phys. Chem. Minerals
29, 188 (2002)).
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from ndtomo_dask.kernels.least_squares import ModelFit, fit_model
from ndtomo_dask.kernels.peak_model import PeakModel, Tie, evaluate_model, same

FILE = "als_stxm_fe_ledge.h5"
PRE_EDGE, L3_TOP = (0.0, 705.0), (709.0, 710.3)
CLEAR, SAMPLE, DARK = 0.03, 0.15, 60.0
"""Densities at the edge below which a pixel is clear and above which it is sample; counts at the
top of L3 below which stray light and the detector's zero count too much."""
STEPS = (709.7, 722.0)
SPLITTING = 2.0
"""Distance of the two parts of L2 in eV, which noise hides in single pixels."""
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


def steps(energy: np.ndarray) -> np.ndarray:
    """What else absorbs, and iron's two steps, (2, channel)."""
    fall = (700 / energy) ** 3
    rise = [np.arctan(np.pi * (energy - place)) / np.pi + 0.5 for place in STEPS]
    return np.array([fall, fall * (2 * rise[0] + rise[1]) / 3])


def line_model(energy: np.ndarray, upper: float | None = None) -> PeakModel:
    """Five peaks with tied widths and shapes on the steps; ``upper`` ties areas of L2's parts."""
    peaks = dict.fromkeys(("L3 low", "L3 high", "L2", "L2 high"), "pseudo_voigt")
    ties = {"L2 high.position": Tie({"L2.position": 1.0}, SPLITTING)}
    for name in ("fwhm", "fraction"):
        ties |= same(name, "L3 low", "L3 high") | same(name, "L2", "L2 high")
    if upper is not None:
        ties["L2 high.area"] = Tie({"L2.area": upper})
    return PeakModel(peaks | {"shoulder": "gaussian"}, steps(energy), ties)


def fit_lines(ds: xr.Dataset) -> tuple[xr.Dataset, ModelFit]:
    """Fit the mean spectrum of the sample, then every pixel with what it decides."""
    energy = ds.energy.values
    chosen = (ds["sample"] & ds["bright"]).values
    spectra, variance = ds.density.values[chosen], ds.variance.values[chosen]
    model = line_model(energy)
    mean = fit_model(
        spectra.mean(axis=0)[None], energy, model, bounds=BOUNDS, start=START, significance=0
    )
    fixed: dict[str, tuple[float, float]] = {name: (float(mean[name][0]),) * 2 for name in FIXED}
    fixed["L2.position"] = WEAK
    upper = float(mean["L2 high.area"][0] / mean["L2.area"][0])
    fit = fit_model(
        spectra,
        energy,
        line_model(energy, upper),
        bounds=BOUNDS | fixed,
        likelihood="weighted",
        variance=variance,
        significance=0,
    )
    return _maps(fit, chosen, ds), mean


def _maps(fit: ModelFit, chosen: np.ndarray, ds: xr.Dataset) -> xr.Dataset:
    def image(values: np.ndarray) -> xr.DataArray:
        whole = np.full(chosen.shape, np.nan)
        whole[chosen] = values
        return xr.DataArray(whole, dims=("y", "x"), coords={"y": ds.y, "x": ds.x})

    area = {part: sum(fit[f"{name}.area"] for name in names) for part, names in _EDGES.items()}
    error = {
        "L3": np.sqrt(sum(np.nan_to_num(fit.error(f"{name}.area")) ** 2 for name in L3)),
        "L2": fit.error("L2.area") * area["L2"] / fit["L2.area"],
    }
    ratio = area["L3"] / area["L2"]
    spread = ratio * np.hypot(error["L3"] / area["L3"], error["L2"] / area["L2"])
    maps = {
        "l3_area": area["L3"], "l2_area": area["L2"], "ratio": ratio, "ratio_error": spread,
        "reduced_chi_square": fit.reduced_chi_square, "step": fit["background.1"],
        "low_share": fit["L3 low.area"] / (fit["L3 low.area"] + fit["L3 high.area"]),
    }  # fmt: skip
    for name, peak in (("l3_low", "L3 low"), ("l3_high", "L3 high"), ("l2", "L2")):
        maps[f"{name}_position"] = fit[f"{peak}.position"]
        maps[f"{name}_position_error"] = fit.error(f"{peak}.position")
    return xr.Dataset({name: image(values) for name, values in maps.items()})


_EDGES: Mapping[str, tuple[str, ...]] = {"L3": L3, "L2": L2}


def parts(mean: ModelFit, energy: np.ndarray) -> dict[str, np.ndarray]:
    """Each peak of the mean spectrum's fit, and what lies under them."""
    return {
        name: row[0]
        for name, row in evaluate_model(line_model(energy), energy, mean.values).items()
    }
