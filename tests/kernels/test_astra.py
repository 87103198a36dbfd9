import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ndtomo_dask.errors import BackendError, OptionError, PlanError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.filters import WINDOWS, filter_sinogram
from ndtomo_dask.kernels.projectors import astra as module
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.projectors.derived import interlaced
from ndtomo_dask.kernels.projectors.reference import projection_matrix
from ndtomo_dask.kernels.solvers import fbp
from tests.laws import relative_error

astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")

FLOAT32 = 2e-4
"""Largest difference of one weight, in steps: ASTRA works out positions and weights in float32."""
ASTRA_FBP = 1e-4
"""Relative, our filter and matrix against ASTRA's FBP: the same method, its sums in float32."""

HALF_TURN = np.linspace(0, np.pi, 45, endpoint=False)
ANGLES = np.random.default_rng(0).uniform(-4, 7, 12)  # none along the edges of pixels
GEOMETRIES = {
    "plain": ParallelGeometry.centered(ANGLES, 20),
    "odd and even": ParallelGeometry.centered(ANGLES, 21, size=(12, 17)),
    "moved": ParallelGeometry.centered(
        ANGLES, 24, size=(13, 10), rotation_center=10.3, shifts=np.linspace(-2, 2, 12)
    ),
    "region of small pixels": ParallelGeometry.centered(
        ANGLES, 24, size=(15, 12), rotation_center=12.9, pixel_size=0.6, grid_center=(3.1, -2.4)
    ),
    "large pixels": ParallelGeometry.centered(ANGLES, 30, size=(9, 11), pixel_size=1.7),
}


@pytest.fixture(autouse=True)
def _nothing_is_left(capfd):
    """ASTRA keeps its objects by number until they are deleted; a test must leave none behind."""
    before = objects(capfd)
    yield
    assert objects(capfd) == before


def objects(capfd):
    capfd.readouterr()
    for kind in (astra.data2d, astra.data3d, astra.projector, astra.algorithm, astra.matrix):
        kind.info()
    return capfd.readouterr().out


def projector(angles=HALF_TURN, translations=32, model=None, **options):
    geometry = ParallelGeometry.centered(angles, translations, **options)
    return load_projector("astra", geometry, model)


def image(geometry):
    """Density of an ellipse with a bright, lopsided spot."""
    y, x = np.meshgrid(geometry.y, geometry.x, indexing="ij")
    return 1.0 * ((x / 11) ** 2 + (y / 8) ** 2 < 1) + 3.0 * ((x - 4) ** 2 + (y + 4) ** 2 < 6)


def measured(A, dtype="float32"):
    """Strip projections of the image drawn in pixels of a third."""
    fine = ParallelGeometry(
        A.geometry.angles, A.geometry.translations, A.geometry.rotation_center, (96, 96),
        A.geometry.shifts, pixel_size=1 / 3,
    )  # fmt: skip
    strip = load_projector("reference", fine, "strip")
    return strip(image(fine)).astype(dtype)


