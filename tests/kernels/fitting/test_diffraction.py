import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import voigt_profile

from ndtomo_dask import axes
from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.fitting import diffraction as d
from tests.tolerances import FINITE_DIFFERENCE

EXACT = 1e-12
THOMPSON = 0.01
"""Of the widths of a Voigt profile's parts from its pseudo-Voigt, whose shape is not the same."""
LINEAR = 0.05
"""Of an error from the first derivatives, against the scatter of 20,000 draws."""


def true_voigt_width(gaussian, lorentzian):
    sigma, gamma = gaussian / np.sqrt(8 * np.log(2)), lorentzian / 2
    half = voigt_profile(0, sigma, gamma) / 2
    return 2 * brentq(lambda x: voigt_profile(x, sigma, gamma) - half, 0, gaussian + lorentzian)


@pytest.mark.parametrize(
    ("axis", "position", "known"),
    [
        ("q", 2.7, {}),
        ("d", 2.3, {}),
        ("tth", 5.0, {"wavelength": 0.2}),
        ("energy", 60.0, {"scattering_angle": 5.0}),
    ],
)
def test_slopes_are_those_of_finite_differences(axis, position, known):
    at = [np.array([position + step]) for step in (-1e-5, 0.0, 1e-5)]
    (low, _), (_, slope), (high, _) = (d.q_and_slope(one, axis, **known) for one in at)
    np.testing.assert_allclose(slope, np.abs(high - low) / 2e-5, rtol=FINITE_DIFFERENCE)


def test_momentum_transfers_are_those_of_the_axes():
    tth = np.array([2.0, 5.0, 40.0])
    q = axes.q_from_tth(tth, wavelength=0.2)
    np.testing.assert_allclose(d.q_and_slope(tth, "tth", wavelength=0.2)[0], q, rtol=EXACT)
    np.testing.assert_allclose(d.q_and_slope(axes.d_from_q(q), "d")[0], q, rtol=EXACT)
    energy = axes.energy_from_wavelength(0.2)
    of_energy = [d.q_and_slope(np.array([energy]), "energy", scattering_angle=t)[0][0] for t in tth]
    np.testing.assert_allclose(of_energy, q, rtol=EXACT)
    with pytest.raises(OptionError, match="no q follows from axis 'channel' alone"):
        d.q_and_slope(tth, "channel")


@pytest.mark.parametrize("system", d.SYSTEMS)
def test_cells_are_recovered_from_their_reflections(system):
    cell = np.array([3.9, 4.7, 6.1])[: len(d.SYSTEMS[system])]
    hkl = np.array([[1, 1, 1], [2, 0, 0], [2, 2, 0], [0, 0, 2], [0, 1, 2]])
    rows = d.metric_rows(hkl, system)
    q = 2 * np.pi * np.sqrt(rows @ cell**-2.0)
    found, _ = d.lattice_parameters(q, 0.01 * q, rows)
    np.testing.assert_allclose(found, cell, rtol=EXACT)


def test_a_hexagonal_cell_has_the_spacings_of_its_vectors():
    a, c = 3.2, 5.1
    direct = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    reciprocal = np.linalg.inv(direct).T
    hkl = np.array([[1, 0, 0], [1, 1, 0], [2, -1, 3]])
    spacing = 1 / np.linalg.norm(hkl @ reciprocal, axis=1)
    np.testing.assert_allclose(
        d.metric_rows(hkl, "hexagonal") @ [a**-2, c**-2], spacing**-2, rtol=EXACT
    )


def test_errors_of_cells_are_their_scatter(rng):
    rows = d.metric_rows([[1, 0, 1], [2, 0, 0], [1, 1, 2], [0, 0, 2]], "tetragonal")
    q, errors = (
        2 * np.pi * np.sqrt(rows @ np.array([3.9, 4.7]) ** -2),
        np.array([1, 3, 2, 5]) * 1e-3,
    )
    drawn = q + errors * rng.standard_normal((20000, 4))
    found, spread = d.lattice_parameters(drawn, np.broadcast_to(errors, drawn.shape), rows)
    np.testing.assert_allclose(found.std(axis=0), spread.mean(axis=0), rtol=LINEAR)


