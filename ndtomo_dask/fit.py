"""Peaks, pixel by pixel: area, position and width, each with its error and how the fit ended."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.least_squares import fit_peak
from ndtomo_dask.kernels.levenberg_marquardt import FitStatus
from ndtomo_dask.kernels.peaks import PARAMETERS, SINGLE
from ndtomo_dask.schema import VARIABLES, Variable, floating, label, require, variable_named

COLUMNS = (
    *PARAMETERS,
    *(f"{name}_error" for name in PARAMETERS),
    "reduced_chi_square",
    "iterations",
    "status",
    "at_bound",
)
"""What is kept of a fit, in the order in which the kernel returns it."""
INTEGERS = {"iterations": "int16", "status": "uint8", "at_bound": "uint8"}


class Window(NamedTuple):
    """The channels of one peak."""

    name: str
    start: int
    stop: int


def fit_peaks(
    ds: xr.Dataset,
    *,
    windows: Mapping[str, Sequence[float]],
    axis: str | None = None,
    shape: str = "pseudo_voigt",
    background: int = 1,
    bounds: Mapping[str, Sequence[float]] | None = None,
    significance: float = 6.0,
    variable: str = "volume",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Fit one peak in each window to the spectrum of every pixel. Nothing is computed.

    The model is area × shape(position, fwhm, …) plus a polynomial, fitted by bounded
    Levenberg-Marquardt with analytic derivatives, every pixel from a start of its own.

    Parameters
    ----------
    ds
        A dataset with ``variable`` in whole spectra (``open_scan(store, layout="spectra")``).
    windows
        First and last axis value of each peak's window, by the peak's name, such as
        ``{"Ni 111": (3.05, 3.13)}``.
    axis
        ``"tth"``, ``"q"``, ``"d"`` or ``"energy"``; may be left out where there is only one.
    shape
        ``"gaussian"``, ``"lorentzian"``, ``"pseudo_voigt"``, ``"voigt"``, ``"pearson7"``, or, where
        peaks are asymmetric, ``"split_pseudo_voigt"`` or ``"doniach_sunjic"``. Of a pseudo-Voigt
        the fraction is the Lorentzian share of the height.
    background
        Degree of the polynomial; -1 for none.
    bounds
        Lowest and highest value of ``area``, ``position``, ``fwhm`` or ``fraction``, in axis units.
    significance
        A peak must stand this many noise standard deviations above nothing to be fitted; of pixels
        with noise only, 0.04 % pass 6, 2 % pass 4 (measured, 64 channels).
    variable
        ``"volume"``, or another variable with a channel axis.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``ds`` with ``peak_area``, ``peak_position``, ``peak_fwhm``, ``peak_fraction``, their
        ``…_error``, ``peak_reduced_chi_square``, ``peak_iterations``, ``peak_at_bound`` and
        ``peak_status ([time, z,] y, x, peak)``. Where nothing was fitted values are NaN and the
        status says why.

    Raises
    ------
    SchemaError
        A window lies outside the axis or holds too few channels, or the spectra are split.
    OptionError
        An unknown shape, bound or background.
    """
    check_choice("shape", shape, SINGLE)
    array = require(
        ds, variable_named(variable, verb="fit_peaks"), verb="fit_peaks", whole=["channel"]
    )
    values = spectral_axis(ds, axis, verb="fit_peaks")
    places = _windows(windows, values)

    sizes = sizes_of(array)
    widest = max(place.stop - place.start for place in places)
    plan.per_pixel(
        "fit_peaks", sizes, array.dtype.itemsize, channels=widest,
        values=len(COLUMNS) * len(places), block=block_of(array),
        allowed_mem=allowed_memory(allowed_mem),
    )  # fmt: skip

    options: dict[str, Any] = {
        "shape": shape,
        "background": background,
        "significance": significance,
    }
    options["bounds"] = {name: tuple(map(float, pair)) for name, pair in (bounds or {}).items()}
    for place in places:
        _refuse_now(place, values, options)
    fitted = apply_kernel(
        fit_block, array, core=["channel"], out={"peak": len(places), "column": len(COLUMNS)},
        dtype=floating(array.dtype), axis=np.asarray(values, dtype=float), windows=places,
        **options,
    )  # fmt: skip

    fitted = fitted.assign_coords(peak=[place.name for place in places])
    maps = _maps(fitted, array, values)
    shown = {name: tuple(map(float, pair)) for name, pair in windows.items()}
    return label(ds, maps, step="fit_peaks", windows=shown, axis=values.name, **options)


