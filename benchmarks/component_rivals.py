"""Components and clusters by scikit-learn, dask-ml and HyperSpy, on spectra that are in memory.

Each function imports its library first, and returns the work that is timed. Dask runs in the
thread that asks, in blocks of `BLOCK` spectra.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

BLOCK = 5000
"""Spectra per block of those that take blocks."""


def sklearn_nmf(rows: np.ndarray, count: int, **options: Any) -> Callable[[], Any]:
    """Coordinate descent from NNDSVD; returns what was fitted."""
    from sklearn.decomposition import NMF

    settings = {"init": "nndsvd", "solver": "cd", "tol": 1e-4, "max_iter": 1000} | options
    return _quietly(lambda: NMF(count, **settings).fit(rows))


def sklearn_pca(rows: np.ndarray, count: int, solver: str) -> Callable[[], np.ndarray]:
    """Variances along the components."""
    from sklearn.decomposition import PCA

    return lambda: np.asarray(PCA(count, svd_solver=solver).fit(rows).explained_variance_)


def sklearn_kmeans(
    rows: np.ndarray, count: int, starts: int, algorithm: str
) -> Callable[[], float]:
    """Inertia of the best of some starts."""
    from sklearn.cluster import KMeans

    return lambda: float(
        KMeans(count, n_init=starts, random_state=0, algorithm=algorithm).fit(rows).inertia_
    )


def dask_ml_pca(rows: np.ndarray, count: int, solver: str) -> Callable[[], np.ndarray]:
    """Variances along the components."""
    from dask_ml.decomposition import PCA

    def work() -> np.ndarray:
        model = PCA(count, svd_solver=solver, random_state=0).fit(_blocks(rows))
        return np.asarray(model.explained_variance_)

    return _quietly(_in_this_thread(work))


def dask_ml_kmeans(rows: np.ndarray, count: int) -> Callable[[], float]:
    """Inertia of one start: it knows no restarts."""
    from dask_ml.cluster import KMeans

    def work() -> float:
        return float(KMeans(count, random_state=0).fit(_blocks(rows)).inertia_)

    return _quietly(_in_this_thread(work))


def hyperspy_lazy(rows: np.ndarray, count: int, algorithm: str) -> Callable[[], Any]:
    """Decomposition of a lazy signal; returns it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import hyperspy.api as hs

    hs.preferences.General.show_progressbar = False

    def work() -> Any:
        signal = hs.signals.Signal1D(_blocks(rows)).as_lazy()
        signal.decomposition(algorithm=algorithm, output_dimension=count, print_info=False)
        return signal

    return _quietly(_in_this_thread(work))


def factors_of(signal: Any) -> np.ndarray:
    """Spectra that HyperSpy has found, (component, channel)."""
    return np.asarray(signal.get_decomposition_factors().data, dtype=float)


def _blocks(rows: np.ndarray) -> Any:
    import dask.array as da

    return da.from_array(rows, chunks=(BLOCK, rows.shape[1]))


def _in_this_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    import dask

    def done() -> Any:
        with dask.config.set(scheduler="synchronous"):
            return work()

    return done


def _quietly(work: Callable[[], Any]) -> Callable[[], Any]:
    """Without warnings, such as that it has not converged."""

    def done() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()

    return done
