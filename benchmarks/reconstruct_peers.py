"""Reconstruction by us and by others: FBP, SIRT and CGLS, by size of the image and by cores.

Everyone is given the same strip-integrated sinogram of a phantom known by formula. Slow programs do
a few channels; times are per channel, and per iteration where there are any. Of scikit-image's
``iradon`` nDTomo's ``fbpvol`` is a loop over channels.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import compressed, other_programs, truth
from benchmarks.contest import (
    CORES,
    OURS,
    Contestant,
    Results,
    enter,
    granted,
    race,
    table,
    threads_of,
)
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.projectors import MODEL, load_projector

SIZES = ((128, 90), (256, 180), (512, 360))
CHANNELS = 256
METHODS = {"fbp": 1, "sirt": 10, "cgls": 10}
"""Each method, and its iterations in the contest."""
COUNTS = (16, 64, 256, 1024, 4096)
MIXED = 2000
"""Channels of the scan that is reconstructed as a few."""


def contest(
    method: str, size: int, angles: int, channels: int, *, threads: int, repeat: int, slow: int = 8
) -> Results:
    """One method and size, everyone with as many threads; peers do ``slow`` of the channels."""
    theta = np.linspace(0, np.pi, angles, endpoint=False)
    densities = truth.head_channels(channels)
    sinogram = (truth.head_sinogram(theta, size) @ densities).astype(np.float32)
    iterations = METHODS[method]
    some = np.linspace(0, channels - 1, min(slow, channels)).astype(int)
    few = np.ascontiguousarray(np.moveaxis(sinogram[..., some], -1, 0))
    error, few_error = (_distance(size, densities[:, these]) for these in (slice(None), some))

    def peer(name: str, work: Callable[[], np.ndarray]) -> Contestant:
        return Contestant(name, work, len(some) * iterations, few_error)

    def astra() -> Contestant:
        run = partial(
            other_programs.astra_loop, method.upper(), theta, size, few, threads, iterations
        )
        return peer(f"ASTRA {method.upper()}, linear, CPU", run())

    ours = Contestant(OURS, granted(threads, _ours(method, theta, sinogram)),
                      channels * iterations, error)  # fmt: skip
    entered = [ours, enter(f"ASTRA {method.upper()}", astra)]
    if method == "fbp":
        entered += _other_fbp(theta, size, densities[:, some], few, threads, peer)
    return race(entered, repeat)


def _ours(method: str, theta: np.ndarray, sinogram: np.ndarray) -> Callable[[], Any]:
    geometry = ParallelGeometry.centered(theta, sinogram.shape[1])
    model = "pixel" if method == "fbp" else MODEL
    A, solve = load_projector("cpu", geometry, model), getattr(solvers, method)
    options = {} if method == "fbp" else {"iterations": METHODS[method]}
    return lambda: solve(A, sinogram, **options)


def _other_fbp(
    theta: np.ndarray,
    size: int,
    densities: np.ndarray,
    few: np.ndarray,
    threads: int,
    peer: Callable[..., Contestant],
) -> list[Any]:
    """Peers that have FBP only; those that cannot be told how many threads stand with all cores."""

    def scikit_image() -> Contestant:
        center = size // 2  # where iradon takes the axis to be
        moved = truth.head_sinogram(theta, size, center) @ densities
        work = other_programs.iradon(
            theta, np.ascontiguousarray(np.moveaxis(moved, -1, 0), dtype=np.float32)
        )
        distance = _distance(size, densities, center)
        return Contestant("scikit-image iradon, 1 thread", work, len(few), distance)

    others = [enter("scikit-image iradon", scikit_image)]
    others.append(
        enter(
            "TomoPy gridrec",
            lambda: peer("TomoPy gridrec", other_programs.tomopy_gridrec(theta, few, threads)),
        )
    )
    if threads == CORES:
        others.append(
            enter(
                "Algotom FBP", lambda: peer("Algotom FBP", other_programs.algotom_fbp(theta, few))
            )
        )
    return others


def _distance(
    size: int, densities: np.ndarray, center: float | None = None
) -> Callable[[Any], float]:
    """Make a function that compares a volume, (y, x, channel), with the truth."""
    image, inside = truth.head_image(size, center) @ densities, truth.circle(size, center)
    return lambda found: truth.relative_rmse(found, image, inside)


def cost_of_channels(
    size: int, angles: int, counts: Sequence[int], *, repeat: int
) -> list[tuple[int, float]]:
    """Seconds per channel of FBP on one thread, for blocks of so many channels, taken in turn."""
    theta = np.linspace(0, np.pi, angles, endpoint=False)
    rays = truth.head_sinogram(theta, size)
    works = {
        count: granted(1, _ours("fbp", theta, (rays @ truth.head_channels(count)).astype("f4")))
        for count in counts
    }
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for round_ in range(repeat + 1):
        for count, work in works.items():
            start = time.perf_counter()
            work()
            if round_:  # the first compiles
                seconds[count].append((time.perf_counter() - start) / count)
    return [(count, statistics.median(times)) for count, times in seconds.items()]


def print_all(repeat: int) -> None:
    """Print a table for each method, size and number of cores; what channels cost; and mixing."""
    for method in METHODS:
        for size, angles in SIZES:
            for threads in dict.fromkeys([1, CORES]):
                print_contest(method, size, angles, threads=threads, repeat=repeat)
    for size, angles in SIZES[:2]:
        told = cost_of_channels(size, angles, COUNTS[: 5 if size == 128 else 4], repeat=repeat)
        print(f"FBP, {size} × {size}, {angles} angles, 1 thread, by the channels of a block")
        for count, each in told:
            print(f"  {count:>5} channels {1e3 * each:>10.4f} ms each", flush=True)
    print("\nspectral_rank='auto' on a noisy scan of five phases and a sixth in twelve pixels")
    compressed.print_table(SIZES[:2], MIXED, repeat=repeat)
    compressed.print_table(SIZES[2:], MIXED // 2, repeat=1)


def print_contest(method: str, size: int, angles: int, *, threads: int, repeat: int) -> None:
    """Print one table; slow programs do few channels."""
    iterative = METHODS[method] > 1
    slow, channels = (2, CHANNELS // 4) if iterative else (max(2, 8 * 128 // size), CHANNELS)
    results = contest(method, size, angles, channels, threads=threads, repeat=repeat, slow=slow)
    where = f"{size} × {size}, {angles} angles, {channels} channels, {threads_of(threads)}"
    piece = "channel and iteration" if iterative else "channel"
    error = "relative RMSE in the circle"
    print(table(f"{method.upper()}, {where}", results, piece=piece, error=error), "\n", flush=True)
