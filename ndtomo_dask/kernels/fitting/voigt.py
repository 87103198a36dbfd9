"""The Voigt profile: the convolution of a Gaussian and a Lorentzian, and its derivatives.

It is the real part of the Faddeeva function w(z) (Weideman, SIAM J. Numer. Anal. 31 (1994) 1497,
40 terms; far out its asymptotic series), with w' = -2 z w + 2i/√π. Widths follow from the real
fwhm and the Lorentzian's share of it by a table of the exact relation.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled

Float64 = NDArray[np.float64]

WEIDEMAN_SCALE = 5.3182958969449885
WEIDEMAN = np.array([
    -1.7356980998791865e-15, 1.201674910759281e-15, 1.1519170220749485e-14, -5.231716366324404e-15,
    -7.071088022159408e-14, 1.3778224047664046e-14, 4.5341448909434655e-13, 1.203330952919568e-13,
    -2.90771851041427e-12, -2.7277735625830245e-12, 1.771418567386718e-11, 3.4727420938907015e-11,
    -9.055138860958323e-11, -3.5632350403602684e-10, 2.1085990731251058e-10, 3.017780425551564e-09,
    3.249746582945079e-09, -1.8315616834296834e-08, -6.351773483015411e-08, 1.419864237295343e-08,
    5.912136953029057e-07, 1.4835661133172014e-06, -1.066013898416273e-06, -1.8007447144723407e-05,
    -5.5913092642348794e-05, -3.939363145483805e-05, 0.000439807015986967, 0.002705405633073729,
    0.010048186242783535, 0.02920291647124188, 0.07182361779074328, 0.15504263802479504,
    0.2998943799615006, 0.5266528988277086, 0.8472174576593815, 1.2563815675765133,
    1.7253830848179779, 2.201513794878312, 2.6160541527618597, 2.899624509389705,
])  # fmt: skip
"""Fourier coefficients of exp(-u²)(L² + u²), u = L tan(θ/2), the highest first."""

GAUSSIAN_SQUARE = np.array([
    0.9644553783861952, -0.036790661381063176, -0.0016481014195022766, -0.0007410082286489277,
    -0.0005395936037941724, -0.000298953094394568, -0.00014131850804112594, -6.03523637432666e-05,
    -2.3874934206265527e-05, -8.860815618993832e-06, -3.1205753188521726e-06,
    -1.0663739047003267e-06, -3.7262035579873584e-07, -1.462291763524556e-07,
    -6.983791959234555e-08, -3.952368132601953e-08, -2.405660118165106e-08,
    -1.4642140784369749e-08, -8.63419023744384e-09, -4.8839697481561825e-09,
    -2.635424818568887e-09, -1.3256151902121554e-09, -5.454399278928561e-10,
])  # fmt: skip
"""(Gaussian fwhm / fwhm)² / (1 - fraction), a Chebyshev series over fractions, exact to 1e-9."""
SPAN = 0.99999
"""The last fraction of that series."""
LEAST_SQUARE = 1e-8
"""Of (Gaussian fwhm / fwhm)²: the profile is a Lorentzian by then."""
ROOT_4LN2 = math.sqrt(4.0 * math.log(2.0))
ROOT_PI = math.sqrt(math.pi)
FAR = 250.0
"""|z|² beyond which the asymptotic series is exact to 3e-11."""


@compiled("contract")
def negative_exp(u: float) -> float:
    """Exponential of u <= 0, to 1e-14 absolute; constant below u = -36.

    exp(u) = exp(u/64)^64: a Taylor polynomial and six squarings, which the compiler vectorizes;
    `math.exp` it does not. No rounding by magic constants, so no fast-math flag can undo it. What
    the polynomial leaves out is 64 exp(u) |u/64|^9/9! <= 5e-16.
    """
    v = max(u, -36.0) * 0.015625
    e = 1.0 / 5040.0 + v * (1.0 / 40320.0)
    e = 1.0 / 720.0 + v * e
    e = 1.0 / 120.0 + v * e
    e = 1.0 / 24.0 + v * e
    e = 1.0 / 6.0 + v * e
    e = 0.5 + v * e
    e = 1.0 + v * e
    e = 1.0 + v * e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@compiled()
def chebyshev(series: Float64, u: float) -> tuple[float, float]:
    """Sum a Chebyshev series and its derivative at u (Clenshaw's recurrence)."""
    b1, b2, d1, d2 = 0.0, 0.0, 0.0, 0.0
    for k in range(series.size - 1, 0, -1):
        d1, d2 = 2.0 * b1 + 2.0 * u * d1 - d2, d1
        b1, b2 = series[k] + 2.0 * u * b1 - b2, b1
    return series[0] + u * b1 - b2, b1 + u * d1 - d2


@compiled()
def gaussian_share(fraction: float) -> tuple[float, float]:
    """Return the Gaussian fwhm over the fwhm of a Voigt profile, and half its log-square's slope.

    ``fraction`` is the Lorentzian fwhm over the fwhm.
    """
    value, slope = chebyshev(GAUSSIAN_SQUARE, 2.0 * min(fraction, SPAN) / SPAN - 1.0)
    square = value * (1.0 - fraction)
    slope = 2.0 / SPAN * slope * (1.0 - fraction) - value
    square = max(square, LEAST_SQUARE)
    return math.sqrt(square), 0.5 * slope / square


@compiled("contract")
def write_faddeeva(t: Float64, center: float, scale: float, y: float, rows: Float64) -> None:
    """Write w(z) for z = (t - center)·scale + iy, y >= 0: the last two of four rows.

    # (channel,) -> (4, channel)

    The loop over channels is the inner one, which the compiler vectorizes.
    """
    a, b, real, imaginary = rows[0], rows[1], rows[2], rows[3]
    above, below = WEIDEMAN_SCALE + y, WEIDEMAN_SCALE - y
    for i in range(t.size):
        x = (t[i] - center) * scale
        inverse = 1.0 / (above * above + x * x)
        a[i] = (below * above - x * x) * inverse
        b[i] = x * (below + above) * inverse
        real[i] = WEIDEMAN[0]
        imaginary[i] = 0.0
    for k in range(1, WEIDEMAN.size):
        term = WEIDEMAN[k]
        for i in range(t.size):
            product = real[i] * a[i] - imaginary[i] * b[i] + term
            imaginary[i] = real[i] * b[i] + imaginary[i] * a[i]
            real[i] = product
    for i in range(t.size):
        x = (t[i] - center) * scale
        inverse = 1.0 / (above * above + x * x)
        c, d = above * inverse, x * inverse
        e, f = 2.0 * (c * c - d * d), 4.0 * c * d
        product = real[i] * e - imaginary[i] * f + c / ROOT_PI
        imaginary[i] = real[i] * f + imaginary[i] * e + d / ROOT_PI
        real[i] = product


@compiled("contract")
def far_faddeeva(x: float, y: float) -> tuple[float, float, float, float]:
    """Return Re w, w' and Re (w + z w') for large |z|, without cancellation."""
    size = 1.0 / (x * x + y * y)
    p, r = x * size, -y * size  # 1/z
    q, s = p * p - r * r, 2.0 * p * r  # 1/z²
    square = complex(q, s)
    total = 1.0 + square * (0.5 + square * (0.75 + square * (1.875 + square * 6.5625)))
    slope = square * (1.0 + square * (1.5 + square * (3.75 + square * (13.125 + square * 59.0625))))
    bend = square * (1.0 + square * (3.0 + square * (11.25 + square * 52.5)))
    unit = complex(-r, p) / ROOT_PI  # i/(√π z)
    derivative = -complex(0.0, 1.0 / ROOT_PI) * slope
    return (unit * total).real, derivative.real, derivative.imag, -(unit * bend).real


@compiled("contract")
def subtract_voigt(t: Float64, peak: Float64, residual: Float64, columns: Float64) -> None:
    """Subtract a Voigt peak; columns are by area, position, fwhm and fraction.

    # (channel,), (4,), (channel,) -> columns (4, channel)
    """
    area, position, fwhm = peak[0], peak[1], peak[2]
    fraction = min(max(peak[3], 0.0), 1.0)
    share, share_slope = gaussian_share(fraction)
    scale = ROOT_4LN2 / (share * fwhm)
    unit = scale / ROOT_PI
    y = 0.5 * scale * fraction * fwhm
    write_faddeeva(t, position, scale, y, columns)
    for i in range(t.size):
        u, w, v = (t[i] - position) * scale, columns[2, i], columns[3, i]
        if u * u + y * y > FAR:
            w, d, e, bend = far_faddeeva(u, y)
        else:
            d = -2.0 * (u * w - y * v)
            e = 2.0 / ROOT_PI - 2.0 * (u * v + y * w)
            bend = w + u * d - y * e
        residual[i] -= area * unit * w
        columns[0, i] = unit * w
        columns[1, i] = -area * unit * d * scale
        columns[2, i] = -area * unit * (w + u * d) / fwhm
        columns[3, i] = -area * unit * (share_slope * bend + 0.5 * e * ROOT_4LN2 / share)
