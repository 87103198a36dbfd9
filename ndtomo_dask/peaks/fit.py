"""Peaks, pixel by pixel: area, position and width, each with its error and how the fit ended."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.fitting.levenberg_marquardt import FitStatus
from ndtomo_dask.kernels.fitting.peak_model import (
    DECAY,
    EXPONENTIAL,
    Background,
    PeakModel,
    count_terms,
    decays,
)
from ndtomo_dask.kernels.fitting.peaks import SHAPES
from ndtomo_dask.kernels.fitting.window_fit import (
    KEPT,
    Columns,
    WindowModel,
    columns_for,
    fit_windows,
)
from ndtomo_dask.peaks.options import (
    Maps,
    background_of,
    bounds_reader,
    cut_background,
    options_by_window,
    shown,
)
from ndtomo_dask.peaks.record import WINDOWS, write_windows
from ndtomo_dask.peaks.ties import ties_of
from ndtomo_dask.peaks.windows import PeakWindow, as_table, is_table, lay_windows
from ndtomo_dask.schema import anywhere, floating, label, require, variable_named, without_masked
from ndtomo_dask.variables import (
    CHANNEL,
    PEAK_BACKGROUND,
    PEAK_BACKGROUND_PATTERN,
    SINOGRAM,
    VARIABLES,
    Variable,
)

Backend = Literal["auto", "cpu", "torch"]
Likelihood = Literal["gaussian", "weighted", "poisson", "huber", "cauchy"]
LIKELIHOODS = ("gaussian", "weighted", "poisson", "huber", "cauchy")
INTEGERS = {"iterations": "int16", "status": "uint8", "at_bound": "uint8"}


def fit_peaks(
    ds: xr.Dataset,
    peaks: xr.Dataset | Any = None,
    *,
    windows: Mapping[str, Sequence[float]] | None = None,
    axis: str | None = None,
    shape: str | Mapping[str, str] = "pseudo_voigt",
    background: Any = 1,
    bounds: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
    ties: Mapping[str, Any] | None = None,
    likelihood: Likelihood = "gaussian",
    variance: str | None = None,
    significance: float = 6.0,
    variable: str = "volume",
    backend: Backend = "auto",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Fit peaks on a background to the spectrum of every pixel. Nothing is computed.

    The model is Σ area × shape(position, fwhm, …) plus a background, fitted by bounded
    Levenberg-Marquardt with analytic derivatives, every pixel from a start of its own. Areas add
    along a ray, so that a sinogram may be fitted, too; positions and widths do not.

    Parameters
    ----------
    ds
        A dataset with ``variable`` in whole spectra (``open_scan(store, layout="spectra")``).
    peaks
        A table such as `find_peaks` returns, edited or not, also as a pandas table, or as lists by
        column: peaks whose windows overlap or touch are fitted together. Variables ``shape`` and
        ``window`` (names of windows to be shared) may be added to it. Or, with ``windows``,
        positions by peak and window, such as ``{"multiplet": {"a": 3.07, "b": 3.1}}``. Peaks of one
        window begin at these positions and stay half-way apart, unless ``bounds`` or ``start`` say
        more.
    windows
        First and last axis value of each window, by its name, such as ``{"Ni 111": (3.05, 3.13)}``.
        It has one peak of that name, unless ``peaks`` says more.
    axis
        ``"tth"``, ``"q"``, ``"d"`` or ``"energy"``; may be left out where there is only one.
    shape
        ``"gaussian"``, ``"lorentzian"``, ``"pseudo_voigt"``, ``"voigt"``, ``"pearson7"``,
        ``"thompson_cox_hastings"``, or, where peaks are asymmetric, ``"split_pseudo_voigt"`` or
        ``"doniach_sunjic"``; one for all, or by peak.
    background
        Degree of a polynomial, ``"none"``, ``"chebyshev:5"``, ``"exponential"`` (a decay), a
        spectrum that is scaled (an array with the axis of the data), or a list of these.
    bounds
        Lowest and highest value by parameter for all peaks, ``{"fwhm": (0.01, 0.1)}``, or by peak,
        ``{"Ni 111": {"position": (3.07, 3.11)}}``, in axis units; each a number or a map of one
        per pixel, or per peak.
    start
        Where to begin, written in the same way; NaN where it is to be found.
    ties
        ``{"fwhm": "equal"}``, ``{"fwhm": ["a", "b"]}``, ``{"b.area": "0.5 * a.area"}``,
        ``{"b.position": "a.position + 0.02"}``, ``{"ka_doublet": ["Ka1", "Ka2"]}`` or
        ``{"caglioti": "all"}``, among peaks that share a window.
    likelihood
        ``"gaussian"``: least squares. ``"weighted"``: by 1/variance. ``"poisson"``: of raw counts.
        ``"huber"``, ``"cauchy"``: least squares that spots hardly move.
    variance
        Variable with the variance of the data; where weights need one, ``<variable>_variance``. Or
        ``"counts"``: errors for the noise of counts.
    significance
        A peak must stand this many noise standard deviations above nothing to be fitted; of pixels
        with noise only, 0.04 % pass 6, 2 % pass 4 (measured, 64 channels).
    variable
        ``"volume"``, ``"sinogram"``, or another variable with a channel axis.
    backend
        ``"cpu"`` (``"auto"``), or ``"torch"``: in batches, on a worker's CUDA device if it has one,
        for Gaussians, Lorentzians and pseudo-Voigts in least squares or counts. Fits that are not
        plain are done on the CPU; results differ by less than a hundredth of their errors.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``ds`` with ``peak_area``, ``peak_position``, ``peak_fwhm``, ``peak_fraction`` and what else
        the shapes have (``peak_asymmetry``), their ``…_error``, ``peak_reduced_chi_square``,
        ``peak_iterations``, ``peak_at_bound`` and ``peak_status ([time, z,] y, x, peak)``, and the
        coefficients ``peak_background ([time, z,] y, x, window, term)``. Where nothing was fitted
        values are NaN and the status says why.

    Raises
    ------
    SchemaError
        A window lies outside the axis or holds too few channels, or the spectra are split.
    OptionError
        An unknown shape, bound, tie, likelihood or background.
    """
    check_choice("likelihood", likelihood, LIKELIHOODS)
    array = _spectra(ds, variable)
    values = spectral_axis(ds, _axis_of(peaks, axis), verb="fit_peaks")
    laid = lay_windows(windows, peaks, values, shape)
    noise, beside = _noise(ds, array, likelihood, variance)
    terms, patterns = background_of(ds, background, values)
    maps = Maps(array)
    models = _models(laid, values, terms, bounds or {}, start or {}, ties or {}, maps)

    options: dict[str, Any] = {"likelihood": likelihood, "significance": float(significance)}
    options |= {} if backend == "auto" else {"backend": backend}
    given: dict[str, Any] = options | {
        "axis": np.asarray(values, dtype=float),
        "windows": models,
        "noise": noise,
        "columns": _columns(laid, models, values),
    }
    _refuse_now(laid, given, len(beside), len(maps.arrays))
    _plan(array, given, len(beside), allowed_mem)

    fitted = apply_kernel(
        fit_windows, array, *beside, *maps.arrays, core=[CHANNEL],
        out={"column": given["columns"].count}, dtype=floating(array.dtype), **given,
    )  # fmt: skip

    made = _peak_maps(fitted, array, values, laid, given)
    made |= _backgrounds(fitted, array, values, laid, terms, given["columns"])
    if len(patterns):
        made[PEAK_BACKGROUND_PATTERN] = xr.DataArray(patterns, dims=("pattern", CHANNEL))
    told = {"windows": windows, "shape": shape, "background": background, "bounds": bounds,
            "start": start, "ties": ties, "variance": variance}  # fmt: skip
    told = {name: shown(value) for name, value in told.items() if value is not None}
    told |= {} if peaks is None else {"peaks": _shown_peaks(laid, values)}
    return label(ds, made, step="fit_peaks", axis=values.name, **told, **options)


