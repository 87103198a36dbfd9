"""Write ``docs/explanation/real-fits.md`` and its pictures from three measured files.

``python -m benchmarks.real_fits DATA [--write]`` fits iron's lines, fluorescence lines and rings of
CeO2 in the files of folder ``DATA``, and nDTomo's experiment of one peak per pixel. Without
``--write`` the page is only printed.
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks import map_one_peak, real_ceria, real_fluorescence, real_iron
from benchmarks import real_fit_figures as figures
from benchmarks.real_fits_page import PAGE

DOCS = Path(__file__).resolve().parents[1] / "docs"
DOTS_PER_INCH = 95
NDTOMO = {"its own loop": 93, "fit_gaussian_map": 137}
"""Seconds that nDTomo's tutorial prints for its two ways, on a computer that it does not name."""


FREE_HEADER = "line | tabulated (eV) | fitted (eV) | scatter of pixels | error of a pixel"


def table(header: str, rows: list[tuple[object, ...]]) -> str:
    """Write a table in Markdown."""
    columns = header.count("|") + 1
    lines = [f"| {header} |", "|" + " --- |" * columns]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def iron_words(ds: xr.Dataset, maps: xr.Dataset, mean: xr.Dataset) -> dict[str, str]:
    """Figures of iron's lines for the page."""
    bins, chosen = figures.iron_bins(ds, maps), int((ds["sample"] & ds["bright"]).sum())
    rows = [
        ("L3, lower line", _median(maps.l3_low_position), _median(maps.l3_low_position_error)),
        ("L3, upper line", _median(maps.l3_high_position), _median(maps.l3_high_position_error)),
        ("L2, first part", _median(maps.l2_position), _median(maps.l2_position_error)),
    ]
    data = ds.density.values[(ds["sample"] & ds["bright"]).values].mean(axis=0)
    model = sum(real_iron.parts(mean).values())
    middle = [row for row in bins if 0.3 < row["edge"] < 0.8]
    return {
        "iron_table": table("line | position (eV), median | error of a pixel (eV)", rows),
        "iron_pixels": f"{chosen}", "iron_clear": f"{int(ds.clear.sum())}",
        "iron_dark": f"{int((ds['sample'] & ~ds['bright']).sum())}",
        "iron_chi": _median(maps.reduced_chi_square, 2), "iron_ratio": _median(maps.ratio, 2),
        "iron_low": f"{min(row['ratio'] for row in bins):.2f}",
        "iron_high": f"{max(row['ratio'] for row in bins):.2f}",
        "iron_excess": f"{np.mean([row['scatter'] / row['error'] for row in middle]):.1f}",
        "iron_left": f"{np.abs(data - model).max() / (data.max() - data.min()):.0%}",
        "iron_step": f"{float((maps.step / maps.l3_area).median()):.3f}",
    }  # fmt: skip


def _median(array: xr.DataArray, digits: int = 3) -> str:
    return f"{float(array.median()):.{digits}f}"


def fluorescence_words(fitted: xr.Dataset, free: xr.Dataset) -> dict[str, str]:
    """Figures of fluorescence lines for the page."""
    rows = []
    for line, (mine, spread, theirs, other) in real_fluorescence.ratios(fitted).items():
        rows.append((f"{line.split()[0]}/Fe", f"{mine:.3f} ± {spread:.3f}",
                     f"{theirs:.3f} ± {other:.3f}", f"{(mine - theirs) / other:+.1f}"))  # fmt: skip
    amounts = fitted.reference_amount
    scatter = amounts.std(("y", "x"), ddof=1) / fitted.reference_amount_error.median(("y", "x"))
    strong = [line for line in real_fluorescence.STRONG if line != "Si K"]
    beta = {
        one: float((amounts.sel(reference=f"{one} Kβ") / amounts.sel(reference=f"{one} Kα")).mean())
        for one in ("Ca", "Fe", "Cu")
    }
    channel = float(np.diff(free.energy.values).mean())
    same = [float(free.peak_area.sel(peak=line).mean()) / channel
            / float(amounts.sel(reference=line).mean()) - 1 for line in strong]  # fmt: skip
    lines = [
        (line, f"{1e3 * real_fluorescence.line_energy(line):.1f}",
         f"{1e3 * float(free.peak_position.sel(peak=line).mean()):.1f}",
         f"{1e3 * float(free.peak_position.sel(peak=line).std()):.1f}",
         f"{1e3 * float(free.peak_position_error.sel(peak=line).median()):.1f}")
        for line in real_fluorescence.STRONG
    ]  # fmt: skip
    return {
        "xrf_ratios": table("ratio | fit_references | MAPS | difference in scatters of MAPS", rows),
        "xrf_free": table(FREE_HEADER, lines),
        "xrf_count": f"{len(real_fluorescence.LINES)}",
        "xrf_scatter": f"{float(scatter.sel(reference=strong).min()):.2f} to "
                       f"{float(scatter.sel(reference=strong).max()):.2f}",
        "xrf_beta": ", ".join(f"{value:.3f} ({name})" for name, value in beta.items()),
        "xrf_same": f"{max(map(abs, same)):.1%}",
        "xrf_correlation": _correlations(fitted),
    }  # fmt: skip


