import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import axes, derive_axes
from ndtomo_dask.coordinates import axis_variable, in_unit, spectral_axis
from ndtomo_dask.errors import SchemaError

WAVELENGTH = 0.2


def spectra(**coords):
    ds = xr.Dataset({"volume": (("y", "x", "channel"), np.arange(40.0).reshape(2, 2, 10))})
    return ds.assign_coords({name: ("channel", values) for name, values in coords.items()})


@pytest.mark.parametrize(
    ("axis", "given", "value", "expected"),
    [
        ("tth", "rad", np.pi, 180.0),
        ("tth", "2th_deg", 5.0, 5.0),
        ("q", "1/nm", 25.0, 2.5),
        ("q", "q_A^-1", 2.5, 2.5),
        ("d", "nm", 0.3, 3.0),
        ("energy", "eV", 8047.8, 8.0478),
        ("translation", "um", 20.0, 0.02),
        ("translation", "mm", 20.0, 20.0),
        ("time", "min", 2.0, 120.0),
    ],
)
def test_units_of_files_become_ours(axis, given, value, expected):
    assert in_unit(np.array([value]), axis=axis, given=given)[0] == pytest.approx(expected)


def test_an_unknown_unit_is_refused_with_the_nearest():
    with pytest.raises(SchemaError, match=r"axis 'tth' has unit 'degre', not 'degree'.*Did you"):
        in_unit(np.zeros(1), axis="tth", given="degre")


def test_from_tth_and_a_wavelength_follow_q_and_d_with_an_index_each():
    ds = spectra(tth=np.linspace(2, 9, 10)).assign_coords(wavelength=WAVELENGTH)
    derived = derive_axes(ds)
    assert {"tth", "q", "d"} <= set(derived.xindexes)
    np.testing.assert_array_equal(derived.q, axes.q_from_tth(ds.tth, wavelength=WAVELENGTH))
    by_q = derived.sel(q=slice(*axes.q_from_tth([3.0, 6.0], wavelength=WAVELENGTH)))
    by_tth = derived.sel(tth=slice(3.0, 6.0))
    np.testing.assert_array_equal(by_q.volume, by_tth.volume)
    assert 0 < by_q.sizes["channel"] < 10
    assert derived.d.attrs["units"] == "angstrom"


def test_from_d_follow_the_others():
    derived = derive_axes(spectra(d=np.linspace(3, 1, 10)).assign_coords(wavelength=WAVELENGTH))
    np.testing.assert_allclose(derived.q, 2 * np.pi / derived.d)
    assert "tth" in derived.xindexes


def test_without_a_wavelength_only_d_follows_from_q():
    assert "tth" not in derive_axes(spectra(q=np.linspace(1, 3, 10))).coords


def test_deriving_twice_changes_nothing():
    once = derive_axes(spectra(tth=np.linspace(2, 9, 10)).assign_coords(wavelength=WAVELENGTH))
    xr.testing.assert_identical(derive_axes(once), once)


def test_an_axis_that_cannot_be_is_refused_in_words():
    with pytest.raises(SchemaError, match=r"axis 'q' is not monotonic: value 1 at index 2"):
        axis_variable("q", np.array([1.0, 2.0, 1.0, 3.0]))
    with pytest.raises(SchemaError, match=r"axis 'q' is not monotonic: value 2 at index 2"):
        axis_variable("q", np.array([1.0, 2.0, 2.0, 3.0]))
    with pytest.raises(SchemaError, match=r"axis 'tth' has a value that is not finite at index 1"):
        axis_variable("tth", np.array([1.0, np.nan]))
    with pytest.raises(SchemaError, match=r"axis 'tth' has 3 values, but the data have 4"):
        axis_variable("tth", np.arange(3.0), size=4)
    with pytest.raises(SchemaError, match=r"axis 'angle' has 3 values, but the data have 4"):
        axis_variable("angle", np.arange(3.0), size=4)


def test_angles_may_come_in_any_order():
    assert axis_variable("angle", np.array([3.0, 1.0, 2.0, 1.0])).attrs["units"] == "degree"


def test_the_only_axis_is_found_and_a_missing_one_refused():
    assert spectral_axis(spectra(q=np.arange(10.0)), None, verb="fit_peaks").name == "q"
    assert spectral_axis(spectra(), None, verb="fit_peaks").name == "channel"
    with pytest.raises(SchemaError, match=r"axis 'q', which follows from 'tth' only with a"):
        spectral_axis(spectra(tth=np.arange(10.0)), "q", verb="fit_peaks")
    with pytest.raises(SchemaError, match=r"asked for axis 'energy', but the data have q"):
        spectral_axis(spectra(q=np.arange(10.0)), "energy", verb="fit_peaks")
