"""Phantoms of several components, drawn row by row: cells, flat figures, solids, a head.

Coordinates are in half widths of the image, from -1 to 1 along y and x, and as long along z. Rows
depend on their number and the seed only, so any part of a phantom can be drawn by itself.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.kernels.simulation import shapes
from ndtomo_dask.kernels.simulation.phantoms import SAMPLE_RADIUS, grain_amounts

Float = NDArray[np.floating]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Phantom = Literal["cells", "figures", "solids", "head"]

FIGURES, SOLIDS = 5, 8
FINENESS = 2
"""Points along each edge of a pixel or voxel, over which shapes are averaged."""

HEAD = (
    (1.0, 0.69, 0.92, 0.81, 0.0, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.78, 0.0, -0.0184, 0.0, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.22, 0.0, 0.0, -18.0),
    (-0.2, 0.16, 0.41, 0.28, -0.22, 0.0, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.41, 0.0, 0.35, -0.15, 0.0),
    (0.1, 0.046, 0.046, 0.05, 0.0, 0.1, 0.25, 0.0),
    (0.1, 0.046, 0.046, 0.05, 0.0, -0.1, 0.25, 0.0),
    (0.1, 0.046, 0.023, 0.05, -0.08, -0.605, 0.0, 0.0),
    (0.1, 0.023, 0.023, 0.02, 0.0, -0.606, 0.0, 0.0),
    (0.1, 0.023, 0.046, 0.02, 0.06, -0.605, 0.0, 0.0),
)
"""Density, half axes and center (right, up, along z) and turn of the ellipsoids of the head of
Shepp and Logan (IEEE Trans. Nucl. Sci. 21, 21 (1974)), with the contrast of Toft (thesis, DTU,
1996) and the third dimension of Schabel's phantom3d (2005)."""


@dataclass(frozen=True)
class Picture:
    """What is drawn, and on which grid."""

    phantom: Phantom
    size: int
    slices: int
    components: int
    cells: int
    seed: int

    def __post_init__(self) -> None:
        check_choice("phantom", self.phantom, ("cells", "figures", "solids", "head"))
        if self.size < 2 or self.slices < 0 or min(self.components, self.cells) < 1:
            raise OptionError(
                "a phantom needs size >= 2, slices >= 0, components >= 1 and cells >= 1."
            )

    @property
    def maps(self) -> int:
        """Number of components."""
        fixed = {"figures": FIGURES, "solids": SOLIDS, "head": 1}
        return fixed.get(self.phantom, self.components)


def draw_rows(number: NDArray[np.integer], *, picture: Picture) -> Float32:
    """Draw rows of a phantom by their numbers, (row,) -> (row, x, component).

    ``size`` rows make a slice.
    """
    piece, row = np.divmod(number, picture.size)
    z = (piece - (max(picture.slices, 1) - 1) / 2) * (2 / picture.size)
    y = (row - (picture.size - 1) / 2) * (2 / picture.size)
    x = (np.arange(picture.size) - (picture.size - 1) / 2) * (2 / picture.size)
    if picture.phantom == "cells":
        return _cells(z[:, None], y[:, None], x, picture)
    offsets = (np.arange(FINENESS) - (FINENESS - 1) / 2) * (2 / picture.size / FINENESS)
    deep = offsets if picture.slices else offsets[:1] * 0
    draw = {"figures": _figures, "solids": _solids, "head": _head}[picture.phantom]
    points = [(a, b, c) for a in deep for b in offsets for c in offsets]
    if picture.phantom == "head" and not picture.slices:
        draw = _flat_head
    total = sum(draw(z[:, None] + a, y[:, None] + b, x + c) for a, b, c in points)
    return np.asarray(total / len(points), dtype=np.float32)


def _cells(z: Float, y: Float, x: Float, picture: Picture) -> Float32:
    tree, amounts = _seeds(picture)
    point = np.stack(np.broadcast_arrays(z, y, x), axis=-1)
    inside = np.hypot(point[..., 1], point[..., 2]) <= 2 * SAMPLE_RADIUS
    drawn = np.zeros((*point.shape[:-1], picture.maps), dtype=np.float32)
    _, nearest = tree.query(point[inside])
    drawn[inside] = amounts[nearest]
    return drawn


