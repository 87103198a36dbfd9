"""Spectra of known phases, species and elements, with their axes and units."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import axes
from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.simulation.phantoms import FWHM, REFLECTIONS, pattern
from ndtomo_dask.kernels.simulation.spectra import EDGES, edge_spectrum, line_spectrum
from ndtomo_dask.schema import label
from ndtomo_dask.variables import CHANNEL, COMPONENT_SPECTRUM, COORDINATES, TIME

ENERGY = 100.0
"""Photon energy of the simulated beam, in keV."""
Q_RANGE = (2.1, 4.6)
"""Range of the simulated patterns, in 1/Å."""
EDGE_RANGE, LINE_RANGE = (8.30, 8.45), (2.0, 20.0)
"""Ranges of the edges of nickel, and of fluorescence, in keV."""
ELEMENTS = ("Ca", "Fe", "Ni", "Cu", "Zn")

Kind = Literal["xrd", "xanes", "xrf"]
Spectrum = Callable[[np.ndarray], np.ndarray]


def pattern_axes(channels: int) -> dict[str, xr.Variable]:
    """2θ of the simulated patterns and the wavelength, from which q and d follow."""
    wavelength = float(axes.wavelength_from_energy(ENERGY))
    q = np.linspace(*Q_RANGE, channels, endpoint=channels < 2)
    first, last = map(float, axes.tth_from_q(q[[0, -1]], wavelength=wavelength))
    tth = np.linspace(first, last, channels)
    about = {"units": "angstrom", "long_name": "wavelength"}
    return {"tth": axis_variable("tth", tth), "wavelength": xr.Variable((), wavelength, about)}


def pattern_from_reflections(
    axis: xr.DataArray,
    reflections: Sequence[tuple[float, float]],
    *,
    fwhm: float = FWHM,
    fraction: float = 0.0,
    baseline: float = 0.0,
) -> xr.DataArray:
    """Make a powder pattern of a list of reflections, or any spectrum of a list of lines.

    Parameters
    ----------
    axis
        Where it is wanted: a coordinate such as ``ds.q``, ``ds.tth`` or ``ds.energy``.
    reflections
        (position, height) each, in the unit of the axis.
    fwhm
        Full width at half maximum of each, in that unit.
    fraction
        Lorentzian share of their pseudo-Voigt profile, 0 to 1.
    baseline
        Constant added.

    Returns
    -------
        ``pattern``, with the dimension and the coordinates of ``axis``.

    Examples
    --------
    >>> q = simulate_spectra(channels=250).q
    >>> float(pattern_from_reflections(q, [(3.0, 2.0)]).max().round(2))
    2.0
    """
    if getattr(axis, "dims", ()) == () or axis.ndim != 1:
        raise SchemaError(
            "pattern_from_reflections takes an axis with its labels first, such as ds.q."
        )
    listed = tuple((float(position), float(height)) for position, height in reflections)
    values = pattern(axis.values, listed, fwhm=fwhm, fraction=fraction, baseline=baseline)
    about = {"units": "1", "long_name": "pattern"}
    return xr.DataArray(values, dims=axis.dims, coords=axis.coords, name="pattern", attrs=about)


def simulate_spectra(
    kind: Kind = "xrd", *, channels: int = 250, frames: int = 0, drift: float = 0.03
) -> xr.Dataset:
    """Give five spectra in closed form, each with its axis.

    Parameters
    ----------
    kind
        ``"xrd"``: powder patterns of Al, Cu, Fe, Pt and Zn over 2θ, q and d, at 100 keV;
        ``"xanes"``: edges of five kinds of nickel; ``"xrf"``: K lines of five elements, as a
        silicon detector sees them; both over the energy.
    channels
        Points of the axis.
    frames
        Frames of a series, a second each, in which the spectra drift; 0 leaves ``time`` out.
    drift
        How far they have moved in the last frame, as a share of the axis: the first towards lower
        values, the second not at all, the third towards higher ones, and so on.

    Returns
    -------
        ``component_spectrum ([time,] component, channel)``, and ``component_name``.

    Examples
    --------
    >>> simulate_spectra("xanes").component_spectrum.sizes
    Frozen({'component': 5, 'channel': 250})
    """
    check_choice("kind", kind, ("xrd", "xanes", "xrf"))
    if channels < 1 or frames < 0:
        raise OptionError("simulate_spectra needs channels >= 1 and frames >= 0.")
    ds = _axis(kind, channels)
    made = _spectra(kind)
    axis = ds["q" if kind == "xrd" else "energy"].values
    step = drift * float(np.ptp(axis)) * (np.arange(max(1, frames)) / max(1, frames - 1))
    values = np.stack([_moved(made, axis, move) for move in step])
    array = xr.DataArray(values, dims=(TIME, "component", CHANNEL))
    ds = ds.assign_coords(component_name=("component", list(made)))
    if frames:
        ds = ds.assign_coords(time=axis_variable("time", np.arange(frames, dtype=float)))
    array = array if frames else array.isel(time=0)
    options: dict[str, Any] = {"kind": kind, "channels": channels}
    options |= {"frames": frames, "drift": drift} if frames else {}
    return label(ds, {COMPONENT_SPECTRUM: array}, step="simulate_spectra", **options)


def _moved(spectra: dict[str, Spectrum], axis: np.ndarray, move: float) -> np.ndarray:
    """Evaluate spectra that have moved down, not at all and up, in turn."""
    return np.stack([made(axis - (i % 3 - 1) * move) for i, made in enumerate(spectra.values())])


def _axis(kind: Kind, channels: int) -> xr.Dataset:
    if kind == "xrd":
        return derive_axes(xr.Dataset(coords=pattern_axes(channels)))
    first, last = EDGE_RANGE if kind == "xanes" else LINE_RANGE
    energy = xr.Variable(CHANNEL, np.linspace(first, last, channels))
    about = COORDINATES["energy"]
    energy.attrs = {"units": about.units, "long_name": about.long_name}
    return derive_axes(xr.Dataset(coords={"energy": energy}))


def _spectra(kind: Kind) -> dict[str, Spectrum]:
    if kind == "xrd":
        return {name: _of(pattern, lines) for name, lines in REFLECTIONS.items()}
    if kind == "xanes":
        return {name: _of(edge_spectrum, edge) for name, edge in EDGES.items()}
    return {name: _of(line_spectrum, name) for name in ELEMENTS}


def _of(function: Callable[[np.ndarray, Any], np.ndarray], what: Any) -> Spectrum:
    return lambda axis: function(axis, what)
