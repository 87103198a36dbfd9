from functools import reduce

import numpy as np
import pytest
from sklearn.decomposition import NMF

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components import factors, nmf, nmf_start
from tests.tolerances import AMPLIFIED, ROUNDING

F64 = ROUNDING[np.dtype("float64")]
PEER_OBJECTIVE = 1.001
"""Of scikit-learn's: local minima of one start differ by less, measured 0.99999 to 1.00001."""

COMPRESSED = 1e-4
"""Relative error of the objective for what lies outside the basis: measured 2e-6 to 2e-5."""


def planted(pixels=2000, channels=120, components=4, seed=0):
    """Nonnegative weights, half of them zero, and spectra of a few peaks."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(5, channels - 5, (components, 4, 1))
    height = rng.uniform(0.2, 1, (components, 4, 1))
    peaks = height * np.exp(-(((np.arange(channels) - position) / 3) ** 2))
    present = rng.random((pixels, components)) < 0.5
    return present * rng.random((pixels, components)), 0.02 + peaks.sum(axis=1)


def noisy(counts=20.0, **options):
    weights, spectra = planted(**options)
    clean = weights @ spectra
    return np.random.default_rng(1).poisson(clean * counts / clean.mean()).astype("float32")


def compress(data, components, shift=None):
    basis = nmf.nmf_basis(factors.moments_partial(data, shift), shift, components)
    return factors.project_spectra(data, basis.vectors), basis


def factorize(data, components, shift=None, **options):
    return nmf.nmf_from_projection(*compress(data, components, shift), components, **options)


def residual(data, spectra):
    weights = factors.component_weights(data, spectra, nonnegative=True)
    return np.square(data.astype(float) - weights.astype(float) @ spectra).sum()


def worst_cosine(found, truth):
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True)
    return (found @ truth.T).max(axis=0).min()


def test_the_objective_is_as_low_as_that_of_scikit_learn():
    data = noisy()
    peer = NMF(4, init="nndsvd", solver="cd", tol=1e-5, max_iter=500).fit(data)
    got = factorize(data, 4)
    assert residual(data, got.spectra) < PEER_OBJECTIVE * peer.reconstruction_err_**2


def test_the_objective_reported_is_that_of_the_data():
    data = noisy()
    got = factorize(data, 4)
    assert got.objective == pytest.approx(residual(data, got.spectra), rel=COMPRESSED)


@pytest.mark.parametrize(("components", "channels"), [(3, 120), (4, 120), (8, 240)])
def test_planted_components_are_recovered(components, channels):
    _, spectra = planted(channels=channels, components=components)
    data = noisy(channels=channels, components=components)
    assert worst_cosine(factorize(data, components).spectra, spectra) > 0.99


def test_exact_data_are_explained_fully():
    weights, spectra = planted()
    data = weights @ spectra
    got = factorize(data, 4, iterations=2000, tolerance=1e-10)
    assert worst_cosine(got.spectra, spectra) > 0.99
    assert got.objective < 1e-6 * np.square(data).sum()


def test_spectra_are_nonnegative_of_unit_sum_and_in_order_of_weight():
    data = noisy()
    got = factorize(data, 4)
    assert got.spectra.min() >= 0
    np.testing.assert_allclose(got.spectra.sum(axis=1), 1, rtol=F64)
    assert (np.diff(got.weight) <= 0).all()
    weights = factors.component_weights(data, got.spectra, nonnegative=True)
    np.testing.assert_allclose(got.weight, weights.sum(axis=0), rtol=1e-3)


def test_negative_noise_is_kept_because_clipping_it_would_add_intensity():
    weights, spectra = planted()
    clean = weights @ spectra
    clean *= 20 / clean.mean()
    data = clean + 8 * np.random.default_rng(2).standard_normal(clean.shape)
    got, clipped = factorize(data, 4), factorize(np.maximum(data, 0), 4)
    assert worst_cosine(got.spectra, spectra) > 0.99
    # Spectra have unit sum, so that the weights sum to the intensity of the fit.
    assert got.weight.sum() == pytest.approx(clean.sum(), rel=0.01)
    assert clipped.weight.sum() > 1.04 * clean.sum()


def test_a_shift_of_the_moments_changes_nothing():
    data = noisy().astype(float)
    plain, shifted = factorize(data, 4), factorize(data, 4, data[:100].mean(axis=0))
    np.testing.assert_allclose(shifted.spectra, plain.spectra, atol=1e-6 * plain.spectra.max())


def test_nothing_is_random():
    data = noisy()
    for first, second in zip(factorize(data, 4), factorize(data, 4), strict=True):
        np.testing.assert_array_equal(first, second)


def test_spectra_with_nan_are_left_out_and_counted():
    data = noisy().astype(float)
    spoiled = data.copy()
    spoiled[[5, 900], [3, 100]] = np.nan
    got, expected = factorize(spoiled, 4), factorize(np.delete(data, [5, 900], 0), 4)
    assert (got.count, got.dropped) == (1998, 2)
    np.testing.assert_allclose(got.spectra, expected.spectra, atol=1e-6 * expected.spectra.max())


@pytest.mark.parametrize(("blocks", "order"), [(2, 1), (9, 1), (9, -1)])
def test_blocks_in_any_order_give_the_factors_of_the_whole(blocks, order):
    projection, basis = compress(noisy().astype(float), 4)
    parts = np.array_split(projection, blocks)[::order]
    energy = reduce(nmf_start.energy_combine, map(nmf_start.energy_partial, parts))
    start = nmf_start.nmf_start(energy, basis.vectors, 4)

    def sums_of(spectra):
        return reduce(
            nmf.nmf_combine, [nmf.nmf_partial(part, basis.vectors, spectra) for part in parts]
        )

    got = nmf.nmf_finalize(sums_of, start, basis, iterations=5)
    expected = nmf.nmf_from_projection(projection, basis, 4, start="svd", iterations=5)
    difference = np.linalg.norm(got.spectra - expected.spectra)
    assert difference < AMPLIFIED * np.linalg.norm(expected.spectra)
    assert (got.count, got.dropped) == (2000, 0)


def test_the_objective_never_rises_with_iterations():
    projection, basis = compress(noisy(), 4)
    objectives = [
        nmf.nmf_from_projection(projection, basis, 4, iterations=count).objective
        for count in (1, 2, 3, 5, 8, 13, 21)
    ]
    assert (np.diff(objectives) <= 1e-12 * basis.energy).all()


def test_as_many_components_as_channels_can_be_asked_for():
    got = factorize(noisy(pixels=300, channels=16, components=2), 16)
    assert got.spectra.shape == (16, 16)
    assert np.isfinite(got.spectra).all()


def test_a_component_too_many_for_the_data_is_harmless():
    weights, spectra = planted(components=2)
    got = factorize(weights @ spectra, 4)
    assert np.isfinite(got.spectra).all()
    assert got.objective < 1e-4 * np.square(weights @ spectra).sum()


@pytest.mark.parametrize(
    ("components", "iterations", "words"),
    [
        (0, 10, "components=0 must lie between 1 and the 120 channels"),
        (121, 10, "components=121 must lie between 1 and the 120 channels"),
        (4, 0, "iterations=0 must be 1 or more"),
    ],
)
def test_impossible_options_are_refused(components, iterations, words):
    with pytest.raises(OptionError, match=words):
        factorize(noisy(), components, iterations=iterations)


def test_more_components_than_basis_vectors_are_refused():
    projection, basis = compress(noisy(), 4)
    with pytest.raises(OptionError, match="between 1 and the 12 vectors of the basis"):
        nmf.nmf_from_projection(projection, basis, 13)


@pytest.mark.parametrize("start", ["pure", "svd"])
def test_some_rows_first_leave_few_iterations_with_all(start):
    data = noisy(pixels=8000)
    projection, basis = compress(data, 4)
    some = projection[::10].astype(float)
    whole = nmf.nmf_from_projection(projection, basis, 4, start=start)
    after = nmf.nmf_from_projection(projection, basis, 4, start=start, some=some)
    assert after.iterations < whole.iterations
    assert after.objective < (1 + COMPRESSED) * whole.objective
    assert after.count == whole.count


def test_a_phase_of_a_few_pixels_is_found_though_some_rows_have_none_of_it():
    rng = np.random.default_rng(2)
    weights, spectra = planted(pixels=8000)
    weights[:, 3] = 0
    weights[4001:4008] = [0, 0, 0, 3]
    clean = weights @ spectra
    data = rng.poisson(200 * clean).astype("float32")
    projection, basis = compress(data, 4)
    some = projection[::10].astype(float)
    assert not weights[::10, 3].any()
    found = nmf.nmf_from_projection(projection, basis, 4, some=some)
    assert worst_cosine(found.spectra, spectra) > 0.98
