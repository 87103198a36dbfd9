"""Spectra whose peaks are known, fits of them by us and by SciPy, and how good ours are.

A miss is a fit whose sum of squares is more than 0.1 s² above the best that any of our fits, one
from the truth among them, has found.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.truth import pseudo_voigt
from ndtomo_dask.kernels.fitting.least_squares import ModelFit, fit_model, fit_peak
from ndtomo_dask.kernels.fitting.peak_model import PeakModel, evaluate_model
from ndtomo_dask.kernels.fitting.peak_shapes import (
    GAUSSIAN_WIDTH,
    LORENTZIAN_WIDTH,
    subtract_pseudo_voigt,
)

Float64 = NDArray[np.float64]
NAMES = ("area", "position", "fwhm", "fraction")
CHANNELS = {1: 64, 2: 96, 3: 128, 5: 256}


def unit_area(fraction: Float64) -> Float64:
    """Area of a pseudo-Voigt of unit height and width, ``fraction`` being the share of height."""
    return np.asarray(fraction * LORENTZIAN_WIDTH + (1 - fraction) * GAUSSIAN_WIDTH)


def profile(x: Float64, area: Any, position: Any, fwhm: Any, fraction: Any) -> Float64:
    """Pseudo-Voigt by our parameters, from the truth's, whose fraction is a share of the area."""
    share = fraction * LORENTZIAN_WIDTH / unit_area(fraction)
    return pseudo_voigt(x, area, position, fwhm, share)


