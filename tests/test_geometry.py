import numpy as np
import pytest

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.geometry import ParallelGeometry


def weights(angles):
    return ParallelGeometry.centered(np.asarray(angles, dtype=float), 8).weights


@pytest.mark.parametrize("count", [1, 2, 7, 180, 181])
@pytest.mark.parametrize("turn", [np.pi, 2 * np.pi, -np.pi, 4 * np.pi])
@pytest.mark.parametrize("start", [0.0, -0.7, 100.0])
def test_even_steps_weigh_the_same(count, turn, start):
    angles = start + np.linspace(0, turn, count, endpoint=False)
    np.testing.assert_allclose(weights(angles), np.pi / count)


def test_projections_at_one_angle_share_its_weight():
    found = weights([0, np.pi / 3, np.pi / 3, 2 * np.pi / 3])
    np.testing.assert_allclose(found, np.pi / 3 * np.array([1, 0.5, 0.5, 1]))
    both_ends = weights(np.linspace(0, np.pi, 181))
    assert both_ends[0] == both_ends[-1] == pytest.approx(both_ends[1] / 2)
    assert both_ends.sum() == pytest.approx(np.pi)


def test_weights_follow_their_angles_whatever_the_order():
    rng = np.random.default_rng(1)
    angles = np.cumsum(rng.uniform(0.5, 1.0, 50))
    angles *= np.pi / (angles[-1] + 0.75)
    order = rng.permutation(50)
    np.testing.assert_allclose(weights(angles[order]), weights(angles)[order])


def test_uneven_steps_weigh_half_the_gaps_beside_them():
    found = weights(np.pi * np.array([0, 0.1, 0.3, 0.6]))
    np.testing.assert_allclose(found, np.pi * np.array([0.25, 0.15, 0.25, 0.35]))


def test_the_edges_of_a_missing_wedge_are_not_blown_up():
    angles = np.deg2rad(np.arange(0, 120, 1.0))
    found = weights(angles)
    assert found.max() <= 2 * np.median(found) * (1 + 1e-6)  # angles are told apart to 1e-9
    assert found.sum() < np.pi


@pytest.mark.parametrize("noise", [0, 1e-13, -1e-13])
def test_rounding_at_the_half_turn_makes_no_new_angle(noise):
    np.testing.assert_allclose(
        weights([0, np.pi / 2, np.pi + noise]), np.pi * np.array([1, 2, 1]) / 4
    )


def test_pixels_lie_around_the_center_of_their_grid():
    geometry = ParallelGeometry.centered(
        np.zeros(1), 9, size=(2, 3), pixel_size=0.5, grid_center=(4, -1)
    )
    np.testing.assert_allclose(geometry.y, [3.75, 4.25])
    np.testing.assert_allclose(geometry.x, [-1.5, -1.0, -0.5])


@pytest.mark.parametrize(("pixel_size", "size"), [(1.0, 9), (0.5, 18), (2.0, 4), (100.0, 1)])
def test_without_a_size_the_grid_is_as_wide_as_the_translations(pixel_size, size):
    geometry = ParallelGeometry.centered(np.zeros(1), 9, pixel_size=pixel_size)
    assert geometry.shape == (size, size)


@pytest.mark.parametrize(
    "projections", [np.array([2, 0]), np.array([True, False, True]), slice(None, None, 2)]
)
def test_selected_projections_keep_their_shifts_and_the_grid(projections):
    geometry = ParallelGeometry.centered(
        np.array([0.0, 1.0, 2.0]), 9, shifts=np.array([0.1, 0.2, 0.3]), pixel_size=0.5
    )
    some = geometry.select(projections)
    np.testing.assert_array_equal(some.angles, geometry.angles[projections])
    np.testing.assert_array_equal(some.shifts, geometry.shifts[projections])
    assert (some.shape, some.pixel_size) == (geometry.shape, 0.5)


def test_a_turn_is_added_to_every_angle():
    geometry = ParallelGeometry.centered(np.array([0.0, 1.0]), 9)
    np.testing.assert_allclose(geometry.turn(0.25).angles, [0.25, 1.25])
    np.testing.assert_allclose(geometry.turn(0.25).cos, np.cos([0.25, 1.25]))


def test_numpy_numbers_make_the_same_geometry():
    plain = ParallelGeometry(np.zeros(2), 9, 4.0, (3, 3), np.zeros(2), 0.5, (1.0, 2.0))
    numpy = ParallelGeometry(
        np.zeros(2), np.int64(9), np.float64(4), (np.int64(3), np.int32(3)), np.zeros(2),
        np.float64(0.5), (np.float32(1), np.float64(2)),
    )  # fmt: skip
    assert plain == numpy


@pytest.mark.parametrize(
    "options",
    [{"pixel_size": 0.5}, {"grid_center": (0, 1)}, {"grid_center": (1, 0)}, {"size": (9, 8)}],
)
def test_other_pixels_are_another_geometry(options):
    usual = ParallelGeometry.centered(np.array([0.0, 1.0]), 9, size=9)
    assert usual != ParallelGeometry.centered(np.array([0.0, 1.0]), 9, **{"size": 9, **options})


def test_equal_content_is_one_geometry():
    first = ParallelGeometry.centered(np.array([0.0, 1.0]), 9)
    same = ParallelGeometry.centered(np.array([0.0, 1.0]), 9, rotation_center=4.0)
    other = ParallelGeometry.centered(np.array([0.0, 1.0]), 9, rotation_center=4.1)
    assert first == same
    assert hash(first) == hash(same)
    assert first != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angles": np.zeros(0)}, "at least one projection angle"),
        ({"angles": np.array([0, np.nan])}, "angles must be finite"),
        ({"shifts": np.zeros(3)}, "2 angles need as many projection shifts, not 3"),
        ({"shifts": np.array([0, np.nan])}, "shifts must be finite and within the 9 translations"),
        ({"shifts": np.array([0, 1e18])}, "shifts must be finite and within the 9 translations"),
        ({"rotation_center": 12.0}, r"rotation_center 12 lies outside the 9 translations"),
        ({"rotation_center": np.nan}, "rotation_center nan lies outside"),
        ({"size": 0}, r"a grid of \(0, 0\) has no pixels"),
        ({"size": (3, 0)}, r"a grid of \(3, 0\) has no pixels"),
        ({"pixel_size": 0.0}, r"pixel_size 0 must be a number greater than 0"),
        ({"pixel_size": np.nan}, r"pixel_size nan must be a number greater than 0"),
        ({"grid_center": (0, np.inf)}, r"grid_center \(0.0, inf\) must be two finite numbers"),
    ],
)
def test_an_impossible_geometry_is_refused(options, message):
    options = {"angles": np.array([0.0, 1.0]), "translations": 9, **options}
    with pytest.raises(SchemaError, match=message):
        ParallelGeometry.centered(**options)
