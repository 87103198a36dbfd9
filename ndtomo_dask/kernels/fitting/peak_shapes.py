"""Peak shapes and their derivatives, compiled: each takes a peak from a residual.

All shapes share one convention (see `kernels.peaks`): ``area`` is the integral, ``fwhm`` the real
full width at half maximum. Every function here has one signature, so that a fit can mix shapes:
``(t, peak, residual, columns)``, with one row of ``columns`` per parameter of the shape.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.voigt import chebyshev, negative_exp, subtract_voigt

Float64 = NDArray[np.float64]

PSEUDO_VOIGT, VOIGT, SPLIT_PSEUDO_VOIGT, PEARSON7 = range(4)
DONIACH_SUNJIC, THOMPSON_COX_HASTINGS, EXPONENTIAL = range(4, 7)

LORENTZIAN_WIDTH = math.pi / 2
"""Area of a Lorentzian of unit height and unit fwhm."""
GAUSSIAN_WIDTH = math.sqrt(math.pi / (4 * math.log(2)))
"""Area of a Gaussian of unit height and unit fwhm."""
LN2 = math.log(2.0)
LEAST_FRACTION = 1e-6
"""Below this a Pearson VII is a Gaussian to its rounding errors."""

DONIACH_SUNJIC_WIDTH = np.array([
    3.631144442627532, 2.175204511353554, 0.70126505263914, 0.1989105931035646,
    0.052293268024406155, 0.013206218424751422, 0.0032511071134686542, 0.0007818871573347944,
    0.00018395246295486195, 4.2529078239475797e-05, 9.706582855747536e-06, 2.1906739305727147e-06,
    4.889145206658295e-07, 1.0800238306588275e-07, 2.366081865463216e-08, 5.147350804951503e-09,
    1.1119608818177215e-09, 2.3812526017610677e-10, 4.8605339782151296e-11,
])  # fmt: skip
"""Its fwhm in units of gamma: a Chebyshev series over asymmetries of 0 to 0.5, exact to 2e-11."""


@compiled("contract")
def subtract_pseudo_voigt(t: Float64, peak: Float64, residual: Float64, columns: Float64) -> None:
    """Subtract a pseudo-Voigt peak; columns are by area, position, fwhm and fraction.

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


@compiled("contract")
def subtract_split_pseudo_voigt(
    t: Float64, peak: Float64, residual: Float64, columns: Float64
) -> None:
    """Subtract two half pseudo-Voigts; columns are by area, position, fwhm, fraction, asymmetry.

    The half widths are fwhm/2·(1 - asymmetry) below the position and fwhm/2·(1 + asymmetry) above.
    """
    area, position, fwhm, fraction, asymmetry = peak[0], peak[1], peak[2], peak[3], peak[4]
    q = fraction * LORENTZIAN_WIDTH + (1.0 - fraction) * GAUSSIAN_WIDTH
    unit, inverse = 1.0 / (fwhm * q), 1.0 / fwhm
    height = area * unit
    q_slope = (LORENTZIAN_WIDTH - GAUSSIAN_WIDTH) / q
    below, above = 1.0 / (1.0 - asymmetry), 1.0 / (1.0 + asymmetry)
    by_area, by_position, by_fwhm = columns[0], columns[1], columns[2]
    by_fraction, by_asymmetry = columns[3], columns[4]
    for i in range(t.size):
        u = (t[i] - position) * inverse
        z = u * (above if u > 0.0 else below)
        by_area[i] = 1.0 / (1.0 + 4.0 * z * z)
        by_fraction[i] = negative_exp(-4.0 * LN2 * z * z)
    for i in range(t.size):
        u = (t[i] - position) * inverse
        side = above if u > 0.0 else -below
        z = abs(side) * u
        lorentzian, gaussian = by_area[i], by_fraction[i]
        profile = fraction * lorentzian + (1.0 - fraction) * gaussian
        k = fraction * lorentzian * lorentzian + LN2 * (1.0 - fraction) * gaussian
        k *= 8.0 * height * z
        residual[i] -= height * profile
        by_area[i] = unit * profile
        by_position[i] = k * abs(side) * inverse
        by_fwhm[i] = (z * k - height * profile) * inverse
        by_fraction[i] = height * (lorentzian - gaussian - q_slope * profile)
        by_asymmetry[i] = k * z * side


