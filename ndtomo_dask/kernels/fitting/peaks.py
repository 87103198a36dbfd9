"""Peak shapes by name, their parameters and values, and the axis that fits work on.

One convention for every shape: ``area`` (the integral over the axis), ``position``, ``fwhm`` (the
true full width at half maximum), ``fraction`` (Lorentzian share, 0 to 1) and ``asymmetry``. With
z = (x - position)/fwhm, L = 1/(1 + 4 z²), G = exp(-4 ln2 z²) and
q = fraction·π/2 + (1 - fraction)·√(π/(4 ln2)), a pseudo-Voigt is
area/(fwhm·q) · (fraction·L + (1 - fraction)·G). docs/explanation/peak-fitting.md has the others.
"""

from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.peak_shapes import (
    DONIACH_SUNJIC,
    EXPONENTIAL,
    GAUSSIAN_WIDTH,
    LN2,
    LORENTZIAN_WIDTH,
    PEARSON7,
    PSEUDO_VOIGT,
    SPLIT_PSEUDO_VOIGT,
    THOMPSON_COX_HASTINGS,
    VOIGT,
    subtract_peak,
)

Float64 = NDArray[np.float64]
Values = NDArray[np.floating]

PARAMETERS = ("area", "position", "fwhm", "fraction")
"""The parameters of most peaks, in their order in every parameter vector."""
SKEWED = (*PARAMETERS, "asymmetry")


