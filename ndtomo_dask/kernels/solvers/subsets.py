"""Projections in subsets that each see all directions, in an order of little overlap."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.geometry import ParallelGeometry

Order = Literal["golden", "bit-reversal", "sequential"]
ORDERS = ("golden", "bit-reversal", "sequential")

GOLDEN = (np.sqrt(5) - 1) / 2


def projection_subsets(
    geometry: ParallelGeometry, count: int, order: Order = "golden"
) -> list[NDArray[np.intp]]:
    """Deal the projections, by angle, into ``count`` subsets like cards, and order the subsets.

    Each subset has every ``count``-th direction of the half turn. ``order`` is that in which they
    are used: "golden" steps by the golden section of the half turn (Köhler 2004), "bit-reversal"
    halves the largest gap each time (Guan & Gordon 1994), "sequential" turns with the angle.
    """
    projections = geometry.angles.size
    if not 1 <= count <= projections:
        raise OptionError(
            f"subsets={count} of {projections} projections: pass a number from 1 to {projections}."
        )
    by_angle = np.argsort(np.mod(geometry.angles, np.pi), kind="stable")
    return [by_angle[first::count] for first in subset_order(count, order)]


def subset_order(count: int, order: Order = "golden") -> NDArray[np.intp]:
    """Order in which ``count`` evenly turned subsets are used.

    >>> subset_order(8, "bit-reversal")
    array([0, 4, 2, 6, 1, 5, 3, 7])
    >>> subset_order(8, "golden")
    array([0, 5, 2, 7, 4, 1, 6, 3])
    """
    check_choice("order", order, ORDERS)
    places = np.arange(count)
    if order == "sequential":
        return places
    if order == "bit-reversal":
        bits = max(1, int(count - 1).bit_length())
        reversed_bits = sum(((places >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
        return np.asarray(np.argsort(reversed_bits, kind="stable"))
    return _golden_order(count)


def _golden_order(count: int) -> NDArray[np.intp]:
    """Each step turns by the golden section to the nearest place that is still free."""
    free = np.ones(count, dtype=bool)
    order = np.empty(count, dtype=np.intp)
    for step in range(count):
        wanted = (step * GOLDEN * count) % count
        places = np.flatnonzero(free)
        away = np.abs(places - wanted)
        order[step] = places[np.argmin(np.minimum(away, count - away))]
        free[order[step]] = False
    return order
