import numpy as np
import pytest

from ndtomo_dask.errors import BackendError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import projectors
from ndtomo_dask.kernels.projectors import load_projector, resolve_backend
from tests.laws import assert_adjoint
from tests.tolerances import ADJOINT, ROUNDING

HALF_TURN = np.linspace(0, np.pi, 21, endpoint=False)

GEOMETRIES = {
    "even": ParallelGeometry.centered(HALF_TURN, 40),
    "odd": ParallelGeometry.centered(HALF_TURN[:7], 33),
    "off center": ParallelGeometry.centered(HALF_TURN, 40, rotation_center=14.3),
    "full turn, unsorted": ParallelGeometry.centered(
        np.random.default_rng(0).permutation(np.linspace(0, 2 * np.pi, 18, endpoint=False)), 36
    ),
    "shifted": ParallelGeometry.centered(
        HALF_TURN, 40, shifts=np.random.default_rng(1).normal(0, 3, HALF_TURN.size)
    ),
    "wide": ParallelGeometry(HALF_TURN - 1.0, 50, 24.5, (31, 70)),
    "tall, larger than the detector": ParallelGeometry(HALF_TURN, 20, 9.0, (65, 34)),
    "region of small pixels": ParallelGeometry(
        HALF_TURN, 40, 21.3, (50, 45), pixel_size=0.31, grid_center=(6.5, -11.0)
    ),
    "grid beside the detector": ParallelGeometry(
        HALF_TURN, 30, 14.5, (12, 40), pixel_size=0.9, grid_center=(-25.0, 400.0)
    ),
    "one sample": ParallelGeometry(HALF_TURN, 1, 0.0, (3, 2)),
    "one pixel": ParallelGeometry(HALF_TURN[:1], 5, 2.25, (1, 1)),
}


@pytest.fixture(params=GEOMETRIES, ids=lambda name: name.replace(" ", "_"))
def geometry(request):
    return GEOMETRIES[request.param]


def noise(shape, dtype="float64", seed=5):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def sinogram_shape(geometry, *channels):
    return (geometry.angles.size, geometry.translations, *channels)


