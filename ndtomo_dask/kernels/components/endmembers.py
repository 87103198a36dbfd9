"""Pure pixels: the spectra at the corners of the cloud of all spectra.

Nonnegative factors are rarely unique: a phase's spectrum may be traded for mixtures of it with
others at the same misfit. Grains of a single phase settle the matter, because their spectra are the
corners of the simplex that all mixtures fill.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.reductions import Reduce, reduce_strands

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

SHARE, LEAST, MOST = 1000, 5, 1000
"""A corner is the mean of one in ``SHARE`` pixels, at least and at most so many."""


class Farthest(NamedTuple):
    """The rows that reach farthest, the farthest first; of equals the first in order."""

    reach: Float64
    """How far each reaches, (row,)."""
    rows: Float64
    """The rows themselves, (row, r)."""
    wanted: int
    """How many are kept at most."""


def longest_partial(rows: Float, rest: Float64) -> Farthest:
    """Find the row that is longest after a projection, (pixel, r), (r, r)."""

    def longest(some: Float) -> Farthest:
        exact = _finite(some)
        left = exact @ rest
        return _keep(np.einsum("pr,pr->p", left, left), exact, 1)

    return reduce_strands(longest, farthest_combine, rows)


def farthest_partial(rows: Float, direction: Float64, wanted: int) -> Farthest:
    """Find the rows with the largest products with a direction, (pixel, r), (r,)."""

    def farthest(some: Float) -> Farthest:
        exact = _finite(some)
        return _keep(exact @ direction, exact, wanted)

    return reduce_strands(farthest, farthest_combine, rows)


def farthest_combine(first: Farthest, second: Farthest) -> Farthest:
    """Merge the rows of two blocks."""
    reach = np.concatenate([first.reach, second.reach])
    return _keep(reach, np.concatenate([first.rows, second.rows]), first.wanted)


def _finite(rows: Float) -> Float64:
    return rows[np.isfinite(rows).all(axis=1)].astype(np.float64)


def _keep(reach: Float64, rows: Float64, wanted: int) -> Farthest:
    if len(reach) > wanted:
        # Sorting all is most of the work: only those that reach as far as the last one kept.
        least = np.partition(reach, len(reach) - wanted)[len(reach) - wanted]
        near = np.flatnonzero(reach >= least)
        reach, rows = reach[near], rows[near]
    order = np.argsort(-reach, kind="stable")[:wanted]
    return Farthest(reach[order], rows[order], wanted)


def pure_pixels(
    reduce: Reduce, vectors: Float64, components: int, count: int, known: Float64 | None = None
) -> list[Float64]:
    """Find the corners by successive projection, each the mean of the pixels nearest to it.

    The spectrum of largest norm is a corner; its direction is projected out, and so on. A corner
    is smoothed over the pixels that reach farthest in its direction, without which noise would
    choose it (Araújo et al., Chemom. Intell. Lab. Syst. 57, 65 (2001); Nadisic, Gillis & Kervazo,
    Numer. Linear Algebra Appl. 30, e2460 (2023)).

    Parameters
    ----------
    reduce
        The reduction over the coordinates Y of the spectra, (pixel, r); rows that are not finite
        are left out.
    vectors
        The basis V they refer to, (channel, r): spectra are Y Vᵀ.
    components
        Corners to find, at most r.
    count
        Spectra that are finite.
    known
        Spectra that are corners already, (component, channel).

    Returns
    -------
        The pixels of each corner, (pixel, r), in the order in which they were found; none of those
        beyond the dimension of the data.
    """
    wanted = min(count, int(np.clip(count // SHARE, LEAST, MOST)))
    rest = np.eye(vectors.shape[1])
    for spectrum in () if known is None else known:
        rest = _without(rest, spectrum @ vectors)
    corners: list[Float64] = []
    while len(corners) < components:
        longest = reduce(longest_partial, farthest_combine, rest=rest)
        if not longest.reach.size or longest.reach[0] <= 0:
            break
        direction = rest @ longest.rows[0]
        found = reduce(farthest_partial, farthest_combine, direction=direction, wanted=wanted)
        corners.append(found.rows)
        rest = _without(rest, found.rows.mean(axis=0))
    return corners


def _without(rest: Float64, row: Float64) -> Float64:
    """Take the direction that a row adds out of a projection."""
    axis = rest @ row
    length = np.linalg.norm(axis)
    if length <= np.finfo(np.float64).eps * np.linalg.norm(row):
        return rest
    axis /= length
    return np.asarray(rest - np.outer(axis, axis))
