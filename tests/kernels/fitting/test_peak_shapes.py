"""Laws of every peak shape: area and width by numbers, derivatives by differences, peers."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import gammaln, voigt_profile, wofz

from ndtomo_dask.kernels.fitting.peak_shapes import (
    LEAST_FRACTION,
    pearson7_width,
    subtract_peak,
    thompson_cox_hastings,
)
from ndtomo_dask.kernels.fitting.peaks import PARAMETERS, SHAPES, evaluate_peak, evaluate_shape
from ndtomo_dask.kernels.fitting.voigt import far_faddeeva, gaussian_share, write_faddeeva
from tests.tolerances import FINITE_DIFFERENCE, QUADRATURE

PEAKS = [name for name in SHAPES if name != "exponential"]
VARIED = [(name, number) for name, shape in SHAPES.items()
          for number, own in enumerate(shape.parameters) if own in shape.free]  # fmt: skip
T = np.linspace(-1, 1, 67)


def peak_of(shape, share, *, area=3.0, position=0.1, fwhm=0.4, asymmetry=0.2):
    """Return the parameters of a peak, their dimensionless ones as ``share`` says."""
    low, high = SHAPES[shape].limits.get("fraction", (0.0, 1.0))
    known = {
        "area": area, "position": position, "fwhm": fwhm, "asymmetry": asymmetry,
        "amplitude": area, "decay": share,
        "fraction": low + share * (high - low), "gaussian_square": ((1.1 - share) * fwhm) ** 2,
        "lorentzian_fwhm": share * fwhm,
    }  # fmt: skip
    return np.array([known[name] for name in SHAPES[shape].parameters])


def true_width(shape, peak):
    if shape == "thompson_cox_hastings":
        return thompson_cox_hastings(*peak[2:4])[0]
    return peak[2]


def at(shape, x, peak):
    return float(evaluate_shape(shape, [x], peak)[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 0.99])
@pytest.mark.parametrize("shape", [name for name in PEAKS if name != "doniach_sunjic"])
def test_area_is_the_integral(shape, share):
    peak = peak_of(shape, max(share, LEAST_FRACTION) if shape == "pearson7" else share)
    u = (np.arange(200_000) + 0.5) / 200_000 * np.pi - np.pi / 2  # midpoint rule, periodic
    x = 0.1 + 0.2 * np.tan(u)  # the whole line, so that Lorentzian tails count
    integral = (evaluate_shape(shape, x, peak) * 0.2 / np.cos(u) ** 2).sum() * (u[1] - u[0])
    assert integral == pytest.approx(
        3.0, rel=1e-6 if shape == "pearson7" else 1e-8
    )  # no even power


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("shape", PEAKS)
def test_fwhm_is_the_real_one_and_position_the_maximum(shape, share):
    for asymmetry in (0.0, 0.1, 0.45):
        peak = peak_of(shape, share, asymmetry=asymmetry)
        width, top = true_width(shape, peak), at(shape, 0.1, peak)
        above_half = partial(lambda x, peak, top: at(shape, x, peak) - top / 2, peak=peak, top=top)
        ends = [brentq(above_half, 0.1, 0.1 + side * 2 * width, xtol=1e-14) for side in (-1, 1)]
        assert ends[1] - ends[0] == pytest.approx(width, rel=1e-7)
        assert max(at(shape, 0.1 + shift, peak) for shift in (-1e-4, 1e-4)) < top


def test_doniach_sunjic_area_is_that_of_a_lorentzian_as_high_and_wide():
    for asymmetry in (0.0, 0.2, -0.4):
        peak = peak_of("doniach_sunjic", 0.0, asymmetry=asymmetry)
        assert at("doniach_sunjic", 0.1, peak) == pytest.approx(3.0 / (0.4 * np.pi / 2), rel=1e-9)
    lorentzian = evaluate_peak(T, area=3.0, position=0.1, fwhm=0.4, fraction=1.0)
    made = evaluate_shape("doniach_sunjic", T, peak_of("doniach_sunjic", 0, asymmetry=0.0))
    np.testing.assert_allclose(made, lorentzian, rtol=QUADRATURE)


def test_doniach_sunjic_is_the_formula_of_the_paper():
    alpha, gamma = 0.3, 0.11
    x = np.linspace(-2, 2, 4001)
    angle = np.pi * alpha / 2 + (1 - alpha) * np.arctan(-x / gamma)  # the tail at larger x
    paper = np.cos(angle) / (x**2 + gamma**2) ** ((1 - alpha) / 2)
    above = np.flatnonzero(paper > paper.max() / 2)
    peak = np.array([1.0, x[paper.argmax()], x[above[-1]] - x[above[0]], alpha])
    made = evaluate_shape("doniach_sunjic", x, peak)
    np.testing.assert_allclose(made / made.max(), paper / paper.max(), atol=0.01)


@pytest.mark.parametrize(("shape", "number"), VARIED)
@given(share=st.floats(0.02, 0.98), fwhm=st.floats(0.05, 1.5), position=st.floats(-0.8, 0.8),
       asymmetry=st.floats(0.01, 0.45))  # fmt: skip
@settings(max_examples=25, deadline=None, derandomize=True)
def test_derivatives_agree_with_differences(shape, number, share, fwhm, position, asymmetry):
    peak = peak_of(shape, share, fwhm=fwhm, position=position, asymmetry=asymmetry)
    step = np.zeros(peak.size)
    step[number] = 1e-5 * (
        1.0 if SHAPES[shape].parameters[number] in ("area", "fraction", "decay") else fwhm
    )
    step[number] *= fwhm if SHAPES[shape].parameters[number] == "gaussian_square" else 1.0
    plus, minus = (evaluate_shape(shape, T, peak + sign * step) for sign in (1, -1))
    difference = (plus - minus) / (2 * step[number])
    columns = np.zeros((peak.size, T.size))
    subtract_peak(SHAPES[shape].code, T, peak, np.zeros(T.size), columns)
    scale = max(np.abs(difference).max(), evaluate_shape(shape, T, peak).max())
    scale *= 100 if shape == "split_pseudo_voigt" else 1  # its curvature jumps at the position
    np.testing.assert_allclose(columns[number], difference, atol=FINITE_DIFFERENCE * scale)


@pytest.mark.parametrize("fraction", [0.0, 1e-3, 0.2, 0.7, 0.999])
def test_voigt_is_the_convolution_of_scipy(fraction):
    x = np.r_[np.linspace(-3, 3, 301), -1e3, 30.0, 1e4]
    sigma = gaussian_share(fraction)[0] * 0.4 / np.sqrt(8 * np.log(2))
    expected = 3.0 * voigt_profile(x - 0.1, sigma, fraction * 0.4 / 2)
    made = evaluate_shape("voigt", x, [3.0, 0.1, 0.4, fraction])
    np.testing.assert_allclose(made, expected, rtol=1e-8, atol=1e-14)


def test_faddeeva_function_is_that_of_scipy():
    x = np.linspace(-15, 15, 2001)
    for y in (1e-3, 0.1, 1.0, 5.0):
        rows = np.zeros((4, x.size))
        write_faddeeva(x, 0.0, 1.0, y, rows)
        expected = wofz(x + 1j * y)
        np.testing.assert_allclose(rows[2], expected.real, rtol=1e-8)
        np.testing.assert_allclose(rows[3], expected.imag, rtol=1e-8, atol=1e-14)
        far = 20.0 + 1j * y
        slope = -2 * far * wofz(far) + 2j / np.sqrt(np.pi)
        assert far_faddeeva(20.0, y)[:3] == pytest.approx(
            (wofz(far).real, slope.real, slope.imag), rel=1e-8
        )


@pytest.mark.parametrize("shape", ["voigt", "pearson7", "split_pseudo_voigt"])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_ends_of_the_fraction_are_gaussian_and_lorentzian(shape, fraction):
    peak = peak_of(shape, fraction, asymmetry=0.0)
    expected = evaluate_peak(T, area=3.0, position=0.1, fwhm=0.4, fraction=fraction)
    made = evaluate_shape(shape, T, peak)
    np.testing.assert_allclose(made, expected, atol=1e-5 * expected.max())


def test_pearson7_width_is_the_ratio_of_gamma_functions():
    for m in (1.0, 1.7, 3.0, 20.0, 400.0):
        power = 2 ** (1 / m) - 1
        expected = np.sqrt(np.pi / power) / 2 * np.exp(gammaln(m - 0.5) - gammaln(m))
        assert pearson7_width(1 / m)[0] == pytest.approx(expected, rel=1e-11)


def test_thompson_cox_hastings_is_near_the_convolution():
    peak = peak_of("thompson_cox_hastings", 0.4)
    sigma = np.sqrt(peak[2]) / np.sqrt(8 * np.log(2))
    expected = 3.0 * voigt_profile(T - 0.1, sigma, peak[3] / 2)
    made = evaluate_shape("thompson_cox_hastings", T, peak)
    np.testing.assert_allclose(made, expected, atol=0.015 * expected.max())  # as its authors say


def test_split_halves_have_their_widths():
    peak = np.array([3.0, 0.1, 0.4, 0.5, 0.5])
    top = at("split_pseudo_voigt", 0.1, peak)
    for end in (0.1 - 0.1, 0.1 + 0.3):
        assert at("split_pseudo_voigt", end, peak) == pytest.approx(top / 2, rel=QUADRATURE)


def test_every_shape_starts_within_its_limits():
    for name, shape in SHAPES.items():
        assert name == "exponential" or shape.parameters[:2] == PARAMETERS[:2]
        assert set(shape.free) <= set(shape.parameters)
        for own, (low, high) in shape.limits.items():
            assert low <= shape.start[own] <= high
