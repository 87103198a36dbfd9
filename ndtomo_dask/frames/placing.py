"""Which grid frames lie on: by their motors, by steps that are given, or by their order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.frames.grid import (
    CORE,
    FrameGrid,
    grid_in_order,
    grid_of_bins,
    grid_of_positions,
)
from ndtomo_dask.variables import ANGLE, TRANSLATION, Z

Steps = Sequence[float] | Mapping[str, float] | np.ndarray | None
"""Positions along an axis, or ``{"first": 0, "last": 179, "count": 180}``."""


def grid_of(
    frames: xr.Dataset,
    numbers: np.ndarray,
    angles: Steps,
    translations: Steps,
    fast: str,
    snake: bool,
    repeats: str,
) -> FrameGrid:
    """Lay the frames that have these numbers on a grid; see `integrate` for the options."""
    check_choice("repeats", repeats, ("refuse", "mean"))
    grids = {ANGLE: angles, TRANSLATION: translations}
    given = {name: _steps(name, steps) for name, steps in grids.items() if steps is not None}
    positions = {
        name: np.asarray(frames[name], dtype=float)
        for name in (*CORE, Z)
        if name in frames.coords and frames[name].dims == ("frame",)
    }
    source = str(frames.attrs.get("source", "the frames")).split(":")[0]
    unknown = [name for name in CORE if name not in positions]
    for name in unknown:
        if name not in given:
            raise SchemaError(_no_motor(name, source, str(frames.attrs.get("motors", ""))))
    if unknown:
        known = {name: np.unique(positions[name]) for name in CORE if name in positions}
        return grid_in_order(numbers, known | given, fast=fast, snake=snake)
    if not given:
        return grid_of_positions(numbers, positions, repeats=repeats, where=source)
    others = {name: np.unique(positions[name]) for name in positions if name not in given}
    return grid_of_bins(numbers, positions, others | given)


def _no_motor(name: str, source: str, motors: str) -> str:
    has = f"It has: {motors[:300]}. " if motors else "It has none. "
    return (
        f"{source} has no motor that is known to be the {name}. {has}Name one: "
        f"open_frames(..., {name}='...'), or give the grid: integrate(..., {name}s=...)."
    )


def _steps(name: str, steps: Any) -> np.ndarray:
    if isinstance(steps, Mapping):
        if set(steps) != {"first", "last", "count"}:
            raise OptionError(
                f"{name}s={dict(steps)!r} is not written {{first: 0, last: 179, count: 180}}."
            )
        return np.linspace(steps["first"], steps["last"], int(steps["count"]))
    values = np.atleast_1d(np.asarray(steps, dtype=float))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise OptionError(f"{name}s are positions in a row, not an array of {values.shape}.")
    return values
