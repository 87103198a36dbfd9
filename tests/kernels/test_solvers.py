import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.filters import WINDOWS, filter_sinogram
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.solvers import cgls, fbp, sirt
from tests.tolerances import AMPLIFIED, PEER, ROUNDING

SIZE = 96
SOLVERS = {"fbp": fbp, "sirt": sirt, "cgls": cgls}


def half_turn(count):
    return np.linspace(0, np.pi, count, endpoint=False)


def projector(angles, translations=SIZE, backend="cpu", **options):
    return load_projector(backend, ParallelGeometry.centered(angles, translations, **options))


def ellipse(size, center, axes):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return ((x - center[0]) / axes[0]) ** 2 + ((y - center[1]) / axes[1]) ** 2 <= 1


# Density, center and half axes of ellipses that no turn or reflection maps onto themselves.
ELLIPSES = [
    (1.0, (0.0, 0.0), (0.4, 0.3)),
    (0.8, (0.18, -0.1), (0.12, 0.06)),
    (-0.5, (-0.15, 0.12), (0.05, 0.1)),
]


def phantom(size=SIZE):
    """The ellipses on the grid, each pixel the mean of 8 x 8 points."""
    fine = sum(
        density * ellipse(8 * size, [8 * size * c for c in center], [8 * size * h for h in axes])
        for density, center, axes in ELLIPSES
    )
    return fine.reshape(size, 8, size, 8).mean(axis=(1, 3))[..., None]


def exact_sinogram(geometry, size=SIZE):
    """Line integrals of the ellipses by formula, each sample the mean of 9 rays of one step."""
    fine = (np.arange(9) - 4) / 9
    u = np.arange(geometry.translations)[:, None] + fine - geometry.origins[:, None, None]
    cos, sin = (f(geometry.angles)[:, None, None] for f in (np.cos, np.sin))
    rays = np.zeros_like(u)
    for density, (x, y), (a, b) in ELLIPSES:
        a, b = a * size, b * size
        width = (a * cos) ** 2 + (b * sin) ** 2
        offset = u - size * (x * cos - y * sin)
        rays += density * 2 * a * b * np.sqrt(np.clip(width - offset**2, 0, None)) / width
    return rays.mean(axis=2)[..., None]


def circle(size=SIZE):
    return ellipse(size, (0, 0), (size / 2 - 2, size / 2 - 2))[..., None]


def rmse(found, expected, within=None):
    within = np.broadcast_to(True if within is None else within, expected.shape)
    difference = (found - expected)[within]
    return np.sqrt(np.mean(difference**2) / np.mean(expected[within] ** 2))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_disc_of_density_one_reconstructs_to_one(backend):
    angles = half_turn(150)
    radius, translation = 30.0, np.arange(SIZE) - (SIZE - 1) / 2
    chord = 2 * np.sqrt(np.clip(radius**2 - translation**2, 0, None))  # exact, not projected
    sinogram = np.broadcast_to(chord[None, :, None], (150, SIZE, 1)).copy()
    volume = fbp(projector(angles, backend=backend), sinogram)
    inside = ellipse(SIZE, (0, 0), (26, 26))[..., None]
    assert volume[inside].mean() == pytest.approx(1, abs=0.01)
    assert rmse(volume, np.ones_like(volume), inside) < 0.01


def test_fbp_agrees_with_scikit_image_in_scale_and_orientation():
    transform = pytest.importorskip("skimage.transform", reason="scikit-image is not installed")
    angles = half_turn(140)
    A = projector(angles, 97)  # odd, because scikit-image turns about pixel size // 2
    image = phantom(97)
    theirs = transform.radon(image[..., 0], np.rad2deg(angles), circle=True, preserve_range=True)
    sinogram = np.ascontiguousarray(theirs.T[..., None])
    assert rmse(A(image), sinogram) < PEER
    expected = transform.iradon(theirs, np.rad2deg(angles), filter_name="ramp", circle=True)
    assert rmse(fbp(A, sinogram), expected[..., None], circle(97)) < PEER


@pytest.fixture
def astra():
    return pytest.importorskip("astra", reason="astra-toolbox is not installed")


def astra_reconstruct(astra, sinogram, angles):
    size = sinogram.shape[1]
    grid = astra.create_vol_geom(size, size)
    beam = astra.create_proj_geom("parallel", 1.0, size, angles)
    data = astra.data2d.create("-sino", beam, sinogram)
    volume = astra.data2d.create("-vol", grid)
    config = astra.astra_dict("FBP")
    config["ProjectorId"] = astra.create_projector("linear", beam, grid)
    config["ProjectionDataId"], config["ReconstructionDataId"] = data, volume
    config["option"] = {"FilterType": "Ram-Lak"}
    algorithm = astra.algorithm.create(config)
    astra.algorithm.run(algorithm)
    image = astra.data2d.get(volume)
    astra.algorithm.delete(algorithm)
    astra.data2d.delete([data, volume])
    astra.projector.delete(config["ProjectorId"])
    return image


