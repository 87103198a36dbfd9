import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.solvers import (
    cgls,
    fbp,
    hold_out,
    score_candidates,
    score_iterations,
    sirt,
    tv,
)
from tests.laws import relative_error
from tests.solver_cases import blobs, operator


@pytest.fixture(scope="module")
def A():
    return operator(24, 60)


NOISE = np.array([0.02, 0.3, 1.0])


@pytest.fixture(scope="module")
def noisy(A):
    clean = A(np.repeat(blobs(24, 1), 3, axis=-1))
    return clean + np.random.default_rng(4).normal(0, NOISE, clean.shape)


@pytest.mark.parametrize(("fraction", "count"), [(0.1, 6), (0.5, 30), (0.001, 1)])
def test_one_projection_of_each_sector_is_held_out(A, fraction, count):
    held = hold_out(A.geometry, fraction)
    assert held.sum() == count
    sectors = np.flatnonzero(held) * count // 60
    np.testing.assert_array_equal(sectors, np.arange(count))
    np.testing.assert_array_equal(held, hold_out(A.geometry, fraction))
    assert (hold_out(A.geometry, 0.5, seed=1) != hold_out(A.geometry, 0.5)).any()


def test_sectors_are_of_angles_not_of_numbers(A):
    order = np.random.default_rng(2).permutation(60)
    shuffled = type(A)(A.geometry.select(order))
    held = np.sort(shuffled.geometry.angles[hold_out(shuffled.geometry, 0.1)])
    assert (np.floor(held / (np.pi / 6) + 1e-9) == np.arange(6)).all()


def test_the_curve_is_the_misfit_of_projections_not_learned_from(A, noisy):
    held = hold_out(A.geometry, 0.2)
    scored = score_iterations(A, noisy, cgls, [5, 1, 9], held_out=held)
    learned, judged = (type(A)(A.geometry.select(some)) for some in (~held, held))
    for steps, misfits in zip([5, 1, 9], scored.curve, strict=True):
        volume = cgls(learned, noisy[~held], iterations=steps)
        expected = ((judged(volume) - noisy[held]) ** 2).sum(axis=(0, 1))
        np.testing.assert_allclose(misfits, expected, rtol=1e-9)
    np.testing.assert_allclose(scored.summed, scored.curve.sum(axis=1))
    np.testing.assert_array_equal(scored.best, scored.curve.argmin(axis=0))
    assert scored.best_summed == scored.summed.argmin()


def test_what_is_held_out_does_not_matter_to_what_is_learned(A, noisy):
    held = hold_out(A.geometry, 0.2)
    other = noisy.copy()
    other[held] += 5
    first, second = (
        score_iterations(A, data, sirt, [3], held_out=held).curve for data in (noisy, other)
    )
    assert (second > first).all()
    volumes = []
    for data in (noisy, other):
        score_iterations(
            A, data, lambda A, y, **o: volumes.append(sirt(A, y, **o)), [3], held_out=held
        )
    np.testing.assert_array_equal(*volumes)


def test_more_noise_asks_for_fewer_steps_and_the_choice_is_near_the_best(A, noisy):
    steps = list(range(1, 60))
    scored = score_iterations(A, noisy, cgls, steps, held_out=hold_out(A.geometry, 0.15))
    assert scored.best[0] > scored.best[1] > scored.best[2]
    truth = blobs(24, 1)[..., 0]
    volumes = []
    cgls(A, noisy, iterations=59, watch=lambda *state: volumes.append(state[1]))
    for channel, chosen in enumerate(scored.best):
        errors = [relative_error(volume[..., channel], truth) for volume in volumes[1:]]
        assert errors[chosen] < 1.3 * min(errors)


def test_options_of_any_method_are_scored(A, noisy):
    held = hold_out(A.geometry, 0.15)
    filters = [{"filter_name": name} for name in ("ram-lak", "hann")]
    scored = score_candidates(A, noisy, fbp, filters, held_out=held)
    learned, judged = (type(A)(A.geometry.select(some)) for some in (~held, held))
    volume = fbp(learned, noisy[~held], filter_name="hann")
    misfit = ((judged(volume) - noisy[held]) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(scored.curve[1], misfit, rtol=1e-9)
    strengths = [{"regularization": alpha, "iterations": 60} for alpha in (0.01, 2.0, 1e3)]
    weights = np.broadcast_to(NOISE**-2, noisy.shape)
    scored = score_candidates(A, noisy, tv, strengths, held_out=held, weights=weights)
    assert scored.best[2] == 1
    count = held.sum() * 24
    assert 0.7 < scored.curve[1, 2] / count < 1.5  # of noise alone it would be 1


def test_masked_samples_and_bad_channels_are_not_judged(A, noisy):
    held = hold_out(A.geometry, 0.2)
    mask = np.zeros((60, 24, 1), dtype=bool)
    mask[np.flatnonzero(held)[0], :12] = True
    data = np.where(mask, np.nan, noisy)
    expected = score_iterations(A, noisy, sirt, [2, 6], held_out=held, mask=mask)
    found = score_iterations(A, data, sirt, [2, 6], held_out=held, mask=mask)
    np.testing.assert_array_equal(found.curve, expected.curve)
    data[np.flatnonzero(~held)[0], 3, 1] = np.nan
    spoiled = score_iterations(A, data, sirt, [2, 6], held_out=held, mask=mask)
    np.testing.assert_array_equal(spoiled.curve[:, [0, 2]], expected.curve[:, [0, 2]])
    assert np.isnan(spoiled.curve[:, 1]).all()
    assert spoiled.best[1] == -1
    np.testing.assert_allclose(spoiled.summed, expected.curve[:, [0, 2]].sum(axis=1))


def test_a_scan_cut_by_channels_has_the_same_curve(A, noisy):
    held = hold_out(A.geometry, 0.2)
    whole = score_iterations(A, noisy, cgls, [2, 6], held_out=held)
    part = score_iterations(A, noisy[..., 1:2], cgls, [2, 6], held_out=held)
    np.testing.assert_array_equal(part.curve, whole.curve[:, 1:2])


def test_nonsense_is_refused(A, noisy):
    held = hold_out(A.geometry, 0.2)
    with pytest.raises(OptionError, match=r"fraction=0\.9 of 60 projections: hold out at least"):
        hold_out(A.geometry, 0.9)
    with pytest.raises(OptionError, match="True for some projections, and not for all"):
        score_iterations(A, noisy, sirt, [2], held_out=np.zeros(60, dtype=bool))
    with pytest.raises(OptionError, match="numbers of 1 or more"):
        score_iterations(A, noisy, sirt, [0], held_out=held)
    with pytest.raises(OptionError, match="no candidates"):
        score_candidates(A, noisy, fbp, [], held_out=held)
