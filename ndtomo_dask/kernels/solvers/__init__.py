"""Reconstruction algorithms, written once against a projector ``A`` for arrays of any library.

``A(x)`` projects, ``A.T(y)`` back-projects; the channel axis is last, and channels mix in
`vectorial_tv` and `nuclear` only, whose purpose it is.
"""

from ndtomo_dask.kernels.solvers.conjugate import cgls
from ndtomo_dask.kernels.solvers.filtered import fbp
from ndtomo_dask.kernels.solvers.held_out import hold_out, score_candidates, score_iterations
from ndtomo_dask.kernels.solvers.iteration import Stopping
from ndtomo_dask.kernels.solvers.poisson import mlem, osem
from ndtomo_dask.kernels.solvers.simultaneous import os_sirt, sart, sirt
from ndtomo_dask.kernels.solvers.variation import nuclear, tv, vectorial_tv

__all__ = [
    "Stopping", "cgls", "fbp", "hold_out", "mlem", "nuclear", "os_sirt", "osem", "sart",
    "score_candidates", "score_iterations", "sirt", "tv", "vectorial_tv",
]  # fmt: skip
