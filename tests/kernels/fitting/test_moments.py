import numpy as np
import pytest

from ndtomo_dask.kernels.fitting.moments import apply_weights, moment_weights, origin_of
from tests.tolerances import QUADRATURE

AXIS = np.linspace(1.0, 3.0, 201)
SIGMA = 0.1


def gaussian(center, axis=AXIS):
    density = np.exp(-(((axis - center) / SIGMA) ** 2) / 2) / (SIGMA * np.sqrt(2 * np.pi))
    return 7.0 * density


@pytest.mark.parametrize("axis", [AXIS, AXIS[::-1]])
@pytest.mark.parametrize("background", [None, 0, 1])
def test_moments_are_those_of_the_closed_forms(background, axis):
    weights = moment_weights(axis, background=background, edge=20)
    below = {None: 0.0, 0: 5.0, 1: 5.0 - 3.0 * axis}[background]
    area, first, second = weights @ (gaussian(1.9, axis) + below)
    assert origin_of(axis) == pytest.approx(2.0)
    assert area == pytest.approx(7.0, rel=QUADRATURE * 100)
    assert first == pytest.approx(7.0 * -0.1, rel=QUADRATURE * 100)
    assert second == pytest.approx(7.0 * (SIGMA**2 + 0.1**2), rel=QUADRATURE * 100)


def test_an_uneven_axis_has_the_same_moments(rng):
    axis = np.sort(rng.uniform(1.0, 3.0, 4000))
    area, first, _ = moment_weights(axis, background=1, edge=200) @ (gaussian(2.1, axis) + axis)
    origin = origin_of(axis)
    assert area == pytest.approx(7.0, rel=1e-3)
    assert origin + first / area == pytest.approx(2.1, abs=1e-3)


def test_a_line_at_the_edges_is_no_peak():
    weights = moment_weights(AXIS, background=1, edge=1)
    np.testing.assert_allclose(weights @ (4 - AXIS), 0, atol=1e-12)
    assert abs((moment_weights(AXIS, background=0, edge=1) @ (4 - AXIS))[1]) > 0.1


def test_a_nan_stays_in_its_spectrum(rng):
    weights = moment_weights(AXIS, background=1, edge=20)
    data = rng.standard_normal((30, AXIS.size)).astype("float32")
    clean = apply_weights(data, weights)
    np.testing.assert_allclose(clean, data.astype(float) @ weights.T, atol=1e-12)
    data[4, 100] = np.nan
    found = apply_weights(data, weights)
    assert np.isnan(found[4]).all()
    np.testing.assert_array_equal(np.delete(found, 4, 0), np.delete(clean, 4, 0))
