"""Laws that every solver keeps for which each channel is a problem of its own."""

import numpy as np
import pytest

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.solvers import Stopping
from tests.laws import relative_error
from tests.solver_cases import ITERATIVE, METHODS, blobs, counts, half_turn, operator
from tests.tolerances import ROUNDING

STOPPING = ["sirt", "accelerated sirt", "os_sirt", "cgls", "mlem", "osem", "tv"]


@pytest.fixture
def A():
    return operator()


def sinogram_of(A, channels=20, dtype="float32"):
    return A(np.ascontiguousarray(blobs(24, channels).astype(dtype))).clip(0)


@pytest.mark.parametrize("method", METHODS)
def test_bad_and_strong_channels_leave_the_others_bitwise_unchanged(A, method):
    sinogram = sinogram_of(A)
    clean = METHODS[method](A, sinogram)
    sinogram[4, 12, 2] = np.nan
    sinogram[..., 3] *= 1e7
    before = sinogram.copy()
    volume = METHODS[method](A, sinogram)
    others = [channel for channel in range(20) if channel not in (2, 3)]
    np.testing.assert_array_equal(volume[..., others], clean[..., others])
    np.testing.assert_array_equal(sinogram, before)
    assert np.isnan(volume[..., 2]).any()  # damage is not hidden
    assert volume.dtype == np.float32


