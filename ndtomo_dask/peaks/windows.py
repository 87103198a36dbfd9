"""Windows on an axis, and the peaks in them: as a user names them, or as a table has them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.errors import OptionError, SchemaError, check_choice, nearest
from ndtomo_dask.kernels.fitting.peaks import SHAPES

Windows = Mapping[str, Sequence[float]]
SHAPE_NAMES = tuple(name for name in SHAPES if name != "exponential")
LEAST_CHANNELS = 5


@dataclass(frozen=True)
class PeakWindow:
    """The channels of one fit, and its peaks."""

    name: str
    first: int
    last: int
    """The channel behind the window."""
    shapes: dict[str, str]
    """Shape of each peak, by its name."""
    positions: dict[str, float] = field(default_factory=dict)
    """Where each peak is expected, if that is known."""
    within: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Between which positions each peak is to be found, if there are several."""


def lay_windows(
    windows: Windows | None, peaks: Any, values: xr.DataArray, shape: str | Mapping[str, str]
) -> tuple[PeakWindow, ...]:
    """Lay out windows with a peak each, with several by name, or with those of a table.

    Raises
    ------
    OptionError
        There are no windows, or names that do not match.
    SchemaError
        A window or position that the axis does not have.
    """
    if is_table(peaks):
        if windows is not None:
            raise OptionError(
                "fit_peaks takes windows=... or a table of peaks, which has windows of its own."
            )
        laid = _of_table(as_table(peaks), values)
    else:
        laid = _of_names(windows, peaks, values)
    names = [name for window in laid for name in window.shapes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise OptionError(f"peak {twice[0]!r} is named twice; give each peak a name of its own.")
    return tuple(_shaped(window, shape, names) for window in laid)


def read_table(table: xr.Dataset, *, verb: str) -> dict[str, tuple[float, float]]:
    """Windows of a table of peaks by their names, or a sentence on what is wrong with it."""
    for name in ("window_low", "window_high"):
        if name not in table or table[name].dims != ("peak",) or "peak" not in table.coords:
            raise SchemaError(
                f"{verb} needs a table with {name!r} (peak) and names on 'peak', such as "
                f"find_peaks returns."
            )
    names = [str(name) for name in table.peak.values]
    if len(set(names)) < len(names):
        raise SchemaError(f"{verb} needs peaks with different names, but they are {names}.")
    ends = zip(table.window_low.values, table.window_high.values, strict=True)
    windows = {
        name: (float(low), float(high)) for name, (low, high) in zip(names, ends, strict=True)
    }
    for name, (low, high) in windows.items():
        if not low < high:
            raise SchemaError(
                f"the window of peak {name!r} reaches from {low:g} to {high:g}; window_low must be "
                f"less than window_high."
            )
    return windows


def is_table(peaks: Any) -> bool:
    """Tell a table of peaks, of xarray, pandas or lists, from positions by window."""
    listed = isinstance(peaks, Mapping) and isinstance(peaks.get("peak"), list | tuple)
    return listed or isinstance(peaks, xr.Dataset) or hasattr(peaks, "to_xarray")


def as_table(peaks: Any) -> xr.Dataset:
    """Bring a table of xarray, pandas or lists by column to a dataset along ``peak``."""
    if isinstance(peaks, xr.Dataset):
        return peaks
    if isinstance(peaks, Mapping):
        return _of_lists(peaks)
    if "peak" in peaks.columns:
        peaks = peaks.set_index("peak")
    table: xr.Dataset = peaks.rename_axis("peak").to_xarray()
    return table.assign_coords(peak=[str(name) for name in table.peak.values])


def _of_lists(columns: Mapping[str, Sequence[Any]]) -> xr.Dataset:
    count = len(columns["peak"])
    for name, column in columns.items():
        if not isinstance(column, list | tuple) or len(column) != count:
            raise OptionError(
                f"peaks has {count} names, but column {name!r} is {column!r}; a table of peaks "
                f"needs a value of each."
            )
    names = [str(name) for name in columns["peak"]]
    others = {name: ("peak", list(column)) for name, column in columns.items() if name != "peak"}
    return xr.Dataset(others, {"peak": names})


def _of_names(windows: Windows | None, peaks: Any, values: xr.DataArray) -> list[PeakWindow]:
    if not windows:
        raise OptionError(
            "fit_peaks needs a window per peak, such as windows={'Ni 111': (3.05, 3.13)}, or a "
            "table of peaks, such as peaks=find_peaks(ds)."
        )
    named = dict(peaks or {})
    for name, inside in named.items():
        if name not in windows:
            raise OptionError(f"peaks names window {name!r}. {nearest(str(name), windows)}")
        if not isinstance(inside, Mapping) or not inside:
            raise OptionError(
                f"peaks[{name!r}]={inside!r} must have a position by the name of each peak, such "
                f"as {{'a': 3.07, 'b': 3.1}}."
            )
    laid = []
    for name, pair in windows.items():
        first, last = _channels(name, pair, values)
        places = {str(peak): float(at) for peak, at in named.get(name, {name: np.nan}).items()}
        laid.append(_window(str(name), first, last, places, values))
    return laid


def _of_table(table: xr.Dataset, values: xr.DataArray) -> list[PeakWindow]:
    """Share a window among peaks whose own overlap, or touch as the table's do at a valley."""
    pairs = read_table(table, verb="fit_peaks(peaks=...)")
    if "position" not in table:
        raise SchemaError("fit_peaks needs a table with 'position' (peak), such as find_peaks has.")
    places = {str(name): float(at) for name, at in table.position.to_series().items()}
    ends = {name: _channels(name, pair, values, least=1) for name, pair in pairs.items()}
    if "window" in table:
        groups = _named_groups(table)
    else:
        groups = {_group_name(names): names for names in _overlapping(ends)}
    laid = []
    for name, names in groups.items():
        first, last = min(ends[n][0] for n in names), max(ends[n][1] for n in names)
        _check_count(name, last - first, values, "its peaks' windows")
        laid.append(_window(name, first, last, {n: places[n] for n in names}, values))
    chosen = _column(table, "shape")
    return [_with_shapes(window, chosen) for window in laid]


def _overlapping(ends: Mapping[str, tuple[int, int]]) -> list[list[str]]:
    groups: list[list[str]] = []
    reach = -1
    for name in sorted(ends, key=lambda name: ends[name]):
        if groups and ends[name][0] < reach:
            groups[-1].append(name)
        else:
            groups.append([name])
        reach = max(reach, ends[name][1])
    return groups


def _named_groups(table: xr.Dataset) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, window in _column(table, "window").items():
        groups.setdefault(window, []).append(name)
    return groups


def _column(table: xr.Dataset, name: str) -> dict[str, str]:
    if name not in table:
        return {}
    column = table[name].to_series()
    return {str(peak): str(value) for peak, value in column.items() if value == value and value}


def _group_name(names: Sequence[str]) -> str:
    return " + ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]}"


def _window(
    name: str, first: int, last: int, places: Mapping[str, float], values: xr.DataArray
) -> PeakWindow:
    """Set the limits of positions half-way between peaks that share a window."""
    shapes = dict.fromkeys(places, "")
    if len(places) == 1:
        known = {peak: at for peak, at in places.items() if np.isfinite(at)}
        return PeakWindow(name, first, last, shapes, known)
    axis = np.asarray(values[first:last], dtype=np.float64)
    low, high = float(axis.min()), float(axis.max())
    order = sorted(places, key=lambda peak: places[peak])
    for peak in order:
        if not low <= places[peak] <= high:
            raise SchemaError(
                f"peak {peak!r} at {places[peak]:g} lies outside its window {name!r} "
                f"({low:g}, {high:g})."
            )
    for one, other in pairwise(order):
        if places[one] == places[other]:
            raise SchemaError(f"peaks {one!r} and {other!r} are both at {places[one]:g}.")
    edges = [low, *((places[a] + places[b]) / 2 for a, b in pairwise(order)), high]
    within = dict(zip(order, pairwise(edges), strict=True))
    return PeakWindow(name, first, last, shapes, dict(places), within)


def _channels(
    name: str, pair: Sequence[float], values: xr.DataArray, least: int = LEAST_CHANNELS
) -> tuple[int, int]:
    axis = np.asarray(values, dtype=np.float64)
    if np.shape(pair) != (2,):
        raise OptionError(f"window {name!r} is {pair!r}; it must be (first, last) on the axis.")
    low, high = sorted(map(float, pair))
    if not (low <= axis.max() and high >= axis.min()):
        span = f"{axis.min():g} to {axis.max():g} {values.attrs.get('units', '')}".rstrip()
        raise SchemaError(
            f"window {name!r} ({low:g}, {high:g}) lies outside axis {values.name!r}, "
            f"which covers {span}."
        )
    inside = np.flatnonzero((axis >= low) & (axis <= high))
    _check_count(name, inside.size, values, f"({low:g}, {high:g})", least)
    return int(inside[0]), int(inside[-1]) + 1


def _check_count(
    name: str, count: int, values: xr.DataArray, where: str, least: int = LEAST_CHANNELS
) -> None:
    if count < least:
        raise SchemaError(
            f"window {name!r} {where} holds {count} channels of axis {values.name!r}; a fit needs "
            f"at least {LEAST_CHANNELS}. Make it wider."
        )


def _with_shapes(window: PeakWindow, chosen: Mapping[str, str]) -> PeakWindow:
    shapes = {peak: chosen.get(peak, "") for peak in window.shapes}
    return PeakWindow(
        window.name, window.first, window.last, shapes, window.positions, window.within
    )


def _shaped(window: PeakWindow, shape: str | Mapping[str, str], names: Iterable[str]) -> PeakWindow:
    """Give a shape to the peaks that have none of their own."""
    given = shape if isinstance(shape, Mapping) else {}
    for name in given:
        if name not in names:
            raise OptionError(f"shape names peak {name!r}. {nearest(str(name), names)}")
    usual = "pseudo_voigt" if isinstance(shape, Mapping) else shape
    chosen = {peak: given.get(peak, own or usual) for peak, own in window.shapes.items()}
    for one in chosen.values():
        check_choice("shape", one, SHAPE_NAMES)
    return _with_shapes(window, chosen)
