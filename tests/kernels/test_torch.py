import numpy as np
import pytest

from ndtomo_dask.errors import BackendError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.projectors import torch as module
from ndtomo_dask.kernels.projectors.footprints import MODELS
from ndtomo_dask.kernels.solvers import cgls, fbp, sirt
from tests.laws import relative_error
from tests.tolerances import AMPLIFIED, BACKEND

torch = pytest.importorskip("torch", reason="torch is not installed")

GEOMETRY = ParallelGeometry.centered(
    np.linspace(-0.3, 2.9, 7), 9, size=(6, 8), rotation_center=3.6, pixel_size=0.9
)
SOLVERS = {"fbp": (fbp, {}), "sirt": (sirt, {"iterations": 5}), "cgls": (cgls, {"iterations": 5})}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("Torch finds no CUDA device")
    return request.param


def tensor(*shape, dtype=torch.float64, seed=1, **options):
    made = torch.from_numpy(np.random.default_rng(seed).random(shape))
    return made.to(dtype=dtype, **options)


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_of_finite_differences(model, device):
    geometry = ParallelGeometry.centered(np.array([0.2, 1.4, 2.5]), 5, size=(3, 4), pixel_size=0.9)
    A = load_projector("torch", geometry, model)
    x = tensor(3, 4, 2, device=device).requires_grad_()
    y = tensor(3, 5, 2, device=device).requires_grad_()
    assert torch.autograd.gradcheck(A, x)
    assert torch.autograd.gradcheck(A.T, y)
    assert torch.autograd.gradgradcheck(A, x)


def test_the_gradient_of_a_misfit_is_the_back_projected_residual(device):
    A = load_projector("torch", GEOMETRY)
    x = tensor(*GEOMETRY.shape, 2, device=device).requires_grad_()
    y = tensor(7, 9, 2, device=device)
    (0.5 * (A(x) - y) ** 2).sum().backward()
    torch.testing.assert_close(x.grad, A.T(A(x.detach()) - y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_stay_tensors_on_their_device_and_are_not_written(dtype, device):
    A = load_projector("torch", GEOMETRY)
    x = tensor(*GEOMETRY.shape, 3, dtype=dtype, device=device)
    before = x.clone()
    sinogram = A(x)
    volume = A.T(sinogram)
    assert sinogram.dtype == volume.dtype == dtype
    assert sinogram.device.type == volume.device.type == device
    assert torch.equal(x, before)
    plain = load_projector("reference", GEOMETRY)
    expected = plain(x.cpu().numpy().astype(float))
    assert relative_error(sinogram.cpu().numpy(), expected) <= BACKEND


def test_arrays_stay_arrays_even_where_they_are_views_or_read_only():
    A = load_projector("torch", GEOMETRY)
    view = np.random.default_rng(2).random((3, *GEOMETRY.shape)).transpose(1, 2, 0)
    frozen = np.ascontiguousarray(view)
    frozen.flags.writeable = False
    assert isinstance(A(view), np.ndarray)
    np.testing.assert_array_equal(A(view), A(frozen))
    np.testing.assert_array_equal(A(view), A(torch.from_numpy(view.copy())).numpy())


def test_threads_and_the_size_of_temporaries_change_no_bit(monkeypatch):
    A = load_projector("torch", GEOMETRY, "strip")
    x, y = tensor(*GEOMETRY.shape, 5), tensor(7, 9, 5)
    threads = torch.get_num_threads()
    expected = A(x), A.T(y)
    try:
        torch.set_num_threads(threads + 1)
        monkeypatch.setattr(module, "TEMPORARY", {"cpu": 1, "cuda": 1})
        assert torch.equal(A(x), expected[0])
        assert torch.equal(A.T(y), expected[1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_solvers_give_what_they_give_with_the_matrix(method, kind):
    geometry = ParallelGeometry.centered(np.linspace(0, np.pi, 20, endpoint=False), 24)
    plain = load_projector("reference", geometry)
    image = np.random.default_rng(3).random((24, 24, 3))
    solve, options = SOLVERS[method]
    expected = solve(plain, plain(image), **options)
    sinogram = plain(image) if kind == "arrays" else torch.from_numpy(plain(image))
    found = solve(load_projector("torch", geometry), sinogram, **options)
    assert isinstance(found, torch.Tensor) == (kind == "tensors")
    assert relative_error(np.asarray(found), expected) <= AMPLIFIED


def test_an_image_is_learned_through_the_projector():
    geometry = ParallelGeometry.centered(np.linspace(0, np.pi, 24, endpoint=False), 16)
    A = load_projector("torch", geometry)
    truth = tensor(16, 16, 2)
    sinogram = A(truth)
    image = torch.zeros_like(truth).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        ((A(image) - sinogram) ** 2).mean().backward()
        optimizer.step()
    assert relative_error(A(image).detach().numpy(), sinogram.numpy()) < 0.05


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    expected = r"backend='torch' needs 'torch'.*pip install 'ndtomo-dask\[torch\]' on the workers"
    with pytest.raises(BackendError, match=expected):
        module.TorchProjector(GEOMETRY)
