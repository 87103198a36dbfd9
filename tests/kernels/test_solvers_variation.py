import numpy as np
import pytest
from scipy import optimize

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.solvers import Stopping, cgls, tv, vectorial_tv
from ndtomo_dask.kernels.solvers.gradients import (
    gradient,
    gradient_adjoint,
    shrink,
    variation,
)
from tests.laws import relative_error
from tests.solver_cases import COUPLED, blobs, dense, objective, operator
from tests.tolerances import ROUNDING

ROUNDED = ROUNDING[np.dtype("float64")]
COUPLINGS = {"tv": "none", "vectorial_tv": "shared", "nuclear": "nuclear"}
SOLVERS = {"tv": tv, **COUPLED}


@pytest.fixture(scope="module")
def A():
    return operator(12, 20)


@pytest.fixture(scope="module")
def noisy(A):
    clean = A(blobs(12, 3))
    return clean + np.random.default_rng(4).normal(0, 0.2, clean.shape)


def test_the_gradient_and_its_adjoint_are_adjoint(rng):
    x, slopes = rng.normal(size=(7, 9, 2)), rng.normal(size=(2, 7, 9, 2))
    left, right = np.vdot(gradient(x), slopes), np.vdot(x, gradient_adjoint(slopes))
    assert left == pytest.approx(right, rel=1e-12)
    assert (gradient(np.full((4, 5, 1), 3.0)) == 0).all()


@pytest.mark.parametrize("coupling", COUPLINGS.values())
def test_the_variation_is_the_largest_product_with_what_shrink_lets_pass(rng, coupling):
    x, slopes = rng.normal(size=(6, 6, 4)), 9 * rng.normal(size=(2, 6, 6, 4))
    inside = shrink(slopes, np.ones(1), coupling)
    assert np.vdot(gradient(x), inside) <= variation(x, coupling).sum()
    np.testing.assert_allclose(shrink(inside, np.ones(1), coupling), inside, rtol=1e-9)
    far = shrink(1e9 * gradient(x), np.ones(1), coupling)  # the ball's point in this direction
    assert np.vdot(gradient(x), far) == pytest.approx(variation(x, coupling).sum(), rel=1e-6)


def test_nuclear_shrinkage_cuts_singular_values(rng):
    slopes = rng.normal(size=(2, 3, 3, 5))
    found = shrink(slopes, np.array([1.2]), "nuclear")
    for y, x in np.ndindex(3, 3):
        u, s, v = np.linalg.svd(slopes[:, y, x], full_matrices=False)
        np.testing.assert_allclose(found[:, y, x], u @ np.diag(np.minimum(s, 1.2)) @ v, atol=1e-12)


def test_without_weight_it_is_least_squares(A, noisy):
    least = objective(A, noisy, cgls(A, noisy, iterations=300), 0)
    found = objective(A, noisy, tv(A, noisy, regularization=0, iterations=3000), 0)
    assert least * (1 - 1e-9) <= found <= 1.06 * least  # slow where nothing holds it
    for solve in COUPLED.values():
        few = {"regularization": 0, "iterations": 50}
        assert relative_error(solve(A, noisy, **few), tv(A, noisy, **few)) <= 100 * ROUNDED


@pytest.mark.parametrize("method", SOLVERS)
def test_a_large_weight_leaves_a_constant(A, noisy, method):
    volume = SOLVERS[method](A, noisy, regularization=1e3, iterations=3000)
    lengths = A(np.ones((12, 12, 1)))
    expected = (noisy * lengths).sum(axis=(0, 1)) / (lengths**2).sum()
    assert relative_error(volume, np.broadcast_to(expected, volume.shape)) <= 0.03


@pytest.mark.parametrize("method", SOLVERS)
def test_it_ends_at_the_least_value(A, noisy, method):
    """A general minimizer, on the variation rounded off at its corners, goes no lower."""
    coupling, matrix, shape, alpha = COUPLINGS[method], dense(A), (12, 12, 3), 1.0
    tiny = 1e-6

    def smooth(values):
        x = values.reshape(shape)
        slopes = gradient(x)
        residual = (matrix @ x.reshape(144, 3)).reshape(noisy.shape) - noisy
        back = (matrix.T @ residual.reshape(-1, 3)).reshape(shape)
        if coupling == "nuclear":
            u, s, v = np.linalg.svd(np.moveaxis(slopes, 0, 2), full_matrices=False)
            rounded = np.sqrt(s**2 + tiny)
            pull = np.moveaxis((u * (s / rounded)[..., None, :]) @ v, 2, 0)
        else:
            axes = (0, 3) if coupling == "shared" else (0,)
            rounded = np.sqrt((slopes**2).sum(axis=axes, keepdims=True) + tiny)
            pull = slopes / rounded
        value = 0.5 * (residual**2).sum() + alpha * rounded.sum()
        return value, (back + alpha * gradient_adjoint(pull)).ravel()

    best = optimize.minimize(
        smooth, np.zeros(432), jac=True, method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 9000, "ftol": 1e-13, "gtol": 1e-9},
    ).x.reshape(shape)  # fmt: skip
    volume = SOLVERS[method](A, noisy, regularization=alpha, iterations=1500)
    least = objective(A, noisy, best, alpha, coupling)
    assert objective(A, noisy, volume, alpha, coupling) <= least * (1 + 1e-6)
    early = SOLVERS[method](A, noisy, regularization=alpha, iterations=200)
    assert objective(A, noisy, early, alpha, coupling) <= least * 1.01


