import numpy as np
import pytest

from ndtomo_dask.errors import BackendError, OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import cone_beam
from ndtomo_dask.kernels.cone_beam import ConeGeometry, project, reconstruct
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.projectors.astra import has_cuda

astra = pytest.importorskip("astra", reason="astra-toolbox is not installed")

ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False) + 0.1
CONE = ConeGeometry(
    ANGLES, (20, 30), (12, 16, 18), detector_pixel=0.1, source_to_axis=8.0, axis_to_detector=13.0,
    center=(9.1, 15.3),
)  # fmt: skip
PARALLEL = ConeGeometry(ANGLES, (20, 30), (12, 16, 18), detector_pixel=0.5, center=(9.1, 15.3))
POINTS = np.random.default_rng(1).uniform(-0.3, 0.3, (7, 3))


@pytest.fixture
def gpu():
    if not has_cuda():
        pytest.skip("ASTRA finds no CUDA device")


def shadows(geometry, points):
    """Detector row and column of points, by intersecting rays with the detector ASTRA is told."""
    found = []
    for source, middle, column, row in geometry.vectors().reshape(-1, 4, 3):
        for z, y, x in points:
            point = np.array([x, y, z])
            ray = source if np.isinf(geometry.source_to_axis) else point - source
            onto = np.stack([row, column, -ray], axis=1)
            found.append(np.linalg.solve(onto, point - middle)[:2])
    middle = (np.array(geometry.detector_shape) - 1) / 2
    return np.reshape(found, (geometry.angles.size, -1, 2)) + middle


@pytest.mark.parametrize("geometry", [CONE, PARALLEL], ids=["cone", "parallel"])
def test_rays_through_points_meet_the_detector_where_the_formula_says(geometry):
    np.testing.assert_allclose(geometry.project_points(POINTS), shadows(geometry, POINTS))


def test_a_parallel_beam_is_the_parallel_geometry_of_every_slice():
    flat = ParallelGeometry.centered(ANGLES, 30, rotation_center=15.3)
    _, y, x = POINTS.T
    expected = flat.origins[:, None] + (np.outer(flat.cos, x) - np.outer(flat.sin, y)) / 0.5
    np.testing.assert_allclose(PARALLEL.project_points(POINTS)[..., 1], expected)
    far = ConeGeometry(ANGLES, (20, 30), (12, 16, 18), 0.5, 1e9, 0.0, center=(9.1, 15.3))
    np.testing.assert_allclose(
        far.project_points(POINTS), PARALLEL.project_points(POINTS), rtol=1e-8
    )


def test_shadows_are_magnified():
    assert CONE.magnification == pytest.approx(21 / 8)
    assert CONE.voxel == pytest.approx(0.1 * 8 / 21)
    axis = CONE.project_points(np.array([[-0.2, 0, 0], [0, 0, 0], [0.2, 0, 0]]))
    np.testing.assert_allclose(axis[..., 1], 15.3)
    np.testing.assert_allclose(axis[..., 0], 9.1 + np.array([-2, 0, 2]) * 21 / 8 * np.ones((24, 1)))


@pytest.mark.parametrize("geometry", [CONE, PARALLEL], ids=["cone", "parallel"])
def test_astra_accepts_beam_and_grid(geometry):
    beam, grid = cone_beam.astra_geometries(geometry)
    for kind, of in (("-sino", beam), ("-vol", grid)):
        made = astra.data3d.create(kind, of, 0)
        shape = astra.data3d.get(made).shape
        astra.data3d.delete(made)
        assert shape == ((20, 24, 30) if kind == "-sino" else (12, 16, 18))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angles": np.zeros(0)}, "a list of finite projection angles"),
        ({"detector_shape": (0, 3)}, r"a detector of \(0, 3\) and a grid"),
        ({"source_to_axis": -1.0}, "must be greater than 0"),
        ({"voxel_size": 0.0}, "voxel_size 0 must be a number greater than 0"),
        ({"source_to_axis": 0.3, "voxel_size": 0.1}, "lies inside the grid, whose corners are"),
    ],
)
def test_an_impossible_geometry_is_refused(options, message):
    usual = {"angles": ANGLES, "detector_shape": (20, 30), "shape": (12, 16, 18)}
    with pytest.raises(SchemaError, match=message):
        ConeGeometry(**{**usual, **options})


def test_what_does_not_fit_is_refused():
    with pytest.raises(SchemaError, match=r"volume of shape \(3, 3, 3\) does not fit"):
        project(np.zeros((3, 3, 3)), CONE)
    with pytest.raises(SchemaError, match=r"stack of radiographs of shape .* \(24, 20, 30\)"):
        reconstruct(np.zeros((3, 3, 3)), CONE)
    with pytest.raises(OptionError, match=r"algorithm='FDK' is not known. Known are: BP3D_CUDA"):
        reconstruct(np.zeros((24, 20, 30)), CONE, algorithm="FDK")
    with pytest.raises(OptionError, match=r"iterations=0 does nothing"):
        reconstruct(np.zeros((24, 20, 30)), CONE, iterations=0)
    with pytest.raises(SchemaError, match="FDK needs a source at a distance"):
        reconstruct(np.zeros((24, 20, 30)), PARALLEL)


def test_without_a_gpu_the_process_lives_and_says_why():
    if has_cuda():
        pytest.skip("ASTRA finds a CUDA device")
    with pytest.raises(
        BackendError,
        match=r"a projection in three dimensions runs on CUDA .* where there is one\.$",
    ):
        project(np.zeros((12, 16, 18)), CONE)
    with pytest.raises(BackendError, match=r"FDK_CUDA of ASTRA runs on CUDA only"):
        reconstruct(np.zeros((24, 20, 30)), CONE)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_slices_of_a_parallel_beam_are_the_projector_of_images():
    geometry = ConeGeometry(ANGLES, (4, 30), (4, 16, 18), center=(1.5, 15.3))
    volume = np.random.default_rng(2).random((4, 16, 18)).astype("float32")
    flat = ParallelGeometry.centered(ANGLES, 30, rotation_center=15.3, size=(16, 18))
    expected = load_projector("reference", flat, "joseph")(np.moveaxis(volume, 0, -1))
    found = np.moveaxis(project(volume, geometry), 1, -1)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.05)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("algorithm", ["FDK_CUDA", "SIRT3D_CUDA", "CGLS3D_CUDA"])
def test_a_volume_is_recovered_from_its_radiographs(algorithm):
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    geometry = ConeGeometry(angles, (40, 60), (20, 24, 24), 0.1, 20.0, 10.0)
    volume = np.zeros((20, 24, 24, 2), dtype="float32")
    volume[6:12, 5:15, 8:20, 0] = 1
    volume[8:14, 12:18, 6:12, 1] = 2
    radiographs = project(volume, geometry)
    iterations = 1 if algorithm == "FDK_CUDA" else 30
    found = reconstruct(radiographs, geometry, algorithm=algorithm, iterations=iterations)
    assert np.linalg.norm(found - volume) < 0.35 * np.linalg.norm(volume)