def relative(found, expected):
    scale = np.linalg.norm(expected.astype(float))
    return np.linalg.norm(found.astype(float) - expected) / (scale or 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_forward_and_back_projection_are_adjoint(geometry, backend, dtype):
    assert_adjoint(load_projector(backend, geometry), np.random.default_rng(6), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cpu_agrees_with_the_matrix(geometry, dtype):
    fast, plain = load_projector("cpu", geometry), load_projector("reference", geometry)
    volume = noise((*geometry.shape, 7), dtype)
    sinogram = noise(sinogram_shape(geometry, 7), dtype)
    tolerance = ADJOINT[np.dtype(dtype)]
    assert relative(fast(volume), plain(volume.astype(float))) <= tolerance
    assert relative(fast.T(sinogram), plain.T(sinogram.astype(float))) <= tolerance


@pytest.mark.parametrize("channels", [0, 1, 7, 16, 33, 64, 130])
def test_a_channel_is_the_same_bits_however_many_there_are(channels):
    geometry = GEOMETRIES["off center"]
    A = load_projector("cpu", geometry)
    volume = noise((*geometry.shape, 130), "float32")
    sinogram = noise(sinogram_shape(geometry, 130), "float32")
    np.testing.assert_array_equal(A(volume[..., :channels]), A(volume)[..., :channels])
    np.testing.assert_array_equal(A.T(sinogram[..., :channels]), A.T(sinogram)[..., :channels])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_any_trailing_axes_are_channels(backend):
    geometry = GEOMETRIES["odd"]
    A = load_projector(backend, geometry)
    volume = noise((*geometry.shape, 2, 3))
    np.testing.assert_array_equal(A(volume)[..., 1, 2], A(volume[..., 1, 2]))
    sinogram = noise(sinogram_shape(geometry))
    assert A.T(sinogram).shape == geometry.shape


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_every_projection_conserves_the_mass_of_an_object_inside(backend):
    geometry = GEOMETRIES["even"]
    volume = np.zeros((40, 40, 2))
    volume[12:29, 10:27] = np.random.default_rng(7).random((17, 17, 2))
    mass = load_projector(backend, geometry)(volume).sum(axis=1)
    np.testing.assert_allclose(mass, np.broadcast_to(volume.sum(axis=(0, 1)), mass.shape))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_at_angle_zero_a_projection_sums_the_columns(backend):
    geometry = ParallelGeometry.centered(np.array([0.0, np.pi / 2]), 9)
    volume = noise((9, 9, 1))
    sinogram = load_projector(backend, geometry)(volume)
    np.testing.assert_allclose(sinogram[0, :, 0], volume[..., 0].sum(axis=0))
    np.testing.assert_allclose(sinogram[1, ::-1, 0], volume[..., 0].sum(axis=1))


def test_a_bad_channel_leaves_the_others_bitwise_unchanged():
    geometry = GEOMETRIES["even"]
    A = load_projector("cpu", geometry)
    for operate, clean in (
        (A, noise((*geometry.shape, 20), "float32")),
        (A.T, noise(sinogram_shape(geometry, 20), "float32")),
    ):
        damaged = clean.copy()
        damaged[5, 6, 3] = np.nan
        damaged[..., 4] *= 1e7
        damaged[6, 20, 17] = np.inf
        others = [channel for channel in range(20) if channel not in (3, 4, 17)]
        before = damaged.copy()
        np.testing.assert_array_equal(operate(damaged)[..., others], operate(clean)[..., others])
        np.testing.assert_array_equal(damaged, before)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    geometry = GEOMETRIES["tall, larger than the detector"]
    A = load_projector("cpu", geometry)
    volume = noise((*geometry.shape, 70), "float32")
    sinogram = noise(sinogram_shape(geometry, 70), "float32")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    forward, backward = A(volume), A.T(sinogram)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    np.testing.assert_array_equal(A(volume), forward)
    np.testing.assert_array_equal(A.T(sinogram), backward)


def test_a_center_off_the_middle_only_moves_the_sinogram():
    middle = ParallelGeometry.centered(HALF_TURN, 60, size=32)
    moved = ParallelGeometry.centered(HALF_TURN, 60, size=32, rotation_center=29.5 + 4)
    volume = noise((32, 32, 1))
    expected = np.roll(load_projector("cpu", middle)(volume), 4, axis=1)
    found = load_projector("cpu", moved)(volume)
    assert relative(found, expected) <= ROUNDING[np.dtype("float64")]


def test_views_and_read_only_blocks_are_accepted():
    geometry = GEOMETRIES["odd"]
    A = load_projector("cpu", geometry)
    volume = noise((7, *geometry.shape)).transpose(1, 2, 0)
    frozen = np.ascontiguousarray(volume)
    frozen.flags.writeable = False
    np.testing.assert_array_equal(A(volume), A(frozen))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_blocks_that_do_not_fit_are_refused(backend):
    A = load_projector(backend, GEOMETRIES["odd"])
    with pytest.raises(SchemaError, match=r"volume of shape \(3, 3, 1\) does not fit .*\(33, 33\)"):
        A(np.zeros((3, 3, 1)))
    with pytest.raises(SchemaError, match=r"sinogram of shape .* begins with \(7, 33\)"):
        A.T(np.zeros((33, 7, 1)))
    with pytest.raises(SchemaError, match=r"volume of int64 .*volume.astype\('float32'\)"):
        A(np.zeros((33, 33, 1), dtype="int64"))


@pytest.mark.parametrize(
    "projections",
    [np.arange(21) % 3 == 1, np.array([17, 2, 2, 9]), slice(4, 15)],
    ids=["mask", "indices", "slice"],
)
def test_selected_projections_are_those_of_the_whole(projections):
    A = load_projector("cpu", GEOMETRIES["shifted"])
    some = A.select(projections)
    volume = noise((40, 40, 5), "float32")
    np.testing.assert_array_equal(some(volume), A(volume)[projections])
    assert_adjoint(some, np.random.default_rng(8), "float64")


def test_a_projector_is_built_once_for_equal_geometries():
    first = ParallelGeometry.centered(HALF_TURN, 12)
    second = ParallelGeometry.centered(HALF_TURN.copy(), 12)
    assert load_projector("cpu", first) is load_projector("cpu", second)
    assert load_projector("cpu", first) is not load_projector("reference", first)
    assert resolve_backend("auto") in projectors.LOADERS


def test_an_unknown_backend_is_refused_with_the_nearest_name():
    with pytest.raises(BackendError, match=r"backend='cpuu' is not known. Did you mean 'cpu'"):
        load_projector("cpuu", GEOMETRIES["odd"])


def test_a_missing_library_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(projectors.LOADERS, "gpu9", "a_library_nobody_has:Projector")
    expected = r"needs 'a_library_nobody_has'.*pip install 'ndtomo-dask\[gpu9\]' on the workers"
    with pytest.raises(BackendError, match=expected):
        load_projector("gpu9", GEOMETRIES["odd"])