@pytest.mark.parametrize("model", module.NAMES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_matrices_agree_element_by_element(name, model):
    geometry = GEOMETRIES[name]
    ours, theirs = projection_matrix(geometry, model), module.system_matrix(geometry, model)
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= FLOAT32
    assert theirs.dtype == np.float32


@pytest.mark.parametrize("selected_first", [True, False])
def test_a_subset_has_the_rows_of_the_matrix(selected_first):
    A = load_projector("astra", GEOMETRIES["moved"].turn(0.01 * selected_first))
    x = np.random.default_rng(1).random((13, 10, 2))
    if selected_first:
        found = A.select(slice(1, None, 2))(x)
    else:
        A(x)
        found = A.select(slice(1, None, 2))(x)
    np.testing.assert_allclose(found, A(x)[1::2], rtol=1e-6)


def test_astra_by_its_own_manual_agrees_with_scikit_image_and_with_us():
    transform = pytest.importorskip("skimage.transform", reason="scikit-image is not installed")
    degrees = np.arange(0.0, 360.0, 8.0)
    rows, columns = np.mgrid[:65, :65] - 32
    picture = np.exp(-((columns - 12) ** 2 + (rows + 9) ** 2) / 40) * (columns**2 + rows**2 < 900)
    beam = astra.create_proj_geom("parallel", 1.0, 65, np.deg2rad(degrees))
    made = astra.create_projector("strip", beam, astra.create_vol_geom(65, 65))
    number, theirs = astra.create_sino(picture, made)
    astra.data2d.delete(number)
    astra.projector.delete(made)
    rotated = transform.radon(picture, degrees, preserve_range=True).T
    ours = load_projector("astra", ParallelGeometry.centered(np.deg2rad(degrees), 65), "strip")
    assert relative_error(theirs, rotated) < 0.01
    assert relative_error(ours(picture), theirs) < 1e-5


@pytest.mark.parametrize("filter_name", WINDOWS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"angles": 2 * HALF_TURN},
        {"angles": np.delete(HALF_TURN, [3, 4, 11])},
        {"rotation_center": 14.2},
        {"shifts": np.linspace(-2, 2, 45)},
        {"pixel_size": 0.7, "grid_center": (1, -2)},
        {"pixel_size": 1.3, "rotation_center": 16.1},
    ],
    ids=["plain", "full turn", "uneven", "off center", "shifted", "small pixels", "large pixels"],
)
def test_its_fbp_is_the_generic_one(options, filter_name):
    A = projector(**options)
    sinogram = measured(A)[..., None]
    weights = A.geometry.weights
    expected = A.T(filter_sinogram(sinogram, filter_name, weights=weights))
    expected = expected / A.geometry.pixel_size**2
    found = A.fbp(sinogram, filter_name)
    assert found.dtype == np.float32
    assert relative_error(found, expected) <= ASTRA_FBP
    np.testing.assert_array_equal(fbp(A, sinogram, filter_name=filter_name), found)


@pytest.mark.parametrize(
    ("algorithm", "iterations", "bound"),
    [("FBP", 1, 0.25), ("SIRT", 60, 0.25), ("SART", 5, 0.2), ("CGLS", 10, 0.2), ("ART", 3, 0.5)],
)
@pytest.mark.parametrize("model", module.NAMES)
def test_its_algorithms_recover_an_image(algorithm, iterations, bound, model):
    A = projector(model=model)
    volume = A.run(algorithm, measured(A), iterations=iterations)
    assert volume.shape == (32, 32)
    assert relative_error(volume, image(A.geometry)) < bound
    assert relative_error(volume[::-1], image(A.geometry)) > 1.5 * bound


def test_stacks_are_single_images_in_any_precision():
    A = projector()
    sinogram = measured(A, "float64")
    stack = sinogram[..., None, None] * np.array([[1, 2, 1e7], [0, np.nan, 3]])
    before = stack.copy()
    found = A.run("SIRT", stack, iterations=4)
    alone = A.run("SIRT", sinogram, iterations=4)
    assert found.shape == (32, 32, 2, 3)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[..., 0, 0], alone)
    np.testing.assert_allclose(found[..., 0, 2], 1e7 * alone, rtol=1e-4, atol=10)
    assert np.isnan(found[..., 1, 1]).any()
    assert np.isfinite(found[..., 1, [0, 2]]).all()
    np.testing.assert_array_equal(stack, before)
    assert A.run("SIRT", stack[..., :0, :]).shape == (32, 32, 0, 3)


@pytest.mark.parametrize("algorithm", ["SIRT", "SART"])
def test_bounds_start_and_order(algorithm):
    A = projector()
    sinogram = measured(A)
    bounded = A.run(algorithm, sinogram, iterations=3, minimum=0, maximum=1.2)
    assert bounded.min() >= 0
    assert bounded.max() <= np.float32(1.2)
    assert A.run(algorithm, sinogram, iterations=40).min() < 0
    assert A.run(algorithm, sinogram, iterations=40).max() > 2
    np.testing.assert_array_equal(  # SART takes its projections in one and the same order
        A.run(algorithm, sinogram, iterations=3), A.run(algorithm, sinogram, iterations=3)
    )
    start = image(A.geometry)
    once = A.run(algorithm, sinogram, start=start)
    assert relative_error(once, start) < relative_error(A.run(algorithm, sinogram), start)


def test_sirt_goes_on_where_it_stopped():
    A = projector()
    sinogram = measured(A)
    half = A.run("SIRT", sinogram, iterations=5)
    whole = A.run("SIRT", sinogram, iterations=10)
    assert relative_error(A.run("SIRT", sinogram, iterations=5, start=half), whole) < 1e-5


