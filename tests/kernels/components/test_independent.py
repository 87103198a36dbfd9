from functools import reduce

import numpy as np
import pytest
from sklearn.decomposition import FastICA

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components import factors, independent
from ndtomo_dask.kernels.reductions import reduce_array

PEER = 1e-8
"""Of 1 - |correlation| with scikit-learn's sources, both iterated until nothing moves."""


def mixed(rows=3000, channels=40, seed=0):
    """Sources that are uniform, sparse and of two values, mixed into spectra with some noise."""
    rng = np.random.default_rng(seed)
    sources = np.stack([
        rng.uniform(-1, 1, rows), rng.laplace(0, 1, rows), rng.choice([-1.0, 1.0], rows)
    ], axis=1)  # fmt: skip
    data = sources @ rng.standard_normal((3, channels)) + 5
    return data + 0.01 * rng.standard_normal(data.shape), sources


def whitened(data, components=3):
    principal = factors.pca_finalize(factors.moments_partial(data), None, components)
    return principal, factors.project_spectra(
        data, independent.whitening(principal), principal.mean
    )


def amounts(data, found, mean):
    return (data - mean) @ np.linalg.pinv(found.spectra)


def test_sources_are_those_of_scikit_learn_and_of_the_truth():
    data, sources = mixed()
    principal, scores = whitened(data)
    found = independent.independent_components(reduce_array(scores), principal)
    ours = amounts(data, found, principal.mean)
    peer = FastICA(3, whiten="unit-variance", tol=1e-10, max_iter=500, random_state=1)
    theirs = peer.fit_transform(data)
    table = np.abs(np.corrcoef(ours.T, theirs.T)[:3, 3:])
    assert (1 - table.max(axis=0)).max() < PEER
    assert np.abs(np.corrcoef(ours.T, sources.T)[:3, 3:]).max(axis=0).min() > 0.995


def test_spectra_have_unit_norm_fixed_signs_and_an_order():
    data, _ = mixed()
    principal, scores = whitened(data)
    found = independent.independent_components(reduce_array(scores), principal)
    np.testing.assert_allclose(np.linalg.norm(found.spectra, axis=1), 1, rtol=1e-12)
    assert (np.diff(found.variance) <= 0).all()
    rows = np.arange(3)
    assert (found.spectra[rows, np.abs(found.spectra).argmax(axis=1)] > 0).all()
    ours = amounts(data, found, principal.mean)
    np.testing.assert_allclose(ours.var(axis=0, ddof=1), found.variance, rtol=1e-9)


@pytest.mark.parametrize(("blocks", "order"), [(3, 1), (17, -1)])
def test_sums_do_not_depend_on_blocks_or_order_and_leave_nan_out(blocks, order):
    _, scores = whitened(mixed()[0])
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    whole = independent.contrast_partial(scores, turn)
    spoiled = np.insert(scores, [5, 700], np.nan, axis=0)
    parts = [independent.contrast_partial(part, turn) for part in np.array_split(spoiled, blocks)]
    split = reduce(independent.contrast_combine, parts[::order])
    assert split.count == whole.count == 3000
    np.testing.assert_allclose(split.cross, whole.cross, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(split.slope, whole.slope, rtol=1e-12)


def test_constant_data_have_no_independent_components_but_finite_ones():
    principal, scores = whitened(np.full((50, 8), 3.0))
    found = independent.independent_components(reduce_array(scores), principal, iterations=5)
    assert np.isfinite(found.spectra).all()
    np.testing.assert_array_equal(found.variance, 0)


def test_no_iterations_are_refused():
    principal, scores = whitened(mixed(rows=100)[0])
    with pytest.raises(OptionError, match="iterations=0 must be 1 or more"):
        independent.independent_components(reduce_array(scores), principal, iterations=0)
