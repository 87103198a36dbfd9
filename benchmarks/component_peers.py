"""Components and clusters by us and by others: time, objective, memory, match to the truth.

``python -m benchmarks.peers --components`` prints all tables. Every program gets one BLAS thread
and one thread of its own, on the same data in memory; ratios are times over ours. dask-ml and
HyperSpy take part where they are installed.
"""

import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

import ndtomo_dask as nd
from benchmarks import component_maps, truth
from benchmarks import component_rivals as rivals
from benchmarks.component_maps import dataset
from benchmarks.contest import OURS, Contestant, Results, enter, granted, race, table
from ndtomo_dask.kernels.components.factors import component_weights
from ndtomo_dask.kernels.components.nmf import Start

PIXELS, CHANNELS = 40_000, 600
GROWTH = (40_000, 400_000, 4_000_000)
"""Pixels of lazy data, of `GROWTH_CHANNELS`, whose memory is compared."""
GROWTH_CHANNELS, GROWTH_BLOCK = 60, 20_000
STARTS = 4
"""Of scikit-learn's K-means."""


def alone(work: Callable[[], Any]) -> Callable[[], Any]:
    """Return ``work``, done on one thread."""

    def limited() -> Any:
        with threadpool_limits(1):
            return work()

    return granted(1, limited)


def residual(rows: np.ndarray, spectra: np.ndarray) -> float:
    """‖X - W H‖² with the nonnegative W that fits best."""
    weights = component_weights(rows, spectra, nonnegative=True).astype(float)
    return float(np.square(rows - weights @ spectra).sum())


def factors(pixels: int, channels: int, count: int, *, repeat: int) -> Results:
    """NMF; the error is the objective over that of scikit-learn."""
    rows, _ = truth.mixed_spectra(pixels, channels, count)
    ds = dataset(rows)

    def ours(start: Start) -> Callable[[], np.ndarray]:
        def work() -> np.ndarray:
            found = nd.find_components(ds, components=count, start=start)
            return np.asarray(found.component_spectrum.values)

        return work

    theirs = rivals.sklearn_nmf(rows, count)
    reference = residual(rows, theirs().components_)

    def entry(
        name: str, work: Callable[[], Any], spectra: Callable[[Any], np.ndarray] = np.asarray
    ) -> Contestant:
        def error(found: Any) -> float:
            return residual(rows, spectra(found)) / reference

        return Contestant(name, alone(work), pixels, error)

    def hyperspy() -> Contestant:
        work = rivals.hyperspy_lazy(rows, count, "NMF")
        return entry("HyperSpy NMF, lazy, with maps", work, rivals.factors_of)

    return race(
        [
            entry(f"{OURS}, from pure pixels", ours("pure")),
            entry(f"{OURS}, from singular vectors", ours("svd")),
            entry("scikit-learn NMF, cd, nndsvd", theirs, lambda fitted: fitted.components_),
            enter("HyperSpy NMF, lazy, with maps", hyperspy),
        ],
        repeat,
    )


def principal(pixels: int, channels: int, count: int, *, repeat: int) -> Results:
    """PCA; the error is the largest relative one of a variance, against a float64 SVD."""
    rows, _ = truth.mixed_spectra(pixels, channels, count)
    ds, exact = dataset(rows), rows.astype(float)
    exact -= exact.mean(axis=0)
    true = np.linalg.svd(exact, compute_uv=False)[:count] ** 2 / (pixels - 1)

    def ours() -> np.ndarray:
        found = nd.find_components(ds, method="pca", components=count)
        return np.asarray(found.explained_variance.values)

    def entry(name: str, work: Callable[[], np.ndarray]) -> Contestant:
        return Contestant(
            name, alone(work), pixels, lambda found: float(np.abs(found / true - 1).max())
        )

    def hyperspy() -> Contestant:
        decomposed = rivals.hyperspy_lazy(rows, count, "PCA")

        def work() -> np.ndarray:
            found = decomposed().learning_results.explained_variance[:count]
            return np.asarray(found, dtype=float)

        return entry("HyperSpy PCA, lazy, with maps", work)

    def peer(name: str, make: Callable[..., Any], solver: str) -> Contestant:
        return entry(name, make(rows, count, solver))

    peers = [
        enter(f"{name}, {solver}", partial(peer, f"{name}, {solver}", make, solver))
        for name, make, solvers in (
            ("scikit-learn PCA", rivals.sklearn_pca, ("auto", "full", "randomized")),
            ("dask-ml PCA", rivals.dask_ml_pca, ("tsqr", "randomized")),
        )
        for solver in solvers
    ]
    peers.append(enter("HyperSpy PCA, lazy, with maps", hyperspy))
    return race([entry(OURS, ours), *peers], repeat)