def test_peaks_that_are_missing_have_no_weight_and_too_few_are_nan():
    rows = d.metric_rows([[1, 1, 1], [2, 0, 0], [0, 0, 2]], "tetragonal")
    q = np.tile(2 * np.pi * np.sqrt(rows @ np.array([3.9, 4.7]) ** -2), (4, 1))
    q[1, 1], q[2, :2] = np.nan, np.nan
    errors = np.full_like(q, 0.01)
    errors[3] = 0
    found, spread = d.lattice_parameters(q, errors, rows)
    np.testing.assert_allclose(found[:2], [[3.9, 4.7]] * 2, rtol=EXACT)
    assert np.isnan(found[2:]).all()
    assert np.isnan(spread[2:]).all()
    assert (spread[1] >= spread[0]).all()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_widths_of_voigt_profiles_are_the_true_ones(share):
    gaussian, lorentzian = np.array([2 * (1 - share)]), np.array([2 * share])
    width, by_gaussian, by_lorentzian = d.voigt_fwhm(gaussian, lorentzian)
    true = true_voigt_width(gaussian[0], lorentzian[0]) if 0 < share < 1 else 2.0
    assert width[0] == pytest.approx(true, rel=5e-4)
    step = 1e-6
    rise = d.voigt_fwhm(gaussian + step, lorentzian)[0] - width
    np.testing.assert_allclose(by_gaussian, rise / step, atol=1e-4)
    rise = d.voigt_fwhm(gaussian, lorentzian + step)[0] - width
    np.testing.assert_allclose(by_lorentzian, rise / step, atol=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_parts_of_a_width_make_it_again(share):
    parts = d.voigt_parts(np.array([3.0]), np.array([share]))
    np.testing.assert_allclose(d.voigt_fwhm(*parts)[0], 3.0, rtol=THOMPSON)


def test_widths_of_the_instrument_are_subtracted_as_profiles_do():
    one = np.ones(1)
    gaussian, _ = d.sample_width(5 * one, 0 * one, 3 * one, 0 * one)
    lorentzian, _ = d.sample_width(5 * one, one, 3 * one, one)
    np.testing.assert_allclose([gaussian[0], lorentzian[0]], [4, 2], rtol=1e-4)
    untouched, slope = d.sample_width(5 * one, 0.3 * one, 0 * one, 0 * one)
    np.testing.assert_allclose([untouched[0], slope[0]], [5, 1], rtol=EXACT)
    assert np.isnan(d.sample_width(one, 0.3 * one, 2 * one, 0 * one)).all()


@pytest.mark.parametrize(("share", "own"), [(0.0, 0.0), (0.6, 0.1), (0.3, 0.9), (1.0, 1.0)])
def test_slopes_of_subtracted_widths_are_those_of_finite_differences(share, own):
    arguments = [np.array([value]) for value in (share, 2.0, own)]
    low, mid, high = (d.sample_width(np.array([w]), *arguments) for w in (2.99999, 3.0, 3.00001))
    np.testing.assert_allclose(mid[1], (high[0] - low[0]) / 2e-5, rtol=1e-5)


@pytest.mark.parametrize("squares", [False, True])
def test_size_and_strain_are_recovered_and_their_errors_are_their_scatter(squares, rng):
    q, size, strain, power = np.array([2.0, 3.0, 4.0, 5.5]), 150.0, 4e-3, 2 if squares else 1
    width = ((2 * np.pi * 0.9 / size) ** power + (2 * strain * q) ** power) ** (1 / power)
    errors = np.array([1, 2, 1, 3]) * 2e-4
    exact = d.williamson_hall_line(q, width, errors, 0.9, squares=squares)
    np.testing.assert_allclose([exact[0], exact[2]], [size, strain], rtol=1e-9)
    drawn = width + errors * rng.standard_normal((20000, 4))
    found = d.williamson_hall_line(
        np.broadcast_to(q, drawn.shape), drawn, np.broadcast_to(errors, drawn.shape), 0.9,
        squares=squares,
    )  # fmt: skip
    np.testing.assert_allclose(found[0].std(), exact[1], rtol=LINEAR)
    np.testing.assert_allclose(found[2].std(), exact[3], rtol=LINEAR)


def test_a_term_below_zero_is_nan_and_the_other_is_not():
    q = np.array([[2.0, 3.0, 4.0]])
    size, _, strain, error = d.williamson_hall_line(
        q, 0.01 * q - 0.005, np.full_like(q, 1e-4), 0.9, squares=False
    )
    assert np.isnan(size[0])
    assert strain[0] == pytest.approx(0.005)
    assert error[0] > 0
