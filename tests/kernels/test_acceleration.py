import numpy as np

from ndtomo_dask.kernels.acceleration import DEPTH, Anderson


def contraction(size=4, seed=0):
    """A linear iteration x -> M x + b that converges slowly, and its fixed point."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((size, size)))[0]
    matrix = axes @ np.diag(np.linspace(0.9, 0.99, size)) @ axes.T
    fixed = rng.standard_normal(size)
    return lambda x: fixed + matrix @ (x - fixed), fixed


def test_a_linear_iteration_ends_after_as_many_steps_as_it_has_dimensions():
    step, fixed = contraction(DEPTH - 1)
    track, plain = Anderson(np.zeros(DEPTH - 1)), np.zeros(DEPTH - 1)
    for _ in range(DEPTH + 1):
        image = step(track.trial)
        track.advance(image, float(np.square(track.trial - image).sum()))
        plain = step(plain)
    np.testing.assert_allclose(track.image, fixed, atol=1e-8)
    assert np.linalg.norm(plain - fixed) > 0.5 * np.linalg.norm(fixed)


def test_where_the_objective_rises_the_plain_step_is_taken():
    track = Anderson(np.zeros(2))
    assert track.advance(np.ones(2), 1.0)
    assert track.advance(np.full(2, 1.5), 0.5)
    assert not track.advance(np.full(2, 9.0), 0.7)
    np.testing.assert_array_equal(track.trial, [1.5, 1.5])
    assert track.value == 0.5


def test_a_step_of_another_kind_is_not_extrapolated():
    step, _ = contraction(2)
    track = Anderson(np.zeros(2))
    for value in (3.0, 2.0):
        track.advance(step(track.trial), value)
    jump = np.array([5.0, -5.0])
    track.advance(jump, 1.0, forget=True)
    np.testing.assert_array_equal(track.trial, jump)
