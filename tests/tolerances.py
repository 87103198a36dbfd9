"""Every tolerance of the tests: its name, its bound, and why it is that large."""

import numpy as np

EPS = {np.dtype(name): float(np.finfo(name).eps) for name in ("float32", "float64")}

ROUNDING = {dtype: 16 * eps for dtype, eps in EPS.items()}
"""Relative L2, for chunk invariance of FBP, SIRT, sums: measured 2e-16 (f64), 1e-7 (f32)."""

AMPLIFIED = 1e-10
"""Relative L2 in float64, for methods that amplify rounding, up to five iterations."""

ADJOINT = {np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-12}
"""Relative difference of <A x, y> and <x, A.T y>."""

BACKEND = 1e-5
"""Relative L2 of one model on two devices in float32: only the order of summation differs."""

PEER = 0.02
"""Relative RMSE between our FBP and another program's on the same sinogram: discretisation."""

TWO_LEVELS = 0.02
"""Relative RMSE against truth that FBP in two levels may lose to one level: 0.5 % was measured."""

STATISTICAL = 5.0
"""Standard errors within which a noisy estimate must lie, with its seed fixed."""

CENTER = 0.15
"""Translation steps, for the rotation center of a clean simulated scan: finitely many angles."""

CENTER_NOISY = {180: 0.5, 360: 0.2}
"""The same at SNR 5 with half a step of jitter, median of nine: measured 0.3 and 0.1."""

CENTER_REAL = 0.5
"""Translation steps, for measured scans: as well as their centers are known."""

QUADRATURE = 1e-9
"""Relative, for closed forms of a peak against sums over it."""

FINITE_DIFFERENCE = 1e-6
"""Analytic against central differences of step 1e-5, by the largest value."""

FIT = 1e-6
"""Peak parameters from data without noise, or from the same data in other units."""

FIT_PEER = 0.02
"""Standard errors between our fits and SciPy's: ours stop at 1e-4 of the residual variance."""

PULL_WIDTH = 0.1
"""Relative, for the scatter of fits over their standard errors: curvature of the model."""

NARROW_PEAK = 0.02
"""Share of narrow peaks (2 to 4 channels) anywhere in a wide window that may be missed."""

PHYSICS = 0.02
"""Relative, for simulated truth: grids are coarse."""
