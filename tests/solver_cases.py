"""Small problems on which the laws of solvers are tested, and every solver by name."""

import numpy as np

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.projectors import load_projector

METHODS = {
    "fbp": solvers.fbp,
    "sirt": lambda A, y, **o: solvers.sirt(A, y, **{"iterations": 5, **o}),
    "accelerated sirt": lambda A, y, **o: solvers.sirt(
        A, y, **{"iterations": 6, "accelerated": True, **o}
    ),
    "os_sirt": lambda A, y, **o: solvers.os_sirt(A, y, **{"iterations": 3, "subsets": 5, **o}),
    "sart": lambda A, y, **o: solvers.sart(A, y, **{"iterations": 2, **o}),
    "cgls": lambda A, y, **o: solvers.cgls(A, y, **{"iterations": 5, **o}),
    "mlem": lambda A, y, **o: solvers.mlem(A, y, **{"iterations": 5, **o}),
    "osem": lambda A, y, **o: solvers.osem(A, y, **{"iterations": 3, "subsets": 5, **o}),
    "tv": lambda A, y, **o: solvers.tv(A, y, **{"iterations": 12, "regularization": 0.2, **o}),
}
"""Solvers that treat each channel alone, with few iterations."""
ITERATIVE = [name for name in METHODS if name != "fbp"]
COUPLED = {"vectorial_tv": solvers.vectorial_tv, "nuclear": solvers.nuclear}


def half_turn(count):
    return np.linspace(0, np.pi, count, endpoint=False)


def operator(size=24, angles=30, backend="cpu", **options):
    geometry = ParallelGeometry.centered(half_turn(angles), size, **options)
    return load_projector(backend, geometry)


def dense(A):
    """Matrix of an operator, from the volumes of one pixel."""
    pixels = A.geometry.shape[0] * A.geometry.shape[1]
    units = np.eye(pixels).reshape(*A.geometry.shape, pixels)
    return A(units).reshape(-1, pixels)


def blobs(size, channels=1):
    """Positive volumes of two discs and a bar in each channel, no two channels alike."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    parts = [
        (x - 0.05) ** 2 + (y + 0.08) ** 2 < 0.09,
        (x + 0.18) ** 2 + (y - 0.12) ** 2 < 0.01,
        (abs(x - 0.1) < 0.15) & (abs(y - 0.15) < 0.04),
    ]
    shares = np.random.default_rng(11).uniform(0.3, 1, (3, channels))
    return np.stack(parts, axis=-1).astype(float) @ shares


def counts(A, channels=1, level=50.0, seed=12):
    """Poisson counts of the blobs, whose largest expectation is ``level``."""
    clean = A(blobs(A.geometry.shape[0], channels))
    clean = np.clip(clean, 0, None) * level / clean.max()
    return np.random.default_rng(seed).poisson(clean).astype(float)


def objective(A, y, x, alpha, coupling="none"):
    """½|y - A x|² + α variation(x), summed over the channels."""
    from ndtomo_dask.kernels.solvers.gradients import variation

    return 0.5 * ((y - A(x)) ** 2).sum() + alpha * variation(x, coupling).sum()
