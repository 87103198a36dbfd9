"""Bounds, starts and backgrounds as users give them, told apart by window, maps put aside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.apply import is_lazy
from ndtomo_dask.errors import OptionError, SchemaError, nearest
from ndtomo_dask.kernels.fitting.peak_model import Background
from ndtomo_dask.kernels.fitting.peaks import SHAPES
from ndtomo_dask.kernels.fitting.window_fit import Beside, Value
from ndtomo_dask.peaks.windows import PeakWindow
from ndtomo_dask.reference_patterns import patterns_on
from ndtomo_dask.variables import CHANNEL, LEADING, SPECTRAL_AXES


class Maps:
    """The maps that options speak of, to be handed to a kernel beside the data."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array.isel({CHANNEL: 0}, drop=True)
        self.arrays: list[xr.DataArray] = []

    def value(self, given: Any, option: str) -> Value:
        """Return a number, or keep a map and return its place among them."""
        if isinstance(given, xr.DataArray) and (given.ndim or is_lazy(given)):
            self.arrays.append(self._checked(given, option))
            return Beside(len(self.arrays) - 1)
        try:
            return float(given)
        except (TypeError, ValueError):
            raise OptionError(
                f"{option}={given!r} must be a number, or an xarray map of one per pixel."
            ) from None

    def _checked(self, given: xr.DataArray, option: str) -> xr.DataArray:
        own = self._array
        needed = [dim for dim in own.dims if dim not in LEADING]
        strange = [dim for dim in given.dims if dim not in own.dims]
        if strange or (given.ndim and not set(needed) <= set(given.dims)):
            raise SchemaError(
                f"the map {option} has dimensions {given.dims}, but the pixels have {own.dims}."
            )
        for dim in given.dims:
            fits = given.sizes[dim] == own.sizes[dim]
            if fits and dim in given.coords and dim in own.coords:
                fits = np.array_equal(given[dim].values, own[dim].values)
            if not fits:
                raise SchemaError(
                    f"the map {option} and the data do not have the same {dim!r}: interpolate the "
                    f"map to the data first, such as map.interp_like(data)."
                )
        return given.drop_vars(list(given.coords)).drop_attrs()


def options_by_window(
    given: Mapping[str, Any],
    windows: Sequence[PeakWindow],
    option: str,
    read: Callable[[Any, str], Any],
) -> dict[str, dict[str, Any]]:
    """Sort what is given by parameter, or by peak and parameter, into windows."""
    made: dict[str, dict[str, Any]] = {window.name: {} for window in windows}
    for window, name, value in _entries(given, windows, option):
        for key, part in _by_peak(window, name, value):
            made[window.name][key] = read(part, f"{option}[{key!r}]")
    return made


def _entries(
    given: Mapping[str, Any], windows: Sequence[PeakWindow], option: str
) -> Iterator[tuple[PeakWindow, str, Any]]:
    owners = {peak: window for window in windows for peak in window.shapes}
    for name, value in given.items():
        peak, _, parameter = str(name).rpartition(".")
        if isinstance(value, Mapping):
            if name not in owners:
                raise OptionError(f"{option} names peak {name!r}. {nearest(str(name), owners)}")
            for one, part in value.items():
                yield owners[name], f"{name}.{one}", part
        elif peak in owners and name not in owners:
            yield owners[peak], f"{peak}.{parameter}", value
        else:
            for window in _having(str(name), windows, option):
                yield window, str(name), value


def _having(name: str, windows: Sequence[PeakWindow], option: str) -> list[PeakWindow]:
    """Windows with a peak that has a parameter; backgrounds are in all of them."""
    if name.startswith("background."):
        return list(windows)
    own = {
        window.name: {p for shape in window.shapes.values() for p in SHAPES[shape].parameters}
        for window in windows
    }
    having = [window for window in windows if name in own[window.name]]
    if not having:
        known = {parameter for parameters in own.values() for parameter in parameters}
        raise OptionError(f"{option}={name!r} is not a parameter. {nearest(name, known)}")
    return having


def _by_peak(window: PeakWindow, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Take an array along ``peak`` apart: each of the window's peaks has its own."""
    sides = list(value) if isinstance(value, tuple | list) else [value]
    along = [side for side in sides if isinstance(side, xr.DataArray) and "peak" in side.dims]
    if not along:
        yield name, value
        return
    owner, _, parameter = name.rpartition(".")
    for peak in [owner] if owner in window.shapes else window.shapes:
        known = parameter in SHAPES[window.shapes[peak]].parameters
        if known and all(peak in map(str, side.peak.values) for side in along):
            parts = tuple(_of_peak(side, peak) for side in sides)
            yield f"{peak}.{parameter}", parts if isinstance(value, tuple | list) else parts[0]


def _of_peak(side: Any, peak: str) -> Any:
    if not isinstance(side, xr.DataArray) or "peak" not in side.dims:
        return side
    place = [str(name) for name in side.peak.values].index(peak)
    return side.isel(peak=place, drop=True)


def bounds_reader(maps: Maps) -> Callable[[Any, str], tuple[Value, Value]]:
    """Return what reads a pair of bounds, its maps kept in ``maps``."""

    def read(given: Any, option: str) -> tuple[Value, Value]:
        if not isinstance(given, tuple | list | np.ndarray) or len(given) != 2:
            raise OptionError(f"{option}={given!r} must be (lowest, highest).")
        return maps.value(given[0], option), maps.value(given[1], option)

    return read


def background_of(ds: xr.Dataset, given: Any, axis: xr.DataArray) -> tuple[Background, np.ndarray]:
    """Return a background with its spectra on the channels of the data, and these in one table.

    # -> background, (pattern, channel)
    """
    if isinstance(given, xr.DataArray):
        shared = axis.name in given.coords and axis.name in SPECTRAL_AXES
        rows = patterns_on(ds, given, str(axis.name) if shared else None)[0].values
        return rows, rows
    if isinstance(given, list | tuple):
        parts = [background_of(ds, one, axis) for one in given]
        tables = [np.zeros((0, axis.size)), *(table for _, table in parts)]
        return [part for part, _ in parts], np.concatenate(tables)
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise OptionError(
            f"background={given!r} is not known: expected a degree such as 1, 'none', "
            f"'chebyshev:5', 'exponential', or a spectrum as an xarray.DataArray with the axis of "
            f"the data."
        )
    return given, np.zeros((0, axis.size))


def cut_background(background: Background, window: PeakWindow) -> Background:
    """Cut spectra of a background to the channels of a window."""
    if isinstance(background, np.ndarray):
        return np.ascontiguousarray(background[:, window.first : window.last])
    if isinstance(background, list):
        return [cut_background(one, window) for one in background]
    return background


def shown(given: Any) -> Any:
    """Write an option as it can stand in a history."""
    if isinstance(given, xr.DataArray | np.ndarray):
        return f"an array {given.dims if isinstance(given, xr.DataArray) else given.shape}"
    if isinstance(given, Mapping):
        return {str(name): shown(value) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(shown(value) for value in given)
    return given.item() if isinstance(given, np.generic) else given
