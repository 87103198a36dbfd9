"""Which projections are added before they are back-projected: those at nearly the same angle.

The choice depends on the geometry only, so a channel's result never depends on another.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.geometry import ParallelGeometry

Float64 = NDArray[np.float64]
Index = NDArray[np.int64]

DISPLACEMENT = 0.28
"""Translation steps by which a pixel in the corner of a tile may be displaced by its group.

Two levels have 2 to 5 % more error with such groups than without, and about that of one level
(docs/explanation/fast-fbp.md)."""
WORTH = 2.5
"""Projections per group from which two levels are faster than one."""


@dataclass(frozen=True)
class Rays:
    """Projections in the order in which they are back-projected, and their groups."""

    order: Index
    """Which projection of the sinogram each one is."""
    mirrored: Index
    """1 where its samples are taken in reverse, which turns it by 180°; else 0."""
    angles: Float64
    """Angle in radians."""
    origins: Float64
    """Translation index onto which the rotation axis projects, in the order of the samples."""
    groups: Index
    """Where each group begins, and where the last one ends."""
    means: Float64
    """Angle of each group."""

    @property
    def worth_grouping(self) -> bool:
        """Whether two levels pay."""
        return self.order.size >= WORTH * self.means.size


def rays_as_given(geometry: ParallelGeometry) -> Rays:
    """Take the projections as they are, each for itself."""
    order = np.arange(geometry.angles.size)
    groups = np.arange(order.size + 1)
    return Rays(order, np.zeros_like(order), geometry.angles, geometry.origins, groups,
                geometry.angles)  # fmt: skip


def rays_in_groups(geometry: ParallelGeometry, tile: int) -> Rays:
    """Sort the projections by angle, folded to a half turn, and group those close to one another.

    The projection at θ + 180° sees the lines of the one at θ in reverse order. Angles of a group
    differ by so little that no pixel of a square ``tile`` is displaced, from where it should
    project to, by more than `DISPLACEMENT`.
    """
    turned = np.mod(geometry.angles, 2 * np.pi)
    mirrored = turned >= np.pi
    folded = np.where(mirrored, turned - np.pi, turned)
    order = np.argsort(folded, kind="stable")
    angles, mirrored = folded[order], mirrored[order]
    origins = np.where(
        mirrored, geometry.translations - 1 - geometry.origins[order], geometry.origins[order]
    )
    radius = (tile - 1) / 2 * math.sqrt(2) * geometry.pixel_size
    groups = _starts(angles, 2 * DISPLACEMENT / radius)
    weights = geometry.weights[order]
    means = np.add.reduceat(angles * weights, groups[:-1]) / np.add.reduceat(weights, groups[:-1])
    return Rays(order, mirrored.astype(np.int64), angles, origins, groups, means)


def _starts(angles: Float64, widest: float) -> Index:
    """Cut sorted angles into runs, none wider than ``widest``."""
    starts = [0]
    for number, angle in enumerate(angles):
        # A ten-thousandth, so that evenly spaced angles do not fall apart by rounding.
        if angle - angles[starts[-1]] > widest * 1.0001:
            starts.append(number)
    return np.array([*starts, angles.size])