def _spectra(ds: xr.Dataset, variable: str) -> xr.DataArray:
    """Return the data: pixels, rays, or any list of spectra."""
    wanted = variable_named(variable, verb="fit_peaks")
    dims = set(ds[variable].dims if variable in getattr(ds, "data_vars", ()) else wanted.dims)
    listed = CHANNEL in dims and not set(wanted.dims) <= dims
    array = require(
        ds, anywhere(wanted) if listed else wanted, verb="fit_peaks", whole=[CHANNEL]
    )  # fmt: skip
    if variable == SINOGRAM.name:
        return without_masked(ds, array, verb="fit_peaks")
    return array


def _axis_of(peaks: Any, axis: str | None) -> str | None:
    own = getattr(peaks, "attrs", {}).get("axis")
    if own is not None and axis is not None and own != axis:
        raise OptionError(
            f"fit_peaks was asked for axis {axis!r}, but the table of peaks was found on {own!r}."
        )
    return axis or own


def _noise(
    ds: xr.Dataset, array: xr.DataArray, likelihood: str, variance: str | None
) -> tuple[str, list[xr.DataArray]]:
    """Say what is known of the noise, and return its variance if the dataset has it."""
    if variance == "counts":
        if likelihood != "gaussian":
            raise OptionError("variance='counts' goes with likelihood='gaussian' only.")
        return "counts", []
    if variance is None and likelihood != "weighted":
        return "unknown", []
    name = variance or f"{array.name}_variance"
    if name not in ds:
        raise SchemaError(
            f"fit_peaks(likelihood={likelihood!r}) needs {name!r}, which the dataset does not "
            f"have; for raw counts, whose variance only the model knows, say likelihood='poisson'."
        )
    wanted = Variable(name, (CHANNEL,), "1", name)
    return "given", [require(ds, wanted, verb="fit_peaks", whole=[CHANNEL])]


