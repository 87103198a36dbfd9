import numpy as np
import pytest

from ndtomo_dask.kernels.solvers.products import SLAB, descend, weigh_misfit

ROWS = (3, SLAB)
"""More rows than one thread works through at a time."""


def blocks(weights, channels=5):
    rng = np.random.default_rng(3)
    shapes = ((*ROWS, channels), (*ROWS, channels), (*ROWS, weights))
    return [rng.standard_normal(shape).astype("float32") for shape in shapes]


@pytest.mark.parametrize("weights", [1, 5])
@pytest.mark.parametrize("turned", [False, True], ids=["contiguous", "view"])
def test_steps_in_one_reading_are_those_of_arithmetic(weights, turned):
    first, other, factors = blocks(weights)
    if turned:
        other = np.asfortranarray(other)
    other.flags.writeable = False
    weighed, moved = (first - other) * factors, other - factors * first
    given = first.copy()
    assert weigh_misfit(given, other, factors) is given
    np.testing.assert_array_equal(given, weighed)
    given = first.copy()
    assert descend(given, other, factors) is given
    np.testing.assert_array_equal(given, moved)


def test_a_block_without_channels_stays_empty():
    first, other, factors = blocks(1, channels=0)
    assert weigh_misfit(first, other, factors).shape == (*ROWS, 0)
