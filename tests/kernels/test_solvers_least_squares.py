import numpy as np
import pytest
from scipy import optimize

from ndtomo_dask.kernels.solvers import Stopping, cgls, os_sirt, sart, sirt
from ndtomo_dask.kernels.solvers.problem import make_problem
from ndtomo_dask.kernels.solvers.subsets import ORDERS, projection_subsets, subset_order
from tests.laws import relative_error
from tests.solver_cases import blobs, dense, operator
from tests.tolerances import AMPLIFIED

CONVERGED = 1e-5
"""Relative L2 between an iterative method run to its end and a dense factorisation."""


@pytest.fixture(scope="module")
def A():
    return operator(10, 24)


@pytest.fixture(scope="module")
def matrix(A):
    return dense(A)


@pytest.fixture(scope="module")
def noisy(A):
    clean = A(blobs(10, 3))
    return clean + np.random.default_rng(4).normal(0, 0.1, clean.shape)


@pytest.fixture(scope="module")
def weights(noisy):
    return np.random.default_rng(5).uniform(0.2, 2, noisy.shape)


def misfits(solve, A, sinogram, by=1, **options):
    """Misfit of each volume on the way, weighted by ``by``."""
    found = []

    def watch(step, volume, misfit):
        residual = A(volume) - sinogram
        found.append((residual**2 * by).sum(axis=(0, 1)))

    solve(A, sinogram, watch=watch, **options)
    return np.array(found)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"relaxation": 1.9},
        {"nonnegative": True},
        {"bounds": (0.1, 0.5)},
        {"support": "circle"},
        {"relaxation": 0.2, "nonnegative": True, "support": "circle"},
    ],
    ids=str,
)
def test_the_misfit_of_sirt_by_length_of_ray_never_rises(A, noisy, weights, options):
    rows, _ = make_problem(
        A, noisy, weights=weights, support=options.get("support")
    ).reciprocal_sums()
    curve = misfits(sirt, A, noisy, rows, weights=weights, iterations=60, **options)
    assert (np.diff(curve, axis=0) <= 1e-12 * curve[0]).all()
    assert (curve[-1] < 0.9 * curve[0]).all()


def test_relaxation_of_nearly_two_would_diverge_beyond(A, noisy):
    rows, columns = make_problem(A, noisy).reciprocal_sums()
    flat = dense(A)
    step = columns.reshape(-1, 1) * (flat.T @ (rows.reshape(-1, 1) * flat))
    assert np.linalg.eigvals(step).real.max() == pytest.approx(1, abs=1e-3)  # so 2 is the limit


def test_sirt_resumed_is_sirt_uninterrupted(A, noisy):
    options = {"nonnegative": True, "relaxation": 1.3, "support": "circle"}
    whole = sirt(A, noisy, iterations=30, **options)
    first = sirt(A, noisy, iterations=13, **options)
    np.testing.assert_array_equal(sirt(A, noisy, iterations=17, x0=first, **options), whole)


@pytest.mark.parametrize("subsets", [3, 10])
def test_steps_in_subsets_go_on_from_a_volume(A, noisy, subsets):
    whole = sirt(A, noisy, iterations=9, subsets=subsets)
    first = sirt(A, noisy, iterations=4, subsets=subsets)
    found = sirt(A, noisy, iterations=5, subsets=subsets, x0=first)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("options", [{"accelerated": True}, {"subsets": 4, "relaxation": 0.5}])
def test_faster_sirt_goes_further_in_as_many_steps(A, options):
    sinogram = A(blobs(10, 2))
    plain = misfits(sirt, A, sinogram, iterations=40)[-1]
    faster = misfits(sirt, A, sinogram, iterations=40, **options)[-1]
    assert (faster < 0.3 * plain).all()


@pytest.mark.parametrize("options", [{}, {"accelerated": True}])
def test_sirt_ends_at_bounded_least_squares(A, matrix, noisy, options):
    rows, _ = make_problem(A, noisy).reciprocal_sums()
    root = np.sqrt(rows.reshape(-1))
    found = sirt(A, noisy[..., :1], iterations=2000, bounds=(0, 0.8), **options)
    expected = optimize.lsq_linear(
        root[:, None] * matrix, root * noisy[..., 0].ravel(), bounds=(0, 0.8), tol=1e-12
    ).x
    misfit, least = (
        np.sum((root * (matrix @ x - noisy[..., 0].ravel())) ** 2)
        for x in (found.ravel(), expected)
    )
    assert least <= misfit <= 1.01 * least
    assert relative_error(found.ravel(), expected) <= (CONVERGED if options else 0.3)


