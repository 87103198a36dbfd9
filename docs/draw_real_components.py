"""Draw components of measured scans: ``python docs/draw_real_components.py DATA``.

``DATA`` holds the measured files. Writes ``real-vials.png``, ``real-iron-components.png`` and
``real-gel-components.png`` in ``docs/images``.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import ndtomo_dask as nd

IMAGES = Path(__file__).parent / "images"
INK = "#1c2430"
COLORS = ("#4c72b0", "#c44e52", "#55a868", "#8172b3", "#dd8452")
BINNED = 3
"""Pixels along each edge that are averaged before anything is found without known spectra."""


def vials(path: Path) -> tuple[xr.Dataset, xr.Dataset, list[str]]:
    """Attenuation in eight energy bins, and the known spectra of five materials."""
    with h5py.File(path) as file:
        image = file["image"][()]
        known = file["basis"][()]
        names = [str(name) for name in file["basis"].attrs["materials"]]
    ds = xr.Dataset({"volume": (("y", "x", "channel"), np.moveaxis(image, 0, -1))})
    ds["volume"].attrs["units"] = "1"
    return ds, xr.Dataset({"component_spectrum": (("component", "channel"), known)}), names


def binned(ds: xr.Dataset, pixels: int = BINNED) -> xr.Dataset:
    """Average squares of pixels."""
    mean = ds["volume"].coarsen(y=pixels, x=pixels, boundary="trim").mean()
    return xr.Dataset({"volume": mean.astype("float32")})


def iron(path: Path) -> xr.Dataset:
    """Optical density around the L edges of iron."""
    units = {"energy": "eV", "x": "um", "y": "um"}
    ds = nd.open_scan(path, volume="counts", energy="energy_eV", x="x_um", y="y_um", units=units)
    with h5py.File(path) as file:
        beam = np.interp(ds["energy"] * 1e3, file["i0_energy_eV"][()], file["i0"][()])
    density = -np.log(ds["volume"] / xr.DataArray(beam.astype("float32"), dims="channel"))
    return ds.assign(volume=density.assign_attrs(units="1")).load()


def gel(path: Path) -> xr.Dataset:
    """Slices of a gel in 17 frames, which stand as channels."""
    ds = nd.open_scan(
        path, sinogram="parallel/sinogram", angle="parallel/angles_deg",
        translation="parallel/translation_mm",
    ).load()  # fmt: skip
    return nd.reconstruct(nd.set_rotation_center(ds, 140.5), filter="shepp-logan").load()


def show(axes: Axes, image: np.ndarray, title: str, *, strongest: float = 99.8) -> None:
    """Draw a map from zero to nearly its largest value."""
    axes.imshow(image, vmin=0, vmax=np.nanpercentile(image, strongest), cmap="viridis")
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_axis_off()


def lines(axes: Axes, x: np.ndarray, spectra: np.ndarray, names: list[str], label: str) -> None:
    """Draw spectra of unit sum."""
    for row, color, name in zip(spectra, COLORS, names, strict=False):
        axes.plot(x, row / row.sum(), color=color, lw=1.4, label=name)
    axes.legend(fontsize=7, frameon=False)
    axes.set_xlabel(label, fontsize=8, color=INK)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def draw_vials(path: Path) -> Figure:
    """Known spectra above, and what NMF finds without them below."""
    ds, known, names = vials(path)
    maps = nd.map_components(ds, known, residual=True)
    small = binned(ds)
    found = nd.find_components(small, components=len(names), iterations=150)
    blind = nd.map_components(small, found, residual=True)
    numbers = [f"component {number}" for number in range(len(names))]
    figure = Figure(figsize=(14, 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 7)
    for row, (one, titles) in zip(panels, ((maps, names), (blind, numbers)), strict=True):
        for number, title in enumerate(titles):
            show(row[number], one["component_map"].values[..., number], title)
        show(row[5], one["component_residual"].values, "residual")
        lines(row[6], np.arange(8), one["component_spectrum"].values, titles, "energy bin")
    return figure


def draw_iron(path: Path) -> Figure:
    """Three components of the iron map, their spectra, and what is left."""
    ds = iron(path)
    return three_components(ds, ds["energy"].values * 1e3, "energy (eV)", strongest=99)


def draw_gel(path: Path) -> Figure:
    """Three components of the gel over time, and what is left."""
    return three_components(gel(path), np.arange(17), "frame")


def three_components(ds: xr.Dataset, x: np.ndarray, axis: str, **shown: float) -> Figure:
    """Draw the maps of three components, what is left, and the spectra."""
    found = nd.find_components(ds, components=3)
    made = nd.map_components(ds, found, residual=True)
    figure = Figure(figsize=(13, 2.9), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
    names = [f"component {number}" for number in range(3)]
    for number, title in enumerate(names):
        show(panels[number], made["component_map"].values[..., number], title, **shown)
    show(panels[3], made["component_residual"].values, "residual", **shown)
    lines(panels[4], x, found["component_spectrum"].values, names, axis)
    return figure


def main() -> None:
    """Draw all pictures."""
    data = Path(sys.argv[1])
    draw_vials(data / "spectral_ct_8bins.h5").savefig(IMAGES / "real-vials.png", dpi=80)
    draw_iron(data / "als_stxm_fe_ledge.h5").savefig(IMAGES / "real-iron-components.png", dpi=80)
    draw_gel(data / "gel_phantom_17frames.h5").savefig(IMAGES / "real-gel-components.png", dpi=80)


if __name__ == "__main__":
    main()
