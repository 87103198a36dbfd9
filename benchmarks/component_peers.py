"""Components and clusters by us and by scikit-learn: time, objective, memory, match to the truth.

``python -m benchmarks.peers --components`` prints all tables. Both programs get one BLAS thread and
one thread of their own, on the same data in memory; ratios are times over ours.
"""

import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

import ndtomo_dask as nd
from benchmarks import truth
from benchmarks.contest import OURS, Contestant, Results, enter, granted, race, table
from ndtomo_dask.kernels import phantoms
from ndtomo_dask.kernels.factors import component_weights

PIXELS, CHANNELS = 40_000, 600
SHAPE_SIZE, SHAPE_CHANNELS, SHAPES = 200, 250, 5
COUNTS = (None, 100.0, 10.0, 1.0)
"""Mean counts of the channels of the phantom of shapes; None is without noise."""


def dataset(rows: np.ndarray) -> xr.Dataset:
    """Spectra as a volume of one row of pixels."""
    return xr.Dataset({"volume": (("y", "x", "channel"), rows[:, None])})


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

    def ours(start: str) -> Callable[[], np.ndarray]:
        def work() -> np.ndarray:
            found = nd.find_components(ds, components=count, start=start)  # type: ignore[arg-type]
            return np.asarray(found.component_spectrum.values)

        return work

    def theirs() -> np.ndarray:
        from sklearn.decomposition import NMF  # type: ignore[import-untyped]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            model = NMF(count, init="nndsvd", solver="cd", tol=1e-4, max_iter=1000).fit(rows)
        return np.asarray(model.components_)

    reference = residual(rows, theirs())

    def entry(name: str, work: Callable[[], np.ndarray]) -> Contestant:
        return Contestant(
            name, alone(work), pixels, lambda spectra: residual(rows, spectra) / reference
        )

    return race(
        [
            entry(f"{OURS}, from pure pixels", ours("pure")),
            entry(f"{OURS}, from singular vectors", ours("svd")),
            enter("scikit-learn", lambda: entry("scikit-learn NMF, cd, nndsvd", theirs)),
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

    def theirs(solver: str) -> Callable[[], np.ndarray]:
        from sklearn.decomposition import PCA

        return lambda: np.asarray(PCA(count, svd_solver=solver).fit(rows).explained_variance_)

    def entry(name: str, work: Callable[[], np.ndarray]) -> Contestant:
        return Contestant(
            name, alone(work), pixels, lambda found: float(np.abs(found / true - 1).max())
        )

    solvers = ("auto", "full", "randomized")
    return race(
        [
            entry(OURS, ours),
            *(entry(f"scikit-learn PCA, {one}", theirs(one)) for one in solvers),
        ],
        repeat,
    )


def clusters(pixels: int, channels: int, count: int, *, repeat: int) -> Results:
    """K-means, four starts each; the error is the inertia over that of scikit-learn."""
    rows, _ = truth.mixed_spectra(pixels, channels, count)
    ds, reference = dataset(rows), 1.0

    def ours() -> float:
        return float(nd.find_clusters(ds, clusters=count, restarts=4).inertia)

    def theirs() -> float:
        from sklearn.cluster import KMeans  # type: ignore[import-untyped]

        return float(KMeans(count, n_init=4, random_state=0).fit(rows).inertia_)

    reference = theirs()

    def entry(name: str, work: Callable[[], float]) -> Contestant:
        return Contestant(name, alone(work), pixels, lambda inertia: inertia / reference)

    return race([entry(OURS, ours), entry("scikit-learn KMeans", theirs)], repeat)


def memory(pixels: int, channels: int, count: int) -> dict[str, float]:
    """MB that are allocated at most beyond the data, by PCA, NMF and K-means."""
    ds = dataset(truth.mixed_spectra(pixels, channels, count)[0])
    works: dict[str, Callable[[], Any]] = {
        "PCA": lambda: nd.find_components(ds, method="pca", components=count),
        "NMF": lambda: nd.find_components(ds, components=count),
        "K-means": lambda: nd.find_clusters(ds, clusters=count),
    }
    peaks = {}
    for name, work in works.items():
        work()
        tracemalloc.start()
        work()
        peaks[name] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return peaks


def shapes(counts: float | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Five overlapping shapes, each with a pattern of its own; (pixel, channel), (pixel, shape).

    A phantom of the kind of nDTomo's tutorial on dimensionality reduction: 200 × 200 pixels, 250
    channels.
    """
    size, rng = SHAPE_SIZE, np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    grains = phantoms.voronoi_grains((size, size), 60, rng)
    maps = np.stack([
        (y**2 + x**2 < 0.16) & (y**2 + x**2 > 0.1),
        (np.abs(y - 0.1) < 0.12) & (np.abs(x + 0.15) < 0.12),
        (y + 0.3 > 2 * np.abs(x - 0.1)) & (y < 0.2),
        np.isin(grains, rng.choice(60, 15, replace=False)),
        (y + 0.25) ** 2 + (x + 0.2) ** 2 < 0.02,
    ], axis=-1) * np.array([1.0, 0.8, 0.6, 0.5, 1.2])  # fmt: skip
    axis = np.arange(SHAPE_CHANNELS)
    place = rng.uniform(5, SHAPE_CHANNELS - 5, (SHAPES, 7, 1))
    height = rng.uniform(0.2, 1, (SHAPES, 7, 1))
    patterns = (height * np.exp(-0.5 * ((axis - place) / 2) ** 2)).sum(axis=1) + 0.01
    clean = maps.reshape(-1, SHAPES) @ patterns
    if counts is not None:
        clean = rng.poisson(clean * counts / clean.mean())
    return clean.astype(np.float32), maps.reshape(-1, SHAPES)


def matched(found: np.ndarray, true: np.ndarray) -> float:
    """Least correlation of a true map with the found one that is matched to it."""
    flat = found.std(axis=0) == 0
    table = np.corrcoef(np.where(flat, 0, found).T + 0.0, true.T)[
        : found.shape[1], found.shape[1] :
    ]
    table = np.nan_to_num(np.abs(table))
    return float(table[linear_sum_assignment(-table)].min())


def maps(counts: float | None) -> dict[str, float]:
    """Least correlation of the maps of the shapes with the truth, by method."""
    from sklearn.decomposition import NMF

    rows, true = shapes(counts)
    ds = dataset(rows)
    scores = {}
    for scaling in ("none", "poisson"):
        moments = nd.find_spectral_moments(ds, scaling=scaling)  # type: ignore[arg-type]
        found = nd.find_components(ds, moments, components=SHAPES)
        made = nd.map_components(ds, found).component_map.values.reshape(-1, SHAPES)
        name = OURS if scaling == "none" else f"{OURS}, counting noise"
        scores[f"{name} NMF"] = matched(made, true)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = NMF(SHAPES, init="nndsvd", max_iter=500).fit_transform(rows)
    scores["scikit-learn NMF"] = matched(weights, true)
    found = nd.find_components(ds, method="pca", components=SHAPES)
    made = nd.map_components(ds, found).component_map.values.reshape(-1, SHAPES)
    scores["PCA"] = matched(made, true)
    return scores


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
    title = f"K-means, 5 clusters, 4 starts, {size}"
    print(table(title, results, piece="spectrum", error="inertia / scikit-learn's"), "\n")
    peaks = memory(PIXELS, CHANNELS, 5)
    print("Memory beyond the data:", ", ".join(f"{n} {mb:.0f} MB" for n, mb in peaks.items()), "\n")
    print("Five shapes, least correlation of a map with the truth")
    for counts in COUNTS:
        noise = "no noise" if counts is None else f"{counts:g} counts per channel"
        print(f"  {noise}: " + ", ".join(f"{name} {r:.3f}" for name, r in maps(counts).items()))
