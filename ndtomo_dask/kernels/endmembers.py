"""Pure pixels: the spectra at the corners of the cloud of all spectra.

Nonnegative factors are rarely unique: a phase's spectrum may be traded for mixtures of it with
others at the same misfit. Grains of a single phase settle the matter, because their spectra are the
corners of the simplex that all mixtures fill.
"""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

SHARE, LEAST, MOST = 1000, 5, 1000
"""A corner is the mean of one in ``SHARE`` pixels, at least and at most so many."""


def pure_spectra(projection: Float, vectors: Float64, components: int) -> Float64:
    """Find the corners by successive projection, each averaged over the pixels nearest to it.

    The spectrum of largest norm is a corner; its direction is projected out, and so on. A corner
    is smoothed over the pixels that reach farthest in its direction, without which noise would
    choose it (Araújo et al., Chemom. Intell. Lab. Syst. 57, 65 (2001); Nadisic, Gillis & Kervazo,
    Numer. Linear Algebra Appl. 30, e2460 (2023)).

    Parameters
    ----------
    projection
        Coordinates Y of the spectra, (pixel, r); rows that are not finite are left out.
    vectors
        The basis V they refer to, (channel, r): spectra are Y Vᵀ.
    components
        Corners to find, at most r.

    Returns
    -------
        Spectra, (component, channel), in the order in which they were found; those beyond the
        dimension of the data are zero.
    """
    rows = projection[np.isfinite(projection).all(axis=1)].astype(np.float64)
    rest = rows.copy()
    count = min(len(rows), int(np.clip(len(rows) // SHARE, LEAST, MOST)))
    corners = np.zeros((components, vectors.shape[0]))
    for corner in corners:
        norms = np.einsum("pr,pr->p", rest, rest)
        direction = rest[norms.argmax()]
        farthest = np.argpartition(rest @ direction, -count)[-count:]
        corner[:] = vectors @ rows[farthest].mean(axis=0)
        axis = rest[farthest].mean(axis=0)
        length = np.linalg.norm(axis)
        if length > 0:
            rest -= np.outer(rest @ (axis / length), axis / length)
    return corners