class Case:
    """Poisson counts of overlapping pseudo-Voigts on a line, their truth, bounds and start."""

    def __init__(self, peaks: int, spectra: int, *, narrow: bool = False, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        channels = 64 if narrow else CHANNELS[peaks]
        self.x, shape = np.arange(channels, dtype=float), (spectra, peaks)
        middle = (channels - 1) / 2 + 11.7 * (np.arange(peaks) - (peaks - 1) / 2)
        width = rng.uniform(2, 4, shape) if narrow else rng.uniform(4.5, 14, shape)
        width = rng.uniform(5, 9, shape) if peaks > 1 else width
        height = rng.uniform(200, 3000, shape) if peaks > 1 else rng.uniform(30, 3000, shape)
        reach = 0.42 * channels if narrow else (8.0 if peaks == 1 else 1.5)
        position = middle + rng.uniform(-reach, reach, shape)
        fraction = rng.uniform(0.05, 0.95, shape)
        area = height * width * unit_area(fraction)
        self.truth = np.stack([area, position, width, fraction], axis=2)
        low = rng.uniform(5, 100, (spectra, 1))
        expected = low + rng.uniform(-0.3, 0.3, (spectra, 1)) * low * np.linspace(-1, 1, channels)
        for k in range(peaks):
            expected = expected + profile(self.x, *self.truth[:, k].T[..., None])
        self.data = np.asarray(rng.poisson(expected), dtype=float)
        self.model = PeakModel({f"p{k}": "pseudo_voigt" for k in range(peaks)}, 1)
        self.bounds: dict[str, Any] = {"fwhm": (1.0, 40.0)}
        if peaks > 1:
            self.bounds |= {f"p{k}.position": (m - 5, m + 5) for k, m in enumerate(middle)}
        self.start = self._start(middle)

    def _start(self, middle: Float64) -> Float64:  # -> (spectrum, peak, parameter)
        start = np.empty(self.truth.shape)
        base = np.median(self.data, axis=1, keepdims=True)
        if len(middle) == 1:
            start[:, :, 1] = self.x[self.data.argmax(axis=1)][:, None]
        else:
            start[:, :, 1] = middle
        start[:, :, 2], start[:, :, 3] = 7.0, 0.5
        at = start[:, :, 1].astype(int)
        height = np.maximum(np.take_along_axis(self.data, at, axis=1) - base, 1.0)
        start[:, :, 0] = height * 7.0 * 1.3
        return start

    def ours(self, start: Float64 | None = None, **options: Any) -> ModelFit:
        given = {} if start is None else {
            f"p{k}.{name}": start[:, k, i] for k in range(start.shape[1])
            for i, name in enumerate(NAMES)
        }  # fmt: skip
        return fit_model(self.data, self.x, self.model, bounds=self.bounds, start=given, **options)

    def scipy(self, count: int) -> tuple[Float64, Float64]:
        """Fit with SciPy's trf, analytic derivatives; values, sums of squares."""
        from scipy.optimize import least_squares

        peaks, n = self.truth.shape[1], self.x.size
        line = np.stack([np.ones(n), np.linspace(-1, 1, n)])
        low, high = self.box(peaks)

        def residual(p: Float64, y: Float64) -> Float64:
            r = y - p[-2:] @ line
            for k in range(peaks):
                subtract_pseudo_voigt(self.x, p[4 * k : 4 * k + 4], r, np.empty((4, n)))
            return r

        def jacobian(p: Float64, y: Float64) -> Float64:
            columns = np.empty((p.size, n))
            for k in range(peaks):
                part = slice(4 * k, 4 * k + 4)
                subtract_pseudo_voigt(self.x, p[part], y.copy(), columns[part])
            columns[-2:] = line
            return -columns.T

        values, costs = [], []
        for y, start in zip(self.data[:count], self.start, strict=False):
            p0 = np.r_[start.ravel(), np.median(y), 0.0]
            found = least_squares(residual, np.clip(p0, low, high), jacobian, (low, high),
                                  x_scale="jac", args=(y,))  # fmt: skip
            values.append(found.x)
            costs.append(2 * found.cost)
        return np.array(values), np.array(costs)

    def box(self, peaks: int) -> tuple[Float64, Float64]:
        low, high = np.full(4 * peaks + 2, -np.inf), np.full(4 * peaks + 2, np.inf)
        for k in range(peaks):
            at = self.bounds.get(f"p{k}.position", (self.x[0], self.x[-1]))
            low[4 * k : 4 * k + 4] = [0, at[0], 1.0, 0]
            high[4 * k : 4 * k + 4] = [np.inf, at[1], 40.0, 1]
        return low, high


def squares(case: Case, fit: ModelFit) -> Float64:
    """Sums of squares; infinite where a peak was not fitted."""
    model = sum(evaluate_model(case.model, case.x, fit.values).values())
    found = ((case.data - model) ** 2).sum(axis=1)
    return np.where(np.isnan(found), np.inf, found)


def misses(case: Case) -> float:
    """Share of our fits, without any start, that miss the best minimum known."""
    freedom = case.x.size - 4 * case.truth.shape[1] - 2
    found = squares(case, case.ours(significance=0))
    others = [squares(case, case.ours(start, significance=0)) for start in (case.truth, case.start)]
    best = np.minimum(found, np.minimum(*others))
    return float(np.mean(found - best > 0.1 * best / freedom))


def agreement(case: Case, count: int) -> float:
    """Share of parameters within 0.01 standard errors of SciPy's, where both found one minimum."""
    fit, (values, costs) = case.ours(case.start, significance=0), case.scipy(count)
    freedom = case.x.size - 4 * case.truth.shape[1] - 2
    ours = squares(case, fit)[:count]
    same = np.abs(ours - costs) < 1e-3 * costs / freedom
    with np.errstate(invalid="ignore"):
        apart = np.abs(fit.values[:count] - values) / fit.errors[:count]
    apart = apart[same]
    return float(np.mean(apart[np.isfinite(apart)] < 0.01))


def pulls(likelihood: str, variance: str | None, height: float, count: int = 10_000) -> Float64:
    """Standard deviation of (found - true)/error, and share within one, by parameter.

    # -> (parameter, 2)
    """
    x, fraction = np.arange(64, dtype=float), np.array(0.5)
    true = [height * 9 * float(unit_area(fraction)), 31.0, 9.0, 0.5]
    expected = profile(x, *true[:3], fraction) + 50
    data = np.random.default_rng(1).poisson(expected, (count, 64)).astype(float)
    fit = fit_peak(data, x, likelihood=likelihood, variance=variance)
    off = np.array([
        (getattr(fit, name) - value) / getattr(fit, f"{name}_error")
        for name, value in zip(NAMES, true, strict=True)
    ])  # fmt: skip
    known = np.isfinite(off).sum(axis=1)
    return np.stack([np.nanstd(off, axis=1), (np.abs(off) < 1).sum(axis=1) / known], axis=1)
