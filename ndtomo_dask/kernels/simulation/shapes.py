"""Shapes as questions to points, (y, x) or (z, y, x): do they lie inside.

Each takes coordinates that broadcast against one another, and says True or False for every point,
its rim included. A point's answer depends on nothing but its coordinates, so shapes can be drawn in
blocks, in any order. Lengths are in the unit of the coordinates, angles in degrees.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import OptionError

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Point = tuple[float, float]
Point3 = tuple[float, float, float]


def ellipse(
    y: ArrayLike, x: ArrayLike, axes: Point, *, center: Point = (0.0, 0.0), turn: float = 0.0
) -> Bool:
    """Points of an ellipse with half axes (down, right), turned counterclockwise by ``turn``.

    >>> ellipse(0.0, np.array([0.0, 0.5, 0.6]), (0.2, 0.5))
    array([ True,  True, False])
    """
    down, right = _turned(y, x, center, turn)
    return np.asarray((down / axes[0]) ** 2 + (right / axes[1]) ** 2 <= 1)


def disc(y: ArrayLike, x: ArrayLike, radius: float, *, center: Point = (0.0, 0.0)) -> Bool:
    """Points within ``radius`` of ``center``."""
    return ellipse(y, x, (radius, radius), center=center)


def ring(
    y: ArrayLike, x: ArrayLike, inner: float, outer: float, *, center: Point = (0.0, 0.0)
) -> Bool:
    """Points of a disc of radius ``outer`` that are not in one of radius ``inner``."""
    return disc(y, x, outer, center=center) & ~disc(y, x, inner, center=center)


def rectangle(
    y: ArrayLike, x: ArrayLike, edges: Point, *, center: Point = (0.0, 0.0), turn: float = 0.0
) -> Bool:
    """Points of a rectangle with edges (down, right), turned counterclockwise by ``turn``."""
    down, right = _turned(y, x, center, turn)
    return np.asarray((2 * abs(down) <= edges[0]) & (2 * abs(right) <= edges[1]))


def frame(
    y: ArrayLike, x: ArrayLike, edges: Point, wall: float, *, center: Point = (0.0, 0.0)
) -> Bool:
    """Points of a rectangle within ``wall`` of its rim."""
    hole = (edges[0] - 2 * wall, edges[1] - 2 * wall)
    return rectangle(y, x, edges, center=center) & ~rectangle(y, x, hole, center=center)


def polygon(y: ArrayLike, x: ArrayLike, corners: Sequence[Point]) -> Bool:
    """Points of a polygon with corners (y, x), by the even-odd rule: a ray crosses its edges.

    >>> polygon(0.5, np.array([0.5, 1.5]), [(0, 0), (0, 1), (1, 1), (1, 0)])
    array([ True, False])
    """
    if len(corners) < 3:
        raise OptionError(f"a polygon needs three corners or more, not {len(corners)}.")
    down, right = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
    inside = np.zeros(np.broadcast_shapes(down.shape, right.shape), dtype=bool)
    for (y0, x0), (y1, x1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            crosses = (down >= min(y0, y1)) & (down < max(y0, y1))
            inside ^= crosses & (right <= x0 + (down - y0) * (x1 - x0) / (y1 - y0))
    return inside


def star(
    y: ArrayLike, x: ArrayLike, rays: int, inner: float, outer: float,
    *, center: Point = (0.0, 0.0),
) -> Bool:  # fmt: skip
    """Points of a star whose rays reach ``outer``, the first upwards, from ``inner``."""
    angles = np.pi * np.arange(2 * rays) / rays
    radii = np.where(np.arange(2 * rays) % 2, inner, outer)
    rows = center[0] - radii * np.cos(angles)
    columns = center[1] + radii * np.sin(angles)
    return polygon(y, x, [*zip(rows.tolist(), columns.tolist(), strict=True)])


def siemens_star(
    y: ArrayLike, x: ArrayLike, spokes: int, radius: float, *, center: Point = (0.0, 0.0)
) -> Bool:
    """Points of ``spokes`` sectors of a disc, as wide as the gaps between them."""
    down, right = _turned(y, x, center, 0.0)
    sector = np.floor(np.arctan2(down, right) * spokes / np.pi).astype(np.int64)
    return np.asarray(disc(y, x, radius, center=center) & (sector % 2 == 0))


def ellipsoid(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, axes: Point3, *, center: Point3 = (0.0, 0.0, 0.0),
    turn: float = 0.0,
) -> Bool:  # fmt: skip
    """Points of an ellipsoid with half axes (z, y, x), turned about z by ``turn``."""
    up = np.asarray(z, dtype=np.float64) - center[0]
    down, right = _turned(y, x, center[1:], turn)
    return np.asarray((up / axes[0]) ** 2 + (down / axes[1]) ** 2 + (right / axes[2]) ** 2 <= 1)


def ball(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, radius: float, *, center: Point3 = (0.0, 0.0, 0.0)
) -> Bool:
    """Points within ``radius`` of ``center``."""
    return ellipsoid(z, y, x, (radius, radius, radius), center=center)


def cuboid(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, edges: Point3,
    *, center: Point3 = (0.0, 0.0, 0.0), wall: float | None = None,
) -> Bool:  # fmt: skip
    """Points of a box with edges (z, y, x); with a ``wall``, hollow and equally thick all round."""
    offsets = [abs(np.asarray(at, float) - c) for at, c in zip((z, y, x), center, strict=True)]
    pairs = [*zip(offsets, edges, strict=True)]
    solid = reduce(np.logical_and, [2 * offset <= edge for offset, edge in pairs])
    if wall is None:
        return np.asarray(solid)
    hole = reduce(np.logical_and, [2 * offset < edge - 2 * wall for offset, edge in pairs])
    return np.asarray(solid & ~hole)


def cone(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, radii: Point, height: float,
    *, center: Point3 = (0.0, 0.0, 0.0),
) -> Bool:  # fmt: skip
    """Points of a cone about z with radii (lowest z, highest z); a cylinder if these are equal."""
    up = (np.asarray(z, dtype=np.float64) - center[0]) / height + 0.5
    radius = radii[0] + (radii[1] - radii[0]) * up
    down, right = _turned(y, x, center[1:], 0.0)
    return np.asarray((abs(up - 0.5) <= 0.5) & (down**2 + right**2 <= radius**2))


def pyramid(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, edge: float, height: float,
    *, center: Point3 = (0.0, 0.0, 0.0),
) -> Bool:  # fmt: skip
    """Points of a pyramid with a square base at its lowest z."""
    up = (np.asarray(z, dtype=np.float64) - center[0]) / height + 0.5
    down, right = _turned(y, x, center[1:], 0.0)
    widest = np.maximum(abs(down), abs(right))
    return np.asarray((abs(up - 0.5) <= 0.5) & (2 * widest <= edge * (1 - up)))


def torus(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, radius: float, thickness: float,
    *, center: Point3 = (0.0, 0.0, 0.0),
) -> Bool:  # fmt: skip
    """Points within ``thickness`` of a circle of ``radius`` about z."""
    up = np.asarray(z, dtype=np.float64) - center[0]
    return np.asarray(
        (np.hypot(*_turned(y, x, center[1:], 0.0)) - radius) ** 2 + up**2 <= thickness**2
    )


def prism(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, sides: int, radius: float, height: float,
    *, center: Point3 = (0.0, 0.0, 0.0),
) -> Bool:  # fmt: skip
    """Points of a regular prism about z, whose corners lie at ``radius``."""
    angles = 2 * np.pi * np.arange(sides) / sides
    rows, columns = center[1] - radius * np.cos(angles), center[2] + radius * np.sin(angles)
    base = polygon(y, x, [*zip(rows.tolist(), columns.tolist(), strict=True)])
    return np.asarray(base & (2 * abs(np.asarray(z, float) - center[0]) <= height))


def moebius_strip(
    z: ArrayLike, y: ArrayLike, x: ArrayLike, radius: float, width: float, thickness: float
) -> Bool:
    """Points of a band about z that makes half a turn on its way round."""
    down, right = _turned(y, x, (0.0, 0.0), 0.0)
    half_turn = np.arctan2(down, right) / 2
    out, up = np.hypot(down, right) - radius, np.asarray(z, dtype=np.float64)
    along = out * np.cos(half_turn) + up * np.sin(half_turn)
    across = up * np.cos(half_turn) - out * np.sin(half_turn)
    return np.asarray((2 * abs(along) <= width) & (2 * abs(across) <= thickness))


def menger_sponge(z: ArrayLike, y: ArrayLike, x: ArrayLike, edge: float, depth: int = 3) -> Bool:
    """Points of a cube from which the middles of its faces are bored, ``depth`` times."""
    places = [np.asarray(at, dtype=np.float64) / edge + 0.5 for at in (z, y, x)]
    inside = reduce(np.logical_and, [(place >= 0) & (place < 1) for place in places])
    for level in range(1, depth + 1):
        middle = [(np.floor(place * 3**level) % 3 == 1).astype(np.int8) for place in places]
        inside = inside & (middle[0] + middle[1] + middle[2] < 2)
    return np.asarray(inside)


def _turned(
    y: ArrayLike, x: ArrayLike, center: Sequence[float], turn: float
) -> tuple[Float64, Float64]:
    """Coordinates seen from ``center``, by axes turned counterclockwise as images show them."""
    down = np.asarray(y, dtype=np.float64) - center[0]
    right = np.asarray(x, dtype=np.float64) - center[1]
    if not turn:
        return down, right
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return np.asarray(down * cos + right * sin), np.asarray(right * cos - down * sin)
