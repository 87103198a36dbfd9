import numpy as np
import pytest
from scipy import stats

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels.solvers import Stopping, mlem, osem
from ndtomo_dask.kernels.solvers.poisson import deviance
from tests.laws import relative_error
from tests.solver_cases import blobs, counts, operator


@pytest.fixture(scope="module")
def A():
    return operator(24, 30)


@pytest.fixture(scope="module")
def data(A):
    return counts(A, 3)


def watched(solve, A, sinogram, **options):
    seen = []
    solve(A, sinogram, watch=lambda *state: seen.append(state[1:]), **options)
    return seen


def test_counts_are_kept_and_nothing_is_negative(A, data):
    for volume, _ in watched(mlem, A, data, iterations=15):
        assert (volume >= 0).all()
        np.testing.assert_allclose(A(volume).sum(axis=(0, 1)), data.sum(axis=(0, 1)), rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_likelihood_never_falls(A, data, weighted):
    weights = np.random.default_rng(3).uniform(0, 2, data.shape) if weighted else None
    deviances = np.array([d for _, d in watched(mlem, A, data, iterations=40, weights=weights)])
    assert (np.diff(deviances, axis=0) <= 1e-9 * deviances[0]).all()
    assert (deviances[-1] < 0.5 * deviances[0]).all()


def test_the_deviance_is_twice_the_loss_of_likelihood(A, data):
    model = A(blobs(24, 3)) + 0.5
    loss = stats.poisson.logpmf(data, data) - stats.poisson.logpmf(data, model)
    found = deviance(model, data, np.ones((30, 24, 1)))
    np.testing.assert_allclose(found, 2 * loss.sum(axis=(0, 1)))
    impossible = deviance(np.zeros((1, 1, 2)), np.array([[[0.0, 3.0]]]), np.ones((1, 1, 1)))
    np.testing.assert_array_equal(impossible, [0, np.inf])


def test_clean_counts_are_explained(A):
    image = blobs(24, 2)
    assert relative_error(A(mlem(A, A(image).clip(0), iterations=300)), A(image)) < 0.01


def test_subsets_are_faster(A, data):
    plain = watched(mlem, A, data, iterations=8)[-1][1]
    faster = watched(osem, A, data, iterations=8, subsets=6)[-1][1]
    assert (faster < plain).all()
    thirty = watched(mlem, A, data, iterations=8 * 6)[-1][1]
    np.testing.assert_allclose(faster, thirty, rtol=0.05)  # about as many times as subsets


def test_steps_go_on_from_a_volume(A, data):
    whole = mlem(A, data, iterations=12)
    first = mlem(A, data, iterations=5)
    np.testing.assert_array_equal(mlem(A, data, iterations=7, x0=first), whole)


def test_outside_the_support_there_is_nothing(A, data):
    volume = mlem(A, data, iterations=5, support="circle")
    y, x = np.mgrid[:24, :24] - 11.5
    assert (volume[np.hypot(y, x) > 12] == 0).all()
    assert (volume[12, 12] > 0).all()


def test_the_discrepancy_of_counts_stops_near_the_truth(A):
    data = counts(A, 1, level=400)
    clean = A(blobs(24, 1))
    truth = blobs(24, 1) * 400 / clean.max()
    stopped = mlem(A, data, iterations=500, stop=Stopping(discrepancy=1.0))
    late = mlem(A, data, iterations=500)
    assert relative_error(stopped, truth) < 0.7 * relative_error(late, truth)


def test_an_empty_channel_stays_empty(A):
    data = np.concatenate([np.zeros((30, 24, 1)), counts(A, 1)], axis=-1)
    volume = mlem(A, data, iterations=3)
    assert (volume[..., 0] == 0).all()
    assert (volume[..., 1] > 0).any()


def test_negative_data_are_refused_where_they_count(A, data):
    data = data.copy()
    data[3, 4, 1] = -1.25
    with pytest.raises(SchemaError, match=r"counts of 0 or more, but channel 1 .* has -1.25: use"):
        mlem(A, data)
    mask = data < 0
    assert np.isfinite(mlem(A, data, mask=mask)).all()
    start = -np.ones((24, 24, 3))
    assert (mlem(A, np.abs(data), x0=start) == 0).all()  # a start below 0 is moved to 0
