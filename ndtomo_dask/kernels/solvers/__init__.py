"""Reconstruction algorithms, written once against a projector ``A`` for arrays of any library.

``A(x)`` projects, ``A.T(y)`` back-projects; the channel axis is last, and channels mix in
`vectorial_tv` and `nuclear` only, whose purpose it is.
"""

from ndtomo_dask.kernels.solvers.conjugate import cgls
from ndtomo_dask.kernels.solvers.filtered import fbp
from ndtomo_dask.kernels.solvers.iteration import Stopping
from ndtomo_dask.kernels.solvers.poisson import mlem, osem
from ndtomo_dask.kernels.solvers.simultaneous import os_sirt, sart, sirt

__all__ = ["Stopping", "cgls", "fbp", "mlem", "os_sirt", "osem", "sart", "sirt"]
