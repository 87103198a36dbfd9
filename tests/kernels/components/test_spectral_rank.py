from functools import reduce

import numpy as np
import pytest

from ndtomo_dask.kernels.components import spectral_rank as sr
from tests.laws import relative_error
from tests.tolerances import ROUNDING

F32, F64 = np.dtype("float32"), np.dtype("float64")


def counts(rows=3000, channels=200, phases=4, level=20.0, seed=0):
    """Poisson counts of a few spectra in random amounts, and their mean, (sample, channel)."""
    rng = np.random.default_rng(seed)
    channel = np.arange(channels)
    centers = np.linspace(0.1, 0.9, phases) * channels
    spectra = np.exp(-(((channel - centers[:, None]) / 6) ** 2)) + 0.2
    mean = rng.gamma(2, 1, (rows, phases)) @ spectra
    mean *= level / mean.mean()
    return rng.poisson(mean).astype(F32), mean


def basis_of(data, rank, blocks=1):
    scale = sr.noise_scale(data.mean(axis=0, dtype=float), np.ones(data.shape[1], dtype=bool))
    parts = np.array_split(data, blocks)
    gram = reduce(sr.gram_combine, [sr.gram_partial(part, scale=scale) for part in parts])
    values, vectors = sr.eigen_decomposition(gram)
    if vectors.shape[0] < data.shape[1]:
        refined = [sr.refine_partial(p, scale=scale, vectors=vectors[:, :rank]) for p in parts]
        vectors = sum(refined)
    return sr.mixing_matrices(vectors[:, :rank], scale), values, gram.rows


@pytest.mark.parametrize(("phases", "level"), [(1, 20.0), (4, 20.0), (7, 20.0), (1, 1.0), (4, 1.0)])
def test_the_rank_of_counts_is_the_number_of_their_spectra(phases, level):
    data, _ = counts(phases=phases, level=level)
    _, values, rows = basis_of(data, 1)
    assert rows == 3000
    assert sr.significant_rank(values, rows) == phases


def test_noise_alone_has_no_rank_and_its_singular_values_are_known():
    data = np.random.default_rng(1).standard_normal((3000, 200))
    values = np.linalg.svd(data, compute_uv=False)
    assert sr.significant_rank(values, 3000) == 0
    assert sr.significant_rank(np.zeros(0), 0) == 0


def test_whitened_counts_have_unit_variance():
    data, mean = counts(rows=6000)
    scale = sr.noise_scale(mean.mean(axis=0), np.ones(200, dtype=bool))
    noise = sr.whitened(data.astype(F64), scale) - sr.whitened(mean, scale)
    # The mean of a spectrum is not that of each of its channels: the scatter of variances is real.
    assert abs(noise.var() - 1) < 0.2
    assert (np.abs(noise.var(axis=0) - 1) < 0.5).all()


def test_the_product_of_both_matrices_keeps_what_is_not_noise():
    data, mean = counts()
    (weight, basis), _, _ = basis_of(data, 6)
    np.testing.assert_allclose(basis @ weight, np.eye(6), atol=1e-12)
    kept = mean @ weight @ basis
    assert relative_error(kept, mean) < 0.01
    assert relative_error(data @ weight @ basis, mean) < 0.25 * relative_error(data, mean)


@pytest.mark.parametrize("channels", [200, 1100])
def test_a_basis_does_not_depend_on_blocks(channels):
    data, _ = counts(rows=2500, channels=channels)
    (_, expected), values, _ = basis_of(data.astype(F64), 4)
    (_, found), others, _ = basis_of(data.astype(F64), 4, blocks=7)
    np.testing.assert_allclose(others[:4], values[:4], rtol=1e-10)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_channels_in_groups_lead_to_the_same_spectra():
    data, mean = counts(rows=6000, channels=1100)
    assert sr.group_size(1100) == 2
    (weight, basis), values, rows = basis_of(data, 4)
    assert values.size == 550
    assert sr.significant_rank(values, rows) == 4
    assert relative_error(mean @ weight @ basis, mean) < 0.01