@pytest.mark.parametrize("method", ITERATIVE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_channel_is_the_same_bits_however_channels_are_cut(A, method, dtype):
    sinogram = sinogram_of(A, 20, dtype)
    whole = METHODS[method](A, sinogram)
    for cut in (slice(0, 1), slice(1, 18), slice(18, 20)):
        np.testing.assert_array_equal(METHODS[method](A, sinogram[..., cut]), whole[..., cut])
    assert whole.dtype == dtype


@pytest.mark.parametrize("method", ["sirt", "cgls", "mlem", "tv"])
def test_cuts_change_no_bit_with_weights_and_stops_of_each_channel(A, method):
    sinogram = counts(A, 6, level=200)
    weights = 1 / np.maximum(sinogram, 1)
    options = {"weights": weights, "stop": Stopping(discrepancy=1.5, change=1e-4)}
    solve = METHODS[method]
    whole = solve(A, sinogram, iterations=30, **options)
    for cut in (slice(0, 1), slice(1, 6)):
        part = solve(
            A, sinogram[..., cut], iterations=30, **options | {"weights": weights[..., cut]}
        )
        np.testing.assert_array_equal(part, whole[..., cut])


@pytest.mark.parametrize("method", METHODS)
def test_a_strong_channel_is_as_exact_as_a_weak_one(A, method):
    sinogram = sinogram_of(A, 1)
    scale = np.float32(2.0**23)  # a power of two, so that even rounding is the same
    pair = np.concatenate([sinogram, scale * sinogram], axis=-1)
    options = {"regularization": [0.2, 0.2 * scale]} if method == "tv" else {}
    volume = METHODS[method](A, pair, **options)
    bound = ROUNDING[np.dtype("float32")]
    assert relative_error(volume[..., 1] / scale, volume[..., 0]) <= bound


@pytest.mark.parametrize("method", ITERATIVE)
def test_the_number_of_threads_changes_no_bit(A, method, monkeypatch):
    sinogram = sinogram_of(A)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = METHODS[method](A, sinogram)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    np.testing.assert_array_equal(METHODS[method](A, sinogram), alone)


@pytest.mark.parametrize("method", ITERATIVE)
@pytest.mark.parametrize("channels", [1, 3])
def test_masked_samples_do_not_matter_whatever_they_contain(A, method, channels):
    sinogram = sinogram_of(A, 3, "float64")
    mask = np.zeros((30, 24, channels), dtype=bool)
    mask[7:9] = True
    mask[20, 5:15] = True
    solve = METHODS[method]
    found = [solve(A, np.where(mask, junk, sinogram), mask=mask) for junk in (np.nan, 0, -9e9)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    weighted = solve(A, np.where(mask, np.nan, sinogram), weights=1.0 * ~mask)
    np.testing.assert_array_equal(found[0], weighted)
    assert np.isfinite(found[0]).all()


@pytest.mark.parametrize("method", ["sirt", "accelerated sirt", "cgls", "mlem", "tv"])
def test_masked_projections_are_as_good_as_absent(method):
    angles = half_turn(30)
    A, kept = operator(), np.ones(30, dtype=bool)
    kept[[3, 17, 18]] = False
    sinogram = sinogram_of(A, 2, "float64")
    mask = np.broadcast_to(~kept[:, None, None], (30, 24, 1))
    masked = METHODS[method](A, sinogram, mask=mask)
    fewer = type(A)(A.geometry.select(kept))
    absent = METHODS[method](fewer, sinogram[kept])
    assert angles.size - kept.sum() == 3
    # TV takes its step lengths from the mean ray, which masked projections take part in.
    assert relative_error(masked, absent) <= (1e-3 if method == "tv" else 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_turning_the_sample_by_an_angle_of_the_grid_turns_the_volume(method):
    size, angles = 24, 32
    A = operator(size, angles)
    image = blobs(size, 2)
    turned = np.rot90(image)  # rows count downwards: a quarter turn of the sample
    upright, leaning = (METHODS[method](A, A(v).clip(0)) for v in (image, turned))
    # Subsets hold other projections after a turn, and forward differences look down and right.
    bound = {"os_sirt": 0.1, "sart": 0.1, "osem": 0.1, "tv": 0.02}.get(method, 1e-9)
    assert relative_error(leaning, np.rot90(upright)) <= bound
    assert relative_error(leaning, upright) > 2 * bound


@pytest.mark.parametrize("method", STOPPING)
def test_a_channel_that_has_stopped_is_frozen(A, method):
    sinogram = sinogram_of(A, 4, "float64")
    sinogram += np.random.default_rng(1).normal(0, [0, 0.1, 0.2, 0.5], sinogram.shape)
    sinogram = sinogram.clip(0)
    stop, solve = Stopping(residual=0.12), METHODS[method]
    together = solve(A, sinogram, iterations=60, stop=stop)
    for channel in range(4):
        only = slice(channel, channel + 1)
        alone = solve(A, sinogram[..., only], iterations=60, stop=stop)
        np.testing.assert_array_equal(together[..., only], alone)
    endless = solve(A, sinogram, iterations=60)
    assert relative_error(together[..., 0], endless[..., 0]) > 1e-3  # it did stop


@pytest.mark.parametrize("method", STOPPING)
def test_watching_changes_no_bit(A, method):
    sinogram = sinogram_of(A, 3, "float64")
    seen = []
    options = {"iterations": 6, "stop": Stopping(residual=0.3)}
    unwatched = METHODS[method](A, sinogram, **options)
    watched = METHODS[method](
        A, sinogram, watch=lambda k, x, misfit: seen.append((k, x.copy(), misfit)), **options
    )
    np.testing.assert_array_equal(watched, unwatched)
    assert [k for k, _, _ in seen] == list(range(len(seen)))
    np.testing.assert_array_equal(seen[-1][1], watched)


@pytest.mark.parametrize("method", ["sirt", "cgls", "tv"])
def test_the_discrepancy_rule_stops_at_the_noise(A, method):
    clean = A(blobs(24, 3))
    noise = np.array([0.05, 0.2, 0.8])
    sinogram = clean + np.random.default_rng(2).normal(0, noise, clean.shape)
    weights = np.broadcast_to(noise**-2.0, clean.shape)
    options = {"regularization": 1e-3 * noise**-2.0} if method == "tv" else {}
    reached = {}

    def watch(step, volume, misfit):
        reached[step] = misfit / (30 * 24)

    METHODS[method](
        A, sinogram, weights=weights, iterations=400, stop=Stopping(discrepancy=1.1),
        watch=watch, **options,
    )  # fmt: skip
    assert (reached[max(reached)] <= 1.1).all()
    last = [min(k for k in reached if reached[k][channel] <= 1.1) for channel in range(3)]
    assert last[0] > last[1] > last[2]  # the more noise, the earlier
    assert all(reached[k][c] == reached[max(reached)][c] for c, k in enumerate(last))


def test_a_small_change_stops():
    A = operator()
    sinogram = sinogram_of(A, 2, "float64")
    steps = []

    def watch(_step, volume, _misfit):
        steps.append(volume)

    solvers.sirt(A, sinogram, iterations=500, stop=Stopping(change=0.01), watch=watch)
    assert len(steps) < 100
    change = np.linalg.norm(steps[-1] - steps[-2], axis=(0, 1))
    assert (change <= 0.01 * np.linalg.norm(steps[-1], axis=(0, 1))).all()


@pytest.mark.parametrize("method", ITERATIVE)
def test_no_iterations_are_refused(A, method):
    with pytest.raises(OptionError, match="iterations=0 does nothing"):
        METHODS[method](A, np.ones((30, 24, 1)), iterations=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": np.full((30, 24, 1), -1.0)}, "weights must be finite and 0 or more"),
        ({"weights": np.full((30, 24, 1), np.inf)}, "weights must be finite and 0 or more"),
        (
            {"weights": np.ones((30, 24))},
            r"weights of shape \(30, 24\) .*pass weights\[..., None\]",
        ),
        ({"mask": np.ones(30, dtype=bool)}, r"mask of shape \(30,\) must have the sinogram's"),
        ({"support": "disc"}, "support='disc' is not known"),
        ({"support": np.ones((3, 3))}, r"support of shape \(3, 3\)"),
        ({"x0": np.ones((3, 3, 1))}, r"x0 of shape \(3, 3, 1\)"),
        ({"bounds": (2, 1)}, r"bounds=\(2, 1\) hold no value"),
        ({"relaxation": 2.0}, "relaxation=2 must be between 0 and 2"),
        ({"relaxation": 1.5, "accelerated": True}, "must be at most 1"),
        ({"subsets": 3, "accelerated": True}, "choose one of them"),
        ({"subsets": 31}, "subsets=31 of 30 projections"),
        ({"subsets": 3, "order": "random"}, "order='random' is not known"),
    ],
)
def test_bad_options_are_refused(A, options, message):
    with pytest.raises((OptionError, SchemaError), match=message):
        solvers.sirt(A, np.ones((30, 24, 1)), **options)


def test_a_rule_that_never_holds_is_refused():
    with pytest.raises(OptionError, match=r"Stopping\(residual=-1\) must be"):
        Stopping(residual=-1)


def test_a_sinogram_without_channels_is_refused(A):
    with pytest.raises(SchemaError, match=r"pass sinogram\[\.\.\., None\]"):
        solvers.sirt(A, np.ones((30, 24)))