def _models(
    laid: Sequence[PeakWindow], values: xr.DataArray, background: Background,
    bounds: Mapping[str, Any], start: Mapping[str, Any], ties: Mapping[str, Any], maps: Maps,
) -> list[WindowModel]:  # fmt: skip
    limits = options_by_window(bounds, laid, "bounds", bounds_reader(maps))
    starts = options_by_window(start, laid, "start", maps.value)
    tied = ties_of(ties, laid, str(values.name))
    numbers = {peak: k for k, peak in enumerate(_names(laid))}
    models = []
    for window in laid:
        own, begin, linked = limits[window.name], starts[window.name], tied[window.name]
        for peak, within in window.within.items():
            name = f"{peak}.position"
            if name in linked or not {name, "position"}.isdisjoint({*own, *begin}):
                continue
            # Templates may take two peaks for one: of 400 pairs in noise 5 % were missed, and none
            # from the positions that are expected.
            own[name], begin[name] = within, window.positions[peak]
        decay = {DECAY: EXPONENTIAL} if decays(background) else {}
        model = PeakModel(window.shapes | decay, cut_background(background, window), linked)
        places = tuple(numbers[peak] for peak in window.shapes)
        models.append(WindowModel(window.first, window.last, model, places, own, begin))
    return models


def _names(laid: Sequence[PeakWindow]) -> list[str]:
    return [peak for window in laid for peak in window.shapes]


def _columns(
    laid: Sequence[PeakWindow], models: Sequence[WindowModel], values: xr.DataArray
) -> Columns:
    rows = [count_terms(one.model.background, values[one.first : one.last]) for one in models]
    shapes = [shape for window in laid for shape in window.shapes.values()]
    return columns_for(shapes, len(laid), max(rows))


def _refuse_now(
    laid: Sequence[PeakWindow], given: Mapping[str, Any], beside: int, maps: int
) -> None:
    """Fit nothing, so that options that cannot be are refused here and not on a worker."""
    nothing = np.empty((0, given["axis"].size))
    none = [np.empty((0, given["axis"].size))] * beside + [np.full(1, np.nan)] * maps
    for window, model in zip(laid, given["windows"], strict=True):
        try:
            fit_windows(nothing, *none, **{**given, "windows": [model]})
        except SchemaError as error:
            raise SchemaError(f"window {window.name!r}: {error}") from error


def _plan(
    array: xr.DataArray, given: Mapping[str, Any], beside: int, allowed_mem: int | str | None
) -> None:
    models = given["windows"]
    plan.per_pixel(
        "fit_peaks", sizes_of(array), array.dtype.itemsize * (1 + beside),
        channels=max(one.last - one.first for one in models),
        values=given["columns"].count, block=block_of(array),
        allowed_mem=allowed_memory(allowed_mem),
    )  # fmt: skip


