"""Laws of the pseudo-Voigt peak: area, width, derivatives; of axes, backgrounds and starts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndtomo_dask.kernels.fitting.peak_model import background_rows
from ndtomo_dask.kernels.fitting.peak_shapes import subtract_pseudo_voigt
from ndtomo_dask.kernels.fitting.peaks import (
    PARAMETERS,
    evaluate_background,
    evaluate_peak,
    scale_axis,
)
from ndtomo_dask.kernels.fitting.starts import (
    build_templates,
    estimate_noise,
    find_starts,
    remove_background,
    select,
)
from ndtomo_dask.kernels.fitting.voigt import negative_exp
from tests.tolerances import FINITE_DIFFERENCE, QUADRATURE

FRACTIONS = [0.0, 0.3, 0.75, 1.0]
PEAK = st.tuples(
    st.floats(0.1, 50), st.floats(-0.8, 0.8), st.floats(0.05, 1.5), st.floats(0.0, 1.0)
).map(np.array)


def profile(t, peak):
    return evaluate_peak(t, **dict(zip(PARAMETERS, peak, strict=True)))


def compiled(t, peak):
    residual, columns = np.zeros(t.size), np.zeros((4, t.size))
    subtract_pseudo_voigt(t, peak, residual, columns)
    return -residual, columns


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_area_is_the_integral(fraction):
    u = (np.arange(20000) + 0.5) / 20000 * np.pi - np.pi / 2  # midpoint rule, periodic
    x = 1.5 + 0.4 * np.tan(u)  # the whole line, so that Lorentzian tails count
    y = evaluate_peak(x, area=7.0, position=1.5, fwhm=0.8, fraction=fraction)
    integral = (y * 0.4 / np.cos(u) ** 2).sum() * (u[1] - u[0])
    assert integral == pytest.approx(7.0, rel=QUADRATURE)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_half_height_is_half_a_width_away(fraction):
    y = evaluate_peak([2.0, 1.7, 2.3], area=3.0, position=2.0, fwhm=0.6, fraction=fraction)
    np.testing.assert_allclose(y[1:], y[0] / 2, rtol=QUADRATURE)


def test_arguments_broadcast():
    area = np.array([[1.0], [2.0]])
    y = evaluate_peak(np.arange(5.0), area=area, position=2.0, fwhm=1.0, fraction=0.5)
    assert y.shape == (2, 5)
    np.testing.assert_allclose(y[1], 2 * y[0], rtol=QUADRATURE)


@given(PEAK)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_compiled_profile_agrees_with_numpy(peak):
    t = np.linspace(-1, 1, 67)
    expected = profile(t, peak)
    np.testing.assert_allclose(compiled(t, peak)[0], expected, atol=QUADRATURE * expected.max())


@pytest.mark.parametrize("parameter", range(4), ids=PARAMETERS)
@given(peak=PEAK)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_derivatives_agree_with_differences(parameter, peak):
    t = np.linspace(-1, 1, 67)
    step = np.zeros(4)
    step[parameter] = 1e-5 * (peak[2] if parameter in (1, 2) else 1.0)
    difference = (profile(t, peak + step) - profile(t, peak - step)) / (2 * step[parameter])
    column = compiled(t, peak)[1][parameter]
    scale = max(np.abs(difference).max(), profile(t, peak).max())
    np.testing.assert_allclose(column, difference, atol=FINITE_DIFFERENCE * scale)


def test_exponential_is_exact_where_it_matters():
    u = -np.linspace(0, 36, 5001)
    values = np.array([negative_exp(v) for v in u])
    np.testing.assert_allclose(values, np.exp(u), atol=1e-14, rtol=0)
    assert negative_exp(-1e300) == pytest.approx(0.0, abs=1e-14)


def test_scaled_axis_and_background():
    axis = np.array([4.0, 3.5, 2.0])
    t, center, half_range = scale_axis(axis)
    np.testing.assert_allclose(center + half_range * t, axis)
    np.testing.assert_allclose(
        evaluate_background(axis, [[1.0, 2.0, 3.0]])[0], 1 + 2 * t + 3 * t**2
    )
    assert evaluate_background(axis, np.zeros((5, 0))).shape == (5, 3)


@pytest.mark.parametrize("terms", [0, 1, 2, 3])
@pytest.mark.parametrize(("position", "fwhm"), [(-0.6, 0.08), (0.1, 0.3), (0.95, 0.1)])
def test_start_is_within_half_a_width(terms, position, fwhm):
    t = np.linspace(-1, 1, 80)
    rows = background_rows(terms - 1, t)
    templates = build_templates(t, rows, [(-1, 1)], [(2 / 79, 2)])
    y = evaluate_peak(t, area=1.0, position=position, fwhm=fwhm, fraction=0.5)
    y += 40 * (t[:, np.newaxis] ** np.arange(terms)).sum(axis=1)
    remove_background(y, templates.basis)
    noise = max(estimate_noise(y, np.zeros(80)), 1e-13)
    chosen, heights, scores = np.zeros(1, dtype=np.int64), np.zeros(1), np.zeros(1)
    low, high, spare = np.array([-1.0]), np.array([1.0]), np.zeros(80)
    find_starts(y, templates, low, high, spare, chosen, heights, scores)
    best = chosen[0]
    assert abs(templates.position[best] - position) < fwhm / 2
    assert fwhm / 2 < templates.fwhm[best] < fwhm * 2
    assert heights[0] > 0
    assert scores[0] > 10 * noise


def test_several_peaks_start_where_they_are():
    t = np.linspace(-1, 1, 120)
    at = np.array([-0.5, 0.0, 0.4])
    y = sum(evaluate_peak(t, area=a, position=p, fwhm=0.15, fraction=0.0)
            for a, p in zip([1, 3, 2], at, strict=True))  # fmt: skip
    templates = build_templates(t, background_rows(0, t), [(-1, 1)] * 3, [(0.05, 0.5)] * 3)
    remove_background(y, templates.basis)
    chosen, heights, scores = np.zeros(3, dtype=np.int64), np.zeros(3), np.zeros(3)
    low, high, spare = np.full(3, -1.0), np.full(3, 1.0), np.zeros(120)
    find_starts(y, templates, low, high, spare, chosen, heights, scores)
    np.testing.assert_allclose(np.sort(templates.position[chosen]), at, atol=0.08)
    assert np.all(heights > 0)


def test_templates_keep_within_narrow_bounds():
    t = np.linspace(-1, 1, 40)
    templates = build_templates(t, background_rows(1, t), [(0.11, 0.12)], [(0.3, 0.3)])
    assert np.all((templates.position >= 0.11) & (templates.position <= 0.12))
    np.testing.assert_allclose(templates.fwhm, 0.3)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40), st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_selected_value_is_that_of_sorting(values, data):
    rank = data.draw(st.integers(0, len(values) - 1))
    assert select(np.array(values), len(values), rank) == sorted(values)[rank]
