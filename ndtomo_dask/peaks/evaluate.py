"""Spectra of fitted peaks: the model, what it leaves, and each peak by itself."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import (
    allowed_memory,
    apply_kernel,
    block_of,
    is_lazy,
    sizes_of,
)
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.fitting.window_fit import KEPT
from ndtomo_dask.kernels.fitting.window_values import SLAB, Table, WindowValues, evaluate_windows
from ndtomo_dask.peaks.maps import peak_map
from ndtomo_dask.peaks.record import read_windows
from ndtomo_dask.schema import anywhere, floating, label, require
from ndtomo_dask.variables import (
    CHANNEL,
    FITTED_BACKGROUND,
    FITTED_COMPONENT,
    FITTED_MODEL,
    FITTED_RESIDUAL,
    PEAK_BACKGROUND,
    VARIABLES,
    Variable,
)

Part = Literal["model", "residual", "components", "background"]
PARTS = {
    "model": FITTED_MODEL,
    "residual": FITTED_RESIDUAL,
    "components": FITTED_COMPONENT,
    "background": FITTED_BACKGROUND,
}


def evaluate_peaks(
    ds: xr.Dataset,
    parts: Part | Sequence[Part] = "model",
    *,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Evaluate fitted peaks: model, residual, background, or every peak by itself, lazily.

    Everything follows from the maps that `fit_peaks` made, also when they are stored and opened
    again; only the residual needs the data, too.

    Parameters
    ----------
    ds
        What `fit_peaks` returned, with its axis; channels may be left out or be others.
    parts
        ``"model"``: peaks and background. ``"residual"``: the data less the model.
        ``"background"``. ``"components"``: every peak by itself. Or several of these.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``ds`` with ``fitted_model``, ``fitted_residual``, ``fitted_background ([time, z,] y, x,
        channel)`` or ``fitted_component ([time, z,] y, x, peak, channel)``; NaN outside the windows
        and where nothing was fitted.

    Raises
    ------
    SchemaError
        A map or the axis is missing.
    OptionError
        A part that is not known.
    """
    names: list[str] = [parts] if isinstance(parts, str) else list(parts)
    if not names:
        raise OptionError(f"parts={parts!r} names nothing. Known are: {', '.join(PARTS)}.")
    for name in names:
        check_choice("parts", name, PARTS)
    coefficients = require(ds, anywhere(PEAK_BACKGROUND), verb="evaluate_peaks")
    axis = _axis(ds, coefficients)
    windows = read_windows(ds, coefficients, axis)
    rows, table = _rows(ds, coefficients, windows, names)

    made: dict[Variable, xr.DataArray] = {}
    units = {"units": coefficients.attrs.get("units", "1")}
    for name in names:
        part = "model" if name == "residual" else name
        found = _evaluated(rows, axis, windows, table, part, allowed_memory(allowed_mem))
        if name == "residual":
            data = _data(ds, coefficients)
            found = data.astype(floating(data.dtype)) - found
            found = found.transpose(*data.dims)
        made[PARTS[name]] = found.assign_attrs(units)
    return label(ds, made, step="evaluate_peaks", parts=names)


def _axis(ds: xr.Dataset, coefficients: xr.DataArray) -> np.ndarray:
    name = str(coefficients.attrs.get("axis", CHANNEL))
    if CHANNEL not in ds.dims:
        raise SchemaError(
            f"evaluate_peaks needs the axis {name!r} on 'channel', which the dataset does not "
            f"have: keep the data with the maps, or ds.assign_coords({name}=('channel', ...))."
        )
    found = spectral_axis(ds, name if name in ds.coords else None, verb="evaluate_peaks")
    if found.name != name:
        raise SchemaError(f"evaluate_peaks needs axis {name!r}, on which peaks were fitted.")
    return np.asarray(found, dtype=np.float64)


def _data(ds: xr.Dataset, coefficients: xr.DataArray) -> xr.DataArray:
    variable = Variable(str(coefficients.attrs.get("variable", "volume")), (CHANNEL,), "1", "data")
    return require(ds, variable, verb="evaluate_peaks", whole=[CHANNEL])


def _rows(
    ds: xr.Dataset, coefficients: xr.DataArray, windows: Sequence[WindowValues], names: list[str]
) -> tuple[xr.DataArray, Table]:
    """Join the maps of all parameters into one, cut as the data are."""
    maps = {
        name: peak_map(ds, VARIABLES[f"peak_{name}"], verb="evaluate_peaks")
        for name in KEPT if f"peak_{name}" in ds or name in KEPT[:4]
    }  # fmt: skip
    present = tuple(str(name) for name in maps["area"].peak.values)
    missing = [peak for one in windows for peak in one.shapes if peak not in present]
    if missing and set(names) - {"components", "background"}:
        raise SchemaError(
            f"evaluate_peaks needs all peaks of a model, but the maps have no {missing[0]!r}; "
            f"parts='components' does without."
        )
    lead = [dim for dim in maps["area"].dims if dim != "peak"]
    spread = coefficients.transpose(*lead, "window", "term")
    flat = [array.transpose(*lead, "peak").rename(peak="column") for array in maps.values()]
    flat += [
        spread.isel(window=number, drop=True).rename(term="column")
        for number in range(spread.sizes["window"])
    ]
    bare = [array.drop_vars(list(array.coords)).drop_attrs() for array in flat]
    joined = xr.concat(bare, "column")
    return _cut_like(ds, joined), Table(tuple(maps), present, spread.sizes["term"])


def _cut_like(ds: xr.Dataset, rows: xr.DataArray) -> xr.DataArray:
    """Cut maps into blocks of pixels as the data are, where those are lazy."""
    name = ds[PEAK_BACKGROUND.name].attrs.get("variable")
    if name not in ds or not is_lazy(ds[name]):
        return rows
    cut = {dim: sizes for dim, sizes in ds[name].chunksizes.items() if dim in rows.dims}
    return rows.chunk({**cut, "column": -1})


def _evaluated(
    rows: xr.DataArray, axis: np.ndarray, windows: Sequence[WindowValues], table: Table,
    part: str, allowed: int,
) -> xr.DataArray:  # fmt: skip
    sizes = {**sizes_of(rows), CHANNEL: rows.sizes["column"]}
    del sizes["column"]
    block = {**block_of(rows), CHANNEL: sizes[CHANNEL]}
    del block["column"]
    plan.per_pixel(
        f"evaluate_peaks ({part})", sizes, rows.dtype.itemsize, channels=3 * axis.size,
        values=axis.size, slab=SLAB, block=block, allowed_mem=allowed,
    )  # fmt: skip
    given: dict[str, Any] = {"axis": axis, "windows": list(windows), "table": table, "part": part}
    if part != "components":
        out = {CHANNEL: axis.size}
        return apply_kernel(
            evaluate_windows, rows, core=["column"], out=out, dtype=rows.dtype, **given
        )
    # One task per peak: all peaks of a block may be many times the block.
    single = [
        apply_kernel(
            evaluate_windows, rows, core=["column"], out={"peak": 1, CHANNEL: axis.size},
            dtype=rows.dtype, **given, peaks=(peak,),
        )
        for peak in table.peaks
    ]  # fmt: skip
    return xr.concat(single, "peak").assign_coords(peak=list(table.peaks))