def test_a_channel_that_is_not_used_may_hold_anything():
    data, _ = counts()
    used = np.ones(200, dtype=bool)
    used[[5, 77]] = False
    scale = sr.noise_scale(data.mean(axis=0, dtype=float), used)
    gram = sr.gram_partial(data, scale=scale)
    data[:, 5], data[3, 77] = np.nan, np.inf
    spoiled = sr.gram_partial(data, scale=scale)
    np.testing.assert_array_equal(spoiled.products, gram.products)
    assert gram.products.shape == (198, 198)
    weight, basis = sr.mixing_matrices(sr.eigen_decomposition(gram)[1][:, :3], scale)
    assert (weight[[5, 77]] == 0).all()
    assert (basis[:, [5, 77]] == 0).all()


def test_a_spectrum_with_nan_is_left_out():
    data, _ = counts()
    scale = sr.noise_scale(data.mean(axis=0, dtype=float), np.ones(200, dtype=bool))
    without = sr.gram_partial(np.delete(data, [3, 99], axis=0), scale=scale)
    data[3, 5], data[99] = np.nan, np.inf
    gram = sr.gram_partial(data, scale=scale)
    assert gram.rows == without.rows == 2998
    assert relative_error(gram.products, without.products) < ROUNDING[F32]


def test_empty_and_negative_channels_do_not_divide_by_nothing():
    scale = sr.noise_scale(np.array([10.0, 0.0, -1.0, 10.0]), np.ones(4, dtype=bool))
    assert (scale.channel > 0.1).all()
    assert sr.noise_scale(np.zeros(3), np.ones(3, dtype=bool)).channel.tolist() == [0.1, 0.1, 0.1]
    nothing = sr.noise_scale(np.zeros(3), np.zeros(3, dtype=bool))
    gram = sr.gram_partial(np.ones((5, 3)), scale=nothing)
    assert gram.products.shape == (0, 0)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("shape", [(5000,), (3, 40, 7)])
def test_mixing_is_the_product_with_the_matrix(dtype, shape, rng):
    block = rng.standard_normal((*shape, 120)).astype(dtype)
    dense = rng.standard_normal((120, 9)).astype(dtype)
    banded = np.eye(120, 40, dtype=dtype) + np.eye(120, 40, -3, dtype=dtype)
    single = np.eye(120, dtype=dtype)[:, [5, 80, 6]] * dtype.type(2)
    mixed = np.concatenate([single, dense[:, :4], np.zeros((120, 1), dtype), dense[:, 4:]], axis=1)
    block.flags.writeable = False
    for matrix in (dense, banded, single, mixed, dense[:, :0]):
        made = sr.mix_channels(block, matrix)
        assert made.dtype == dtype
        assert made.shape == (*shape, matrix.shape[1])
        if matrix.size:
            assert relative_error(made, block @ matrix) < ROUNDING[dtype]


def test_what_has_no_weight_may_be_nan(rng):
    block = rng.standard_normal((300, 50))
    matrix = rng.standard_normal((50, 6))
    matrix[20] = 0
    matrix = np.concatenate([matrix, np.eye(50)[:, [20, 21]]], axis=1)
    expected = sr.mix_channels(block, matrix)
    block[:, 20] = np.nan
    made = sr.mix_channels(block, matrix)
    np.testing.assert_allclose(made[:, :6], expected[:, :6], rtol=1e-12, atol=1e-12)
    assert np.isnan(made[:, 6]).all()
    np.testing.assert_array_equal(made[:, 7], expected[:, 7])


def test_counts_as_integers_are_mixed_as_numbers_of_the_matrix():
    block = np.arange(600, dtype=np.uint16).reshape(20, 30)
    matrix = np.full((30, 2), 0.5, dtype=F32)
    np.testing.assert_allclose(sr.mix_channels(block, matrix), block @ matrix)


def test_the_significant_rank_does_not_grow_with_noise():
    ranks = []
    for seed in range(5):
        data, _ = counts(phases=3, seed=seed)
        _, values, rows = basis_of(data, 1)
        ranks.append(sr.significant_rank(values, rows))
    assert set(ranks) == {3}