def clusters(pixels: int, channels: int, count: int, *, repeat: int) -> Results:
    """K-means, ours with its 16 starts; the error is the inertia over that of scikit-learn."""
    rows, _ = truth.mixed_spectra(pixels, channels, count)
    ds, lloyd = dataset(rows), rivals.sklearn_kmeans(rows, count, STARTS, "lloyd")
    moments, reference = nd.find_spectral_moments(ds), lloyd()

    def ours(known: xr.Dataset | None) -> Callable[[], float]:
        return lambda: float(nd.find_clusters(ds, known, clusters=count).inertia)

    def entry(name: str, work: Callable[[], float]) -> Contestant:
        return Contestant(name, alone(work), pixels, lambda inertia: inertia / reference)

    def dask_ml() -> Contestant:
        return entry("dask-ml KMeans, one start", rivals.dask_ml_kmeans(rows, count))

    elkan = rivals.sklearn_kmeans(rows, count, STARTS, "elkan")
    return race(
        [
            entry(OURS, ours(None)),
            entry(f"{OURS}, moments are known", ours(moments)),
            entry("scikit-learn KMeans, lloyd", lloyd),
            entry("scikit-learn KMeans, elkan", elkan),
            enter("dask-ml KMeans, one start", dask_ml),
        ],
        repeat,
    )


def memory(ds: xr.Dataset, count: int, iterations: int = 300) -> dict[str, float]:
    """MB that are allocated at most beyond the data, by PCA, NMF and K-means."""
    works: dict[str, Callable[[], Any]] = {
        "PCA": lambda: nd.find_components(ds, method="pca", components=count),
        "NMF": lambda: nd.find_components(ds, components=count, iterations=iterations),
        "K-means": lambda: nd.find_clusters(ds, clusters=count, iterations=iterations),
    }
    peaks = {}
    for name, work in works.items():
        tracemalloc.start()
        with threadpool_limits(1), dask.config.set(scheduler="synchronous"):
            work()
        peaks[name] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return peaks


def growing(pixels: int, channels: int, block: int, count: int) -> xr.Dataset:
    """Lazy spectra, a block of them at a time, each block a little stronger than the last."""
    rows = truth.mixed_spectra(block, channels, count)[0][:, None]
    blocks = da.map_blocks(
        _stronger, chunks=((block,) * (pixels // block), (1,), (channels,)), dtype=rows.dtype,
        rows=rows, meta=np.empty((0, 0, 0), dtype=rows.dtype),
    )  # fmt: skip
    return xr.Dataset({"volume": (("y", "x", "channel"), blocks)})


def _stronger(rows: np.ndarray, block_info: Any = None) -> np.ndarray:
    number = block_info[None]["chunk-location"][0]
    return np.asarray(rows * np.float32(1 + 0.01 * (number % 7)))


def print_all(repeat: int) -> None:
    """Print all tables."""
    size = f"{PIXELS} spectra of {CHANNELS} channels, 1 thread"
    for count in (5, 10):
        results = factors(PIXELS, CHANNELS, count, repeat=repeat)
        title = f"NMF, {count} components, {size}"
        print(table(title, results, piece="spectrum", error="objective / scikit-learn's"), "\n")
    results = principal(PIXELS, CHANNELS, 10, repeat=repeat)
    title = f"PCA, 10 components, {size}"
    print(table(title, results, piece="spectrum", error="largest error of a variance"), "\n")
    results = clusters(PIXELS, CHANNELS, 5, repeat=repeat)
    title = f"K-means, 5 clusters, {STARTS} starts of scikit-learn, 16 of ours, {size}"
    print(table(title, results, piece="spectrum", error="inertia / scikit-learn's"), "\n")
    memory(dataset(truth.mixed_spectra(400, 60, 5)[0]), 5)  # compiling takes memory of its own
    peaks = memory(dataset(truth.mixed_spectra(PIXELS, CHANNELS, 5)[0]), 5)
    print(f"Memory beyond the data, {size}: {_megabytes(peaks)}")
    block = GROWTH_BLOCK * GROWTH_CHANNELS * 4 / 1e6
    print(f"The same of {GROWTH_CHANNELS} channels in blocks of {block:.0f} MB, with the block")
    for pixels in GROWTH:
        peaks = memory(growing(pixels, GROWTH_CHANNELS, GROWTH_BLOCK, 5), 5, iterations=3)
        print(f"  {pixels} spectra: {_megabytes(peaks)}", flush=True)
    print()
    component_maps.print_all()


def _megabytes(peaks: dict[str, float]) -> str:
    return ", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items())
