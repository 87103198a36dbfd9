"""Maps of a phantom of overlapping shapes beside the truth, by us and by others.

The experiment of nDTomo's tutorial on dimensionality reduction, whose conclusions are drawn by eye
there: found maps are matched to true ones, and correlated with them.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

import ndtomo_dask as nd
from benchmarks import component_rivals as rivals
from benchmarks.contest import OURS
from ndtomo_dask.components.decompose import Method
from ndtomo_dask.components.moments import Scaling
from ndtomo_dask.kernels.simulation import phantoms

SHAPE_SIZE, SHAPE_CHANNELS, SHAPES = 200, 250, 5
COUNTS = (None, 100.0, 10.0, 1.0, 0.1)
"""Mean counts of the channels of the phantom; None is without noise."""


def dataset(rows: np.ndarray) -> xr.Dataset:
    """Spectra as a volume of one row of pixels."""
    return xr.Dataset({"volume": (("y", "x", "channel"), rows[:, None])})


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
    """Least correlation of a map with the truth, by method; absent libraries are left out."""
    rows, true = shapes(counts)
    scores = {}
    for name, found in METHODS.items():
        try:
            scores[name] = matched(found(rows), true)
        except ImportError:
            continue
    return scores


def _ours(rows: np.ndarray, scaling: Scaling, method: Method = "nmf") -> np.ndarray:
    ds = dataset(rows)
    moments = nd.find_spectral_moments(ds, scaling=scaling)
    found = nd.find_components(ds, moments, method=method, components=SHAPES)
    made = nd.map_components(ds, found).component_map
    return np.asarray(made.values.reshape(-1, SHAPES))


def _clusters(rows: np.ndarray) -> np.ndarray:
    ds = dataset(rows)
    labels = nd.map_clusters(ds, nd.find_clusters(ds, clusters=SHAPES)).cluster_label
    return np.asarray(labels.values.reshape(-1, 1) == np.arange(SHAPES), dtype=float)


def _sklearn(rows: np.ndarray) -> np.ndarray:
    fitted = rivals.sklearn_nmf(rows, SHAPES, max_iter=500)()
    return np.asarray(fitted.transform(rows))


def _hyperspy(rows: np.ndarray) -> np.ndarray:
    signal = rivals.hyperspy_lazy(rows, SHAPES, "NMF")()
    return np.asarray(signal.get_decomposition_loadings().data).reshape(SHAPES, -1).T


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    f"{OURS} NMF": lambda rows: _ours(rows, "none"),
    f"{OURS} NMF, counting noise": lambda rows: _ours(rows, "poisson"),
    "scikit-learn NMF": _sklearn,
    "HyperSpy lazy NMF": _hyperspy,
    f"{OURS} PCA": lambda rows: _ours(rows, "none", "pca"),
    f"{OURS} K-means": _clusters,
}


def print_all() -> None:
    """Print the table: a row for each amount of noise."""
    print("Five shapes, least correlation of a map with the truth")
    for counts in COUNTS:
        noise = "no noise" if counts is None else f"{counts:g} counts per channel"
        print(f"  {noise}: " + ", ".join(f"{name} {r:.4f}" for name, r in maps(counts).items()))