@pytest.mark.filterwarnings("ignore")  # of ASTRA's own import and deprecations
def test_fbp_agrees_with_astra_in_scale_and_orientation(astra):
    angles = half_turn(140)
    A = projector(angles, backend="reference")  # an operator's own way is tested with it
    sinogram = exact_sinogram(A.geometry)
    expected = astra_reconstruct(astra, sinogram[..., 0].astype("float32"), angles)
    assert rmse(fbp(A, sinogram), expected[..., None], circle()) < PEER


def test_projections_of_an_asymmetric_phantom_agree_with_the_formula():
    A = projector(half_turn(140))
    assert rmse(A(phantom()), exact_sinogram(A.geometry)) < PEER


def test_fbp_recovers_an_asymmetric_phantom():
    A = projector(half_turn(140))
    assert rmse(fbp(A, exact_sinogram(A.geometry)), phantom(), circle()) < 0.1


def test_unsorted_angles_give_the_same_image():
    angles = half_turn(60)
    order = np.random.default_rng(1).permutation(60)
    A, shuffled = projector(angles), projector(angles[order])
    sinogram = exact_sinogram(A.geometry)
    difference = rmse(fbp(shuffled, sinogram[order]), fbp(A, sinogram))
    assert difference <= ROUNDING[np.dtype("float64")]


def test_a_full_turn_gives_the_same_image_as_half_a_turn():
    half = projector(half_turn(70), backend="reference")
    full = projector(2 * half_turn(140), backend="reference")
    found = fbp(full, exact_sinogram(full.geometry))
    assert rmse(found, fbp(half, exact_sinogram(half.geometry))) <= 1e-10  # the same lines


def test_uneven_steps_are_weighted():
    angles = half_turn(240)
    angles = angles[(angles < np.pi / 2) | (np.arange(240) % 3 == 0)]
    A = projector(angles)
    sinogram = exact_sinogram(A.geometry)
    even = np.full(angles.size, np.pi / angles.size)
    weighted = rmse(fbp(A, sinogram), phantom(), circle())
    unweighted = rmse(A.T(filter_sinogram(sinogram, weights=even)), phantom(), circle())
    assert weighted < 0.1
    assert unweighted > 2 * weighted


def test_the_position_of_the_axis_and_shifts_belong_to_the_geometry():
    angles = half_turn(140)
    shifts = np.random.default_rng(2).normal(0, 2, angles.size)
    middle = projector(angles, 140, size=SIZE)
    moved = projector(angles, 140, size=SIZE, rotation_center=63.2, shifts=shifts)
    expected = fbp(middle, exact_sinogram(middle.geometry), filter_name="hann")
    found = fbp(moved, exact_sinogram(moved.geometry), filter_name="hann")
    assert rmse(found, expected, circle()) < PEER
    assert rmse(fbp(middle, exact_sinogram(moved.geometry)), expected, circle()) > 10 * PEER


@pytest.mark.parametrize("translations", [63, 64, 65])
def test_no_width_is_special(translations):
    A = projector(half_turn(90), translations)
    volume = fbp(A, exact_sinogram(A.geometry, translations))
    assert rmse(volume, phantom(translations), circle(translations)) < 0.12


@pytest.mark.parametrize("name", WINDOWS)
def test_every_filter_keeps_the_scale(name):
    A = projector(half_turn(90), 64)
    image = 1.0 * ellipse(64, (0, 0), (20, 20))[..., None]
    volume = fbp(A, A(image), filter_name=name)
    inside = ellipse(64, (0, 0), (14, 14))[..., None]
    assert volume[inside].mean() == pytest.approx(1, abs=0.01)


def test_an_unknown_filter_is_refused():
    A = projector(half_turn(4), 8)
    with pytest.raises(
        OptionError, match=r"filter_name='hanning' is not known. Did you mean 'hann'"
    ):
        fbp(A, np.ones((4, 8, 1)), filter_name="hanning")


@pytest.mark.parametrize("method", ["sirt", "cgls"])
def test_no_iterations_are_refused(method):
    A = projector(half_turn(4), 8)
    with pytest.raises(OptionError, match="iterations=0 does nothing"):
        SOLVERS[method](A, np.ones((4, 8, 1)), iterations=0)


