"""Filtered back-projection of the compiled projector: directly, and in two levels."""

import numpy as np
import pytest

from benchmarks import truth
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.filters import WINDOWS, filter_sinogram
from ndtomo_dask.kernels.projectors.groups import DISPLACEMENT, rays_in_groups
from ndtomo_dask.kernels.projectors.numba import NumbaProjector
from ndtomo_dask.kernels.projectors.passes import halfway_weights, passes
from ndtomo_dask.kernels.projectors.tiles import SMALL
from tests.tolerances import ROUNDING, TWO_LEVELS

SIZE = 101
HALF_TURN = np.linspace(0, np.pi, 120, endpoint=False)
FULL_TURN = np.linspace(0, 2 * np.pi, 240, endpoint=False)
DIRECT = {np.dtype("float32"): 1e-5, np.dtype("float64"): ROUNDING[np.dtype("float64")]}
"""Relative L2 of one sum in another order, after a filter that cancels most of it."""


def head(angles, size=SIZE, channels=2):
    return (truth.head_sinogram(angles, size) @ truth.head_channels(channels)).astype("float32")


def error(found, size=SIZE):
    image = truth.head_image(size) @ truth.head_channels(found.shape[2])
    return truth.relative_rmse(found, image, truth.circle(size))


def noise(geometry, channels, dtype="float32", seed=3):
    shape = (geometry.angles.size, geometry.translations, channels)
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def relative(found, expected):
    difference = found.astype(float) - expected.astype(float)
    return np.linalg.norm(difference) / np.linalg.norm(expected.astype(float))


def smooth(size):
    """Blobs (x, y, width, height) that a coarse grid samples without loss."""
    return np.array([[0.1, -0.2, 0.05, 1.0], [-0.2, 0.08, 0.04, 0.7]]) * [size, size, size, 1]


def smooth_sinogram(angles, translations, origins, blobs):
    """Line integrals of the blobs, by formula."""
    t = np.arange(translations) - np.asarray(origins)[:, None]
    u = t[..., None] - (np.outer(np.cos(angles), blobs[:, 0])
                        - np.outer(np.sin(angles), blobs[:, 1]))[:, None]  # fmt: skip
    width, height = blobs[:, 2], blobs[:, 3]
    rays = height * width * np.sqrt(2 * np.pi) * np.exp(-((u / width) ** 2) / 2)
    return rays.sum(axis=-1)[..., None].astype("float32")


def smooth_image(geometry, blobs):
    x, y = geometry.x[None, :, None] - blobs[:, 0], geometry.y[:, None, None] - blobs[:, 1]
    return (blobs[:, 3] * np.exp(-(x**2 + y**2) / (2 * blobs[:, 2] ** 2))).sum(axis=-1)[..., None]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 33, 64, 101])
@pytest.mark.parametrize("name", ["ram-lak", "hann"])
def test_one_level_is_the_filter_and_then_the_adjoint(size, name, dtype):
    geometry = ParallelGeometry.centered(HALF_TURN[::7], size)
    A, sinogram = NumbaProjector(geometry), noise(geometry, 5, dtype)
    expected = A.T(filter_sinogram(sinogram, name, weights=geometry.weights))
    assert relative(A.fbp(sinogram, name, levels=1), expected) <= DIRECT[np.dtype(dtype)]


@pytest.mark.parametrize("levels", [1, 2])
def test_wide_detectors_are_filtered_alike_by_fourier_transforms(levels, monkeypatch):
    geometry = ParallelGeometry.centered(HALF_TURN, 90)
    sinogram = head(HALF_TURN, 90)
    dense = NumbaProjector(geometry).fbp(sinogram, levels=levels)
    monkeypatch.setattr("ndtomo_dask.kernels.projectors.passes.DENSE", 10)
    found = NumbaProjector(geometry).fbp(sinogram, levels=levels)
    # In two levels, samples halfway are interpolated in one way, and exact in the other.
    assert relative(found, dense) <= (DIRECT[np.dtype("float32")] if levels == 1 else 0.05)
    assert error(found, 90) <= (1 + TWO_LEVELS) * error(dense, 90) or levels == 1