def _correlations(fitted: xr.Dataset) -> str:
    told = []
    for line in ("Si K", "Ca Kα", "Fe Kα", "Cu Kα"):
        mine = fitted.reference_amount.sel(reference=line).values.ravel()
        theirs = fitted.maps_fit.sel(element=line.split()[0]).values.ravel()
        told.append(float(np.corrcoef(mine, theirs)[0, 1]))
    return f"{min(told):.1f} to {max(told):.1f}"


def ceria_words(fitted: xr.Dataset) -> dict[str, str]:
    """Figures of the rings for the page."""
    rows, shares = [], []
    for ring, expected in real_ceria.RINGS.items():
        one = fitted.sel(peak=ring)
        place, error = one.peak_position.values, one.peak_position_error.values
        terms = real_ceria.harmonics(place, error, one.azimuth.values)
        left = place - real_ceria.harmonic_curve(terms, one.azimuth.values)
        shares.append(np.nanstd(left) / np.nanmedian(error))
        rows.append(
            (
                ring,
                f"{np.isfinite(place).sum()}",
                f"{np.nanmean(place):.4f}",
                f"{1e3 * (np.nanmean(place) - expected):+.2f}",
                f"{1e3 * np.nanstd(place):.2f}",
                f"{1e3 * np.nanstd(left):.2f}",
                f"{1e3 * np.nanmedian(error):.2f}",
                f"{float(one.peak_fwhm.median()):.4f}",
            )
        )
    lattice, error = fitted.lattice_parameter, fitted.lattice_parameter_error
    header = ("ring | sectors | 2θ (°) | less the expected | scatter | "
              "after terms to 2φ | error of a sector | fwhm (°)")  # fmt: skip
    return {
        "ceria_table": table(header, rows), "ceria_mean": f"{float(lattice.mean()):.5f}",
        "ceria_off": f"{1e6 * (float(lattice.mean()) / real_ceria.CERTIFIED - 1):.0f}",
        "ceria_scatter": f"{float(lattice.std()):.4f}",
        "ceria_error": f"{float(error.median()):.5f}",
        "ceria_share": f"{min(shares):.0f} to {max(shares):.0f}",
    }  # fmt: skip


def experiment_words(subset: int) -> dict[str, str]:
    """Figures of nDTomo's experiment for the page."""
    found = map_one_peak.compare(subset=subset)
    names = {"ours": "`fit_peaks`", "loop": "line through the ends, `curve_fit`"}
    rows = [
        (names[key], f"{row['fits']:.0f}", f"{row['seconds']:.2g}", f"{row['ratio']:.0f}",
         f"{row['area']:.2%}", f"{row['position']:.1e}", f"{row['fwhm']:.2%}")
        for key, row in found.items()
    ]  # fmt: skip
    rows += [(f"nDTomo, {name}, as printed", "31,700", seconds, "", "", "", "")
             for name, seconds in NDTOMO.items()]  # fmt: skip
    header = "way | fits | seconds | per fit | area | position (°) | fwhm"
    return {"experiment": table(header, rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--subset", type=int, default=400)
    told = parser.parse_args()
    density = real_iron.optical_density(real_iron.read_counts(told.data))
    maps, mean = real_iron.fit_lines(density)
    spectra, width, _ = real_fluorescence.calibrate(real_fluorescence.read_spectra(told.data))
    lines, free = real_fluorescence.fit_lines(spectra, width), real_fluorescence.free_fits(spectra)
    rings = real_ceria.fit_rings(real_ceria.sector_patterns(told.data))
    words = iron_words(density, maps, mean) | fluorescence_words(lines, free)
    page = PAGE.format(**words, **ceria_words(rings), **experiment_words(told.subset))
    print(page)
    if told.write:
        pictures = {
            "iron": figures.iron(density, maps, mean),
            "fluorescence": figures.fluorescence(lines, real_fluorescence.ratios(lines)),
            "ceria": figures.ceria(real_ceria.read_image(told.data), rings),
        }
        (DOCS / "explanation/real-fits.md").write_text(page)
        for name, figure in pictures.items():
            figure.savefig(DOCS / f"images/real-{name}.png", dpi=DOTS_PER_INCH)


if __name__ == "__main__":
    main()
