"""Pseudo-Voigts on a background for several spectra at once, one in each lane of vector units.

What comes out of a lane must not depend on what stands in the others: every loop over lanes is
over all of them, element by element, and sums go over channels, in their order. Arrays are flat,
with lanes last: only then does the compiler see that rows do not overlap.
"""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.peak_shapes import GAUSSIAN_WIDTH, LN2, LORENTZIAN_WIDTH
from ndtomo_dask.kernels.fitting.voigt import negative_exp

Float64 = NDArray[np.float64]

LANES = 64
"""Spectra at once: a multiple of what any vector unit holds, so that no lane is done apart."""
BLOCK = 4
"""Channels of which derivatives are kept at a time: they stay in the nearest cache."""
ROW = BLOCK * LANES
PEAK = 4
"""Parameters of a peak."""
FACTORS = 7 * LANES
"""What a peak is worked out with, besides the channel."""


@compiled(inline=True)
def entry(a: int, b: int) -> int:
    """Place of the lanes of row a, column b <= a, of a triangular matrix."""
    return (a * (a + 1) // 2 + b) * LANES


@compiled("contract")
def prepare_peak(peak: Float64, factors: Float64) -> None:
    """Work out what does not depend on the channel.

    # (parameter, lane) -> (factor, lane)
    """
    for lane in range(LANES):
        area, fraction = peak[lane], peak[3 * LANES + lane]
        inverse = 1.0 / peak[2 * LANES + lane]
        q = 1.0 / (fraction * LORENTZIAN_WIDTH + (1.0 - fraction) * GAUSSIAN_WIDTH)
        unit = inverse * q
        factors[lane] = peak[LANES + lane]
        factors[LANES + lane] = inverse
        factors[2 * LANES + lane] = fraction
        factors[3 * LANES + lane] = unit
        factors[4 * LANES + lane] = area * unit
        factors[5 * LANES + lane] = 8.0 * area * unit * inverse
        factors[6 * LANES + lane] = (LORENTZIAN_WIDTH - GAUSSIAN_WIDTH) * q


@compiled("contract")
def subtract_peak_lanes(t: Float64, factors: Float64, residual: Float64, columns: Float64) -> None:
    """Subtract a pseudo-Voigt; columns are by area, position, fwhm and fraction.

    # (channel,), (factor, lane), (channel, lane) -> columns (4, channel, lane)
    """
    for i in range(BLOCK):
        x = t[i]
        for lane in range(LANES):
            inverse, fraction = factors[LANES + lane], factors[2 * LANES + lane]
            unit, height = factors[3 * LANES + lane], factors[4 * LANES + lane]
            z = (x - factors[lane]) * inverse
            lorentzian = 1.0 / (1.0 + 4.0 * z * z)
            gaussian = negative_exp(-4.0 * LN2 * z * z)
            share = fraction * lorentzian
            rest = gaussian - fraction * gaussian
            profile = share + rest
            slope = z * factors[5 * LANES + lane] * (share * lorentzian + LN2 * rest)
            value = height * profile
            place = i * LANES + lane
            residual[place] -= value
            columns[place] = unit * profile
            columns[ROW + place] = slope
            columns[2 * ROW + place] = z * slope - value * inverse
            columns[3 * ROW + place] = height * (
                lorentzian - gaussian - factors[6 * LANES + lane] * profile
            )


@compiled("contract")
def subtract_terms(first: Float64, second: Float64, amounts: Float64, residual: Float64) -> None:
    """Subtract two terms of the background.

    # (channel,), (channel,), (2, lane) -> residual (channel, lane)
    """
    for i in range(first.size):
        one, two = first[i], second[i]
        for lane in range(LANES):
            residual[i * LANES + lane] -= one * amounts[lane] + two * amounts[LANES + lane]


@compiled("contract")
def multiply_pairs_lanes(left: Float64, above: Float64, upper: Float64, lower: Float64) -> None:
    """Add the products of two rows of derivatives with two others.

    # (2, channel, lane), (2, channel, lane) -> upper (2, lane), lower (2, lane)
    """
    for i in range(0, ROW, 4 * LANES):
        for lane in range(LANES):
            a, b = upper[lane], upper[LANES + lane]
            c, d = lower[lane], lower[LANES + lane]
            j = i + lane
            p, q, r, s = left[j], left[ROW + j], above[j], above[ROW + j]
            a, b, c, d = a + p * r, b + p * s, c + q * r, d + q * s
            j += LANES
            p, q, r, s = left[j], left[ROW + j], above[j], above[ROW + j]
            a, b, c, d = a + p * r, b + p * s, c + q * r, d + q * s
            j += LANES
            p, q, r, s = left[j], left[ROW + j], above[j], above[ROW + j]
            a, b, c, d = a + p * r, b + p * s, c + q * r, d + q * s
            j += LANES
            p, q, r, s = left[j], left[ROW + j], above[j], above[ROW + j]
            a, b, c, d = a + p * r, b + p * s, c + q * r, d + q * s
            upper[lane], upper[LANES + lane] = a, b
            lower[lane], lower[LANES + lane] = c, d


@compiled("contract")
def square_pair(left: Float64, upper: Float64, lower: Float64) -> None:
    """Add the products of two rows of derivatives with themselves and with each other.

    # (2, channel, lane) -> upper (lane,), lower (2, lane)
    """
    for i in range(0, ROW, 4 * LANES):
        for lane in range(LANES):
            j = i + lane
            p, q = left[j], left[LANES + j]
            r, w = left[2 * LANES + j], left[3 * LANES + j]
            j += ROW
            e, f = left[j], left[LANES + j]
            g, h = left[2 * LANES + j], left[3 * LANES + j]
            upper[lane] += p * p + q * q + r * r + w * w
            lower[lane] += p * e + q * f + r * g + w * h
            lower[LANES + lane] += e * e + f * f + g * g + h * h


@compiled("contract")
def multiply_terms(
    left: Float64, first: Float64, second: Float64, upper: Float64, lower: Float64
) -> None:
    """Add the products of two rows of derivatives with two terms of the background.

    # (2, channel, lane), (channel,), (channel,) -> upper (2, lane), lower (2, lane)
    """
    for k in range(0, BLOCK, 4):
        e, f, g, h = first[k], first[k + 1], first[k + 2], first[k + 3]
        s, t, u, v = second[k], second[k + 1], second[k + 2], second[k + 3]
        i = k * LANES
        for lane in range(LANES):
            j = i + lane
            p, q = left[j], left[LANES + j]
            r, w = left[2 * LANES + j], left[3 * LANES + j]
            upper[lane] += e * p + f * q + g * r + h * w
            lower[lane] += s * p + t * q + u * r + v * w
            p, q = left[ROW + j], left[ROW + LANES + j]
            r, w = left[ROW + 2 * LANES + j], left[ROW + 3 * LANES + j]
            upper[LANES + lane] += e * p + f * q + g * r + h * w
            lower[LANES + lane] += s * p + t * q + u * r + v * w


@compiled("contract")
def multiply_residual(residual: Float64, left: Float64, out: Float64) -> None:
    """Add the products of the residual with two rows of derivatives, or itself twice.

    # (channel, lane), (2, channel, lane) -> out (2, lane)
    """
    for i in range(0, ROW, 4 * LANES):
        for lane in range(LANES):
            j = i + lane
            p, q = residual[j], residual[LANES + j]
            r, w = residual[2 * LANES + j], residual[3 * LANES + j]
            out[lane] += (
                p * left[j] + q * left[LANES + j]
                + r * left[2 * LANES + j] + w * left[3 * LANES + j]
            )  # fmt: skip
            j += ROW
            out[LANES + lane] += (
                p * left[j] + q * left[LANES + j]
                + r * left[2 * LANES + j] + w * left[3 * LANES + j]
            )  # fmt: skip


@compiled("contract")
def square_residual(residual: Float64, out: Float64) -> None:
    """Add up the squares of the residual, (channel, lane) -> (lane,)."""
    for i in range(0, ROW, 4 * LANES):
        for lane in range(LANES):
            j = i + lane
            p, q = residual[j], residual[LANES + j]
            r, w = residual[2 * LANES + j], residual[3 * LANES + j]
            out[lane] += p * p + q * q + r * r + w * w


@compiled("contract")
def multiply_residual_terms(
    residual: Float64, first: Float64, second: Float64, out: Float64
) -> None:
    """Add the products of the residual with two terms of the background.

    # (channel, lane), (channel,), (channel,) -> out (2, lane)
    """
    for k in range(0, BLOCK, 4):
        e, f, g, h = first[k], first[k + 1], first[k + 2], first[k + 3]
        s, t, u, v = second[k], second[k + 1], second[k + 2], second[k + 3]
        i = k * LANES
        for lane in range(LANES):
            j = i + lane
            p, q = residual[j], residual[LANES + j]
            r, w = residual[2 * LANES + j], residual[3 * LANES + j]
            out[lane] += e * p + f * q + g * r + h * w
            out[LANES + lane] += s * p + t * q + u * r + v * w


@compiled()
def clear_rows(rows: Float64, count: int) -> None:
    """Clear what stands behind the last channel."""
    for row in range(0, rows.size, ROW):
        for i in range(row + count * LANES, row + ROW):
            rows[i] = 0.0


@compiled()
def sweep_lanes(
    t: Float64, n: int, background: Float64, peaks: int, current: Float64, y: Float64,
    rows: Float64, factors: Float64, normal: Float64,
) -> None:  # fmt: skip
    """Sum the products of all derivatives and residuals over ``n`` channels.

    ``t`` and ``y`` are filled up to whole blocks, ``background`` to an even number of terms.
    The products of the terms of the background with each other are not touched.
    # (channel,), (term, channel), (parameter, lane), (channel, lane) -> normal (entry, lane)
    """
    terms, first = background.shape[0], PEAK * peaks
    last = first + terms
    residual = rows[first * ROW : (first + 1) * ROW]
    for k in range(peaks):
        prepare_peak(current[PEAK * k * LANES :], factors[k * FACTORS :])
    for i in range(entry(first, 0)):
        normal[i] = 0.0
    for a in range(first, last + 1):
        for i in range(entry(a, 0), entry(a, first if a < last else last + 1)):
            normal[i] = 0.0
    for begin in range(0, t.size, BLOCK):
        part = y[begin * LANES : (begin + BLOCK) * LANES]
        for i in range(ROW):
            residual[i] = part[i]
        for k in range(0, terms, 2):
            subtract_terms(
                background[k, begin : begin + BLOCK], background[k + 1, begin : begin + BLOCK],
                current[(first + k) * LANES :], residual,
            )  # fmt: skip
        for k in range(peaks):
            subtract_peak_lanes(
                t[begin : begin + BLOCK], factors[k * FACTORS :], residual, rows[PEAK * k * ROW :]
            )
        if begin + BLOCK > n:
            clear_rows(rows, n - begin)
        for a in range(0, first, 2):
            left = rows[a * ROW :]
            for b in range(0, a, 2):
                multiply_pairs_lanes(
                    left, rows[b * ROW :], normal[entry(a, b) :], normal[entry(a + 1, b) :]
                )
            square_pair(left, normal[entry(a, a) :], normal[entry(a + 1, a) :])
            for k in range(0, terms, 2):
                multiply_terms(
                    left, background[k, begin : begin + BLOCK],
                    background[k + 1, begin : begin + BLOCK], normal[entry(first + k, a) :],
                    normal[entry(first + k + 1, a) :],
                )  # fmt: skip
            multiply_residual(residual, left, normal[entry(last, a) :])
        for k in range(0, terms, 2):
            multiply_residual_terms(
                residual, background[k, begin : begin + BLOCK],
                background[k + 1, begin : begin + BLOCK], normal[entry(last, first + k) :],
            )  # fmt: skip
        square_residual(residual, normal[entry(last, last) :])
