"""Fluorescence lines of a thin-film standard: known lines as patterns, and free fits beside MAPS.

Energies are those of the X-Ray Data Booklet (LBNL, 2009), Tables 1-2 and 1-3, and, for weaker L and
M lines, of Bearden, Rev. Mod. Phys. 39, 78 (1967), in eV. Kα1 and Kα2 are as 2 to 1, Lα1 and Lα2 as
9 to 1; but for silicon, lines of a series are not tied to one another, so that Kβ/Kα is a result.
"""

from pathlib import Path

import h5py
import numpy as np
import xarray as xr

import ndtomo_dask as nd

FILE = "aps_2ide_xrf_standard.h5"
LINES: dict[str, tuple[tuple[float, float], ...]] = {
    "Si K": ((1739.98, 2), (1739.38, 1), (1835.94, 0.04)),
    "Mo Lα, S Kα, Pb Mα": ((2293.16, 1), (2307.84, 1), (2345.5, 1)),
    "Pb Mβ": ((2442.7, 1),),
    "Cl Kα": ((2622.39, 2), (2620.78, 1)),
    "Pd Lα": ((2838.61, 9), (2833.29, 1)),
    "Ar Kα": ((2957.70, 2), (2955.63, 1)),
    "Pd Lβ2, Ar Kβ": ((3171.79, 1), (3190.5, 1)),
    "K Kα": ((3313.8, 2), (3311.1, 1)),
    "Ca Kα": ((3691.68, 2), (3688.09, 1)),
    "Ca Kβ": ((4012.7, 1),),
    "La Ll": ((4124.0, 1),),
    "La Lα": ((4650.97, 9), (4634.23, 1)),
    "La Lβ1": ((5042.1, 1),),
    "La Lβ3": ((5143.4, 1),),
    "La Lβ2": ((5383.5, 1),),
    "La Lγ1": ((5788.5, 1),),
    "La Lγ3": ((6074.0, 1),),
    "Fe Kα": ((6403.84, 2), (6390.84, 1)),
    "Fe Kβ": ((7057.98, 1),),
    "Ni Kα": ((7478.15, 2), (7460.89, 1)),
    "Cu Kα": ((8047.78, 2), (8027.83, 1)),
    "Cu Kβ": ((8905.29, 1),),
    "Zn Kα": ((8638.86, 2), (8615.78, 1)),
}
"""Lines that are seen, energy and relative intensity of the members of each."""
STRONG = {
    "Si K": (1.45, 2.05), "Ca Kα": (3.5, 3.86), "La Lα": (4.4, 4.84),
    "Fe Kα": (6.2, 6.7), "Cu Kα": (7.75, 8.4),
}  # fmt: skip
"""Windows in keV in which one line stands alone."""
COMPARED = ("Si K", "Ca Kα", "Cu Kα")
"""Lines that are compared with MAPS, each over that of iron."""
RANGE = (1.5, 9.12)
"""Where lines are fitted, in keV: above are Compton and Rayleigh scatter."""
BACKGROUND = 6
"""Degree of the polynomial under all lines."""


def line_energy(name: str) -> float:
    """Mean energy of a line's members in keV."""
    energies, weights = np.array(LINES[name]).T
    return float(energies @ weights / weights.sum() / 1e3)


def read_spectra(folder: Path) -> xr.Dataset:
    """Counts of every pixel, with MAPS' own per-pixel fits on ``maps_fit (element, y, x)``."""
    with h5py.File(folder / FILE) as file:
        group = file["MAPS"]
        counts = np.moveaxis(group["mca_arr"][()], 0, -1)
        energy = group["energy"][: counts.shape[-1]]
        names = [name.decode() for name in group["channel_names"][()]]
        theirs = group["XRF_fits"][()]
        y, x = group["y_axis"][()], group["x_axis"][()]
    return xr.Dataset(
        {
            "volume": (("y", "x", "channel"), counts, {"units": "count"}),
            "maps_fit": (("element", "y", "x"), theirs, {"units": "1/s"}),
        },
        coords={
            "energy": ("channel", energy, {"units": "keV"}),
            "element": names,
            "y": ("y", y, {"units": "mm"}),
            "x": ("x", x, {"units": "mm"}),
        },
    )


def free_fits(ds: xr.Dataset, variable: str = "volume") -> xr.Dataset:
    """Fit a Gaussian on a line to each strong line of every spectrum."""
    fitted = nd.fit_peaks(ds, windows=STRONG, axis="energy", shape="gaussian", variable=variable)
    return fitted.compute()


def calibrate(ds: xr.Dataset) -> tuple[xr.Dataset, np.ndarray, xr.Dataset]:
    """Put strong lines of the mean spectrum where they belong; how widths go with energy.

    Returns the data with a new energy axis, the terms (b, a) of fwhm² = a + b·E in keV, and the
    fits in the axis as it was.
    """
    mean = ds.assign(spectrum=ds.volume.mean(("y", "x")))
    found = free_fits(mean, "spectrum")
    known = np.array([line_energy(name) for name in STRONG])
    chosen = found.sel(peak=list(STRONG))
    scale = np.polyfit(chosen.peak_position.values, known, 2)
    energy = ds.energy.copy(data=np.polyval(scale, ds.energy.values))
    narrow = known > 2  # silicon's line holds its Kβ
    width = np.polyfit(known[narrow], chosen.peak_fwhm.values[narrow] ** 2, 1)
    return ds.assign_coords(energy=energy), width, found


def fit_lines(ds: xr.Dataset, width: np.ndarray) -> xr.Dataset:
    """Amounts of all lines in every pixel, in counts."""
    inside = ds.isel(channel=(ds.energy.values > RANGE[0]) & (ds.energy.values < RANGE[1]))
    known = {
        name: [(place / 1e3, weight) for place, weight in rows] for name, rows in LINES.items()
    }
    patterns = nd.line_patterns(inside, known, fwhm=width[::-1])
    return nd.fit_references(inside, patterns, background=BACKGROUND, axis="energy").compute()


def background(energy: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Polynomial that `fit_lines` has under the lines: the least squares of what they leave."""
    return np.polynomial.Polynomial.fit(energy, left, BACKGROUND)(energy)


def over_iron(maps: xr.DataArray) -> xr.DataArray:
    """Maps over that of iron, along their first dimension."""
    along = str(maps.dims[0])
    iron = next(name for name in maps[along].values if str(name).startswith("Fe"))
    return maps / maps.sel({along: iron})


def ratios(fitted: xr.Dataset) -> dict[str, tuple[float, float, float, float]]:
    """Ratios to iron: our mean and scatter over the pixels, and those of MAPS."""
    ours = over_iron(fitted.reference_amount.transpose("reference", ...))
    theirs = over_iron(fitted.maps_fit)
    told = {}
    for line in COMPARED:
        mine, other = ours.sel(reference=line), theirs.sel(element=line.split()[0])
        told[line] = tuple(
            float(value) for value in (mine.mean(), mine.std(), other.mean(), other.std())
        )
    return told
