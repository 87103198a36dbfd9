"""Peak shapes with analytic derivatives, polynomial background, and a matched-filter start.

One convention for every shape: ``area`` (the integral over the axis), ``position``, ``fwhm`` (the
true full width at half maximum) and ``fraction`` (Lorentzian share, 0 to 1). With
z = (x - position)/fwhm, L = 1/(1 + 4 z²), G = exp(-4 ln2 z²) and
q = fraction·π/2 + (1 - fraction)·√(π/(4 ln2)), the profile is
area/(fwhm·q) · (fraction·L + (1 - fraction)·G). A model is any number of peaks, four parameters
each in the order of `PARAMETERS`, followed by the coefficients of its background.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Values = NDArray[np.floating]

PARAMETERS = ("area", "position", "fwhm", "fraction")
"""The parameters of a peak, in their order in every parameter vector and bit mask."""

LORENTZIAN_WIDTH = math.pi / 2
"""Area of a Lorentzian of unit height and unit fwhm."""
GAUSSIAN_WIDTH = math.sqrt(math.pi / (4 * math.log(2)))
"""Area of a Gaussian of unit height and unit fwhm."""
LN2 = math.log(2.0)


@dataclass(frozen=True)
class Shape:
    """A peak shape: which of `PARAMETERS` are free, and the fraction it starts from or keeps."""

    free: tuple[str, ...]
    fraction: float


SHAPES = {
    "gaussian": Shape(("area", "position", "fwhm"), 0.0),
    "lorentzian": Shape(("area", "position", "fwhm"), 1.0),
    "pseudo_voigt": Shape(PARAMETERS, 0.5),
}
"""Every shape by its name; a pseudo-Voigt with something fixed is one more line here."""


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


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def negative_exp(u: float) -> float:
    """Exponential of u <= 0, to 1e-14 absolute; constant below u = -36.

    exp(u) = exp(u/64)^64: a Taylor polynomial and six squarings, which the compiler vectorizes;
    `math.exp` it does not. No rounding by magic constants, so no fast-math flag can undo it.
    """
    v = max(u, -36.0) * 0.015625
    e = 1.0 + v * (1.0 / 11.0)
    e = 1.0 + v * (1.0 / 10.0) * e
    e = 1.0 + v * (1.0 / 9.0) * e
    e = 1.0 + v * (1.0 / 8.0) * e
    e = 1.0 + v * (1.0 / 7.0) * e
    e = 1.0 + v * (1.0 / 6.0) * e
    e = 1.0 + v * (1.0 / 5.0) * e
    e = 1.0 + v * 0.25 * e
    e = 1.0 + v * (1.0 / 3.0) * e
    e = 1.0 + v * 0.5 * e
    e = 1.0 + v * e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def subtract_peak(t: Float64, peak: Float64, residual: Float64, columns: Float64) -> None:
    """Subtract one peak from ``residual`` and write its derivative by each of `PARAMETERS`.

    # (channel,), (4,), (channel,) -> columns (4, channel)

    Two loops, because one with all four columns has too many arrays to be vectorized.
    """
    area, position, fwhm, fraction = peak[0], peak[1], peak[2], peak[3]
    q = fraction * LORENTZIAN_WIDTH + (1.0 - fraction) * GAUSSIAN_WIDTH
    unit = 1.0 / (fwhm * q)
    height = area * unit
    slope = 8.0 * height / fwhm
    q_slope = (LORENTZIAN_WIDTH - GAUSSIAN_WIDTH) / q
    by_area, by_position, by_fwhm, by_fraction = columns[0], columns[1], columns[2], columns[3]
    inverse = 1.0 / fwhm
    for i in range(t.size):
        z = (t[i] - position) * inverse
        by_area[i] = 1.0 / (1.0 + 4.0 * z * z)
        by_fraction[i] = negative_exp(-4.0 * LN2 * z * z)
    for i in range(t.size):
        z = (t[i] - position) * inverse
        lorentzian, gaussian = by_area[i], by_fraction[i]
        profile = fraction * lorentzian + (1.0 - fraction) * gaussian
        k = z * slope * (fraction * lorentzian * lorentzian + LN2 * (1.0 - fraction) * gaussian)
        residual[i] -= height * profile
        by_area[i] = unit * profile
        by_position[i] = k
        by_fwhm[i] = z * k - height * profile * inverse
        by_fraction[i] = height * (lorentzian - gaussian - q_slope * profile)


class Templates(NamedTuple):
    """Peaks of unit height, cut to one fwhm either side, among which a fit finds its start."""

    values: Float64
    """All templates, one after the other."""
    offset: NDArray[np.int64]
    """Where each begins in ``values``; one more than there are templates."""
    first: NDArray[np.int64]
    """The channel at which each begins."""
    norm: Float64
    """Length of each once the background is projected out."""
    position: Float64
    fwhm: Float64
    basis: Float64
    """Orthonormal background polynomials. (term, channel)"""


def build_templates(
    t: Float64, terms: int, position: tuple[float, float], fwhm: tuple[float, float]
) -> Templates:
    """Tabulate Gaussians over the bounds of position and fwhm, half a width apart.

    Widths grow by 1.6 from two channels (or the upper bound, if that is less). Templates that the
    background could imitate are left out, unless none remains.

    # t ascending (channel,) -> Templates
    """
    basis = np.linalg.qr(t[:, np.newaxis] ** np.arange(terms))[0].T.reshape(terms, t.size)
    kept: list[tuple[float, float, int, Float64, float]] = []
    spare: list[tuple[float, float, int, Float64, float]] = []
    for width in _widths(fwhm, 2 * float(np.median(np.diff(t)))):
        for center in _centers(position, width):
            first = int(np.searchsorted(t, center - width))
            first = min(first, t.size - 1)
            inside = t[first : max(int(np.searchsorted(t, center + width)), first + 1)]
            values = np.exp(-4 * LN2 * ((inside - center) / width) ** 2)
            total = float(values @ values)
            rest = total - float(((basis[:, first : first + inside.size] @ values) ** 2).sum())
            entry = (center, width, first, values, math.sqrt(max(rest, 1e-6 * total, 1e-300)))
            (kept if rest > 0.05 * total else spare).append(entry)
    center_of, width_of, first_of, values_of, norm_of = zip(*(kept or spare), strict=True)
    return Templates(
        np.concatenate(values_of),
        np.concatenate([[0], np.cumsum([v.size for v in values_of])]).astype(np.int64),
        np.array(first_of, dtype=np.int64),
        np.array(norm_of),
        np.array(center_of),
        np.array(width_of),
        np.ascontiguousarray(basis),
    )


def _widths(bounds: tuple[float, float], least: float) -> Float64:
    low, high = min(max(bounds[0], least), bounds[1]), bounds[1]
    return np.geomspace(low, high, 1 + math.ceil(math.log(high / low) / math.log(1.6)))


def _centers(bounds: tuple[float, float], width: float) -> Float64:
    low, high = bounds
    count = math.ceil(2 * (high - low) / width)
    return np.linspace(low, high, count + 1) if count else np.array([(low + high) / 2])


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def dot(a: Float64, b: Float64) -> float:
    """Inner product, in an order that depends on the length alone."""
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def find_start(
    y: Float64, templates: Templates, rounding: float, scratch: Float64
) -> tuple[int, float, float]:
    """Find the template that stands out most from the background, its height and significance.

    The score is the projection of ``y``, less its background, on the template; the noise is
    1.4826·median|second difference|/√6, or the rms where most second differences are zero (few
    counts), but no less than ``rounding``. Overwrites ``y`` by its rest beside the background.

    # (channel,), scratch (channel,) -> (template, height, significance)
    """
    basis, values, offset = templates.basis, templates.values, templates.offset
    first, norm = templates.first, templates.norm
    for k in range(basis.shape[0]):
        power = basis[k]
        share = dot(y, power)
        for i in range(y.size):
            y[i] -= share * power[i]
    best, score = 0, 0.0
    for k in range(first.size):
        template = values[offset[k] : offset[k + 1]]
        total = dot(y[first[k] : first[k] + template.size], template)
        if total > score * norm[k]:
            best, score = k, total / norm[k]
    height = score / norm[best]
    return best, height, score / max(_noise(y, scratch), rounding)


@njit(nogil=True, cache=True, error_model="numpy")
def _noise(y: Float64, scratch: Float64) -> float:
    count = y.size - 2
    squares = 0.0
    for i in range(count):
        bend = abs(y[i] - 2.0 * y[i + 1] + y[i + 2])
        scratch[i] = bend
        squares += bend * bend
    rms = math.sqrt(squares / (6.0 * count))
    robust = 1.4826 * np.median(scratch[:count]) / math.sqrt(6.0)
    return robust if robust > 1e-6 * rms else rms
