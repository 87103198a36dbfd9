"""Laws that several parts of the package keep, each as one assertion."""

import numpy as np

from tests.tolerances import ADJOINT


def assert_adjoint(A, rng, dtype):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for noise x and y, with dot products in float64."""
    dtype = np.dtype(dtype)
    x = rng.standard_normal((*A.geometry.shape, 3)).astype(dtype)
    shape = (A.geometry.angles.size, A.geometry.translations, 3)
    y = rng.standard_normal(shape).astype(dtype)
    forward, backward = A(x), A.T(y)
    assert forward.dtype == backward.dtype == dtype
    left = np.vdot(forward.astype(float), y.astype(float))
    right = np.vdot(x.astype(float), backward.astype(float))
    scale = np.linalg.norm(forward.astype(float)) * np.linalg.norm(y.astype(float))
    assert abs(left - right) <= ADJOINT[dtype] * scale