@dataclass(frozen=True)
class Shape:
    """A peak shape: its code, its parameters, and what is known of those without a unit."""

    code: int
    parameters: tuple[str, ...] = PARAMETERS
    limits: MappingProxyType[str, tuple[float, float]] = field(
        default_factory=lambda: MappingProxyType({"fraction": (0.0, 1.0)})
    )
    """Lowest and highest value by parameter; equal values fix it."""
    start: MappingProxyType[str, float] = field(
        default_factory=lambda: MappingProxyType({"fraction": 0.5})
    )

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the parameters that a fit varies."""
        fixed = {name for name, (low, high) in self.limits.items() if low == high}
        return tuple(name for name in self.parameters if name not in fixed)


def _fixed_fraction(fraction: float) -> Shape:
    limits = MappingProxyType({"fraction": (fraction, fraction)})
    return Shape(PSEUDO_VOIGT, PARAMETERS, limits, MappingProxyType({"fraction": fraction}))


SHAPES = {
    "gaussian": _fixed_fraction(0.0),
    "lorentzian": _fixed_fraction(1.0),
    "pseudo_voigt": Shape(PSEUDO_VOIGT),
    "voigt": Shape(VOIGT),
    "split_pseudo_voigt": Shape(
        SPLIT_PSEUDO_VOIGT,
        SKEWED,
        MappingProxyType({"fraction": (0.0, 1.0), "asymmetry": (-0.9, 0.9)}),
        MappingProxyType({"fraction": 0.5, "asymmetry": 0.0}),
    ),
    "pearson7": Shape(PEARSON7),
    "doniach_sunjic": Shape(
        DONIACH_SUNJIC,
        ("area", "position", "fwhm", "asymmetry"),
        MappingProxyType({"asymmetry": (0.0, 0.5)}),
        MappingProxyType({"asymmetry": 0.1}),
    ),
    "thompson_cox_hastings": Shape(
        THOMPSON_COX_HASTINGS,
        ("area", "position", "gaussian_square", "lorentzian_fwhm"),
        MappingProxyType({}),
        MappingProxyType({}),
    ),
    # not a peak, but what peaks often stand on; from the middle of the window
    "exponential": Shape(
        EXPONENTIAL,
        ("amplitude", "decay"),
        MappingProxyType({}),
        MappingProxyType({"decay": 1.0}),
    ),
}
"""Every shape by its name; a pseudo-Voigt with something fixed is one more line here."""

SINGLE = tuple(name for name, shape in SHAPES.items() if "fwhm" in shape.parameters)
"""Shapes that can be fitted alone, and have a fwhm of their own."""


def evaluate_peak(
    x: ArrayLike, *, area: ArrayLike, position: ArrayLike, fwhm: ArrayLike, fraction: ArrayLike
) -> Float64:
    """Evaluate a pseudo-Voigt peak of the given area; all arguments broadcast.

    The law is that of this module's head: fraction 0 is a Gaussian, 1 a Lorentzian.
    ``position`` and ``fwhm`` are in units of ``x``, ``area`` in units of the result times ``x``.

    >>> x = np.linspace(-10, 10, 2001)
    >>> y = evaluate_peak(x, area=3.0, position=0.5, fwhm=0.8, fraction=0.0)
    >>> round(float(np.trapezoid(y, x)), 6)
    3.0
    """
    width = np.asarray(fwhm, dtype=np.float64)
    share = np.asarray(fraction, dtype=np.float64)
    z2 = ((np.asarray(x, dtype=np.float64) - np.asarray(position)) / width) ** 2
    q = share * LORENTZIAN_WIDTH + (1 - share) * GAUSSIAN_WIDTH
    profile = share / (1 + 4 * z2) + (1 - share) * np.exp(-4 * LN2 * z2)
    return np.asarray(np.asarray(area) / (width * q) * profile)


def evaluate_shape(shape: str, x: ArrayLike, parameters: ArrayLike) -> Float64:
    """Evaluate peaks of any shape, their parameters in the order of ``SHAPES[shape].parameters``.

    # (channel,), (..., parameter) -> (..., channel)

    >>> x = np.linspace(-10, 10, 2001)
    >>> y = evaluate_shape("voigt", x, [3.0, 0.5, 0.8, 0.2])
    >>> bool(np.isclose(y.max() / 2, np.interp(0.5 + 0.4, x, y)))
    True
    """
    rows = np.asarray(parameters, dtype=np.float64)
    axis = np.ascontiguousarray(x, dtype=np.float64)
    flat = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]))
    values = np.zeros((len(flat), axis.size))
    _add_peaks(SHAPES[shape].code, axis, flat, values)
    return values.reshape(*rows.shape[:-1], axis.size)


@compiled(allocates=True)
def _add_peaks(code: int, t: Float64, parameters: Float64, values: Float64) -> None:
    columns = np.empty((parameters.shape[1], t.size))
    peak = np.empty(parameters.shape[1])
    for row in range(values.shape[0]):
        for k in range(peak.size):
            peak[k] = parameters[row, k]
        subtract_peak(code, t, peak, values[row], columns)
        for i in range(t.size):
            values[row, i] = -values[row, i]


def scale_axis(axis: ArrayLike) -> tuple[Float64, float, float]:
    """Center and scale an axis to t = (axis - center)/half_range, from -1 to 1.

    Backgrounds are polynomials in t, so that their terms are nearly orthogonal. Returns t, center
    and half_range.

    >>> scale_axis([2.0, 3.0, 6.0])
    (array([-1. , -0.5,  1. ]), 4.0, 2.0)
    """
    x = np.asarray(axis, dtype=np.float64)
    low, high = float(x.min()), float(x.max())
    center, half_range = (low + high) / 2, (high - low) / 2
    return (x - center) / half_range, center, half_range


def evaluate_background(axis: ArrayLike, background: ArrayLike) -> Float64:
    """Evaluate backgrounds Σ b_k t^k over a whole fitted axis, with t from `scale_axis`.

    # (channel,), (..., term) -> (..., channel)

    >>> evaluate_background([0.0, 1.0, 2.0], [5.0, 2.0])
    array([3., 5., 7.])
    """
    coefficients = np.asarray(background, dtype=np.float64)
    t = scale_axis(axis)[0]
    return np.asarray(coefficients @ t ** np.arange(coefficients.shape[-1])[:, np.newaxis])