@pytest.mark.parametrize("kind", ["clean", "noisy"])
@pytest.mark.parametrize("size", [72, 101, 128])
@pytest.mark.parametrize(
    "angles",
    [
        HALF_TURN,
        HALF_TURN - 2.0,
        FULL_TURN,
        np.random.default_rng(0).permutation(FULL_TURN),
        np.sort(np.random.default_rng(1).uniform(0, np.pi, 170)),
    ],
    ids=["half turn", "from a negative angle", "full turn", "unsorted", "uneven"],
)
def test_two_levels_keep_the_error_of_one(angles, size, kind):
    sinogram = head(angles, size)
    if kind == "noisy":
        rng = np.random.default_rng(2)
        sinogram += rng.normal(0, 0.05 * sinogram.std(), sinogram.shape).astype("float32")
    A = NumbaProjector(ParallelGeometry.centered(angles, size))
    one, two = (error(A.fbp(sinogram, levels=levels), size) for levels in (1, 2))
    assert two <= (1 + TWO_LEVELS) * one


def test_wider_groups_would_lose_more_than_is_allowed(monkeypatch):
    angles = np.linspace(0, np.pi, 180, endpoint=False)
    geometry, sinogram = ParallelGeometry.centered(angles, 200), head(angles, 200)
    one, two = (error(NumbaProjector(geometry).fbp(sinogram, levels=n), 200) for n in (1, 2))
    monkeypatch.setattr("ndtomo_dask.kernels.projectors.groups.DISPLACEMENT", 0.46)
    wide = error(NumbaProjector(geometry).fbp(sinogram, levels=2), 200)
    assert two <= (1 + TWO_LEVELS) * one < wide


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize(
    ("center", "shift", "grid"),
    [
        (SIZE / 2 - 0.5, 0.0, {}),
        (SIZE / 2 + 5.3, 0.0, {}),
        (SIZE / 2 - 0.5, 3.0, {}),
        (SIZE / 2 + 1.3, 2.0, {"shape": (60, 83)}),
        (SIZE / 2 - 0.5, 0.0, {"shape": (70, 50), "pixel_size": 0.6, "grid_center": (-9.0, 12.5)}),
    ],
    ids=["centered", "off center", "shifted", "wide grid", "region of small pixels"],
)
def test_every_geometry_gives_the_image_by_formula(levels, center, shift, grid):
    shifts = np.random.default_rng(4).uniform(-shift, shift, HALF_TURN.size)
    grid = {"shape": (SIZE, SIZE)} | grid
    geometry = ParallelGeometry(HALF_TURN, SIZE, center, grid.pop("shape"), shifts, **grid)
    blobs = smooth(SIZE)
    sinogram = smooth_sinogram(HALF_TURN, SIZE, geometry.origins, blobs)
    found = NumbaProjector(geometry).fbp(sinogram, levels=levels)
    expected = smooth_image(geometry, blobs)
    inside = np.hypot(geometry.y[:, None], geometry.x) < 0.42 * SIZE
    assert np.abs(found - expected)[inside].max() <= 0.01 * expected.max()


@pytest.mark.parametrize("levels", [1, 2])
def test_turning_the_sample_by_a_right_angle_turns_the_image(levels):
    axis = np.full(HALF_TURN.size, SIZE / 2 - 0.5)
    sinogram = smooth_sinogram(HALF_TURN, SIZE, axis, smooth(SIZE))
    image = NumbaProjector(ParallelGeometry.centered(HALF_TURN, SIZE)).fbp(sinogram, levels=levels)
    turned = ParallelGeometry.centered(HALF_TURN + np.pi / 2, SIZE)
    found = NumbaProjector(turned).fbp(sinogram, levels=levels)
    assert relative(found, np.rot90(image, axes=(0, 1))) <= (1e-5 if levels == 1 else 3e-3)


@pytest.mark.parametrize("channels", [1, 7, 16, 17, 40, 64, 101])
def test_a_channel_is_the_same_bits_however_many_there_are(channels):
    geometry = ParallelGeometry.centered(HALF_TURN, 70)
    A, sinogram = NumbaProjector(geometry), noise(geometry, 101)
    for levels in (1, 2):
        whole = A.fbp(sinogram, levels=levels)
        part = A.fbp(np.ascontiguousarray(sinogram[..., 101 - channels :]), levels=levels)
        np.testing.assert_array_equal(part, whole[..., 101 - channels :])


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    geometry = ParallelGeometry(HALF_TURN, 80, 41.0, (150, 70))
    A, sinogram = NumbaProjector(geometry), noise(geometry, 70)
    for levels in (1, 2):
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        alone = A.fbp(sinogram, levels=levels)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        np.testing.assert_array_equal(A.fbp(sinogram, levels=levels), alone)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_bad_or_strong_channel_leaves_the_others_bitwise_unchanged(levels):
    geometry = ParallelGeometry.centered(HALF_TURN, 64)
    A, clean = NumbaProjector(geometry), noise(geometry, 20)
    damaged = clean.copy()
    damaged[5, 6, 3] = np.nan
    damaged[..., 4] *= 1e7
    damaged[6, 20, 17] = np.inf
    before = damaged.copy()
    found = A.fbp(damaged, levels=levels)
    others = [channel for channel in range(20) if channel not in (3, 4, 17)]
    np.testing.assert_array_equal(found[..., others], A.fbp(clean, levels=levels)[..., others])
    np.testing.assert_array_equal(damaged, before)
    assert np.isnan(found[32, 32, [3, 17]]).all()


