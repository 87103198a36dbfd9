from functools import reduce

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.decomposition import PCA

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.components import factors
from tests.tolerances import ROUNDING

F32, F64 = np.dtype("float32"), np.dtype("float64")

EIGENVALUE = 1e-6
"""Relative error of the eigenvalues of float32 data: measured 4e-8."""


def scene(pixels=6000, channels=60, seed=0, dtype=F32):
    """Spectra of three peaks on a strong background, with noise."""
    rng = np.random.default_rng(seed)
    channel = np.arange(channels)
    spectra = np.exp(-(((channel - np.array([[12], [30], [47]])) / 3.0) ** 2))
    weights = rng.random((pixels, 3)) * [3.0, 2.0, 1.0]
    data = 50 + weights @ spectra + 0.1 * rng.standard_normal((pixels, channels))
    return data.astype(dtype)


def moments(data, blocks=1, shift=None, order=1, **options):
    parts = [
        factors.moments_partial(block, shift, **options) for block in np.array_split(data, blocks)
    ]
    return reduce(factors.moments_combine, parts[::order])


def relative(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_components_are_those_of_scikit_learn(dtype):
    data = scene(dtype=dtype)
    shift = data[:500].mean(axis=0, dtype=float)
    got = factors.pca_finalize(moments(data, 3, shift), shift, 3)
    peer = PCA(3, svd_solver="full").fit(data.astype(float))
    np.testing.assert_allclose(got.mean, peer.mean_, rtol=1e-7)
    np.testing.assert_allclose(got.variance, peer.explained_variance_, rtol=EIGENVALUE)
    np.testing.assert_allclose(got.explained_ratio, peer.explained_variance_ratio_, rtol=EIGENVALUE)
    cosines = np.linalg.svd(got.spectra @ peer.components_.T, compute_uv=False)
    np.testing.assert_allclose(cosines, 1, rtol=EIGENVALUE)


def test_the_largest_loading_is_positive_and_components_are_orthonormal():
    got = factors.pca_finalize(moments(scene()), None, 5)
    largest = np.abs(got.spectra).argmax(axis=1)
    assert (got.spectra[np.arange(5), largest] > 0).all()
    np.testing.assert_allclose(got.spectra @ got.spectra.T, np.eye(5), atol=1e-12)
    assert (np.diff(got.variance) <= 0).all()


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("blocks", "order"), [(7, 1), (7, -1), (40, 1)])
def test_sums_do_not_depend_on_blocks_or_order(dtype, blocks, order):
    data = scene(dtype=dtype)
    whole, split = moments(data), moments(data, blocks, order=order)
    assert split.count == whole.count
    assert relative(split.gram, whole.gram) < ROUNDING[dtype]
    assert relative(split.sum, whole.sum) < ROUNDING[F64]


def weak_component_cosine(**options):
    """How well a component of 1e-4 of the dominant amplitude is found in float32 data."""
    rng = np.random.default_rng(2)
    channel = np.arange(200)
    strong = 1 + np.exp(-(((channel - 60) / 30) ** 2))
    weak = np.exp(-(((channel - 140) / 3) ** 2))
    weak -= strong * (weak @ strong) / (strong @ strong)
    present = (rng.random(20000) < 0.3)[:, None]
    data = (100 * strong + 1e-2 * present * weak).astype(F32)
    got = factors.pca_finalize(moments(data, 4, **options), options.get("shift"), 1)
    return abs(got.spectra[0] @ weak) / np.linalg.norm(weak)


def test_a_shift_keeps_a_weak_component_that_float32_sums_would_lose():
    shift = 100 * (1 + np.exp(-(((np.arange(200) - 60) / 30) ** 2)))
    assert weak_component_cosine(shift=shift) > 0.99
    assert weak_component_cosine() < 0.9


def test_float64_products_do_without_the_shift():
    assert weak_component_cosine(gram_dtype="float64") > 0.99


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_spectra_with_a_bad_value_are_left_out_and_counted(bad):
    data = scene(5000)
    spoiled = data.copy()
    spoiled[[3, 2500, 4999], [0, 10, 59]] = bad
    got, expected = moments(spoiled, 2), moments(np.delete(data, [3, 2500, 4999], 0), 2)
    assert (got.count, got.dropped) == (4997, 3)
    assert relative(got.gram, expected.gram) < ROUNDING[F32]
    assert relative(got.sum, expected.sum) < ROUNDING[F64]


def test_inputs_are_not_written():
    data = scene(100)
    data[5, 5] = np.nan
    data.flags.writeable = False
    got = factors.pca_finalize(moments(data, shift=np.ones(60)), np.ones(60), 2)
    factors.pca_scores(data, got)
    factors.component_weights(data, got.spectra, nonnegative=True)


def test_scores_are_those_of_scikit_learn():
    data = scene(3000)
    got = factors.pca_finalize(moments(data, gram_dtype="float64"), None, 3)
    scores = factors.pca_scores(data, got)
    peer = PCA(3, svd_solver="full").fit(data.astype(float))
    signs = np.sign((got.spectra * peer.components_).sum(axis=1))
    assert scores.dtype == F32
    assert relative(scores, peer.transform(data.astype(float)) * signs) < EIGENVALUE


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_weights_are_the_least_squares_of_numpy_and_scipy(nonnegative, dtype):
    rng = np.random.default_rng(4)
    spectra, data = rng.random((4, 60)), scene(200, dtype=dtype)
    got = factors.component_weights(data, spectra, nonnegative=nonnegative)
    if nonnegative:
        expected = np.array([nnls(spectra.T, row)[0] for row in data.astype(float)])
    else:
        expected = np.linalg.lstsq(spectra.T, data.T.astype(float))[0].T
    assert got.dtype == dtype
    assert relative(got, expected) < 16 * ROUNDING[dtype]


@pytest.mark.parametrize("nonnegative", [True, False])
def test_a_nan_spoils_only_its_own_pixel(nonnegative):
    data, spectra = scene(3000), np.random.default_rng(5).random((3, 60))
    clean = factors.component_weights(data, spectra, nonnegative=nonnegative)
    data[2100, 7] = np.nan
    got = factors.component_weights(data, spectra, nonnegative=nonnegative)
    assert np.isnan(got[2100]).all()
    np.testing.assert_array_equal(np.delete(got, 2100, 0), np.delete(clean, 2100, 0))


@pytest.mark.parametrize("components", [0, 61])
def test_more_components_than_channels_are_refused(components):
    with pytest.raises(OptionError, match="must lie between 1 and the 60 channels"):
        factors.pca_finalize(moments(scene(100)), None, components)


def test_too_few_finite_spectra_are_refused():
    data = scene(10)
    data[1:, 0] = np.nan
    with pytest.raises(SchemaError, match="but 9 of 10 hold NaN"):
        factors.pca_finalize(moments(data), None, 1)


def test_components_of_other_channels_are_refused():
    with pytest.raises(OptionError, match="have 50 channels, but the data have 60"):
        factors.component_weights(scene(10), np.ones((2, 50)), nonnegative=True)


def test_constant_data_have_no_variance():
    got = factors.pca_finalize(moments(np.full((50, 4), 3.0)), None, 2)
    np.testing.assert_array_equal(got.variance, 0)
    np.testing.assert_array_equal(got.explained_ratio, 0)
    np.testing.assert_allclose(got.mean, 3)
