"""The same work by us and by each installed peer, in turn, in one process.

``python -m benchmarks.peers [--reconstruct] [--fit] [--components] [--repeat N]``; all three by
default. Times are medians per channel or per spectrum; ratios are times over ours, so 20 means that
we are 20 times faster; errors are distances from a truth that none of the programs made.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import fbp_peers, truth
from benchmarks.contest import OURS, Absent, Contestant, Result, enter, granted, race, table
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import factors, nmf, solvers
from ndtomo_dask.kernels.least_squares import fit_peak
from ndtomo_dask.kernels.projectors import load_projector

Results = list[Result | Absent]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reconstruct(size: int, angles: int, channels: int, *, repeat: int, slow: int = 4) -> Results:
    """Filtered back-projection with the same ramp filter; slow peers do ``slow`` channels only."""
    theta = np.linspace(0, np.pi, angles, endpoint=False)
    densities = truth.head_channels(channels)
    sinogram = (truth.head_sinogram(theta, size) @ densities).astype(np.float32)
    by_channel = np.ascontiguousarray(np.moveaxis(sinogram, -1, 0))
    error = _distance(size, densities)

    def ours() -> Any:
        A = load_projector("cpu", ParallelGeometry.centered(theta, size))
        return solvers.fbp(A, sinogram)

    def astra(workers: int) -> Contestant:
        work = fbp_peers.astra_fbp(theta, size, by_channel, workers)
        return Contestant(f"ASTRA FBP, linear, CPU, {_threads(workers)}", work, channels, error)

    def scikit_image() -> Contestant:
        center = size // 2  # where iradon takes the axis to be
        some = truth.head_sinogram(theta, size, center) @ densities[:, :slow]
        work = fbp_peers.iradon(
            theta, np.ascontiguousarray(np.moveaxis(some, -1, 0), dtype=np.float32)
        )
        distance = _distance(size, densities[:, :slow], center)
        return Contestant("scikit-image iradon", work, some.shape[-1], distance)

    def algotom() -> Contestant:
        work = fbp_peers.algotom_fbp(theta, by_channel[:slow])
        distance = _distance(size, densities[:, :slow])
        return Contestant("Algotom FBP", work, min(slow, channels), distance)

    def tomopy() -> Contestant:
        work = fbp_peers.tomopy_gridrec(theta, by_channel, CORES)
        return Contestant("TomoPy gridrec", work, channels, error)

    return race(
        [
            *_by_threads(ours, channels, error),
            enter("ASTRA FBP", lambda: astra(1)),
            enter("ASTRA FBP, in threads", lambda: astra(max(2, CORES))),
            enter("scikit-image iradon", scikit_image),
            enter("Algotom FBP", algotom),
            enter("TomoPy gridrec", tomopy),
        ],
        repeat,
    )


def _distance(
    size: int, densities: truth.Float64, center: float | None = None
) -> Callable[[Any], float]:
    """Make a function that compares a volume, (y, x, channel), with the truth."""
    image, inside = truth.head_image(size, center) @ densities, truth.circle(size, center)
    return lambda found: truth.relative_rmse(found, image, inside)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _by_threads(
    work: Callable[[], Any], count: int, error: Callable[[Any], float]
) -> list[Contestant]:
    """Enter our work twice: on all cores, and on one."""
    return [
        Contestant(f"{OURS}, {_threads(n)}", granted(n, work), count, error)
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


def components(
    pixels: int, channels: int, *, count: int = 6, repeat: int
) -> tuple[Results, Results]:
    """PCA and NMF of Poisson counts; error is the residual over that of the true expectation."""
    data, expected = truth.mixed_spectra(pixels, channels, count)
    noise = float(np.square(data - expected).sum())

    def error(model: Any) -> float:
        return float(np.square(data - model()).sum()) / noise

    def entry(name: str, work: Callable[[], Any]) -> Contestant:
        return Contestant(name, work, pixels, error)

    pca = [
        entry(f"{OURS} PCA", lambda: _our_pca(data, count)),
        enter("scikit-learn PCA", lambda: entry("scikit-learn PCA", _their_pca(data, count))),
    ]
    matrix = [
        entry(f"{OURS} NMF", lambda: _our_nmf(data, count)),
        enter(
            "scikit-learn NMF",
            lambda: entry("scikit-learn NMF, cd, nndsvda", _their_nmf(data, count)),
        ),
    ]
    return race(pca, repeat), race(matrix, repeat)


def _our_pca(data: np.ndarray, count: int) -> Callable[[], np.ndarray]:
    shift = data[:256].mean(axis=0)
    found = factors.pca_finalize(factors.moments_partial(data, shift), shift, count)
    scores = factors.pca_scores(data, found)
    return lambda: scores @ found.spectra + found.mean


def _our_nmf(data: np.ndarray, count: int) -> Callable[[], np.ndarray]:
    shift = data[:256].mean(axis=0)
    basis = nmf.nmf_basis(factors.moments_partial(data, shift), shift, count)
    found = nmf.nmf_from_projection(factors.project_spectra(data, basis.vectors), basis, count)
    weights = factors.component_weights(data, found.spectra, nonnegative=True)
    return lambda: weights @ found.spectra


def _their_pca(data: np.ndarray, count: int) -> Callable[[], Callable[[], np.ndarray]]:
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]

    def work() -> Callable[[], np.ndarray]:
        model = PCA(count)
        scores = model.fit_transform(data)
        return lambda: np.asarray(model.inverse_transform(scores))

    return work


def _their_nmf(data: np.ndarray, count: int) -> Callable[[], Callable[[], np.ndarray]]:
    from sklearn.decomposition import NMF

    def work() -> Callable[[], np.ndarray]:
        model = NMF(count, init="nndsvda", max_iter=1000)
        weights = model.fit_transform(data)
        return lambda: np.asarray(weights @ model.components_)

    return work


def _print_reconstruct(repeat: int) -> None:
    for size, angles, channels in ((256, 256, 64), (128, 90, 64)):
        results = reconstruct(size, angles, channels, repeat=repeat)
        title = f"FBP of {size} × {size}, {angles} angles, {channels} channels in one block"
        print(table(title, results, piece="channel", error="relative RMSE in the circle"), "\n")


def _print_fit(repeat: int) -> None:
    results, agreement = fit(20_000, 64, repeat=repeat)
    title = "Pseudo-Voigt and line, 20 000 spectra of 64 channels, Poisson noise"
    print(table(title, results, piece="fit", error="relative RMS error of the area"))
    print(agreement, "\n")


def _print_components(repeat: int) -> None:
    for results in components(10_000, 300, repeat=repeat):
        title = "6 components of 10 000 spectra of 300 channels"
        print(table(title, results, piece="spectrum", error="residual / noise"), "\n")


CONTESTS = {
    "reconstruct": _print_reconstruct,
    "fit": _print_fit,
    "components": _print_components,
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
