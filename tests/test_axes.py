import numpy as np
import pytest
from hypothesis import given

from ndtomo_dask import axes
from tests.strategies import angles_tth, wavelengths

EXACT = 1e-12


@given(tth=angles_tth, wavelength=wavelengths)
def test_tth_and_q_invert_each_other(tth, wavelength):
    q = axes.q_from_tth(tth, wavelength=wavelength)
    assert float(axes.tth_from_q(q, wavelength=wavelength)) == pytest.approx(tth, rel=1e-9)


@given(tth=angles_tth, wavelength=wavelengths)
def test_q_and_d_keep_braggs_law(tth, wavelength):
    d = axes.d_from_q(axes.q_from_tth(tth, wavelength=wavelength))
    assert 2 * d * np.sin(np.deg2rad(tth / 2)) == pytest.approx(wavelength, rel=EXACT)
    assert float(axes.q_from_d(d)) == pytest.approx(2 * np.pi / d, rel=EXACT)


@given(wavelength=wavelengths)
def test_energy_and_wavelength_invert_each_other(wavelength):
    energy = axes.energy_from_wavelength(wavelength)
    assert float(axes.wavelength_from_energy(energy)) == pytest.approx(wavelength, rel=EXACT)


def test_copper_k_alpha_is_8_048_kev():
    assert float(axes.energy_from_wavelength(1.5406)) == pytest.approx(8.0478, abs=1e-4)


def test_silicon_111_stands_at_28_44_degrees_of_copper_radiation():
    q = axes.q_from_d(5.431 / np.sqrt(3))
    assert float(axes.tth_from_q(q, wavelength=1.5406)) == pytest.approx(28.44, abs=0.01)


def test_d_at_q_zero_is_infinite_without_a_warning():
    assert np.isinf(axes.d_from_q(np.zeros(1))).all()
