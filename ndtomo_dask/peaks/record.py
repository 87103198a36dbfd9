"""Which windows, shapes and backgrounds a fit had: written as an attribute, and read again."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels.fitting.peak_model import Background
from ndtomo_dask.kernels.fitting.window_values import WindowValues
from ndtomo_dask.peaks.windows import PeakWindow
from ndtomo_dask.variables import CHANNEL, PEAK_BACKGROUND_PATTERN

WINDOWS = "windows"
"""Attribute of ``peak_background``, in JSON."""


def write_windows(windows: Sequence[PeakWindow], axis: np.ndarray, background: Background) -> str:
    """Write what must be known to evaluate fits again: ends of windows, shapes, background."""
    return json.dumps([
        {
            "name": window.name,
            "span": [float(end) for end in np.sort(axis[[window.first, window.last - 1]])],
            "peaks": window.shapes,
            "background": _spelled(background, [0]),
        }
        for window in windows
    ])  # fmt: skip


def _spelled(background: Background, used: list[int]) -> Any:
    """Spell a background, its spectra as places among the stored patterns."""
    if isinstance(background, np.ndarray):
        used[0] += len(background)
        return {"patterns": [used[0] - len(background), used[0]]}
    if isinstance(background, int | str):
        return background
    return [_spelled(one, used) for one in background]


def read_windows(
    ds: xr.Dataset, coefficients: xr.DataArray, axis: np.ndarray
) -> list[WindowValues]:
    """Read the windows of a fit, on the channels that the data have now."""
    if WINDOWS not in coefficients.attrs or "window" not in coefficients.coords:
        raise SchemaError(
            f"evaluate_peaks needs {coefficients.name!r} as fit_peaks made it, with its names and "
            f"its attribute {WINDOWS!r}."
        )
    known = {one["name"]: one for one in json.loads(coefficients.attrs[WINDOWS])}
    chosen = [known[str(name)] for name in coefficients.window.values]
    middles = np.array([sum(one["span"]) / 2 for one in chosen])
    nearest = np.abs(axis[:, np.newaxis] - middles)
    for number, one in enumerate(chosen):
        low, high = one["span"]
        nearest[(axis < low) | (axis > high), number] = np.inf
    owner = nearest.argmin(axis=1)
    windows = []
    for number, one in enumerate(chosen):
        inside = np.flatnonzero(np.isfinite(nearest[:, number]))
        background = _on_channels(ds, one["background"], inside)
        own = owner[inside] == number
        span = (one["span"][0], one["span"][1])
        windows.append(WindowValues(number, inside, own, span, one["peaks"], background))
    return windows


def _on_channels(ds: xr.Dataset, spelled: Any, inside: np.ndarray) -> Background:
    if isinstance(spelled, int | str):
        return spelled
    if isinstance(spelled, list):
        return [_on_channels(ds, one, inside) for one in spelled]
    name = PEAK_BACKGROUND_PATTERN.name
    if name not in ds:
        raise SchemaError(
            f"evaluate_peaks needs {name!r}, the spectra of the background that fit_peaks made; "
            f"keep it with the maps."
        )
    rows = ds[name].transpose("pattern", CHANNEL)[slice(*spelled["patterns"])]
    return np.asarray(rows, dtype=np.float64)[:, inside]