@compiled()
def pearson7_width(fraction: float) -> tuple[float, float]:
    """Return the area of a Pearson VII of unit height and fwhm, and its logarithmic derivative.

    √π Γ(m - 1/2) / (2 Γ(m) √(2^(1/m) - 1)) with m = 1/fraction. The ratio of Gamma functions is
    moved by its recurrence to where an asymptotic series in 1/(m - 3/4)² is exact.
    """
    m = 1.0 / fraction
    logarithm, slope = 0.0, 0.0
    while m < 16.0:
        logarithm += math.log(m / (m - 0.5))
        slope += 1.0 / m - 1.0 / (m - 0.5)
        m += 1.0
    z = m - 0.75
    r = 1.0 / (z * z)
    logarithm -= 0.5 * math.log(z)
    logarithm -= r * (1 / 64 - r * (5 / 2048 - r * (61 / 49152 - r * 1385 / 1048576)))
    slope -= 0.5 / z
    slope += r / z * (1 / 32 - r * (5 / 512 - r * (61 / 8192 - r * 1385 / 131072)))
    power = math.expm1(fraction * LN2)
    area = 0.5 * math.sqrt(math.pi / power) * math.exp(logarithm)
    return area, -slope / fraction**2 - 0.5 * LN2 * (power + 1.0) / power


@compiled("contract")
def subtract_pearson7(t: Float64, peak: Float64, residual: Float64, columns: Float64) -> None:
    """Subtract a Pearson VII peak of exponent 1/fraction; columns as of a pseudo-Voigt."""
    area, position, fwhm, fraction = peak[0], peak[1], peak[2], max(peak[3], LEAST_FRACTION)
    q, q_slope = pearson7_width(fraction)
    unit, inverse, exponent = 1.0 / (fwhm * q), 1.0 / fwhm, 1.0 / fraction
    power = math.expm1(fraction * LN2)
    growth = LN2 * (power + 1.0)
    for i in range(t.size):
        z = (t[i] - position) * inverse
        s = 4.0 * z * z
        base = 1.0 / (1.0 + s * power)
        logarithm = math.log1p(s * power)
        share = unit * math.exp(-exponent * logarithm)
        value = area * share
        residual[i] -= value
        columns[0, i] = share
        columns[1, i] = value * 8.0 * z * power * exponent * base * inverse
        columns[2, i] = z * columns[1, i] - value * inverse
        columns[3, i] = value * (exponent * (exponent * logarithm - s * growth * base) - q_slope)


@compiled("contract")
def subtract_doniach_sunjic(t: Float64, peak: Float64, residual: Float64, columns: Float64) -> None:
    """Subtract a Doniach-Šunjić peak; columns are by area, position, fwhm and asymmetry.

    cos(πα/2 + (1 - α) φ) · cos(φ)^(1 - α), with φ = arctan T and T linear in x, so that the maximum
    is at the position and the width is the fwhm (Doniach & Šunjić, J. Phys. C 3 (1970) 285). The
    tail is at larger x where the asymmetry α is positive.
    """
    area, position, fwhm, asymmetry = peak[0], peak[1], peak[2], peak[3]
    turn = -1.0 if asymmetry >= 0.0 else 1.0
    alpha = min(abs(asymmetry), 0.5)
    s = 1.0 - alpha
    width, widening = chebyshev(DONIACH_SUNJIC_WIDTH, 4.0 * alpha - 1.0)
    widening *= 4.0
    top = -0.5 * math.pi * alpha / (1.0 + s)
    top_slope = -math.pi / (1.0 + s) ** 2
    cosine, tangent = math.cos(top), math.tan(top)
    shift_slope = top_slope / (cosine * cosine)
    height_slope = -math.log(cosine) - (1.0 + s) * tangent * top_slope
    unit = 2.0 / (math.pi * fwhm * cosine ** (1.0 + s))
    for i in range(t.size):
        v = turn * (t[i] - position) / fwhm
        slope = width * v + tangent
        phi, logarithm = math.atan(slope), -0.5 * math.log1p(slope * slope)
        envelope = unit * math.exp(s * logarithm)
        angle = 0.5 * math.pi * alpha + s * phi
        share = envelope * math.cos(angle)
        by_slope = -area * s * envelope * math.exp(logarithm) * math.sin(angle + phi)
        by_alpha = -area * (0.5 * math.pi - phi) * envelope * math.sin(angle)
        value = area * share
        by_alpha -= value * (logarithm + height_slope)
        by_alpha += by_slope * (widening * v + shift_slope)
        residual[i] -= value
        columns[0, i] = share
        columns[1, i] = -turn * by_slope * width / fwhm
        columns[2, i] = -(by_slope * width * v + value) / fwhm
        columns[3, i] = -turn * by_alpha