def _windows(windows: Mapping[str, Sequence[float]], values: xr.DataArray) -> tuple[Window, ...]:
    if not windows:
        raise OptionError(
            "fit_peaks needs a window per peak, such as windows={'Ni 111': (3.05, 3.13)}."
        )
    return tuple(_window(name, pair, values) for name, pair in windows.items())


def _window(name: str, pair: Sequence[float], values: xr.DataArray) -> Window:
    axis = np.asarray(values, dtype=float)
    if np.shape(pair) != (2,):
        raise OptionError(f"window {name!r} is {pair!r}; it must be (first, last) on the axis.")
    low, high = sorted(map(float, pair))
    span = f"{axis.min():g} to {axis.max():g} {values.attrs.get('units', '')}".rstrip()
    inside = np.flatnonzero((axis >= low) & (axis <= high))
    if low > axis.max() or high < axis.min():
        raise SchemaError(
            f"window {name!r} ({low:g}, {high:g}) lies outside axis {values.name!r}, "
            f"which covers {span}."
        )
    if inside.size < 5:
        raise SchemaError(
            f"window {name!r} ({low:g}, {high:g}) holds {inside.size} channels of axis "
            f"{values.name!r}; a fit needs at least 5. Make it wider."
        )
    return Window(name, int(inside[0]), int(inside[-1]) + 1)


def _refuse_now(window: Window, values: xr.DataArray, options: Mapping[str, Any]) -> None:
    """Fit nothing, so that options that cannot be are refused here and not on a worker."""
    axis = np.asarray(values, dtype=float)[window.start : window.stop]
    try:
        fit_peak(np.empty((0, axis.size)), axis, **options)
    except SchemaError as error:
        raise SchemaError(f"window {window.name!r}: {error}") from error


def fit_block(
    block: np.ndarray, *, axis: np.ndarray, windows: Sequence[Window], **options: Any
) -> np.ndarray:
    """Fit every window of every pixel, (y, x, channel) -> (y, x, peak, column)."""
    pixels = block.reshape(-1, block.shape[-1])
    shape = (pixels.shape[0], len(windows), len(COLUMNS))
    fitted = np.empty(shape, dtype=floating(block.dtype))
    for number, window in enumerate(windows):
        inside = slice(window.start, window.stop)
        result = fit_peak(np.ascontiguousarray(pixels[:, inside]), axis[inside], **options)
        for column, name in enumerate(COLUMNS):
            fitted[:, number, column] = getattr(result, name)
    return fitted.reshape(*block.shape[:-1], len(windows), len(COLUMNS))


def _maps(
    fitted: xr.DataArray, array: xr.DataArray, values: xr.DataArray
) -> dict[Variable, xr.DataArray]:
    data, axis = array.attrs.get("units", VARIABLES["volume"].units), values.attrs.get("units", "1")
    units = {
        "area": f"{data}*{axis}",
        "position": axis,
        "fwhm": axis,
        "reduced_chi_square": f"({data})^2",
    }
    maps = {}
    for column, name in enumerate(COLUMNS):
        about = {"units": units.get(name.removesuffix("_error"), "1"), "axis": str(values.name)}
        about |= _flags() if name == "status" else {}
        image = fitted.isel(column=column).astype(INTEGERS.get(name, fitted.dtype))
        maps[VARIABLES[f"peak_{name}"]] = image.assign_attrs(about)
    return maps


def _flags() -> dict[str, Any]:
    """CF attributes that say what the numbers of a status mean."""
    return {
        "flag_values": [int(status) for status in FitStatus],
        "flag_meanings": " ".join(status.name.lower() for status in FitStatus),
    }
