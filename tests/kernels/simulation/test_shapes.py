import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.simulation import shapes
from tests.tolerances import PHYSICS

EDGE = 400
STEP = 2 / EDGE
AT = (np.arange(EDGE) - (EDGE - 1) / 2) * STEP
Y, X = AT[:, None], AT[None, :]
COARSE = AT.reshape(-1, 4).mean(axis=1)
Z3, Y3, X3 = COARSE[:, None, None], COARSE[None, :, None], COARSE[None, None, :]
ROOM = (0.1, -0.15)


def area(inside):
    return inside.sum() * STEP**2


def volume(inside):
    return inside.sum() * (4 * STEP) ** 3


AREAS = {
    "disc": (lambda: shapes.disc(Y, X, 0.5, center=ROOM), np.pi * 0.25),
    "ellipse": (lambda: shapes.ellipse(Y, X, (0.6, 0.3), center=ROOM, turn=25), np.pi * 0.18),
    "ring": (lambda: shapes.ring(Y, X, 0.3, 0.6), np.pi * 0.27),
    "rectangle": (lambda: shapes.rectangle(Y, X, (0.8, 0.5), turn=33), 0.4),
    "frame": (lambda: shapes.frame(Y, X, (0.8, 0.5), 0.1), 0.4 - 0.18),
    "triangle": (lambda: shapes.polygon(Y, X, [(-0.6, 0), (0.4, -0.5), (0.4, 0.5)]), 0.5),
    "star": (lambda: shapes.star(Y, X, 5, 0.3, 0.7), 5 * 0.21 * np.sin(np.pi / 5)),
    "Siemens star": (lambda: shapes.siemens_star(Y, X, 9, 0.8), np.pi * 0.32),
}
VOLUMES = {
    "ball": (lambda: shapes.ball(Z3, Y3, X3, 0.7), 4 / 3 * np.pi * 0.343),
    "ellipsoid": (
        lambda: shapes.ellipsoid(Z3, Y3, X3, (0.3, 0.6, 0.5), center=(0.1, *ROOM), turn=20),
        4 / 3 * np.pi * 0.09,
    ),
    "box": (lambda: shapes.cuboid(Z3, Y3, X3, (0.8, 0.6, 1.0)), 0.48),
    "hollow box": (lambda: shapes.cuboid(Z3, Y3, X3, (0.8, 0.8, 0.8), wall=0.2), 0.512 - 0.064),
    "cylinder": (lambda: shapes.cone(Z3, Y3, X3, (0.5, 0.5), 1.2), np.pi * 0.3),
    "cone": (lambda: shapes.cone(Z3, Y3, X3, (0.8, 0.0), 1.2), np.pi * 0.64 * 0.4),
    "pyramid": (lambda: shapes.pyramid(Z3, Y3, X3, 1.2, 1.0), 0.48),
    "torus": (lambda: shapes.torus(Z3, Y3, X3, 0.6, 0.25), 2 * np.pi**2 * 0.6 * 0.0625),
    "prism": (lambda: shapes.prism(Z3, Y3, X3, 6, 0.7, 1.0), 1.5 * np.sqrt(3) * 0.49),
    "Möbius strip": (
        lambda: shapes.moebius_strip(Z3, Y3, X3, 0.6, 0.4, 0.16),
        2 * np.pi * 0.6 * 0.4 * 0.16,
    ),
    "Menger sponge": (lambda: shapes.menger_sponge(Z3, Y3, X3, 1.62, 2), 1.62**3 * (20 / 27) ** 2),
}


@pytest.mark.parametrize("name", AREAS)
def test_areas_are_those_of_geometry(name):
    drawn, known = AREAS[name]
    assert area(drawn()) == pytest.approx(known, rel=PHYSICS)


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_are_those_of_geometry(name):
    drawn, known = VOLUMES[name]
    assert volume(drawn()) == pytest.approx(known, rel=2 * PHYSICS)


@pytest.mark.parametrize("name", [*AREAS, *VOLUMES])
def test_a_shape_answers_every_point_with_a_truth(name):
    inside = (AREAS | VOLUMES)[name][0]()
    assert inside.dtype == bool
    assert inside.shape == ((EDGE,) * 2 if name in AREAS else (EDGE // 4,) * 3)


def test_walls_of_a_hollow_box_are_equally_thick_all_round():
    inside = shapes.cuboid(Z3, Y3, X3, (1.0, 1.0, 1.0), wall=0.2)
    middle = EDGE // 8
    walls = [inside[:, middle, middle], inside[middle, :, middle], inside[middle, middle, :]]
    np.testing.assert_array_equal(walls[0], walls[1])
    np.testing.assert_array_equal(walls[0], walls[2])


def test_shapes_turn_counterclockwise_as_images_show_them():
    # Rows count downwards, so the upper right corner is at negative y and positive x.
    inside = shapes.rectangle(Y, X, (0.1, 1.6), turn=45)
    assert inside[EDGE // 4, -EDGE // 4]
    assert not inside[EDGE // 4, EDGE // 4]


def test_a_star_points_upwards():
    inside = shapes.star(Y, X, 5, 0.2, 0.8)
    assert inside[: EDGE // 4].any()
    assert inside[:, EDGE // 2].argmax() == pytest.approx(0.1 * EDGE, abs=3)


def test_the_head_is_that_of_scikit_image():
    skimage = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    from ndtomo_dask.kernels.simulation.figures import Picture, draw_rows

    head = draw_rows(np.arange(400), picture=Picture("head", 400, 0, 1, 1, 0))[..., 0]
    # Theirs is a stored picture, so that points on rims may fall to the other side.
    assert (np.abs(head - skimage.shepp_logan_phantom()) < 0.01).mean() > 0.97


def test_a_polygon_needs_corners():
    with pytest.raises(OptionError, match="three corners or more, not 2"):
        shapes.polygon(Y, X, [(0, 0), (1, 1)])
