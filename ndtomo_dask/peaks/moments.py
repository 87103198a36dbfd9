"""Moments of peaks: a quick look without a fit, and what of it adds along a ray."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.coordinates import spectral_axis
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.moments import MOMENTS, apply_weights, moment_weights, origin_of
from ndtomo_dask.schema import anywhere, floating, label, require, variable_named, without_masked
from ndtomo_dask.variables import (
    MOMENT_AREA,
    MOMENT_FIRST,
    MOMENT_POSITION,
    MOMENT_SECOND,
    MOMENT_WIDTH,
    SINOGRAM,
    VARIABLES,
    Variable,
)

LEAST_CHANNELS = 5
ORIGIN, HALF_RANGE = "moment_origin", "moment_range"
"""Coordinates along ``peak``: the middle of a window, and half its width."""


class Sums(NamedTuple):
    """The channels of one peak, and their weights in its moments."""

    inside: slice
    weights: np.ndarray


def peak_moments(
    ds: xr.Dataset,
    *,
    windows: Mapping[str, Sequence[float]],
    axis: str | None = None,
    background: int | None = 1,
    edges: float = 0.1,
    variable: str = "volume",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Sum the area, center and width of each peak over its window, without a fit, lazily.

    A background is drawn between the edges of the window and taken away; what is left is summed.
    The sums ∫y, ∫y (x - x₀) and ∫y (x - x₀)², with x₀ the middle of the window, are linear in the
    data and add along a ray: of a sinogram they can be reconstructed, and `position_from_moments`
    finds the positions and widths of the result. Positions and widths themselves do not add.

    Parameters
    ----------
    ds
        A dataset with ``variable`` in whole spectra (``open_scan(store, layout="spectra")``).
    windows
        First and last axis value of each peak's window, by the peak's name.
    axis
        ``"tth"``, ``"q"``, ``"d"`` or ``"energy"``; may be left out where there is only one.
    background
        Degree of the polynomial that is drawn between the edges, 0 or 1; None for none.
    edges
        Share of the window, on either side, that the background is drawn from. A peak that reaches
        into it comes out too small.
    variable
        ``"volume"``, ``"sinogram"``, or another variable with a channel axis.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``ds`` with ``moment_area``, ``moment_first`` and ``moment_second``, which add, and
        ``moment_position`` and ``moment_width`` (the standard deviation), which do not,
        ``([time, z,] y, x, peak)``. NaN where a sample of the window is, or ``mask`` marks
        one of a sinogram, or there is no area.

    Raises
    ------
    SchemaError
        A window lies outside the axis or holds too few channels, or the spectra are split.
    OptionError
        A background or edges that cannot be.
    """
    if background not in (None, 0, 1) or isinstance(background, bool):
        raise OptionError(f"background={background!r} must be 0, 1 or None.")
    if not 0 < edges <= 0.5:
        raise OptionError(f"edges={edges!r} must be more than 0, and 0.5 at most.")
    array = require(
        ds, variable_named(variable, verb="peak_moments"), verb="peak_moments", whole=["channel"]
    )
    if variable == SINOGRAM.name:
        array = without_masked(ds, array, verb="peak_moments")
    values = spectral_axis(ds, axis, verb="peak_moments")
    places = _places(windows, values)

    sums = [_sums(values, place, background, edges) for place in places]
    widest = max(place.stop - place.start for place in places)
    plan.per_pixel(
        "peak_moments", sizes_of(array), array.dtype.itemsize, channels=widest,
        values=MOMENTS * len(places), block=block_of(array),
        allowed_mem=allowed_memory(allowed_mem),
    )  # fmt: skip

    out = {"peak": len(places), "moment": MOMENTS}
    found = apply_kernel(
        moments_block, array, core=["channel"], out=out, dtype=floating(array.dtype), sums=sums
    )

    parts = [np.asarray(values, dtype=np.float64)[place] for place in places]
    found = found.assign_coords({
        "peak": list(windows),
        ORIGIN: ("peak", [origin_of(part) for part in parts]),
        HALF_RANGE: ("peak", [float(np.ptp(part)) / 2 for part in parts]),
    })  # fmt: skip
    made = _additive(found, array, values)
    shown = {name: tuple(map(float, pair)) for name, pair in windows.items()}
    given = {"axis": values.name, "background": background, "edges": edges, "variable": variable}
    return label(ds, made | _derived(*made.values()), step="peak_moments", windows=shown, **given)


