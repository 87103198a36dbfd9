"""Patterns of known lines, as a detector of finite width sees them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import BackendError, OptionError, SchemaError
from ndtomo_dask.kernels.fitting.peaks import evaluate_peak
from ndtomo_dask.variables import CHANNEL

Table = dict[str, np.ndarray]
_SHELLS = re.compile(r"(K|L|M)([1-5]?)[L-Q]\d?_LINE")
_FAINT = 1e-4
"""Share of the strongest line of a shell below which lines are left out."""


def line_patterns(
    ds: xr.Dataset,
    lines: Mapping[str, Sequence[Sequence[float]]] | Sequence[str],
    *,
    fwhm: float | Sequence[float],
    axis: str | None = None,
    excitation: float | None = None,
) -> xr.Dataset:
    """Draw known lines as patterns for `fit_references`: Gaussians of the detector's width.

    Each pattern sums to 1 over all channels that its lines reach, so that its amount is what was
    counted in them. Tails of lines, escape and sum peaks are not drawn.

    Parameters
    ----------
    ds
        The data, for their axis.
    lines
        Position and relative intensity of each line, by the name of the pattern, such as
        ``{"Fe Kα": [(6.4038, 2), (6.3908, 1)]}``, in axis units. Or symbols of elements, such as
        ``["Fe", "Pb"]``, on an axis of energy: a pattern per shell, ``"Fe K"``, with energies and
        intensities of xraylib (Schoonjans et al., Spectrochim. Acta B 66, 776 (2011)).
    fwhm
        Width of every line, or (a, b) where fwhm² = a + b × position, as of detectors of energy.
    axis
        ``"energy"``, ``"q"``, ``"d"`` or ``"tth"``; may be left out where there is only one.
    excitation
        Energy of the beam in keV; decides which shells of elements are seen, and how strongly.

    Returns
    -------
        A spectrum ``(channel)`` per pattern, with the axis.

    Raises
    ------
    OptionError
        A width that is not positive, an element that is not known, or no excitation for elements.
    SchemaError
        A pattern has no line within the axis.
    BackendError
        Elements were named, and xraylib is not installed.

    Examples
    --------
    >>> energy = xr.DataArray(np.linspace(5, 8, 301), dims="channel")
    >>> counts = xr.Dataset({"spectrum": 0 * energy}, {"energy": energy})
    >>> round(float(line_patterns(counts, {"Fe": [(6.4, 1)]}, fwhm=0.15)["Fe"].sum()), 3)
    1.0
    """
    values = spectral_axis(ds, axis, verb="line_patterns")
    x = np.asarray(values, dtype=np.float64)
    table = _tables(lines) if isinstance(lines, Mapping) else (
        _shells(lines, values, excitation)
    )  # fmt: skip

    channel = np.abs(np.gradient(x))
    drawn = {name: ("channel", channel * _sum(x, name, rows, fwhm)) for name, rows in table.items()}

    axis_of_data = (CHANNEL, x, values.attrs)
    return xr.Dataset(drawn, {str(values.name): axis_of_data})


def _tables(lines: Mapping[str, Any]) -> Table:
    table = {}
    for name, given in lines.items():
        rows = np.asarray(given, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != 2 or not (rows[:, 1] > 0).all():
            raise OptionError(
                f"lines[{name!r}]={given!r} must be pairs of a position and an intensity above 0, "
                f"such as [(6.4038, 2), (6.3908, 1)]."
            )
        table[str(name)] = rows
    return table


def _sum(x: np.ndarray, name: str, rows: np.ndarray, fwhm: float | Sequence[float]) -> np.ndarray:
    place, weight = rows.T
    given = np.asarray(fwhm, dtype=np.float64)
    constant, slope = (given**2, 0.0) if given.ndim == 0 else given
    square = constant + slope * place
    if not (square > 0).all():
        raise OptionError(f"fwhm={fwhm!r} makes no width above 0 for the lines of {name!r}.")
    if not ((place > x.min()) & (place < x.max())).any():
        raise SchemaError(
            f"no line of {name!r} lies within the axis, {x.min():g} to {x.max():g}: leave it out."
        )
    peaks = evaluate_peak(
        x, area=(weight / weight.sum())[:, np.newaxis], position=place[:, np.newaxis],
        fwhm=np.sqrt(square)[:, np.newaxis], fraction=0.0,
    )  # fmt: skip
    return np.asarray(peaks.sum(axis=0))


def _shells(elements: Sequence[str], values: xr.DataArray, excitation: float | None) -> Table:
    """Lines of every shell of elements that is excited and has a line on the axis."""
    if values.name != "energy":
        raise OptionError(
            f"line_patterns knows lines of elements on 'energy' only, not on {values.name!r}."
        )
    if excitation is None or not excitation > 0:
        raise OptionError(
            f"excitation={excitation!r} must be the energy of the beam in keV, where lines are "
            f"given as elements."
        )
    unit = 1000.0 if values.attrs.get("units") == "eV" else 1.0
    low, high = float(values.min()), float(values.max())
    table: Table = {}
    for element in [elements] if isinstance(elements, str) else elements:
        seen = {}
        for shell, rows in _lines_of(str(element), float(excitation)).items():
            rows = rows * [unit, 1.0]
            if ((rows[:, 0] > low) & (rows[:, 0] < high)).any():
                seen[f"{element} {shell}"] = rows
        if not seen:
            raise SchemaError(
                f"no line of {element!r}, excited at {excitation:g} keV, lies within the axis, "
                f"{low:g} to {high:g}: leave it out."
            )
        table |= seen
    return table


def _lines_of(element: str, excitation: float) -> Table:
    """Energies in keV and intensities of the lines of an element, by shell."""
    try:
        import xraylib
    except ImportError as error:
        raise BackendError(
            "lines of elements need xraylib: pip install 'ndtomo-dask[xray]', or give lines as "
            "{name: [(energy, intensity), ...]}."
        ) from error
    try:
        number = xraylib.SymbolToAtomicNumber(element)
    except ValueError:
        raise OptionError(f"lines names {element!r}, which is no element; say 'Fe'.") from None
    found: dict[str, list[tuple[float, float]]] = {}
    for name in dir(xraylib):
        shell = _SHELLS.fullmatch(name)
        if shell is None:
            continue
        try:
            line = getattr(xraylib, name)
            pair = (xraylib.LineEnergy(number, line),
                    xraylib.CS_FluorLine_Kissel_Cascade(number, line, excitation))  # fmt: skip
        except ValueError:  # the element has no such line, or it is not excited
            continue
        found.setdefault(shell[1], []).append(pair)
    tables = {shell: np.array(rows) for shell, rows in found.items()}
    return {shell: rows[rows[:, 1] > _FAINT * rows[:, 1].max()] for shell, rows in tables.items()}