def columns_planned(options: Mapping[str, Any], found: int = 0) -> tuple[int, int]:
    """Peaks and columns of a fit with the options of a recipe, at most.

    ``found`` is how many a table may have that is not known yet.
    """
    windows, peaks = options.get("windows") or {}, options.get("peaks") or {}
    chosen = options.get("shape", "pseudo_voigt")
    shapes = [*chosen.values()] if isinstance(chosen, Mapping) else [chosen]
    count = found
    if is_table(peaks):
        table = as_table(peaks)
        count = table.sizes["peak"]
        shapes += [str(shape) for shape in table["shape"].values] if "shape" in table else []
    elif windows:
        count = sum(len(peaks.get(name, [name])) for name in windows)
    terms = count_terms(options.get("background", 1), [0.0, 1.0])
    columns = columns_for([shape for shape in shapes if shape in SHAPES], 1, terms)
    return count, len(columns.names) * count + (len(windows) or count) * columns.terms


def _peak_maps(
    fitted: xr.DataArray, array: xr.DataArray, values: xr.DataArray,
    laid: Sequence[PeakWindow], given: Mapping[str, Any],
) -> dict[Variable, xr.DataArray]:  # fmt: skip
    data, axis = _units(array), str(values.attrs.get("units", "1"))
    units = {"area": f"{data}*{axis}", "position": axis, "fwhm": axis, "lorentzian_fwhm": axis,
             "gaussian_square": f"({axis})^2"}  # fmt: skip
    if given["likelihood"] == "gaussian":
        units["reduced_chi_square"] = f"({data})^2"
    columns: Columns = given["columns"]
    made = {}
    for name in columns.names:
        about = {"units": units.get(name.removesuffix("_error"), "1"), "axis": str(values.name)}
        image = fitted.isel(column=columns.of(name)).rename(column="peak")
        image = image.assign_coords(peak=_names(laid)).astype(INTEGERS.get(name, fitted.dtype))
        made[VARIABLES[f"peak_{name}"]] = image.assign_attrs(about | _flags(name))
    return made


def _units(array: xr.DataArray) -> str:
    return str(array.attrs.get("units", VARIABLES[str(array.name)].units))


def _flags(name: str) -> dict[str, Any]:
    """CF attributes that say what the numbers of a status, or the bits of a mask, mean."""
    if name == "status":
        return {
            "flag_values": [int(status) for status in FitStatus],
            "flag_meanings": " ".join(status.name.lower() for status in FitStatus),
        }
    if name == "at_bound":
        return {"flag_masks": [1 << bit for bit in range(len(KEPT))],
                "flag_meanings": " ".join(KEPT)}  # fmt: skip
    return {}


def _backgrounds(
    fitted: xr.DataArray, array: xr.DataArray, values: xr.DataArray,
    laid: Sequence[PeakWindow], background: Background, columns: Columns,
) -> dict[Variable, xr.DataArray]:  # fmt: skip
    behind = fitted.isel(column=slice(len(columns.names) * columns.peaks, None))
    found = apply_kernel(
        split_windows, behind, core=["column"],
        out={"window": columns.windows, "term": columns.terms}, windows=columns.windows,
    )  # fmt: skip
    found = found.assign_coords(window=[window.name for window in laid])
    about = {"units": _units(array), "axis": str(values.name), "variable": str(array.name),
             WINDOWS: write_windows(laid, np.asarray(values, dtype=float), background)}  # fmt: skip
    return {PEAK_BACKGROUND: found.assign_attrs(about)}


def split_windows(block: np.ndarray, *, windows: int) -> np.ndarray:
    """Give every window a row of coefficients, (…, column) -> (…, window, term)."""
    return block.reshape(*block.shape[:-1], windows, -1)


def _shown_peaks(laid: Sequence[PeakWindow], values: xr.DataArray) -> dict[str, Any]:
    axis = np.asarray(values, dtype=float)
    return {
        window.name: {"window": (float(axis[window.first]), float(axis[window.last - 1])),
                      **{name: float(at) for name, at in window.positions.items()}}
        for window in laid
    }  # fmt: skip
