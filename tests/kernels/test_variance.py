import numpy as np
import pytest

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.filters import WINDOWS
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.solvers import fbp, sirt
from ndtomo_dask.kernels.variance import (
    fbp_variance,
    variance_by_bootstrap,
    variance_by_sampling,
)
from tests.laws import relative_error
from tests.solver_cases import blobs, counts, half_turn, operator
from tests.tolerances import STATISTICAL

EXACT = 1e-10
"""Relative L2 in float64 between the kernel and the matrix of FBP, squared."""

GEOMETRIES = {
    "even": ParallelGeometry.centered(half_turn(10), 11),
    "off center, shifted, unsorted": ParallelGeometry.centered(
        np.random.default_rng(0).uniform(0, 2 * np.pi, 9),
        12,
        rotation_center=4.3,
        shifts=np.random.default_rng(1).normal(0, 1.5, 9),
    ),
    "wide, larger than the detector": ParallelGeometry(half_turn(7), 8, 3.0, (9, 14)),
    "fine pixels of a region": ParallelGeometry(
        half_turn(8), 12, 5.2, (7, 9), pixel_size=0.6, grid_center=(1.5, -2.0)
    ),
    "one sample": ParallelGeometry(half_turn(3), 1, 0.0, (3, 2)),
}


class Plain:
    """The reference operator, whose FBP has no way of its own."""

    def __init__(self, geometry):
        self.geometry, self.T = geometry, load_projector("reference", geometry).T


def squared_matrix(geometry, **options):
    """Square of each number of the matrix that takes a sinogram to its FBP."""
    samples = geometry.angles.size * geometry.translations
    units = np.eye(samples).reshape(geometry.angles.size, geometry.translations, samples)
    return fbp(Plain(geometry), units, **options).reshape(-1, samples) ** 2


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize(
    "options",
    [
        *({"filter_name": name} for name in WINDOWS),
        {"filter_name": None},
        {"filter_name": lambda f: 1 - f, "cutoff": 0.7},
    ],
    ids=lambda options: str(options["filter_name"])[:9],
)
def test_it_is_the_squared_matrix_of_fbp(geometry, options):
    shape = (geometry.angles.size, geometry.translations, 3)
    variance = np.random.default_rng(2).uniform(0, 4, shape)
    matrix = squared_matrix(geometry, **options)
    expected = (matrix @ variance.reshape(-1, 3)).reshape(*geometry.shape, 3)
    found = fbp_variance(geometry, variance, **options)
    assert relative_error(found, expected) <= EXACT
    assert (found >= 0).all()


def test_it_is_the_scatter_of_fbp():
    A = operator(16, 20)
    clean = A(blobs(16)) + 3
    rng = np.random.default_rng(3)
    volumes = fbp(A, rng.poisson(np.repeat(clean, 4000, axis=-1)).astype(float))
    scatter, expected = volumes.var(axis=-1, ddof=1), fbp_variance(A.geometry, clean)[..., 0]
    pulls = (scatter / expected - 1) / np.sqrt(2 / 3999)
    assert abs(pulls).max() < STATISTICAL
    assert abs(np.mean(scatter / expected) - 1) < 0.02


def test_a_channel_is_the_same_bits_however_channels_are_cut(monkeypatch):
    geometry = GEOMETRIES["even"]
    variance = np.random.default_rng(4).uniform(0, 4, (10, 11, 70)).astype("float32")
    variance[..., 3] *= 1e7
    whole = fbp_variance(geometry, variance)
    assert whole.dtype == np.float32
    for cut in (slice(0, 1), slice(1, 66), slice(66, 70)):
        np.testing.assert_array_equal(fbp_variance(geometry, variance[..., cut]), whole[..., cut])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    np.testing.assert_array_equal(fbp_variance(geometry, variance), whole)
    variance[2, 3, 5] = np.nan
    spoiled = fbp_variance(geometry, variance)
    others = [channel for channel in range(70) if channel != 5]
    np.testing.assert_array_equal(spoiled[..., others], whole[..., others])
    assert np.isnan(spoiled[..., 5]).any()


def test_sampling_agrees_with_the_exact_variance_of_fbp():
    A = operator(16, 20)
    sinogram = A(blobs(16, 2))
    variance = np.random.default_rng(5).uniform(0.1, 2, sinogram.shape)
    found = variance_by_sampling(lambda y: fbp(A, y), sinogram, variance, samples=400, seed=1)
    exact = fbp_variance(A.geometry, variance)
    error = np.sqrt(2 / 399) * exact
    assert (abs(found.variance - exact) < STATISTICAL * error).all()
    np.testing.assert_allclose(found.standard_error / found.variance, np.sqrt(2 / 399))
    expected = fbp(A, sinogram)
    assert (abs(found.mean - expected) < STATISTICAL * np.sqrt(exact / 400)).all()


def test_sampling_does_not_depend_on_how_channels_are_cut():
    A = operator(16, 20)
    sinogram = A(blobs(16, 4)).astype("float32")
    variance = np.random.default_rng(6).uniform(0.1, 2, sinogram.shape).astype("float32")
    variance[3, 4, 2] = np.nan  # unknown: no noise is added

    def sampled(cut):
        return variance_by_sampling(
            lambda y: sirt(A, y, iterations=3, nonnegative=True),
            sinogram[..., cut], variance[..., cut], samples=4,
        ).variance  # fmt: skip

    whole = sampled(slice(None))
    assert np.isfinite(whole).all()
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(sampled(slice(1, 3)), whole[..., 1:3])
    np.testing.assert_array_equal(sampled(slice(0, 1)), whole[..., :1])


def test_the_bootstrap_sees_the_noise_without_being_told():
    A = operator(16, 60)
    clean = A(blobs(16, 1))

    def scatter(level):
        noisy = clean + np.random.default_rng(7).normal(0, level, clean.shape)
        found = variance_by_bootstrap(
            lambda y, weights: sirt(A, y, iterations=6, weights=weights), noisy, samples=60
        )
        return found.variance.mean()

    truth = variance_by_sampling(
        lambda y: sirt(A, y, iterations=6), clean, np.full_like(clean, 4.0), samples=200
    ).variance.mean()
    assert 0.5 < scatter(2.0) / truth < 2
    assert scatter(4.0) > 2.5 * scatter(2.0)


def test_of_counts_the_variance_is_known():
    A = operator(16, 20)
    data = counts(A, 2, level=100)
    variance = fbp_variance(A.geometry, data)
    assert np.isfinite(variance).all()
    assert (variance > 0).all()


def test_what_does_not_fit_is_refused():
    geometry = GEOMETRIES["even"]
    with pytest.raises(SchemaError, match=r"variance of shape \(3, 3, 1\) does not fit"):
        fbp_variance(geometry, np.ones((3, 3, 1)))
    with pytest.raises(OptionError, match="samples=1 has no variance"):
        variance_by_sampling(np.sum, np.ones((2, 2, 1)), np.ones((2, 2, 1)), samples=1)
