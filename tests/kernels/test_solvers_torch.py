import numpy as np
import pytest

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.solvers import Stopping
from tests.laws import relative_error
from tests.solver_cases import COUPLED, METHODS, counts, half_turn
from tests.tolerances import AMPLIFIED, BACKEND

torch = pytest.importorskip("torch", reason="torch is not installed")

GEOMETRY = ParallelGeometry.centered(half_turn(20), 16)
MASK = np.zeros((20, 16, 1), dtype=bool)
MASK[5, 3:9] = True


@pytest.fixture(scope="module")
def plain():
    return load_projector("reference", GEOMETRY)


@pytest.fixture(scope="module")
def tensors():
    return load_projector("torch", GEOMETRY)


OPTIONS = {
    "plain": {},
    "masked": {"mask": MASK, "support": "circle"},
    "stopped": {"stop": Stopping(residual=0.2, change=1e-3)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("method", {**METHODS, **COUPLED})
def test_every_method_takes_tensors_and_hands_back_tensors(plain, tensors, method, options):
    if method == "fbp" and options:
        pytest.skip("fbp has neither mask nor steps")
    solve = {**METHODS, **COUPLED}[method]
    extra = {"regularization": 0.5, "iterations": 8} if method in COUPLED else {}
    sinogram = counts(plain, 5)
    expected = solve(plain, sinogram, **options, **extra)
    found = solve(tensors, torch.from_numpy(sinogram), **options, **extra)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64
    assert relative_error(found.numpy(), expected) <= AMPLIFIED


@pytest.mark.parametrize("name", ["ram-lak", None, np.array([1.0, 0.5])], ids=str)
def test_filters_are_the_same(plain, tensors, name):
    sinogram = counts(plain, 3).astype("float32")
    expected = solvers.fbp(plain, sinogram, filter_name=name, cutoff=0.9, support="circle")
    found = solvers.fbp(
        tensors, torch.from_numpy(sinogram), filter_name=name, cutoff=0.9, support="circle"
    )
    assert found.dtype == torch.float32
    assert relative_error(found.numpy(), expected) <= BACKEND


def test_bounds_and_warm_starts_take_tensors(plain, tensors):
    sinogram = counts(plain, 3)
    start = np.random.default_rng(1).random((16, 16, 3))
    options = {"bounds": (0.0, 5.0), "iterations": 4}
    expected = solvers.sirt(plain, sinogram, x0=start, **options)
    found = solvers.sirt(tensors, torch.from_numpy(sinogram), x0=torch.from_numpy(start), **options)
    assert relative_error(found.numpy(), expected) <= AMPLIFIED


def test_projections_are_held_out_of_tensors(plain, tensors):
    sinogram = counts(plain, 3)
    held = solvers.hold_out(GEOMETRY, 0.2)
    expected = solvers.score_iterations(plain, sinogram, solvers.cgls, [2, 5], held_out=held)
    found = solvers.score_iterations(
        tensors, torch.from_numpy(sinogram), solvers.cgls, [2, 5], held_out=held
    )
    assert relative_error(found.curve.numpy(), expected.curve) <= AMPLIFIED
    np.testing.assert_array_equal(found.best.numpy(), expected.best)