def test_dense_angles_are_grouped_and_sparse_ones_are_not():
    dense = NumbaProjector(ParallelGeometry.centered(HALF_TURN, SIZE))
    sparse = NumbaProjector(ParallelGeometry.centered(HALF_TURN[::8], SIZE))
    sinogram = head(HALF_TURN)
    np.testing.assert_array_equal(dense.fbp(sinogram), dense.fbp(sinogram, levels=2))
    some = np.ascontiguousarray(sinogram[::8])
    np.testing.assert_array_equal(sparse.fbp(some), sparse.fbp(some, levels=1))


@pytest.mark.parametrize("pixel_size", [1.0, 0.5])
def test_no_pixel_of_a_tile_is_displaced_further_than_allowed(pixel_size):
    angles = np.random.default_rng(5).uniform(-9, 9, 500)
    geometry = ParallelGeometry(angles, 64, 30.0, (64, 64), pixel_size=pixel_size)
    rays = rays_in_groups(geometry, SMALL)
    assert sorted(rays.order) == list(range(500))
    assert (np.diff(rays.angles) >= 0).all()
    apart = rays.angles - np.repeat(rays.means, np.diff(rays.groups))
    corner = pixel_size * (SMALL - 1) / np.sqrt(2)
    assert np.abs(apart).max() * corner <= 2 * DISPLACEMENT
    spread = np.maximum.reduceat(rays.angles, rays.groups[:-1])
    spread = spread - np.minimum.reduceat(rays.angles, rays.groups[:-1])
    assert spread.max() / 2 * corner <= DISPLACEMENT * 1.001
    turned = np.cos(rays.angles - geometry.angles[rays.order])
    np.testing.assert_allclose(turned, np.where(rays.mirrored, -1, 1))


def test_views_other_axes_and_every_filter_are_accepted():
    geometry = ParallelGeometry.centered(HALF_TURN, 40)
    A = NumbaProjector(geometry)
    sinogram = noise(geometry, 6).reshape(HALF_TURN.size, 40, 2, 3)
    np.testing.assert_array_equal(A.fbp(sinogram)[..., 1, 2], A.fbp(sinogram[..., 1, 2]))
    assert {A.fbp(sinogram, name).shape for name in WINDOWS} == {(40, 40, 2, 3)}
    assert A.fbp(sinogram[..., :0]).shape == (40, 40, 2, 0)


def test_what_does_not_fit_is_refused():
    A = NumbaProjector(ParallelGeometry.centered(HALF_TURN, 40))
    with pytest.raises(OptionError, match=r"filter_name='ramlak' is not known.*'ram-lak'"):
        A.fbp(np.zeros((120, 40, 1)), "ramlak")
    with pytest.raises(SchemaError, match=r"sinogram of shape .* begins with \(120, 40\)"):
        A.fbp(np.zeros((40, 120, 1)))
    with pytest.raises(SchemaError, match=r"pixels of 1.5 .* pass a pixel_size of at most 1"):
        NumbaProjector(ParallelGeometry(HALF_TURN, 40, 19.5, (40, 40), pixel_size=1.5))


def test_weights_halfway_interpolate_smooth_samples():
    weights = halfway_weights(12)
    t = np.arange(12) - 5.5
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_array_equal(weights, weights[::-1])
    for frequency, lost in ((0.05, 1e-4), (0.2, 1e-4), (0.3, 2e-3)):
        assert (weights * np.cos(2 * np.pi * frequency * t)).sum() == pytest.approx(1, abs=lost)


@pytest.mark.parametrize("widest", [16, 32, 64])
@pytest.mark.parametrize("channels", [0, 1, 15, 16, 33, 64, 65, 200])
def test_passes_cover_every_channel_once(channels, widest):
    covered = [c for first, lanes in passes(channels, widest) for c in range(first, first + lanes)]
    assert covered[:channels] == list(range(channels))
    assert len(covered) < channels + 64
