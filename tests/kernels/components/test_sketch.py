from functools import reduce

import numpy as np
import pytest

from ndtomo_dask.kernels.components import factors, sketch
from ndtomo_dask.kernels.components.factors import leading_eigenvectors

CLOSE = 1e-8
"""Relative error of an eigenvalue after two power iterations, where they fall off tenfold."""


def data(rows=500, channels=80, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    strength = 10.0 ** -np.arange(6)
    maps = rng.standard_normal((rows, 6)) * strength
    made = maps @ np.linalg.qr(rng.standard_normal((channels, 6)))[0].T
    return (made + 2 + 1e-7 * rng.standard_normal(made.shape)).astype(dtype)


def found(rows, wanted, *, centered, shift):
    directions = sketch.random_directions(rows.shape[1], wanted)
    for reading in range(sketch.READINGS):
        sums = sketch.sketch_partial(rows, directions, shift)
        product, trace = sketch.without_shift(sums, shift, directions, centered=centered)
        if reading < sketch.READINGS - 1:
            directions = sketch.orthonormal(product)
    return sketch.leading(product, directions, trace, wanted)


@pytest.mark.parametrize("centered", [True, False])
def test_eigenpairs_are_those_of_the_matrix(centered):
    rows = data()
    about = rows - rows.mean(axis=0) if centered else rows
    gram = about.T @ about
    values, vectors = leading_eigenvectors(gram, 4)
    got = found(rows, 4, centered=centered, shift=rows[0])
    np.testing.assert_allclose(got.values, values, rtol=CLOSE)
    np.testing.assert_allclose(np.abs((got.vectors * vectors).sum(axis=0)), 1, atol=CLOSE)
    assert got.trace == pytest.approx(np.trace(gram), rel=1e-9)


@pytest.mark.parametrize(("blocks", "order"), [(3, 1), (17, -1)])
def test_sums_do_not_depend_on_blocks_or_order_and_leave_nan_out(blocks, order):
    rows, shift = data(), np.full(80, 2.0)
    directions = sketch.random_directions(80, 4)
    whole = sketch.sketch_partial(rows, directions, shift)
    spoiled = np.insert(rows, [7, 300], np.nan, axis=0)
    parts = [
        sketch.sketch_partial(part, directions, shift) for part in np.array_split(spoiled, blocks)
    ]
    split = reduce(sketch.sketch_combine, parts[::order])
    assert (split.count, split.dropped) == (500, 2)
    np.testing.assert_allclose(split.product, whole.product, rtol=1e-9, atol=1e-9)
    assert split.energy == pytest.approx(whole.energy, rel=1e-12)


def test_products_are_those_of_the_moments():
    rows, shift = data(dtype="float32"), np.full(80, 2.0)
    directions = sketch.random_directions(80, 4)
    gram = factors.moments_partial(rows, shift).gram
    got = sketch.sketch_partial(rows, directions, shift).product
    assert np.linalg.norm(got - gram @ directions) < 1e-6 * np.linalg.norm(gram @ directions)


def test_more_directions_than_channels_are_not_drawn():
    assert sketch.random_directions(5, 20).shape == (5, 5)
