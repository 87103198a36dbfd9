"""The models against geometry worked out independently: clipped polygons, clipped lines."""

import numpy as np
import pytest

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors.footprints import MODELS, check_gaps, footprint, reach
from ndtomo_dask.kernels.projectors.reference import projection_matrix

EXACT = 1e-10
ANGLES = np.concatenate([np.random.default_rng(1).uniform(-4, 7, 6), [0.0, np.pi / 4, np.pi / 2]])
GEOMETRIES = {
    "plain": ParallelGeometry.centered(ANGLES, 9),
    "moved": ParallelGeometry.centered(
        ANGLES, 12, size=(5, 7), rotation_center=4.3, shifts=np.linspace(-1, 2, ANGLES.size),
        pixel_size=0.7, grid_center=(1.3, -0.4),
    ),
    "large pixels": ParallelGeometry.centered(
        ANGLES, 16, size=(4, 3), pixel_size=2.3, rotation_center=7.2
    ),
}  # fmt: skip


@pytest.fixture(params=GEOMETRIES, ids=lambda name: name.replace(" ", "_"))
def geometry(request):
    return GEOMETRIES[request.param]


def corners(geometry, row, column):
    """A pixel's corners, as (u at angle 0, v): the plane is turned by the caller."""
    x, y, half = geometry.x[column], geometry.y[row], geometry.pixel_size / 2
    return np.array(
        [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    )


def turned(points, geometry, angle):
    """Points in the projection's own axes: u across the beam, v along it."""
    cos, sin = np.cos(geometry.angles[angle]), np.sin(geometry.angles[angle])
    x, y = points.T
    return np.stack([geometry.origins[angle] + x * cos - y * sin, x * sin + y * cos], axis=1)


def clipped(polygon, limit, sign):
    """Part of a convex polygon where sign * u <= sign * limit (Sutherland and Hodgman 1974)."""
    kept = []
    for one, other in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside, next_inside = (sign * point[0] <= sign * limit for point in (one, other))
        if inside:
            kept.append(one)
        if inside != next_inside:
            kept.append(one + (limit - one[0]) / (other[0] - one[0]) * (other - one))
    return np.array(kept).reshape(-1, 2)


def area(polygon):
    if len(polygon) < 3:
        return 0.0
    x, y = (polygon - polygon[0]).T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def chord(polygon, u):
    """Length of the line at u inside a convex polygon."""
    crossings = []
    for one, other in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        low, high = sorted((one[0], other[0]))
        if low <= u <= high and high > low:
            crossings.append(one[1] + (u - one[0]) / (other[0] - one[0]) * (other[1] - one[1]))
    return max(crossings) - min(crossings) if crossings else 0.0


def each_weight(geometry, model):
    """Index and weight of every pixel in every sample, those of no weight too."""
    matrix = projection_matrix(geometry, model).toarray()
    shape = (geometry.angles.size, geometry.translations, *geometry.shape)
    return np.ndenumerate(matrix.reshape(shape))


def test_strip_weights_are_areas_of_clipped_pixels(geometry):
    for (angle, sample, row, column), weight in each_weight(geometry, "strip"):
        pixel = turned(corners(geometry, row, column), geometry, angle)
        expected = area(clipped(clipped(pixel, sample - 0.5, -1), sample + 0.5, 1))
        assert weight == pytest.approx(expected, abs=EXACT)


def test_line_weights_are_lengths_of_chords(geometry):
    for (angle, sample, row, column), weight in each_weight(geometry, "line"):
        pixel = turned(corners(geometry, row, column), geometry, angle)
        if np.abs(pixel[:, 0] - sample).min() > 1e-6:  # along an edge, half is either's
            assert weight == pytest.approx(chord(pixel, sample), abs=EXACT)


def test_joseph_weights_interpolate_along_each_line_that_the_ray_crosses(geometry):
    matrix = projection_matrix(geometry, "joseph")
    image = np.random.default_rng(3).random(geometry.shape)
    found = (matrix @ image.ravel()).reshape(geometry.angles.size, -1)
    p, cos, sin = geometry.pixel_size, geometry.cos, geometry.sin

    def sums(values, along, across, step, slope, u):
        grid = np.concatenate([[along[0] - p], along, [along[-1] + p]])  # zeros around it
        crossings = (u - slope * across) / step
        return sum(
            np.interp(at, grid, np.pad(line, 1)) for at, line in zip(crossings, values, strict=True)
        )

    for angle in range(geometry.angles.size):
        c, s = cos[angle], sin[angle]
        for sample in range(geometry.translations):
            u = sample - geometry.origins[angle]
            expected = (
                sums(image, geometry.x, geometry.y, c, -s, u) / abs(c)
                if abs(c) >= abs(s)
                else sums(image.T, geometry.y, geometry.x, -s, c, u) / abs(s)
            )
            assert found[angle, sample] == pytest.approx(expected * p, abs=EXACT)


def test_pixel_weights_share_the_area_between_the_two_nearest_samples():
    geometry = GEOMETRIES["moved"]
    for (angle, sample, row, column), weight in each_weight(geometry, "pixel"):
        middle = turned(corners(geometry, row, column), geometry, angle)[:, 0].mean()
        expected = geometry.pixel_size**2 * max(0, 1 - abs(sample - middle))
        assert weight == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("model", ["pixel", "strip"])
def test_mass_is_conserved(model):
    geometry = ParallelGeometry.centered(ANGLES, 30, size=(9, 13), pixel_size=0.8)
    sums = projection_matrix(geometry, model).sum(axis=0)
    np.testing.assert_allclose(sums, ANGLES.size * 0.8**2, rtol=1e-12)


def test_chords_of_all_pixels_are_the_chord_of_the_grid():
    geometry = ParallelGeometry.centered(ANGLES, 12, size=7)
    found = projection_matrix(geometry, "line").sum(axis=1).reshape(ANGLES.size, -1)
    square = 7 * np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    for angle, sample in np.ndindex(found.shape):
        edges = turned(square, geometry, angle)
        if np.abs(edges[:, 0] - sample).min() > 1e-6:
            assert found[angle, sample] == pytest.approx(chord(edges, sample), abs=1e-5)


@pytest.mark.parametrize("model", ["line", "strip"])
def test_a_pixel_cut_in_four_projects_the_same(model):
    coarse = ParallelGeometry.centered(ANGLES[:6], 14, size=5, pixel_size=1.2)
    fine = ParallelGeometry.centered(ANGLES[:6], 14, size=10, pixel_size=0.6)
    image = np.random.default_rng(4).random((5, 5))
    np.testing.assert_allclose(
        projection_matrix(fine, model) @ image.repeat(2, 0).repeat(2, 1).ravel(),
        projection_matrix(coarse, model) @ image.ravel(),
        atol=EXACT,
    )


def test_a_step_cut_in_two_measures_the_same():
    """With steps half as long, lengths in steps are doubled, and areas fourfold."""
    coarse = ParallelGeometry.centered(ANGLES, 14, size=9, pixel_size=0.9, rotation_center=5.2)
    fine = ParallelGeometry.centered(ANGLES, 28, size=9, pixel_size=1.8, rotation_center=10.9)
    image = np.random.default_rng(5).random(81)
    halves = (projection_matrix(fine, "strip") @ image).reshape(ANGLES.size, 14, 2)
    whole = (projection_matrix(coarse, "strip") @ image).reshape(ANGLES.size, 14)
    np.testing.assert_allclose(halves.sum(axis=2), 4 * whole, atol=EXACT)


@pytest.mark.parametrize("model", MODELS)
def test_nothing_lies_beyond_the_reach(model):
    geometry = GEOMETRIES["moved"]
    for far, cos, sin in zip(reach(model, geometry), geometry.cos, geometry.sin, strict=True):
        at = far + np.array([1e-9, 0.1, 3.0])
        at = np.concatenate([at, -at])
        assert footprint(model, at, cos, sin, pixel_size=0.7).max() <= 1e-12
        near = footprint(model, np.array(0.9 * far), cos, sin, pixel_size=0.7)
        assert near > 0 or model == "line"  # a chord along the axis ends before its reach


def test_an_unknown_model_and_pixels_that_leave_gaps_are_refused():
    with pytest.raises(OptionError, match=r"model='lines' is not known. Did you mean 'line'"):
        footprint("lines", np.zeros(1), np.ones(1), np.zeros(1))
    with pytest.raises(OptionError, match=r"model='lines' is not known"):
        reach("lines", GEOMETRIES["plain"])
    with pytest.raises(SchemaError, match=r"pixels of 2.3 translation steps leave gaps"):
        check_gaps("pixel", GEOMETRIES["large pixels"])
    check_gaps("strip", GEOMETRIES["large pixels"])
