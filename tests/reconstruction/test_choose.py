import numpy as np
import pytest

from ndtomo_dask import find_iterations, find_regularization, reconstruct, set_rotation_center
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.synthetic import simulate_scan


@pytest.fixture(scope="module")
def noisy():
    ds = simulate_scan(size=48, angles=48, channels=12, seed=1, counts=30.0).load()
    return set_rotation_center(ds, ds.true_rotation_center)


def error(ds, **options):
    """Relative error against the volume of the same scan without noise, much iterated."""
    clean = simulate_scan(size=48, angles=48, channels=12, seed=1, counts=30.0, noise="none")
    clean = set_rotation_center(clean.load(), clean.true_rotation_center)
    truth = reconstruct(clean, method="cgls", iterations=30).volume
    return float(np.linalg.norm(reconstruct(ds, **options).volume - truth))


@pytest.mark.parametrize("method", ["sirt", "cgls", "mlem"])
def test_the_iterations_found_are_neither_too_few_nor_too_many(noisy, method):
    found = find_iterations(noisy, method=method)
    best = int(found.best_iterations)
    assert 1 < best < 200
    assert found.held_out_misfit.dims == ("candidate", "channel")
    chosen = error(noisy, method=method, iterations=best)
    assert chosen < error(noisy, method=method, iterations=1)
    assert chosen < error(noisy, method=method, iterations=200)


def test_the_weight_found_is_better_than_its_extremes(noisy):
    options = {"method": "tv", "iterations": 60}
    found = find_regularization(noisy, options={"iterations": 60})
    chosen = error(noisy, **options, regularization=float(found.best_regularization))
    assert chosen < 0.8 * error(noisy, **options, regularization=0.1)
    assert chosen <= 1.05 * error(noisy, **options, regularization=300.0)


def test_what_is_found_does_not_depend_on_the_chunks_or_on_gaps_in_one_channel(noisy):
    options = {"method": "cgls", "candidates": (1, 2, 4)}
    expected = find_iterations(noisy, **options)
    lazy = find_iterations(noisy.chunk(channel=5), **options)
    np.testing.assert_array_equal(lazy.held_out_misfit, expected.held_out_misfit)
    bad = noisy.copy(deep=True)
    bad["sinogram"] = bad.sinogram.where(np.arange(12) != 3)
    found = find_iterations(bad, **options).held_out_misfit
    assert np.isnan(found[:, 3]).all()
    others = np.arange(12) != 3
    np.testing.assert_array_equal(found[:, others], expected.held_out_misfit[:, others])


def test_a_choice_that_cannot_be_judged_is_refused(noisy):
    with pytest.raises(OptionError, match="has no candidates"):
        find_iterations(noisy, candidates=())
    with pytest.raises(OptionError, match="iterations=0 must be a number of 1 or more"):
        find_iterations(noisy, candidates=(0, 3))
    with pytest.raises(OptionError, match="judges channels one by one"):
        find_regularization(noisy, method="nuclear")
    with pytest.raises(OptionError, match="iterations=1 is for method="):
        find_iterations(noisy, method="fbp")
    with pytest.raises(OptionError, match="takes no weights"):
        find_iterations(noisy, options={"weighted": True})
    with pytest.raises(SchemaError, match="none of 16 is finite"):
        find_iterations(noisy.assign(sinogram=noisy.sinogram * np.nan))
