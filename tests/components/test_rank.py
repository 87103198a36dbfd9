"""The number of components is found again, by the noise and by stability."""

import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import find_rank, find_spectral_moments
from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components.stability import agreement, stability
from tests.reads import counted


def mixture(components, seed=0):
    """Counts of sums of a few patterns; half of the amounts are zero."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(5, 95, (components, 4, 1))
    patterns = 0.02 + np.exp(-(((np.arange(100) - place) / 3) ** 2)).sum(axis=1)
    amounts = rng.random((2400, components)) * (rng.random((2400, components)) < 0.5)
    clean = amounts @ patterns
    data = rng.poisson(clean * 50 / clean.mean()).astype("float32").reshape(60, 40, 100)
    return xr.Dataset({"volume": (("y", "x", "channel"), data)})


@pytest.mark.parametrize("components", [2, 4])
def test_the_number_of_components_is_found_again(components):
    found = find_rank(mixture(components), most=components + 2)
    assert int(found.stable_rank) == int(found.significant_rank) == components
    assert (found.stability[:components] > 0.99).all()
    assert (found.stability[components:] < 0.95).all()
    assert (np.diff(found.unexplained) <= 0).all()
    assert len(found.attrs["history"].splitlines()) == 1


def test_halves_do_not_depend_on_the_chunks_and_moments_save_a_reading():
    ds = mixture(2)
    expected = find_rank(ds, most=2)
    lazy, source = counted(ds, {"y": 9, "x": 13})
    moments = find_spectral_moments(lazy)
    before = source.reads
    found = find_rank(lazy, moments, most=2)
    assert 1 <= source.reads - before < 1.1
    np.testing.assert_allclose(found.stability, expected.stability, rtol=1e-5)


def test_scaled_moments_serve_too():
    ds = mixture(3)
    found = find_rank(ds, find_spectral_moments(ds, scaling="poisson"), most=4)
    assert int(found.significant_rank) == int(found.stable_rank) == 3


def test_spectra_agree_in_any_order_and_scale():
    rng = np.random.default_rng(0)
    spectra = rng.random((4, 30))
    np.testing.assert_allclose(agreement(spectra, 3 * spectra[::-1]), 1)
    assert stability([spectra, spectra[[2, 0, 1, 3]]]) == pytest.approx(1)
    assert stability([np.eye(2, 3), np.eye(2, 3)[:, ::-1]]) < 0.6
    np.testing.assert_array_equal(agreement(np.zeros((1, 3)), np.ones((1, 3))), 0)


def test_impossible_options_are_refused():
    with pytest.raises(OptionError, match="most=0 must be 1 or more"):
        find_rank(mixture(2), most=0)
    with pytest.raises(OptionError, match="subsets=1 must lie between 2 and 32"):
        find_rank(mixture(2), subsets=1)
    with pytest.raises(OptionError, match="must lie between 1 and the 100 channels"):
        find_rank(mixture(2), most=101)
