"""Iterative methods against one another: how far each comes in the time of plain SIRT.

    python -m benchmarks.methods [--size 128] [--angles 90] [--channels 32] [--noise 0.02]

The truth is the head phantom, known by formula. Each method runs once to the end, watched, for its
error after every step; then all are timed in turn, unwatched: the median of the rounds counts, in
processor time, which other programs on the machine disturb least.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.truth import circle, head_channels, head_image, head_sinogram, relative_rmse
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.projectors import MODEL, Projector, load_projector

Solve = Callable[..., Any]
TIMED = 6
"""Steps of a timed run; a run of one step is taken off, and with it what is done once."""

NEARLY = 1.03
"""Error that counts as reached, over the least of plain SIRT."""
IN_SUBSETS = ("os_sirt", "sart", "osem")
"""What needs a tenth of the steps."""


class Data(NamedTuple):
    """A noisy sinogram of many channels, and the truth within the circle."""

    A: Projector
    sinogram: np.ndarray
    image: np.ndarray
    inside: np.ndarray


def make_data(size: int, angles: int, channels: int, noise: float) -> Data:
    """Ellipses of the head phantom, all of positive density, with normal noise."""
    theta = np.linspace(0, np.pi, angles, endpoint=False)
    A = load_projector("cpu", ParallelGeometry.centered(theta, size), MODEL)
    spectra = np.abs(head_channels(channels))
    clean = head_sinogram(theta, size) @ spectra
    level = noise * clean.max(axis=(0, 1))
    noisy = clean + np.random.default_rng(1).normal(0, 1, clean.shape) * level
    sinogram = noisy.clip(0).astype(np.float32)
    return Data(A, sinogram, head_image(size) @ spectra, circle(size))


def contestants(data: Data) -> dict[str, Solve]:
    """Every method with options that suit the data; TV of a strength in units of the noise."""
    noise = (data.sinogram - data.A(data.image.astype(np.float32))).std(axis=(0, 1))
    strength = noise * np.sqrt(data.A.geometry.angles.size)
    return {
        "sirt": solvers.sirt,
        "sirt, nonnegative": partial(solvers.sirt, nonnegative=True),
        "sirt, accelerated": partial(solvers.sirt, accelerated=True),
        "os_sirt": solvers.os_sirt,
        "sart": solvers.sart,
        "cgls": solvers.cgls,
        "mlem": solvers.mlem,
        "osem": solvers.osem,
        "tv": partial(solvers.tv, regularization=strength, nonnegative=True),
        "vectorial_tv": partial(
            solvers.vectorial_tv, regularization=float(4 * strength.mean()), nonnegative=True
        ),
        "nuclear": partial(
            solvers.nuclear, regularization=float(2 * strength.mean()), nonnegative=True
        ),
    }


def errors(solve: Solve, data: Data, steps: int) -> list[float]:
    """Error against the truth after 0, 1, … steps."""
    found: list[float] = []

    def watch(_step: int, volume: np.ndarray, _misfit: np.ndarray) -> None:
        found.append(relative_rmse(volume, data.image, data.inside))

    solve(data.A, data.sinogram, iterations=steps, watch=watch)
    return found


def seconds(solves: Sequence[Solve], data: Data, rounds: int) -> list[float]:
    """Median processor time of one step of each, all in turn."""
    taken: list[list[float]] = [[] for _ in solves]
    for _ in range(rounds):
        for solve, times in zip(solves, taken, strict=True):
            ends = [time.process_time()]
            for steps in (1, 1 + TIMED):
                solve(data.A, data.sinogram, iterations=steps)
                ends.append(time.process_time())
            times.append((ends[2] - 2 * ends[1] + ends[0]) / TIMED)
    return [median(times) for times in taken]


def compare(data: Data, steps: int, rounds: int) -> list[str]:
    """Rows of a table, in units of what plain SIRT needs to nearly its own least error."""
    methods = contestants(data)
    curves = {
        name: errors(solve, data, max(1, steps // 10) if name in IN_SUBSETS else steps)
        for name, solve in methods.items()
    }
    times = dict(zip(methods, seconds(list(methods.values()), data, rounds), strict=True))
    goal = NEARLY * min(curves["sirt"])
    reference = next(n for n, error in enumerate(curves["sirt"]) if error <= goal)
    rows = ["| method | one step | steps | time | least error | after |", "|" + "---|" * 6]
    for name, curve in curves.items():
        step = times[name] / times["sirt"]
        reached = next((n for n, error in enumerate(curve) if error <= goal), None)
        needed = "never | " if reached is None else f"{reached} | {reached * step / reference:.2f}"
        best = int(np.argmin(curve))
        rows.append(f"| `{name}` | {step:.1f} | {needed} | {min(curve):.3f} | {best} |")
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("size", 128), ("angles", 90), ("channels", 32), ("steps", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--noise", type=float, default=0.02)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = make_data(options.size, options.angles, options.channels, options.noise)
    print("\n".join(compare(data, options.steps, options.rounds)))


if __name__ == "__main__":
    main()
