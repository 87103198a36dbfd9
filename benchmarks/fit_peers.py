"""Fits of one to five peaks by us and by SciPy, from one start, per core; misses, pulls, agreement.

``python -m benchmarks.fit_peers [--spectra N] [--subset N] [--repeat N]``. Ratios are medians of
processor time per fit over ours, in one process, in turn. A miss is a fit whose sum of squares is
more than 0.1 s² above the best that any of the fits, one from the truth among them, has found.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import threads
from benchmarks.truth import pseudo_voigt
from ndtomo_dask.kernels.least_squares import ModelFit, fit_model, fit_peak
from ndtomo_dask.kernels.peak_model import PeakModel
from ndtomo_dask.kernels.peak_shapes import GAUSSIAN_WIDTH, LORENTZIAN_WIDTH, subtract_pseudo_voigt

Float64 = NDArray[np.float64]
NAMES = ("area", "position", "fwhm", "fraction")
CHANNELS = {1: 64, 2: 96, 3: 128, 5: 256}


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
        q = fraction * LORENTZIAN_WIDTH + (1 - fraction) * GAUSSIAN_WIDTH
        self.truth = np.stack([height * width * q, position, width, fraction], axis=2)
        low = rng.uniform(5, 100, (spectra, 1))
        expected = low + rng.uniform(-0.3, 0.3, (spectra, 1)) * low * np.linspace(-1, 1, channels)
        for k in range(peaks):
            expected = expected + pseudo_voigt(self.x, *self.truth[:, k].T[..., None])
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
        low, high = self._box(peaks)

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

    def _box(self, peaks: int) -> tuple[Float64, Float64]:
        low, high = np.full(4 * peaks + 2, -np.inf), np.full(4 * peaks + 2, np.inf)
        for k in range(peaks):
            at = self.bounds.get(f"p{k}.position", (self.x[0], self.x[-1]))
            low[4 * k : 4 * k + 4] = [0, at[0], 1.0, 0]
            high[4 * k : 4 * k + 4] = [np.inf, at[1], 40.0, 1]
        return low, high


def curve_fit(case: Case, count: int) -> None:
    """Fit the way most scripts do: SciPy's curve_fit, bounds, derivatives by differences."""
    from scipy.optimize import curve_fit as fit

    line, peaks = np.linspace(-1, 1, case.x.size), case.truth.shape[1]
    low, high = case._box(peaks)

    def model(x: Any, *p: float) -> Any:
        total = p[-2] + p[-1] * line
        for k in range(peaks):
            total = total + pseudo_voigt(x, *map(np.asarray, p[4 * k : 4 * k + 4]))
        return total

    for y, start in zip(case.data[:count], case.start, strict=False):
        p0 = np.clip(np.r_[start.ravel(), np.median(y), 0.0], low, high)
        with contextlib.suppress(RuntimeError):  # it gives up on some
            fit(model, case.x, y, p0, bounds=(low, high))


def per_fit(works: Sequence[tuple[Callable[[], Any], int]], repeat: int) -> list[float]:
    """Return the median processor time of each work per fit, all in turn after a first round."""
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(repeat + 1):
        for (work, count), times in zip(works, seconds, strict=True):
            begin = time.process_time()
            work()
            if turn:
                times.append((time.process_time() - begin) / count)
    return [statistics.median(times) for times in seconds]


def squares(case: Case, fit: ModelFit) -> Float64:
    """Sums of squares; infinite where nothing was fitted."""
    freedom = case.x.size - 4 * case.truth.shape[1] - 2
    whole = (fit.status <= 1).all(axis=1)
    return np.where(whole, fit.reduced_chi_square * freedom, np.inf)


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


def pulls(likelihood: str, variance: str | None, height: float) -> Float64:
    """Standard deviation of (found - true)/error, by parameter."""
    x = np.arange(64, dtype=float)
    q = 0.5 * (LORENTZIAN_WIDTH + GAUSSIAN_WIDTH)
    true = np.array([height * 9 * q, 31.0, 9.0, 0.5])
    data = np.random.default_rng(1).poisson(pseudo_voigt(x, *true) + 50, (10_000, 64)).astype(float)
    fit = fit_peak(data, x, likelihood=likelihood, variance=variance)
    return np.array([
        np.nanstd((getattr(fit, name) - value) / getattr(fit, f"{name}_error"))
        for name, value in zip(NAMES, true, strict=True)
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print ratios, misses, agreement and pulls."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_peers", description=__doc__)
    parser.add_argument("--spectra", type=int, default=20_000)
    parser.add_argument("--subset", type=int, default=100, help="spectra that SciPy fits")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(arguments)
    with threads(1):
        _print_all(given.spectra, given.subset, given.repeat)


def _print_all(spectra: int, subset: int, repeat: int) -> None:
    for peaks in CHANNELS:
        case = Case(peaks, spectra if peaks == 1 else spectra // 5)
        count = len(case.data)
        works: list[tuple[Callable[[], Any], int]] = [
            (lambda c=case: c.ours(c.start), count),  # type: ignore[misc]
            (lambda c=case: c.ours(), count),  # type: ignore[misc]
            (lambda c=case: c.scipy(subset), subset),  # type: ignore[misc]
        ]
        works.append((lambda c=case: curve_fit(c, subset), subset))  # type: ignore[misc]
        ours, own, *theirs = per_fit(works, repeat)
        ratios = ", ".join(f"{other / ours:.0f}" for other in theirs)
        print(f"{peaks} peaks, {case.x.size} channels: {1e6 * ours:.1f} us a fit (own start "
              f"{1e6 * own:.1f}); SciPy trf, curve_fit over ours: {ratios}; "
              f"misses {misses(case):.3%}; within 0.01 standard errors "
              f"{agreement(case, subset):.2%}", flush=True)  # fmt: skip
    print(f"narrow peaks: misses {misses(Case(1, spectra, narrow=True)):.3%}")
    for likelihood, variance in (("gaussian", None), ("gaussian", "counts"), ("poisson", None)):
        shown = [f"{value:.3f}" for h in (200, 2000) for value in pulls(likelihood, variance, h)]
        print(f"pulls, {likelihood} {variance or ''}: {' '.join(shown)}")


if __name__ == "__main__":
    main()