@pytest.mark.parametrize("method", SOLVERS)
def test_a_bad_or_strong_channel_leaves_the_others_bitwise_unchanged(method):
    A = projector(half_turn(30), 40)
    sinogram = A(np.random.default_rng(3).random((40, 40, 6)).astype("float32"))
    clean = SOLVERS[method](A, sinogram)
    sinogram[4, 20, 2] = np.nan
    sinogram[..., 3] *= 1e7
    before = sinogram.copy()
    volume = SOLVERS[method](A, sinogram)
    np.testing.assert_array_equal(volume[..., [0, 1, 4, 5]], clean[..., [0, 1, 4, 5]])
    np.testing.assert_array_equal(sinogram, before)
    assert np.isnan(volume[..., 2]).any()  # damage is not hidden
    assert volume.dtype == np.float32


@pytest.mark.parametrize("method", SOLVERS)
def test_channel_blocks_give_the_same_volume(method):
    A = projector(half_turn(30), 40)
    sinogram = A(np.random.default_rng(4).random((40, 40, 70)))
    options = {} if method == "fbp" else {"iterations": 5}
    whole = SOLVERS[method](A, sinogram, **options)
    cuts = [slice(0, 1), slice(1, 65), slice(65, 70)]
    parts = [SOLVERS[method](A, sinogram[..., cut], **options) for cut in cuts]
    bound = AMPLIFIED if method == "cgls" else ROUNDING[np.dtype("float64")]
    assert rmse(np.concatenate(parts, axis=-1), whole) <= bound


@pytest.mark.parametrize("method", SOLVERS)
def test_the_number_of_threads_changes_no_bit(method, monkeypatch):
    A = projector(half_turn(30), 40)
    sinogram = A(np.random.default_rng(5).random((40, 40, 20)).astype("float32"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = SOLVERS[method](A, sinogram)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    np.testing.assert_array_equal(SOLVERS[method](A, sinogram), alone)


@pytest.mark.parametrize("method", ["sirt", "cgls"])
def test_the_residual_shrinks_with_iterations(method):
    A = projector(half_turn(60), 64)
    sinogram = A(phantom(64))
    residuals = [
        np.linalg.norm(A(SOLVERS[method](A, sinogram, iterations=count)) - sinogram)
        for count in (1, 5, 25)
    ]
    assert residuals[0] > 2 * residuals[1] > 4 * residuals[2]


@pytest.mark.parametrize(("method", "count"), [("sirt", 150), ("cgls", 25)])
def test_iterative_methods_recover_the_phantom(method, count):
    A = projector(half_turn(60), 64)
    assert rmse(SOLVERS[method](A, A(phantom(64)), iterations=count), phantom(64)) < 0.05


@pytest.mark.parametrize("method", ["sirt", "cgls"])
@pytest.mark.parametrize("channels", [1, 2])
def test_masked_samples_have_no_weight(method, channels):
    A = projector(half_turn(60), 48)
    sinogram = A(np.repeat(phantom(48), 2, axis=-1))
    mask = np.zeros((60, 48, channels), dtype=bool)
    mask[7:9] = True
    mask[20, 10:30] = True
    damaged = np.where(mask, np.nan, sinogram)
    solve = SOLVERS[method]
    found = solve(A, damaged, mask=mask, iterations=20)
    complete = solve(A, sinogram, iterations=20)
    believed_zero = solve(A, np.where(mask, 0, sinogram), iterations=20)
    error = rmse(found, complete)
    assert error < 0.02
    assert rmse(believed_zero, complete) > 5 * error


def test_nonnegative_sirt_has_no_negative_pixel_and_keeps_nan():
    A = projector(half_turn(20), 32)
    sinogram = np.repeat(A(phantom(32)), 2, axis=-1) - 0.3
    sinogram[3, 5, 1] = np.nan
    assert (sirt(A, sinogram)[..., 0] < 0).any()
    volume = sirt(A, sinogram, nonnegative=True)
    assert (volume[..., 0] >= 0).all()
    assert np.isnan(volume[..., 1]).any()


def test_pixels_no_ray_crosses_stay_zero():
    A = load_projector("cpu", ParallelGeometry(np.array([0.0, 0.1]), 9, 4.0, (40, 40)))
    volume = sirt(A, A(np.ones((40, 40, 1))))
    assert (volume[:, 0] == 0).all()
    assert np.isfinite(volume).all()


def test_cgls_stops_where_nothing_is_left():
    A = projector(half_turn(10), 16)
    assert (cgls(A, np.zeros((10, 16, 2))) == 0).all()
