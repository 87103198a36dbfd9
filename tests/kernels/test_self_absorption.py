"""Weights of pixels that absorb the beam and what they emit, against closed forms of a disk."""

import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import MODEL, load_projector
from ndtomo_dask.kernels.self_absorption import (
    Absorber,
    EmissionProjector,
    Setup,
    emission_share,
    paths_out,
)
from tests.laws import assert_adjoint, relative_error

SIZE, RADIUS = 96, 40.0  # pixels
MU = 1.5 / (2 * RADIUS)  # per pixel: an absorbance of 1.5 across
ANGLES = np.deg2rad(np.arange(0, 360, 25.0))
EDGE = 0.02
"""Relative: pixels at the edge of a disk are in or out, and paths end between pixels."""


@pytest.fixture
def geometry():
    return ParallelGeometry.centered(ANGLES, SIZE)


@pytest.fixture
def disk():
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return (np.hypot(x, y) <= RADIUS).astype(float)


def emitted(geometry, disk, ratio, **where):
    absorber = Absorber(MU * disk, MU * disk, Setup(**where))
    return EmissionProjector(geometry, absorber, np.array([float(ratio)]))(disk[..., None])[..., 0]


def to_edge(along, across, direction):
    """Distance from points of a disk to its edge, (along the beam, across it), in a direction."""
    reach = along * direction[0] + across * direction[1]
    return -reach + np.sqrt(np.maximum(RADIUS**2 - along**2 - across**2 + reach**2, 0))


def expected(ratio, detector):
    """Integrate the two exponentials over each chord of the disk by the midpoint rule."""
    across = (np.arange(SIZE) - (SIZE - 1) / 2)[:, None]
    half = np.sqrt(np.maximum(RADIUS**2 - across**2, 0))
    along = half * (2 * (np.arange(400) + 0.5) / 400 - 1)
    turn = np.deg2rad(detector)
    out = to_edge(along, across, (np.cos(turn), np.sin(turn)))
    return (np.exp(-MU * (along + half) - ratio * MU * out)).mean(axis=1) * 2 * half[:, 0]


@pytest.mark.parametrize("direction", [(0, 1), (-1, 0), (0.6, 0.8), (-0.8, 0.6), (1, -1)])
def test_the_way_out_of_a_disk_is_as_long_as_by_formula(disk, direction):
    unit = np.array(direction) / np.hypot(*direction)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    found = paths_out(disk, 3 * unit)
    inside = np.hypot(x, y) < RADIUS - 2
    reach = x * unit[0] + y * unit[1]
    exact = -reach + np.sqrt(RADIUS**2 - x**2 - y**2 + reach**2, where=inside, out=0 * x)
    assert relative_error(found[inside], exact[inside]) < EDGE
    np.testing.assert_allclose(found[inside], exact[inside], atol=1.5)


@pytest.mark.parametrize(("ratio", "detector"), [(0, 90), (1, 180), (2, 90), (2, -90), (1, 45)])
def test_a_uniform_disk_is_seen_as_by_formula(geometry, disk, ratio, detector):
    seen = emitted(geometry, disk, ratio, detector=detector)
    exact = expected(ratio, detector)
    assert relative_error(seen, np.broadcast_to(exact, seen.shape)) < EDGE
    if ratio == 0:
        chord = 2 * np.sqrt(np.maximum(RADIUS**2 - (np.arange(SIZE) - (SIZE - 1) / 2) ** 2, 0))
        np.testing.assert_allclose(exact, (1 - np.exp(-MU * chord)) / MU, rtol=1e-4)


def test_straight_on_all_pixels_of_a_ray_are_weakened_alike(geometry, disk):
    image = np.random.default_rng(0).random((SIZE, SIZE)) * disk
    absorber = Absorber(MU * disk, MU * disk, Setup(detector=0))
    seen = EmissionProjector(geometry, absorber, np.ones(1))(image[..., None])
    A = load_projector("cpu", geometry, MODEL)
    passed = np.exp(-A(MU * disk[..., None]))
    assert relative_error(seen, A(image[..., None]) * passed) < EDGE


def test_what_is_nearer_the_source_and_the_detector_is_seen_best(geometry, disk):
    def brightest(row, column, **where):
        image = np.zeros((SIZE, SIZE, 1))
        image[row, column] = 1
        absorber = Absorber(MU * disk, MU * disk, Setup(**where))
        seen = EmissionProjector(geometry.select([0]), absorber, np.array([2.0]))(image)
        return float(seen.sum())

    first, last, middle = 12, SIZE - 13, SIZE // 2
    for detector, near, far in ((90, last, first), (-90, first, last)):
        assert brightest(middle, near, detector=detector) > 2 * brightest(
            middle, far, detector=detector
        )
    for beam, near, far in (("down", first, last), ("up", last, first)):
        assert brightest(near, middle, beam=beam) > 2 * brightest(far, middle, beam=beam)


def test_a_wide_detector_sees_the_mean_of_its_directions(geometry, disk):
    directions = np.linspace(60, 120, 61)
    seen = emitted(geometry, disk, 2, detector=90, opening=60)
    shares = np.array([expected(2, one) for one in directions])
    mean = ((shares[1:] + shares[:-1]) / 2).mean(axis=0)
    assert relative_error(seen, np.broadcast_to(mean, seen.shape)) < EDGE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_back_projection_is_the_adjoint(dtype, geometry, disk, rng):
    absorber = Absorber(MU * disk, 2 * MU * disk, Setup(80, 20))
    A = EmissionProjector(geometry, absorber, np.array([0.5, 3.0, 0.5]))
    assert_adjoint(A, rng, dtype)
    assert_adjoint(A.select(np.array([4, 2])), rng, dtype)


def test_without_absorption_it_is_the_plain_projector_bit_by_bit(geometry, disk, rng):
    image = rng.random((SIZE, SIZE, 3), dtype=np.float32)
    A = EmissionProjector(geometry, Absorber(0 * disk, 0 * disk, Setup()), np.ones(3))
    sinogram = A(image)
    np.testing.assert_array_equal(sinogram, load_projector("cpu", geometry, MODEL)(image))
    kept = np.ones(sinogram.shape, dtype=bool)
    assert (emission_share(sinogram, kept, A, iterations=2) == 1).all()


def test_a_channel_depends_on_no_other(geometry, disk, rng):
    ratios = np.array([1.0, 3.0, 1.0, 0.2])
    absorber = Absorber(MU * disk, MU * disk, Setup())
    sinogram = EmissionProjector(geometry, absorber, ratios)(rng.random((SIZE, SIZE, 4)))
    kept = rng.random(sinogram.shape) > 0.01

    def share(some):
        A = EmissionProjector(geometry, absorber, ratios[some])
        return emission_share(sinogram[..., some], kept[..., some], A, iterations=1)

    alone = np.concatenate([share([channel]) for channel in range(4)], axis=2)
    np.testing.assert_array_equal(share([0, 1, 2, 3]), alone)


def test_a_detector_without_a_direction_is_refused():
    with pytest.raises(OptionError, match=r"detector=200.* are not a direction: pass degrees"):
        Setup(detector=200)
    with pytest.raises(OptionError, match="beam='left' is not known"):
        Setup(beam="left")