@pytest.mark.parametrize("method", COUPLED)
@pytest.mark.parametrize("options", [{}, {"nonnegative": True, "support": "circle"}], ids=str)
def test_of_one_channel_it_is_tv(A, noisy, method, options):
    one = noisy[..., :1]
    expected = tv(A, one, regularization=0.7, iterations=60, **options)
    found = COUPLED[method](A, one, regularization=0.7, iterations=60, **options)
    assert relative_error(found, expected) <= 100 * ROUNDED  # 60 steps


@pytest.mark.parametrize("method", COUPLED)
def test_channels_share_their_edges(method):
    """A channel drowned in noise is better found beside one that has the same edges."""
    A = operator(32, 24)
    image = np.repeat(blobs(32, 1), 2, axis=-1)
    noise = np.array([0.05, 1.5])
    clean = A(image)
    sinogram = clean + np.random.default_rng(7).normal(0, noise, clean.shape)
    weights = np.broadcast_to(noise**-2, clean.shape)

    def least_error(solve, alphas, **options):
        volumes = [
            solve(A, sinogram, regularization=alpha, weights=weights, **options) for alpha in alphas
        ]
        return min(relative_error(volume[..., 1], image[..., 1]) for volume in volumes)

    alone = least_error(tv, (2.0, 4.0, 8.0))
    together = least_error(COUPLED[method], (8.0, 16.0), scales=noise / 1.5)
    assert together < (0.75 if method == "vectorial_tv" else 0.5) * alone


def test_tv_keeps_the_edges_that_few_noisy_projections_lose():
    A = operator(32, 12)
    image = blobs(32, 1)
    sinogram = A(image) + np.random.default_rng(8).normal(0, 0.1, (12, 32, 1))
    plain = min(
        relative_error(cgls(A, sinogram, iterations=count), image) for count in range(2, 15)
    )
    assert relative_error(tv(A, sinogram, regularization=0.3, iterations=300), image) < 0.5 * plain


def test_the_unit_of_a_channel_does_not_matter(A, noisy):
    expected = vectorial_tv(A, noisy, regularization=0.5, iterations=50)
    units = np.array([1.0, 1e7, 1e-3])
    found = vectorial_tv(
        A, noisy * units, regularization=0.5, iterations=50, scales=units,
        weights=np.broadcast_to(units**-2.0, noisy.shape),
    )  # fmt: skip
    assert relative_error(found / units, expected) <= 1e-9


@pytest.mark.parametrize("method", COUPLED)
def test_a_channel_that_is_not_finite_is_left_out(A, noisy, method):
    sinogram = np.insert(noisy, 1, 1.0, axis=-1)
    sinogram[3, 5, 1] = np.nan
    options = {"regularization": 0.5, "iterations": 20, "nonnegative": True}
    start = np.random.default_rng(1).random((12, 12, 4))
    volume = COUPLED[method](A, sinogram, x0=start, scales=[1, 2, 3, 4], **options)
    kept = [0, 2, 3]
    expected = COUPLED[method](A, noisy, x0=start[..., kept], scales=[1, 3, 4], **options)
    np.testing.assert_array_equal(volume[..., kept], expected)
    assert np.isnan(volume[..., 1]).all()
    assert np.isnan(COUPLED[method](A, sinogram * np.nan, **options)).all()


@pytest.mark.parametrize("method", COUPLED)
def test_masked_samples_do_not_matter_whatever_they_contain(A, noisy, method):
    mask = np.zeros((20, 12, 1), dtype=bool)
    mask[4:6] = True
    found = [
        COUPLED[method](
            A, np.where(mask, junk, noisy), mask=mask, regularization=0.5, iterations=20
        )
        for junk in (np.nan, 1e9)
    ]
    np.testing.assert_array_equal(*found)
    assert np.isfinite(found[0]).all()


@pytest.mark.parametrize("method", COUPLED)
def test_coupled_channels_stop_together(A, noisy, method):
    misfits = []
    options = {"regularization": 0.01, "iterations": 300}
    limit = Stopping(discrepancy=0.2**2 * 1.2)

    def watch(_step, _volume, misfit):
        misfits.append(misfit.sum())

    COUPLED[method](A, noisy, stop=limit, watch=watch, **options)
    assert len(misfits) < 200
    assert misfits[-1] <= 0.2**2 * 1.2 * noisy.size < misfits[-2]


@pytest.mark.parametrize("method", SOLVERS)
def test_bounds_and_support_hold_and_inputs_stay(A, noisy, method):
    before = noisy.copy()
    volume = SOLVERS[method](
        A, noisy.astype("float32"), regularization=0.3, iterations=30, bounds=(0.1, 0.6),
        support="circle",
    )  # fmt: skip
    y, x = np.mgrid[:12, :12] - 5.5
    inside = np.hypot(y, x) <= 6
    assert (volume[~inside] == 0).all()
    assert volume[inside].min() >= np.float32(0.1)
    assert volume[inside].max() <= np.float32(0.6)
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(noisy, before)


@pytest.mark.parametrize("regularization", [-1.0, [1.0, 2.0], np.nan])
def test_bad_weights_of_the_variation_are_refused(A, noisy, regularization):
    with pytest.raises(OptionError, match=r"regularization (must be 0 or more|has 2 values for)"):
        tv(A, noisy, regularization=regularization)
    with pytest.raises(OptionError, match="scales must be greater than 0"):
        vectorial_tv(A, noisy, regularization=1.0, scales=[1, 0, 1])
