"""What a block is made of: options by method, samples that are missing, weights, starts, units."""

import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.projectors import MODEL, load_projector
from ndtomo_dask.kernels.reconstruction import (
    METHODS,
    given_options,
    reconstruct_block,
    variance_block,
)
from tests.laws import relative_error
from tests.solver_cases import blobs, half_turn
from tests.tolerances import ROUNDING

GEOMETRY = ParallelGeometry.centered(half_turn(24), 20)
A = load_projector("cpu", GEOMETRY, MODEL)
DOUBLE = ROUNDING[np.dtype("float64")]


@pytest.fixture
def sinogram():
    return np.asarray(A(blobs(20, 4)))


def run(samples, *beside, method="sirt", geometry=GEOMETRY, step=1.0, **options):
    asked = {"iterations": 6} if METHODS[method].iterative else {}
    given = given_options(method, asked | options)
    return reconstruct_block(
        samples, *beside, geometry=geometry, method=method, options=given, step=step
    )


def test_what_is_not_asked_for_is_not_given():
    asked = {"filter": None, "nonnegative": False, "iterations": 3, "start": False, "stop": None}
    assert given_options("sirt", asked) == {"iterations": 3}
    stopping = given_options("cgls", {"stop": {"change": 0.01}})["stop"]
    assert stopping == solvers.Stopping(change=0.01)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("sart", {"subsets": 3}, r"subsets=3 is for method='sirt' or 'os_sirt' or 'osem', not"),
        ("fbp", {"weighted": True}, r"weighted=True is for method=.*, not for 'fbp'"),
        ("mlem", {"nonnegative": True}, r"nonnegative=True is for .*, not for 'mlem'"),
        ("tv", {}, r"method='tv' needs regularization: pass regularization=10.0, or find one"),
        ("sirt", {"relaxation": 2.0}, r"relaxation=2.0 must be a number between 0 and 2"),
        ("sirt", {"iterations": 0}, r"iterations=0 must be a number of 1 or more"),
        ("fbp", {"cutoff": 1.5}, r"cutoff=1.5 must be a share"),
        ("cgls", {"stop": {"changed": 1}}, r"stop=.* must say when to stop, such as"),
        ("cgls", {"stop": 3}, r"stop=3 must say when to stop"),
        ("sirrt", {}, r"'sirrt' .*Did you mean 'sirt'"),
    ],
)
def test_options_that_a_method_does_not_have_are_refused(method, options, message):
    with pytest.raises(OptionError, match=message):
        given_options(method, options)


def test_a_missing_sample_of_fbp_is_bridged_and_a_dead_projection_left_out(sinogram):
    damaged = sinogram.copy()
    damaged[4, 9, 1] = np.nan
    damaged[7, :, 2] = np.inf
    found = run(damaged, method="fbp")
    bridged = sinogram[..., 1].copy()
    bridged[4, 9] = (bridged[4, 8] + bridged[4, 10]) / 2
    kept = np.arange(24) != 7
    fewer = load_projector("cpu", GEOMETRY.select(kept))
    expected = solvers.fbp(A, sinogram)
    np.testing.assert_array_equal(found[..., [0, 3]], expected[..., [0, 3]])
    assert relative_error(found[..., 1], solvers.fbp(A, bridged[..., None])[..., 0]) <= DOUBLE
    assert relative_error(found[..., 2], solvers.fbp(fewer, sinogram[kept])[..., 2]) <= DOUBLE


@pytest.mark.parametrize("method", ["sirt", "cgls", "mlem"])
def test_a_missing_sample_has_no_weight_whatever_stands_for_it(sinogram, method):
    hole = np.zeros(sinogram.shape, bool)
    hole[4, 9, 1] = hole[7, :, 2] = True
    found = run(np.where(hole, np.nan, sinogram), method=method)
    np.testing.assert_array_equal(run(np.where(hole, -np.inf, sinogram), method=method), found)
    solve = METHODS[method].solve
    np.testing.assert_array_equal(
        solve(A, np.where(hole, 0, sinogram), iterations=6, mask=hole), found
    )
    assert not np.array_equal(solve(A, np.where(hole, 0, sinogram), iterations=6), found)


def test_weights_are_reciprocals_of_the_variance_and_none_where_it_is_not_known(sinogram):
    variance = np.random.default_rng(3).uniform(0.5, 2, sinogram.shape)
    unknown = variance.copy()
    unknown[3, 4, 0], unknown[3, 5, 0], unknown[3, 6, 0] = 0.0, np.nan, -1.0
    weights = 1 / variance
    weights[3, 4:7, 0] = 0
    found = run(sinogram, unknown, weighted=True)
    np.testing.assert_array_equal(found, solvers.sirt(A, sinogram, iterations=6, weights=weights))
    plain = run(sinogram)
    assert (
        relative_error(run(sinogram, np.full_like(variance, 4.0), weighted=True), plain) <= DOUBLE
    )
    assert relative_error(found, plain) > 1e-4


def test_a_start_is_in_the_unit_of_the_volume(sinogram):
    first = run(sinogram, iterations=4, step=0.02)
    more = run(sinogram, first, iterations=3, start=True, step=0.02)
    assert relative_error(more, run(sinogram, iterations=7, step=0.02)) <= DOUBLE


def test_a_volume_is_per_mm_and_starts_and_weights_stand_together(sinogram):
    assert relative_error(run(sinogram, step=0.02) * 0.02, run(sinogram)) <= DOUBLE
    variance, first = np.full_like(sinogram, 2.0), np.full((20, 20, 4), 0.1)
    both = run(sinogram, variance, first, weighted=True, start=True)
    assert relative_error(both, run(sinogram, first, start=True)) <= DOUBLE


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("method", ["fbp", "sirt"])
def test_counts_become_float32_and_inputs_stay(sinogram, method, dtype):
    samples = np.round(sinogram * 100).astype(dtype)
    before = samples.copy()
    samples.flags.writeable = False
    found = run(samples, method=method)
    assert found.dtype == (dtype if dtype.startswith("float") else "float32")
    np.testing.assert_array_equal(samples, before)
    np.testing.assert_array_equal(found, run(samples.astype(found.dtype), method=method))


@pytest.mark.parametrize("method", ["fbp", "sirt"])
def test_the_variance_is_per_square_mm_and_nan_where_nothing_is_known(sinogram, method):
    variance = np.full_like(sinogram, 2.0)
    damaged = sinogram.copy()
    damaged[..., 3] = np.nan
    asked = {"iterations": 3} if method == "sirt" else {}
    common = {"geometry": GEOMETRY, "method": method, "options": given_options(method, asked)}
    found = variance_block(damaged, variance, **common, samples=4, step=0.5)
    assert np.isnan(found[..., 3]).all()
    plain = variance_block(sinogram, variance, **common, samples=4)
    assert relative_error(found[..., :3] / 4, plain[..., :3]) <= 1e-9
    assert (plain[5:15, 5:15] > 0).all()


@pytest.mark.parametrize("method", ["vectorial_tv", "nuclear"])
def test_weighted_channels_share_edges_in_units_of_their_noise(sinogram, method):
    noise = np.array([1.0, 1.0, 50.0, 1.0])
    asked = {"method": method, "regularization": 0.5, "weighted": True}
    found = run(sinogram, np.ones_like(sinogram), **asked)
    louder = run(sinogram * noise, np.ones_like(sinogram) * noise**2, **asked)
    assert relative_error(louder / noise, found) <= 1e-9