@lru_cache(maxsize=2)
def _seeds(picture: Picture) -> tuple[cKDTree, Float64]:
    """Seeds of the cells, as a tree, and what each cell holds: (cell, component)."""
    random = np.random.default_rng([picture.seed, 7])
    radius = 2 * SAMPLE_RADIUS * np.sqrt(random.random(picture.cells))
    angle = random.uniform(0, 2 * np.pi, picture.cells)
    height = random.uniform(-1, 1, picture.cells) * picture.slices / picture.size
    seeds = np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], axis=-1)
    return cKDTree(seeds), grain_amounts(picture.components, picture.cells, random)


def _figures(_z: Float, y: Float, x: Float) -> Float32:
    """Draw a Siemens star, circles, slanted squares, a triangle and a face."""
    places = [(a, b) for a in (-0.5, 0.0, 0.5) for b in (-0.5, 0.0, 0.5)]
    circles = [shapes.disc(y, x, 0.05 + 0.02 * i, center=at) for i, at in enumerate(places)]
    squares = [shapes.rectangle(y, x, (0.3, 0.3), center=at, turn=15.0) for at in places]
    mouth = shapes.polygon(y, x, [(0.15, -0.35), (0.15, 0.35), (0.55, 0.0)])
    eyes = [shapes.disc(y, x, 0.12, center=(-0.25, side)) for side in (-0.3, 0.3)]
    face = shapes.disc(y, x, 0.8) & ~mouth & ~eyes[0] & ~eyes[1]
    triangle = shapes.polygon(y, x, [(-0.7, 0.0), (0.5, -0.7), (0.5, 0.7)])
    star = shapes.siemens_star(y, x, 16, 0.8)
    return _stack([star, np.any(circles, axis=0), np.any(squares, axis=0), triangle, face])


def _solids(z: Float, y: Float, x: Float) -> Float32:
    """Draw solids on a ring of eight places, each a component of its own."""
    turns = 2 * np.pi * np.arange(SOLIDS) / SOLIDS
    at = [(0.0, 0.58 * float(np.sin(t)), 0.58 * float(np.cos(t))) for t in turns]
    local = [(z, y - place[1], x - place[2]) for place in at]
    drawn = [
        shapes.ball(z, y, x, 0.2, center=at[0]),
        shapes.cuboid(z, y, x, (0.35, 0.35, 0.35), center=at[1], wall=0.06),
        shapes.cone(z, y, x, (0.17, 0.17), 0.4, center=at[2]),
        shapes.cone(z, y, x, (0.2, 0.0), 0.4, center=at[3]),
        shapes.torus(z, y, x, 0.13, 0.06, center=at[4]),
        shapes.prism(z, y, x, 6, 0.2, 0.4, center=at[5]),
        shapes.moebius_strip(*local[6], 0.12, 0.12, 0.05),
        shapes.menger_sponge(*local[7], 0.36, depth=2),
    ]
    return _stack(drawn)


def _head(z: Float, y: Float, x: Float) -> Float32:
    return _ellipsoids(y, x, [z - z0 for *_, z0, _ in HEAD])


def _flat_head(_z: Float, y: Float, x: Float) -> Float32:
    """Draw the flat phantom: every ellipsoid is cut through its own middle."""
    return _ellipsoids(y, x, [np.zeros_like(y)] * len(HEAD))


def _ellipsoids(y: Float, x: Float, heights: list[Float]) -> Float32:
    density = np.zeros(np.broadcast_shapes(y.shape, x.shape), dtype=np.float64)
    for (amount, right, up, deep, x0, y0, _, turn), z in zip(HEAD, heights, strict=True):
        axes, center = (deep, up, right), (0.0, -y0, x0)
        density += amount * shapes.ellipsoid(z, y, x, axes, center=center, turn=turn)
    return np.asarray(density[..., None], dtype=np.float32)


def _stack(drawn: list[NDArray[np.bool_]]) -> Float32:
    return np.stack(np.broadcast_arrays(*drawn), axis=-1).astype(np.float32)