@pytest.mark.parametrize("solve", [os_sirt, sart])
@pytest.mark.parametrize("order", ORDERS)
def test_subsets_solve_consistent_data(A, solve, order):
    image = blobs(10, 2)
    volume = solve(A, A(image), iterations=400, order=order, relaxation=1.0)
    assert relative_error(A(volume), A(image)) <= 2e-3


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [1, 2, 7, 12, 24])
def test_subsets_hold_each_projection_once_and_see_all_directions(A, order, count):
    subsets = projection_subsets(A.geometry, count, order)
    assert sorted(np.concatenate(subsets)) == list(range(24))
    for subset in subsets:
        assert np.diff(np.sort(subset)).max(initial=0) <= count


@pytest.mark.parametrize("order", ["golden", "bit-reversal"])
def test_good_orders_turn_far_between_subsets(order):
    steps = np.abs(np.diff(subset_order(64, order)))
    assert np.median(np.minimum(steps, 64 - steps)) >= 16
    assert np.abs(np.diff(subset_order(64, "sequential"))).max() == 1


def test_cgls_ends_at_dense_least_squares(A, matrix, noisy):
    expected = np.linalg.lstsq(matrix, noisy.reshape(-1, 3))[0]
    found = cgls(A, noisy, iterations=600)
    assert relative_error(found.reshape(-1, 3), expected) <= CONVERGED


def test_weighted_cgls_within_a_support_ends_at_weighted_dense_least_squares(
    A, matrix, noisy, weights
):
    y, x = np.mgrid[:10, :10] - 4.5
    inside = (np.hypot(y, x) <= 5).ravel()
    found = cgls(A, noisy, iterations=600, weights=weights, support="circle").reshape(-1, 3)
    assert (found[~inside] == 0).all()
    for channel in range(3):
        root = np.sqrt(weights[..., channel].ravel())
        expected = np.linalg.lstsq(
            root[:, None] * matrix[:, inside], root * noisy[..., channel].ravel()
        )[0]
        assert relative_error(found[inside, channel], expected) <= CONVERGED


def test_tikhonov_solves_the_dense_normal_equations(A, matrix, noisy, weights):
    damping = np.array([0.1, 3.0, 50.0])
    found = cgls(A, noisy, iterations=400, weights=weights, regularization=damping)
    for channel, value in enumerate(damping):
        heavy = matrix * weights[..., channel].reshape(-1, 1)
        normal = matrix.T @ heavy + value * np.eye(100)
        expected = np.linalg.solve(normal, heavy.T @ noisy[..., channel].ravel())
        assert relative_error(found[..., channel].ravel(), expected) <= 1e-9


@pytest.mark.parametrize("regularization", [0.0, 5.0])
def test_cgls_ends_in_one_place_wherever_it_starts(A, noisy, regularization):
    start = np.random.default_rng(6).normal(size=(10, 10, 3))
    options = {"iterations": 600, "regularization": regularization}
    warm = cgls(A, noisy, x0=start, **options)
    assert relative_error(warm, cgls(A, noisy, **options)) <= CONVERGED


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("regularization", [0.0, 0.1, 5.0])
def test_steps_beyond_rounding_do_no_harm(A, noisy, dtype, regularization):
    sinogram = noisy.astype(dtype)
    done, beyond = (
        cgls(A, sinogram, iterations=count, regularization=regularization) for count in (400, 2000)
    )
    condition = 1e3 if regularization == 0 else 10
    assert relative_error(beyond, done) <= 16 * condition * np.finfo(dtype).eps


def test_the_misfit_of_cgls_never_rises(A, noisy, weights):
    curve = misfits(cgls, A, noisy, weights, weights=weights, iterations=30)
    assert (np.diff(curve, axis=0) <= AMPLIFIED * curve[0]).all()


def test_the_misfit_that_stops_is_the_misfit(A, noisy, weights):
    for solve in (sirt, cgls):
        seen = {}
        solve(
            A, noisy, weights=weights, iterations=4,
            watch=lambda k, x, m, seen=seen: seen.update({k: (x, m)}),
        )  # fmt: skip
        assert list(seen) == [0, 1, 2, 3, 4]
        for volume, misfit in seen.values():
            expected = (weights * (A(volume) - noisy) ** 2).sum(axis=(0, 1))
            np.testing.assert_allclose(misfit, expected, rtol=1e-9)


def test_bounds_and_support_hold(A, noisy):
    for options in ({}, {"accelerated": True}, {"subsets": 3}):
        volume = sirt(A, noisy, iterations=10, bounds=(0.2, 0.4), support="circle", **options)
        y, x = np.mgrid[:10, :10] - 4.5
        inside = np.hypot(y, x) <= 5
        assert (volume[~inside] == 0).all()
        assert (volume[inside] >= 0.2).all()
        assert (volume[inside] <= 0.4).all()


def test_a_channel_that_is_solved_at_the_start_stays(A):
    image = blobs(10, 2)
    volume = sirt(A, A(image), x0=image, iterations=50, stop=Stopping(residual=1e-6))
    np.testing.assert_array_equal(volume, image)
