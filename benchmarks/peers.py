"""The same work by us and by each installed peer, in turn, in one process.

``python -m benchmarks.peers [--reconstruct] [--fit] [--components] [--corrections]
[--repeat N]``; all four by default. Times are medians per channel or per spectrum; ratios are
times over ours, so 20 means that we are 20 times faster; errors are distances from a truth that
none of the programs made.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import component_peers, correction_peers, fit_peers, reconstruct_peers, truth
from benchmarks.contest import (
    CORES,
    OURS,
    Absent,
    Contestant,
    Results,
    enter,
    granted,
    race,
    table,
    threads_of,
)
from ndtomo_dask.kernels.fitting.least_squares import fit_peak


def _by_threads(
    work: Callable[[], Any], count: int, error: Callable[[Any], float]
) -> list[Contestant]:
    """Enter our work twice: on all cores, and on one."""
    return [
        Contestant(f"{OURS}, {threads_of(n)}", granted(n, work), count, error)
        for n in dict.fromkeys([CORES, 1])
    ]


def fit(spectra: int, channels: int, *, repeat: int, subset: int = 100) -> tuple[Results, str]:
    """Bounded pseudo-Voigt on a line; SciPy fits a ``subset``. Also, how far the two agree."""
    data, x, true = truth.noisy_peaks(spectra, channels)
    subset = min(subset, spectra)

    def error(found: Any) -> float:  # (spectrum, [area, position, fwhm, fraction])
        difference = found[:subset, 0] / true[:subset, 0] - 1
        return float(np.sqrt(np.nanmean(difference**2)))

    def ours() -> np.ndarray:
        found = fit_peak(data, x, bounds={"fwhm": (0.005, 0.2)})
        return np.column_stack([found.area, found.position, found.fwhm, found.fraction])

    def scipy() -> Contestant:
        work = _curve_fit(x, data[:subset])
        return Contestant("SciPy curve_fit, bounded", work, subset, error)

    peer = enter("SciPy curve_fit", scipy)
    results = race([*_by_threads(ours, spectra, error), peer], repeat)
    return results, _agreement(ours(), peer, fit_peak(data, x, bounds={"fwhm": (0.005, 0.2)}))


def _curve_fit(x: truth.Float64, spectra: np.ndarray) -> Callable[[], np.ndarray]:
    from scipy.optimize import curve_fit

    def model(x: Any, area: float, position: float, fwhm: float, fraction: float, a: float,
              b: float) -> Any:  # fmt: skip
        shape = truth.pseudo_voigt(x, *map(np.asarray, (area, position, fwhm, fraction)))
        return shape + a + b * (x - 3.1)

    low = [0, x[0], 0.005, 0, -np.inf, -np.inf]
    high = [np.inf, x[-1], 0.2, 1, np.inf, np.inf]

    def one(y: np.ndarray) -> np.ndarray:
        base = float(np.median(y))
        start = [0.04 * max(1.0, y.max() - base), x[y.argmax()], 0.03, 0.5, base, 0.0]
        scale = [1.0, 0.01, 0.01, 0.1, 10.0, 10.0]
        return np.asarray(curve_fit(model, x, y, start, bounds=(low, high), x_scale=scale)[0][:4])

    def work() -> np.ndarray:
        return np.stack([one(y) for y in spectra])

    return work


def _agreement(ours: np.ndarray, peer: Contestant | Absent, found: Any) -> str:
    if isinstance(peer, Absent):
        return ""
    theirs = peer.work()
    errors = np.column_stack([found.area_error, found.position_error, found.fwhm_error])
    count = len(theirs)
    apart = np.abs(ours[:count, :3] - theirs[:, :3]) / errors[:count]
    named = zip(("area", "position", "fwhm"), np.nanquantile(apart, 0.95, axis=0), strict=True)
    shown = ", ".join(f"{name} {value:.2g}" for name, value in named)
    return f"  95 % of our fits differ from SciPy's by less than (standard errors): {shown}"


def _print_fit(repeat: int) -> None:
    results, agreement = fit(20_000, 64, repeat=repeat)
    title = "Pseudo-Voigt and line, 20 000 spectra of 64 channels, Poisson noise"
    print(table(title, results, piece="fit", error="relative RMS error of the area"))
    print(agreement, "\n")
    fit_peers.print_all(repeat)
    print()


CONTESTS = {
    "reconstruct": reconstruct_peers.print_all,
    "fit": _print_fit,
    "components": component_peers.print_all,
    "corrections": correction_peers.print_all,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the contests that were asked for, and print a table of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    for name in CONTESTS:
        parser.add_argument(f"--{name}", action="store_true", help="only this, or these")
    parser.add_argument("--repeat", type=int, default=5, help="rounds that are timed (5)")
    given = parser.parse_args(arguments)
    chosen = [name for name in CONTESTS if getattr(given, name)] or list(CONTESTS)
    for name in chosen:
        CONTESTS[name](given.repeat)


if __name__ == "__main__":
    main()
