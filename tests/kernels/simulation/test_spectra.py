import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.simulation import spectra

ENERGY = np.linspace(8.2, 8.6, 4001)


def test_an_edge_goes_from_nothing_to_one_through_a_half_at_its_position():
    edge = spectra.Edge(8.333, 0.0)
    values = spectra.edge_spectrum(ENERGY, edge)
    assert values[0] == pytest.approx(0, abs=0.01)
    assert values[-1] == pytest.approx(1, abs=0.01)
    assert np.interp(8.333, ENERGY, values) == pytest.approx(0.5)
    assert (np.diff(values) > 0).all()


def test_a_white_line_stands_above_the_edge_with_its_height():
    bare, lined = (spectra.edge_spectrum(ENERGY, spectra.Edge(8.333, h)) for h in (0.0, 0.8))
    added = lined - bare
    assert ENERGY[added.argmax()] == pytest.approx(8.336, abs=1e-4)
    assert added.max() == pytest.approx(0.8)


def test_lines_stand_in_order_of_their_elements():
    alpha = [lines[0] for lines in spectra.LINES.values()]
    assert alpha == sorted(alpha)
    assert all(beta > one > two for one, two, beta in spectra.LINES.values())


def test_k_alpha_follows_moseley():
    # E ≈ 3/4 · 13.6 eV (Z - 1)², good to two percent from calcium to molybdenum.
    numbers = {"Ca": 20, "Fe": 26, "Ni": 28, "Cu": 29, "Zn": 30, "Zr": 40, "Mo": 42}
    for element, number in numbers.items():
        expected = 0.75 * 0.0136057 * (number - 1) ** 2
        assert spectra.LINES[element][0] == pytest.approx(expected, rel=0.025), element


def test_lines_are_those_of_xraylib():
    xraylib = pytest.importorskip("xraylib", reason="xraylib is not installed")
    names = xraylib.KL3_LINE, xraylib.KL2_LINE, xraylib.KM3_LINE
    for element, ours in spectra.LINES.items():
        number = xraylib.SymbolToAtomicNumber(element)
        theirs = [xraylib.LineEnergy(number, line) for line in names]
        np.testing.assert_allclose(ours, theirs, atol=2e-3, err_msg=element)


def test_a_spectrum_has_its_maximum_between_the_two_alpha_lines():
    energy = np.linspace(5, 8, 3001)
    values = spectra.line_spectrum(energy, "Fe")
    assert 6.3908 < energy[values.argmax()] < 6.4038
    assert np.interp(7.058, energy, values) == pytest.approx(0.17, rel=0.01)


def test_an_unknown_element_is_refused():
    with pytest.raises(OptionError, match=r"element 'Xx' has no lines here. Known are: As, Br"):
        spectra.element_lines("Xx")
