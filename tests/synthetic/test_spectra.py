import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.simulation.phantoms import REFLECTIONS, pattern

AXES = {"xrd": ("q", "1/angstrom"), "xanes": ("energy", "keV"), "xrf": ("energy", "keV")}


@pytest.mark.parametrize("kind", AXES)
def test_spectra_stand_on_their_axis_with_its_unit(kind):
    ds = nd.simulate_spectra(kind, channels=200)
    axis, units = AXES[kind]
    assert ds.component_spectrum.sizes == {"component": 5, "channel": 200}
    assert axis in ds.xindexes
    assert ds[axis].attrs["units"] == units
    assert len(set(ds.component_name.values)) == 5
    assert np.isfinite(ds.component_spectrum).all()


def test_diffraction_patterns_are_those_of_the_simulated_scans():
    spectra, scan = nd.simulate_spectra(channels=50), nd.simulate_scan(size=8, channels=50)
    np.testing.assert_array_equal(spectra.q, scan.q)
    expected = [pattern(scan.q.values, lines) for lines in REFLECTIONS.values()]
    np.testing.assert_array_equal(spectra.component_spectrum, expected)


def test_series_drift_down_not_at_all_and_up():
    ds = nd.simulate_spectra(channels=2500, frames=4, drift=0.05)
    still = nd.simulate_spectra(channels=2500)
    np.testing.assert_array_equal(ds.component_spectrum[0], still.component_spectrum)
    moved = ds.q.values[ds.component_spectrum.argmax("channel")]
    span = float(np.ptp(ds.q.values))
    np.testing.assert_allclose(
        moved[-1] - moved[0], 0.05 * span * np.array([-1, 0, 1, -1, 0]), atol=2 * span / 2500
    )
    assert ds.time.attrs["units"] == "s"


def test_a_pattern_is_made_of_its_reflections_on_any_axis():
    tth = nd.simulate_spectra(channels=4000).tth
    made = nd.pattern_from_reflections(tth, [(3.0, 2.0), (4.0, 0.5)], fwhm=0.02, fraction=0.4)
    assert float(made.sel(tth=3.0, method="nearest")) == pytest.approx(2.0, rel=0.01)
    assert float(made.sel(tth=3.01, method="nearest")) == pytest.approx(1.0, rel=0.05)
    assert "tth" in made.xindexes


def test_bad_options_are_refused():
    with pytest.raises(OptionError, match="Did you mean 'xrf'"):
        nd.simulate_spectra("xrg")
    with pytest.raises(OptionError, match="channels >= 1"):
        nd.simulate_spectra(channels=0)
    with pytest.raises(SchemaError, match=r"takes an axis with its labels first, such as ds.q"):
        nd.pattern_from_reflections(np.arange(3), [(1.0, 1.0)])
