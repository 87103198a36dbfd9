"""FBP by the compiled projector, in one level and in two, and by ASTRA, on one core.

``python -m benchmarks.fbp_levels [--channels 128] [--repeat 5] [--part PART]``; PART is one of
speed, channels, filter, error and limit; all by default. Times are processor time per channel,
medians of runs in turn, so that a busy machine lengthens all alike.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import truth
from benchmarks.contest import granted
from benchmarks.other_programs import astra_loop
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import packing, passes, tiles
from ndtomo_dask.kernels.projectors.numba import NumbaProjector
from ndtomo_dask.kernels.projectors.vectors import accumulate

SIZES = ((128, 90), (256, 180), (512, 360))
Work = Callable[[], Any]


def in_turn(works: dict[str, tuple[Work, int]], repeat: int) -> dict[str, float]:
    """Processor time of each per channel, in ms; the first round warms up."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat + 1):
        for name, (work, channels) in works.items():
            begin = time.process_time()
            granted(1, work)()
            spent[name].append((time.process_time() - begin) / channels * 1e3)
    return {name: float(np.median(times[1:])) for name, times in spent.items()}


def half_turn(angles: int) -> np.ndarray:
    return np.linspace(0, np.pi, angles, endpoint=False)


def projector(size: int, angles: int) -> NumbaProjector:
    return NumbaProjector(ParallelGeometry.centered(half_turn(angles), size))


def noise(size: int, angles: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((angles, size, channels), dtype=np.float32)


def print_speed(channels: int, repeat: int) -> None:
    print(
        "FBP, processor ms a channel | ASTRA linear | one level | two levels | default | ASTRA's /"
    )
    for size, angles in SIZES:
        A, sinogram = projector(size, angles), noise(size, angles, channels)
        few = np.ascontiguousarray(np.moveaxis(sinogram[..., :4], -1, 0))
        found = in_turn(
            {
                "astra": (astra_loop("FBP", half_turn(angles), size, few, 1, 1), 4),
                "one": (lambda A=A, y=sinogram: A.fbp(y, levels=1), channels),
                "two": (lambda A=A, y=sinogram: A.fbp(y, levels=2), channels),
                "default": (lambda A=A, y=sinogram: A.fbp(y), channels),
            },
            repeat,
        )
        figures = " | ".join(f"{found[name]:.3f}" for name in ("astra", "one", "two", "default"))
        print(f"{size}, {angles} angles | {figures} | {found['astra'] / found['default']:.0f}")


def print_channels(channels: int, repeat: int) -> None:
    counts = (16, 64, 256, 1024, *([4096] if channels >= 128 else []))
    print("FBP, processor ms a channel, by channels | " + " | ".join(map(str, counts)))
    for size, angles in SIZES[:2]:
        A = projector(size, angles)
        works = {}
        for count in counts[: 5 if size == 128 else 4]:
            sinogram = noise(size, angles, count)
            works[str(count)] = (lambda A=A, y=sinogram: A.fbp(y), count)
        found = in_turn(works, repeat)
        print(f"{size} | " + " | ".join(f"{value:.3f}" for value in found.values()))


def print_filter(channels: int, repeat: int) -> None:
    print("two levels, processor ms a channel of 40 angles | by matrices | by Fourier transforms")
    for size in (256, 512, 768, 1024, 1536):
        A, sinogram, works = projector(size, 40), noise(size, 40, min(channels, 64)), {}
        for name, limit in (("matrices", 10**6), ("transforms", 0)):

            def work(A: NumbaProjector = A, y: np.ndarray = sinogram, limit: int = limit) -> Any:
                passes.DENSE = limit
                return A.fbp(y, levels=2)

            works[name] = (work, sinogram.shape[2])
        found = in_turn(works, repeat)
        print(f"{size} | {found['matrices']:.3f} | {found['transforms']:.3f}")


def print_error(_channels: int, _repeat: int) -> None:
    print("RMSE / one level's | two levels, clean | noisy | ASTRA, clean | noisy | angles a group")
    for size, angles in (*SIZES, (150, 135), (200, 180), (220, 200), (300, 270), (200, 400)):
        theta, densities = half_turn(angles), truth.head_channels(1)
        clean = (truth.head_sinogram(theta, size) @ densities).astype(np.float32)
        image, inside = truth.head_image(size) @ densities, truth.circle(size)
        rng, A, found = np.random.default_rng(0), projector(size, angles), []
        noisy = clean + rng.normal(0, 0.05 * clean.std(), clean.shape).astype(np.float32)
        for y in (clean, noisy):
            images_first = np.ascontiguousarray(y.transpose(2, 0, 1))
            theirs = astra_loop("FBP", theta, size, images_first, 1, 1)
            images = (A.fbp(y, levels=1), A.fbp(y, levels=2), theirs())
            found.append([truth.relative_rmse(one, image, inside) for one in images])
        ratios = [
            error / errors[0] for k in (1, 2) for errors in found for error in errors[k : k + 1]
        ]
        grouped = passes.BackProjection(A.geometry, 2).rays
        group = grouped.order.size / grouped.means.size
        print(f"{size}, {angles} | " + " | ".join(f"{r:.3f}" for r in ratios) + f" | {group:.1f}")


def print_limit(_channels: int, repeat: int) -> None:
    """Interpolate in eight windows again and again, all of them in the first cache."""
    pixels, taps = (packing.aligned_zeros(n * 64, np.dtype("float32")) for n in (1024, 8 * 14))
    first = np.repeat(np.arange(8, dtype=np.uint32) * 14 * 64, 32)
    fractions, times = packing.aligned_zeros(256, np.dtype("float32")), 200
    work = in_turn({"": (lambda: _interpolate(pixels, taps, first, fractions, times), 1)}, repeat)
    rate = times * 1024 * 8 * 64 / (work[""] / 1e3)
    print(f"interpolations a second, with all data in the first cache: {rate:.2g}")
    A, sinogram = projector(256, 180), noise(256, 180, 64)
    spent = in_turn({"": (lambda: A.T(sinogram), 64)}, repeat)[""]
    print(f"the same, back-projecting 256 x 256 from 180 angles: {256**2 * 180 / spent * 1e3:.2g}")


@tiles.compiled
def _interpolate(
    pixels: np.ndarray, taps: np.ndarray, first: np.ndarray, fractions: np.ndarray, times: int
) -> None:
    for _ in range(times):
        for row in range(32):
            accumulate(pixels[row * 32 * 64 :], taps, first, fractions, 32, 8, 32, 64)


PARTS = {
    "speed": print_speed,
    "channels": print_channels,
    "filter": print_filter,
    "error": print_error,
    "limit": print_limit,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fbp_levels", description=__doc__)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--part", choices=list(PARTS), help="only this one")
    given = parser.parse_args(arguments)
    for part in [given.part] if given.part else PARTS:
        PARTS[part](given.channels, given.repeat)


if __name__ == "__main__":
    main()