@compiled()
def thompson_cox_hastings(square: float, lorentzian: float) -> tuple[float, ...]:
    """Return fwhm and fraction of the pseudo-Voigt for a Voigt's two widths, and derivatives.

    Thompson, Cox & Hastings, J. Appl. Cryst. 20 (1987) 79, from the square of the Gaussian fwhm
    and the Lorentzian fwhm. -> fwhm, fraction, fwhm by square and by width, fraction by both
    """
    g, w = math.sqrt(max(square, 1e-12 * lorentzian * lorentzian, 1e-300)), max(lorentzian, 0.0)
    f5 = g**5 + w * (2.69269 * g**4 + w * (2.42843 * g**3 + w * (4.47163 * g * g + w * (
        0.07842 * g + w))))  # fmt: skip
    f = f5**0.2
    by_g = 5 * g**4 + w * (
        10.77076 * g**3 + w * (7.28529 * g * g + w * (8.94326 * g + w * 0.07842))
    )
    by_w = 2.69269 * g**4 + w * (
        4.85686 * g**3 + w * (13.41489 * g * g + w * (0.31368 * g + 5 * w))
    )
    by_square, by_width = by_g / (10.0 * f**4 * g), by_w / (5.0 * f**4)
    r = w / f
    share = r * (1.36603 - r * (0.47719 - r * 0.11116))  # of the area, where ours is of the height
    total = share * GAUSSIAN_WIDTH + (1.0 - share) * LORENTZIAN_WIDTH
    fraction = share * GAUSSIAN_WIDTH / total
    slope = (1.36603 - r * (0.95438 - r * 0.33348)) / f
    slope *= GAUSSIAN_WIDTH * LORENTZIAN_WIDTH / (total * total)
    return f, fraction, by_square, by_width, -slope * r * by_square, slope * (1.0 - r * by_width)


@compiled("contract")
def subtract_thompson_cox_hastings(
    t: Float64, peak: Float64, residual: Float64, columns: Float64
) -> None:
    """Subtract that pseudo-Voigt; columns are by area, position, squared Gaussian width, width."""
    fwhm, fraction, f_square, f_width, e_square, e_width = thompson_cox_hastings(peak[2], peak[3])
    square, lorentzian = peak[2], peak[3]
    peak[2], peak[3] = fwhm, fraction
    subtract_pseudo_voigt(t, peak, residual, columns)
    peak[2], peak[3] = square, lorentzian
    for i in range(t.size):
        by_fwhm, by_fraction = columns[2, i], columns[3, i]
        columns[2, i] = f_square * by_fwhm + e_square * by_fraction
        columns[3, i] = f_width * by_fwhm + e_width * by_fraction


@compiled("contract")
def subtract_exponential(t: Float64, peak: Float64, residual: Float64, columns: Float64) -> None:
    """Subtract a decay, amplitude·exp(-decay·t); columns are by amplitude and decay."""
    for i in range(t.size):
        share = math.exp(-peak[1] * t[i])
        residual[i] -= peak[0] * share
        columns[0, i] = share
        columns[1, i] = -peak[0] * share * t[i]


@compiled()
def subtract_peak(
    code: int, t: Float64, peak: Float64, residual: Float64, columns: Float64
) -> None:
    """Subtract one peak of the shape ``code`` and write its derivatives."""
    if code == PSEUDO_VOIGT:
        subtract_pseudo_voigt(t, peak, residual, columns)
    elif code == VOIGT:
        subtract_voigt(t, peak, residual, columns)
    elif code == SPLIT_PSEUDO_VOIGT:
        subtract_split_pseudo_voigt(t, peak, residual, columns)
    elif code == PEARSON7:
        subtract_pearson7(t, peak, residual, columns)
    elif code == DONIACH_SUNJIC:
        subtract_doniach_sunjic(t, peak, residual, columns)
    elif code == THOMPSON_COX_HASTINGS:
        subtract_thompson_cox_hastings(t, peak, residual, columns)
    else:
        subtract_exponential(t, peak, residual, columns)