def position_from_moments(ds: xr.Dataset) -> xr.Dataset:
    """Find positions and widths from moments, such as those that were reconstructed, lazily.

    The position is x₀ + ∫y (x - x₀) / ∫y; the width is the standard deviation, 0.42 of the fwhm of
    a Gaussian. Adds ``moment_position`` and ``moment_width``; NaN where the area is not positive,
    or the position lies outside the window.
    """
    parts = [
        require(ds, anywhere(one), verb="position_from_moments")
        for one in (MOMENT_AREA, MOMENT_FIRST, MOMENT_SECOND)
    ]
    if ORIGIN not in parts[0].coords or HALF_RANGE not in parts[0].coords:
        raise SchemaError(
            f"position_from_moments needs the coordinates {ORIGIN!r} and {HALF_RANGE!r}, which "
            f"peak_moments makes: reconstruct its moments by sinogram_from_maps."
        )
    return label(ds, _derived(*parts), step="position_from_moments")


def _places(windows: Mapping[str, Sequence[float]], values: xr.DataArray) -> list[slice]:
    if not windows:
        raise OptionError(
            "peak_moments needs a window per peak, such as windows={'Ni 111': (3.05, 3.13)}."
        )
    axis = np.asarray(values, dtype=np.float64)
    places = []
    for name, pair in windows.items():
        if np.shape(pair) != (2,):
            raise OptionError(f"window {name!r} is {pair!r}; it must be (first, last) on the axis.")
        low, high = sorted(map(float, pair))
        inside = np.flatnonzero((axis >= low) & (axis <= high))
        if inside.size < LEAST_CHANNELS:
            raise SchemaError(
                f"window {name!r} ({low:g}, {high:g}) holds {inside.size} channels of axis "
                f"{values.name!r}, which covers {axis.min():g} to {axis.max():g}; moments need "
                f"{LEAST_CHANNELS}."
            )
        places.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return places


def _sums(values: xr.DataArray, place: slice, background: int | None, edges: float) -> Sums:
    axis = np.asarray(values, dtype=np.float64)[place]
    edge = max(1, round(edges * axis.size))
    return Sums(place, moment_weights(axis, background=background, edge=min(edge, axis.size // 2)))


def moments_block(block: np.ndarray, *, sums: Sequence[Sums]) -> np.ndarray:
    """Moments of every window of every pixel, (…, channel) -> (…, peak, moment)."""
    pixels = block.reshape(-1, block.shape[-1])
    found = [apply_weights(pixels[:, one.inside], one.weights) for one in sums]
    stacked = np.stack(found, axis=1).astype(floating(block.dtype))
    return stacked.reshape(*block.shape[:-1], len(sums), MOMENTS)


def _additive(
    found: xr.DataArray, array: xr.DataArray, values: xr.DataArray
) -> dict[Variable, xr.DataArray]:
    data, axis = array.attrs.get("units", VARIABLES[str(array.name)].units), _unit(values)
    units = (f"{data}*{axis}", f"{data}*({axis})^2", f"{data}*({axis})^3")
    about = {"axis": str(values.name), "axis_units": axis}
    return {
        one: found.isel(moment=power).assign_attrs(about, units=units[power])
        for power, one in enumerate((MOMENT_AREA, MOMENT_FIRST, MOMENT_SECOND))
    }


def _derived(
    area: xr.DataArray, first: xr.DataArray, second: xr.DataArray
) -> dict[Variable, xr.DataArray]:
    """Turn moments into positions and widths."""
    origin, half = (area[name].astype(area.dtype) for name in (ORIGIN, HALF_RANGE))
    total = area.where(area > 0)
    mean = first / total
    mean = mean.where(abs(mean) <= half)
    variance = second / total - mean**2
    width = variance.where(variance > 0) ** 0.5
    about = {"axis": area.attrs.get("axis", "none"), "units": area.attrs.get("axis_units", "1")}
    return {
        MOMENT_POSITION: (mean + origin).assign_attrs(about),
        MOMENT_WIDTH: width.assign_attrs(about),
    }


def _unit(values: xr.DataArray) -> str:
    return str(values.attrs.get("units", "1"))
