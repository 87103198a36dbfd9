"""One small block, as every backend and every method of `reconstruct_block` is asked for it."""

import numpy as np
import pytest

from ndtomo_dask.errors import BackendError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.reconstruction import METHODS, given_options, reconstruct_block
from tests.solver_cases import blobs, half_turn

OPTIONS = {
    "fbp": {},
    "sirt": {"iterations": 4},
    "os_sirt": {"iterations": 2, "subsets": 4},
    "sart": {"iterations": 1},
    "cgls": {"iterations": 4},
    "mlem": {"iterations": 4},
    "osem": {"iterations": 2, "subsets": 4},
    "tv": {"iterations": 6, "regularization": 0.2},
    "vectorial_tv": {"iterations": 6, "regularization": 0.2},
    "nuclear": {"iterations": 6, "regularization": 0.2},
}
APART = [name for name, method in METHODS.items() if not method.coupled]
COUPLED = [name for name, method in METHODS.items() if method.coupled]


def available(backend):
    """Name of a backend, or skip with the reason why it is not here."""
    try:
        load_projector(backend, ParallelGeometry.centered(half_turn(2), 3))
    except BackendError as error:
        pytest.skip(str(error))
    return backend


def geometry_of(width, angles=15, **options):
    return ParallelGeometry.centered(half_turn(angles), width, **options)


def scan(width=16, channels=5, angles=15, dtype="float32", image=None, **options):
    """Line integrals of the blobs by a matrix of strips: no backend is given its own model."""
    A = load_projector("reference", geometry_of(width, angles, **options), "strip")
    return np.ascontiguousarray(A(blobs(width, channels) if image is None else image), dtype=dtype)


def run(sinogram, backend, method, *beside, geometry=None, **more):
    options = given_options(method, OPTIONS[method] | more)
    if geometry is None:
        geometry = geometry_of(sinogram.shape[1], sinogram.shape[0])
    return reconstruct_block(
        sinogram, *beside, geometry=geometry, method=method, options=options, backend=backend
    )
