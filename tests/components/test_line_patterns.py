import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import BackendError, OptionError, SchemaError
from tests.tolerances import FIT, PHYSICS

LINES = {"Fe Kα": [(6.4038, 2), (6.3908, 1)], "Fe Kβ": [(7.058, 1)], "Ni Kα": [(7.478, 1)]}
WIDTH = (0.004, 0.0027)
"""fwhm² = a + b E, in keV: 0.15 keV at iron."""


@pytest.fixture
def counts():
    energy = ("channel", np.linspace(5.0, 9.0, 401), {"units": "keV"})
    spectra = np.zeros((2, 3, 401))
    return xr.Dataset({"volume": (("y", "x", "channel"), spectra)}, {"energy": energy})


def test_a_pattern_sums_to_one_and_has_the_width_of_the_detector(counts):
    made = nd.line_patterns(counts, LINES, fwhm=WIDTH)
    assert list(made.data_vars) == list(LINES)
    np.testing.assert_allclose(made.to_dataarray().sum("channel"), 1, rtol=FIT)
    single = made["Fe Kβ"]
    above = made.energy.values[single.values > float(single.max()) / 2]
    assert np.ptp(above) == pytest.approx(np.sqrt(WIDTH[0] + WIDTH[1] * 7.058), abs=0.02)
    mean = float((made["Fe Kα"] * made.energy).sum())
    assert mean == pytest.approx((2 * 6.4038 + 6.3908) / 3, rel=FIT)


def test_amounts_are_the_counts_of_a_line(counts):
    patterns = nd.line_patterns(counts, LINES, fwhm=0.15)
    mixed = 300 * patterns["Fe Kα"] + 40 * patterns["Fe Kβ"] + 5
    ds = counts.assign(volume=counts.volume + mixed)
    made = nd.fit_references(ds, patterns, background=0)
    expected = np.broadcast_to([300.0, 40.0, 0.0], (2, 3, 3))
    np.testing.assert_allclose(made.reference_amount, expected, atol=300 * FIT)


def test_patterns_do_not_depend_on_the_direction_of_the_axis(counts):
    made = nd.line_patterns(counts, LINES, fwhm=0.15)
    back = nd.line_patterns(counts.isel(channel=slice(None, None, -1)), LINES, fwhm=0.15)
    np.testing.assert_allclose(back["Fe Kα"][::-1], made["Fe Kα"], rtol=FIT, atol=1e-300)


def test_elements_have_the_lines_of_xraylib(counts):
    pytest.importorskip("xraylib")
    made = nd.line_patterns(counts, ["Fe", "La"], fwhm=0.15, excitation=10.0)
    assert list(made.data_vars) == ["Fe K", "La L"]
    strongest = float(made.energy[int(made["Fe K"].argmax("channel"))])
    assert strongest == pytest.approx(6.4, abs=0.01)
    beta = made["Fe K"].where(made.energy > 6.75, 0).sum() / made["Fe K"].sum()
    assert 0.11 < float(beta) < 0.13  # of K alpha it is 0.13 to 0.14
    in_electronvolts = counts.assign_coords(
        energy=("channel", 1e3 * counts.energy.values, {"units": "eV"})
    )
    same = nd.line_patterns(in_electronvolts, ["Fe"], fwhm=150.0, excitation=10.0)
    np.testing.assert_allclose(same["Fe K"], made["Fe K"], rtol=PHYSICS, atol=1e-12)
    with pytest.raises(OptionError, match=r"lines names 'Xx', which is no element; say 'Fe'"):
        nd.line_patterns(counts, ["Xx"], fwhm=0.15, excitation=10.0)
    with pytest.raises(SchemaError, match=r"no line of 'Fe', excited at 7 keV, lies within"):
        nd.line_patterns(counts, ["Fe"], fwhm=0.15, excitation=7.0)


def test_without_xraylib_the_extra_is_named(counts, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xraylib", None)
    with pytest.raises(BackendError, match=r"pip install 'ndtomo-dask\[xray\]', or give lines as"):
        nd.line_patterns(counts, ["Fe"], fwhm=0.15, excitation=10.0)


@pytest.mark.parametrize(
    ("lines", "options", "error", "words"),
    [
        ({"Fe": [6.4]}, {}, OptionError, r"must be pairs of a position and an intensity above 0"),
        ({"Fe": [(6.4, -1)]}, {}, OptionError, r"lines\['Fe'\]=\[\(6.4, -1\)\] must be pairs"),
        ({"Fe": [(6.4, 1)]}, {"fwhm": 0}, OptionError, r"fwhm=0 makes no width above 0"),
        ({"Fe": [(6.4, 1)]}, {"fwhm": (-1, 0.1)}, OptionError, r"makes no width above 0 for the"),
        ({"Ag": [(22.1, 1)]}, {}, SchemaError, r"no line of 'Ag' lies within the axis, 5 to 9"),
        (["Fe"], {}, OptionError, r"excitation=None must be the energy of the beam in keV"),
    ],
)
def test_wrong_lines_are_refused_in_words(counts, lines, options, error, words):
    with pytest.raises(error, match=words):
        nd.line_patterns(counts, lines, **{"fwhm": 0.15} | options)


def test_elements_need_an_axis_of_energy(counts):
    on_q = counts.drop_vars("energy").assign_coords(q=("channel", np.linspace(1, 2, 401)))
    with pytest.raises(OptionError, match=r"lines of elements on 'energy' only, not on 'q'"):
        nd.line_patterns(on_q, ["Fe"], fwhm=0.15, excitation=10.0)
