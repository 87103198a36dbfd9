"""Nonnegative amounts of known spectra, against SciPy's nnls called for each pixel.

    python -m benchmarks.fit_references [--pixels 4000] [--repeat 3]

Counts of overlapping patterns, of which each pixel has 60 % by chance: the harder case, because few
pixels share which amounts are 0. One thread; SciPy finds no errors of its amounts.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from benchmarks.contest import Contestant, Results, granted, race, table
from ndtomo_dask.kernels.components.reference_fit import design_matrix, fit_amounts
from ndtomo_dask.kernels.threads import one_blas_thread

CASES = ((256, 4), (1024, 5), (1024, 16))
"""Channels of a spectrum, and how many references are fitted to it."""
LINES, WIDTH = 8, 0.01
"""Peaks of a reference, and their width as a share of the axis."""


def mixtures(channels: int, references: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """References and noisy spectra that are sums of some of them."""
    rng = np.random.default_rng(1)
    axis = np.linspace(0, 1, channels)
    centers, heights = rng.random((2, references, LINES, 1))
    known = (heights * np.exp(-(((axis - centers) / WIDTH) ** 2))).sum(axis=1)
    amounts = rng.random((pixels, references)) * (rng.random((pixels, references)) < 0.6)
    return known, rng.poisson(50 * amounts @ known + 1).astype(np.float32)


def contest(channels: int, references: int, pixels: int, repeat: int, few: int) -> Results:
    """Race all; the error is the largest difference from SciPy's amounts, over the largest."""
    known, data = mixtures(channels, references, pixels)
    design = design_matrix(known, np.arange(channels))
    exact = np.array([nnls(known.T, row.astype(float))[0] for row in data[:few]])

    def error(amounts: np.ndarray) -> float:
        return float(np.abs(amounts[:few] - exact).max() / exact.max())

    def ours(uniform: bool) -> Contestant:
        name = "ndtomo_dask, " + ("uniform errors" if uniform else "robust errors")
        work = granted(1, lambda: fit_amounts(data, design, uniform=uniform).amount)
        return Contestant(name, work, pixels, error)

    def scipy() -> np.ndarray:
        return np.array([nnls(known.T, row.astype(float))[0] for row in data[:few]])

    with one_blas_thread():
        return race(
            [
                ours(False),
                ours(True),
                Contestant("scipy.optimize.nnls, no errors", scipy, few, error),
            ],
            repeat,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args(arguments)
    for channels, references in CASES:
        few = min(options.pixels, 400)
        results = contest(channels, references, options.pixels, options.repeat, few)
        title = f"{references} references, {channels} channels"
        print(table(title, results, piece="spectrum", error="from SciPy"))


if __name__ == "__main__":
    main()
