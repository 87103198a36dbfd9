import numpy as np
import pytest
from scipy.optimize import nnls

from ndtomo_dask.kernels.components.nonnegative import nonnegative_rows

EXACT = 1e-9
"""Of the largest weight: normal equations square the condition number, 100 here, of the spectra."""


def peaks(components, channels, base, rng):
    """Spectra that overlap the more, the higher their common base."""
    channel = np.arange(channels)
    position = rng.uniform(0, channels, (components, 1))
    return base + np.exp(-(((channel - position) / 4) ** 2))


@pytest.mark.parametrize("components", [1, 2, 5, 12])
@pytest.mark.parametrize("base", [0.0, 1.0, 3.0])
def test_each_row_is_the_solution_of_scipy(components, base):
    rng = np.random.default_rng(components)
    spectra = peaks(components, 80, base, rng)
    weights = rng.random((150, components)) * (rng.random((150, components)) < 0.5)
    data = weights @ spectra + 0.2 * rng.standard_normal((150, 80))
    expected = np.array([nnls(spectra.T, row)[0] for row in data])
    got = nonnegative_rows(data @ spectra.T, spectra @ spectra.T)
    assert (expected == 0).any()
    np.testing.assert_allclose(got, expected, atol=EXACT * expected.max())


def test_dependent_components_still_give_the_smallest_residual():
    rng = np.random.default_rng(7)
    spectra = peaks(3, 40, 0.1, rng)
    spectra = np.vstack([spectra, spectra[0], 0 * spectra[0]])
    data = rng.standard_normal((60, 40)) + 1
    got = nonnegative_rows(data @ spectra.T, spectra @ spectra.T)
    assert (got >= 0).all()
    residual = np.linalg.norm(data - got @ spectra, axis=1)
    smallest = [nnls(spectra[:3].T, row)[1] for row in data]
    np.testing.assert_allclose(residual, smallest, rtol=EXACT)


def test_a_nan_stays_in_its_row():
    rng = np.random.default_rng(1)
    products, gram = rng.standard_normal((20, 3)), np.eye(3) + 0.3
    clean = nonnegative_rows(products, gram)
    spoiled = products.copy()
    spoiled[4, 1] = np.nan
    got = nonnegative_rows(spoiled, gram)
    assert np.isnan(got[4]).all()
    np.testing.assert_array_equal(np.delete(got, 4, 0), np.delete(clean, 4, 0))
