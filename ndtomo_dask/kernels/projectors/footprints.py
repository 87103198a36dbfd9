"""The models: what a pixel gives to a ray that passes its center at a distance, its footprint.

A pixel of value 1 and edge p projects onto u; the sample at u + t gets ``footprint(t)``, which is
symmetric in t. Lengths are in translation steps, θ is the projection angle. ``"pixel"`` and
``"strip"`` conserve mass: every projection of what it sees whole sums to the integral of the image.

* ``"pixel"``: the pixel lies at its center, and the two nearest samples share p² linearly.
* ``"joseph"``: the ray crosses lines of pixels, and interpolates linearly between the two nearest
  of each line (Joseph 1982, IEEE Trans. Med. Imaging 1, 192); ASTRA's ``linear``.
* ``"line"``: the length of the ray inside the pixel (Siddon 1985, Med. Phys. 12, 252); ASTRA's
  ``line``.
* ``"strip"``: the area of the pixel inside a strip one step wide; ASTRA's ``strip``.

Written for the arrays of any library that has the names of the array API standard.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import SchemaError, check_choice
from ndtomo_dask.geometry import ParallelGeometry

Array = Any
Float64 = NDArray[np.float64]

NARROWEST = 1e-9
"""Least slope of a chord, in pixels: a ray along an edge counts half for either neighbor."""
TINY = 1e-200
"""The same for areas, which do not jump: only a guard against division by zero."""


def _pixel(xp: Any, t: Array, _cos: Array, _sin: Array, p: float) -> Array:
    return p * p * xp.clip(1 - xp.abs(t), 0, None)


def _joseph(xp: Any, t: Array, cos: Array, sin: Array, p: float) -> Array:
    steep = xp.maximum(xp.abs(cos), xp.abs(sin))
    return p / steep * xp.clip(1 - xp.abs(t) / (p * steep), 0, None)


def _line(xp: Any, t: Array, cos: Array, sin: Array, p: float) -> Array:
    """Over t, the chord is a trapezoid: its sides fall within ``slope`` around ``middle``."""
    steep, flat = xp.maximum(xp.abs(cos), xp.abs(sin)), xp.minimum(xp.abs(cos), xp.abs(sin))
    middle, slope = p * steep / 2, p * xp.clip(flat, NARROWEST, None)
    return p / steep * xp.clip(0.5 + (middle - xp.abs(t)) / slope, 0, 1)


def _strip(xp: Any, t: Array, cos: Array, sin: Array, p: float) -> Array:
    return _beyond(xp, t - 0.5, cos, sin, p) - _beyond(xp, t + 0.5, cos, sin, p)


def _beyond(xp: Any, t: Array, cos: Array, sin: Array, p: float) -> Array:
    """Area of the pixel beyond a line at t from its center: the trapezoid, integrated."""
    steep, flat = xp.maximum(xp.abs(cos), xp.abs(sin)), xp.minimum(xp.abs(cos), xp.abs(sin))
    middle, slope = p * steep / 2, p * xp.clip(flat, TINY, None)
    share = xp.clip(0.5 + (middle - xp.abs(t)) / slope, 0, 1)
    full = xp.clip(middle - slope / 2 - xp.abs(t), 0, None)
    tail = p / steep * (slope * share * share / 2 + full)
    return xp.where(t < 0, p * p - tail, tail)


MODELS: dict[str, Callable[..., Array]] = {
    "pixel": _pixel,
    "joseph": _joseph,
    "line": _line,
    "strip": _strip,
}


def footprint(
    model: str, t: Array, cos: Array, sin: Array, *, pixel_size: float = 1.0, xp: Any = np
) -> Array:
    """Weight of a pixel in a ray (or strip) at distance ``t`` from the projection of its center.

    Parameters
    ----------
    model
        A name in `MODELS`.
    t, cos, sin
        Distance in translation steps, and cosine and sine of the projection angle; they broadcast.
    pixel_size
        Edge of a pixel, in translation steps.
    xp
        The namespace of the arrays.

    Examples
    --------
    >>> float(footprint("line", np.array(0.0), np.array(0.6), np.array(0.8)))
    1.25
    """
    check_choice("model", model, MODELS)
    return MODELS[model](xp, t, cos, sin, pixel_size)


def reach(model: str, geometry: ParallelGeometry) -> Float64:
    """Distance from the center of a pixel beyond which it gives nothing, at each angle."""
    cos, sin = np.abs(geometry.cos), np.abs(geometry.sin)
    half = geometry.pixel_size * (cos + sin) / 2
    reaches = {
        "pixel": np.ones_like(cos),
        "joseph": geometry.pixel_size * np.maximum(cos, sin),
        "line": half + geometry.pixel_size * NARROWEST,
        "strip": half + 0.5,
    }
    check_choice("model", model, reaches)
    return reaches[model]


def check_gaps(model: str, geometry: ParallelGeometry) -> None:
    """Raise `SchemaError` where pixels are so large that ``"pixel"`` would leave samples empty."""
    if model == "pixel" and geometry.pixel_size > 1:
        raise SchemaError(
            f"pixels of {geometry.pixel_size:g} translation steps leave gaps between the samples "
            f"with model='pixel': pass a pixel_size of at most 1, or another model."
        )