def test_even_and_odd_projections_give_two_volumes():
    A = projector()
    sinogram = measured(A)
    even, odd = (
        half.run("SIRT", sinogram[start::2], iterations=60)
        for start, half in enumerate(interlaced(A))
    )
    assert relative_error(even, odd) < 0.15
    assert relative_error((even + odd) / 2, image(A.geometry)) < 0.25
    np.testing.assert_array_equal(
        odd, A.select(np.arange(45) % 2 == 1).run("SIRT", sinogram[1::2], iterations=60)
    )


def test_a_scan_that_starts_at_another_angle_gives_a_turned_image():
    A = projector()
    turned = load_projector("astra", A.geometry.turn(np.pi / 2))
    sinogram = measured(A)
    found = turned.run("SIRT", sinogram, iterations=5)
    assert relative_error(found, np.rot90(A.run("SIRT", sinogram, iterations=5))) < 1e-4


def test_what_is_refused_says_so():
    A = projector()
    sinogram = measured(A)
    with pytest.raises(OptionError, match=r"algorithm='SIRTT' is not known. Did you mean 'SIRT'"):
        A.run("SIRTT", sinogram)
    with pytest.raises(OptionError, match=r"iterations=0 does nothing"):
        A.run("SIRT", sinogram, iterations=0)
    with pytest.raises(OptionError, match=r"filter_name='hanning' is not known"):
        A.fbp(sinogram, "hanning")
    with pytest.raises(SchemaError, match=r"sinogram of shape \(3, 3\) does not fit"):
        A.run("SIRT", sinogram[:3, :3])
    with pytest.raises(SchemaError, match=r"volume of shape \(3, 3\) does not fit"):
        A.run("SIRT", sinogram, start=np.zeros((3, 3)))
    with pytest.raises(SchemaError, match=r"ASTRA's FBP needs the axis in the middle"):
        projector(rotation_center=12.2).run("FBP", sinogram)
    with pytest.raises(OptionError, match=r"model='pixel' is not known"):
        module.system_matrix(A.geometry, "pixel")


@pytest.mark.parametrize("backend", ["astra", "reference"])
def test_a_matrix_that_would_not_fit_is_refused(backend):
    geometry = ParallelGeometry.centered(np.linspace(0, 3, 2000), 2048)
    with pytest.raises(PlanError, match=r"about 1.5e\+10 entries.* pass backend='cpu'"):
        load_projector(backend, geometry, "joseph")(np.zeros((2048, 2048, 1), dtype="float32"))


@pytest.mark.parametrize("algorithm", ["FBP", "SIRT", "SART", "CGLS"])
def test_algorithms_side_by_side_in_threads_change_no_bit(algorithm):
    A = projector()
    sinogram = measured(A)
    scales = [1.0, 2.0, 3.0, 4.0]
    alone = [A.run(algorithm, sinogram * scale, iterations=3) for scale in scales]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda scale: A.run(algorithm, sinogram * scale, iterations=3), scales)
        )
    np.testing.assert_array_equal(together, alone)


def test_the_gpu_is_tried_in_a_child_process_and_its_absence_is_said():
    A = projector()
    if module.has_cuda():
        pytest.skip("ASTRA finds a CUDA device")
    with pytest.raises(BackendError, match=r"EM_CUDA of backend='astra' runs .* or pass one of BP"):
        A.run("EM_CUDA", measured(A))


@pytest.mark.gpu
@pytest.mark.parametrize("algorithm", module.CUDA_ALGORITHMS)
def test_its_gpu_algorithms_give_about_the_same(algorithm):
    if not module.has_cuda():
        pytest.skip("ASTRA finds no CUDA device")
    A = projector()
    iterations = 1 if algorithm in ("FBP_CUDA", "BP_CUDA") else 20
    found = A.run(algorithm, measured(A), iterations=iterations)
    name = algorithm.removesuffix("_CUDA")
    plain = A.run("SIRT" if name == "EM" else name, measured(A), iterations=iterations)
    assert relative_error(found, plain) < 0.2


def test_without_astra_or_with_an_old_one_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(astra, "__version__", "2.4.0")
    with pytest.raises(BackendError, match=r"needs ASTRA 2.4.1 or later, but 2.4.0 is installed"):
        module.load_astra()
    monkeypatch.setitem(sys.modules, "astra", None)
    expected = r"backend='astra' needs 'astra'.*pip install 'ndtomo-dask\[astra\]' on the workers"
    with pytest.raises(BackendError, match=expected):
        module.load_astra()
