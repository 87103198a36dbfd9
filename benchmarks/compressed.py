"""What spectral compression saves, and what it loses: ``python -m benchmarks.compressed``.

A noisy scan of five phases, and of a sixth in twelve pixels, is reconstructed by filtered
back-projection (or SIRT): every channel, and as mixed channels. Both are done in turn in one
process; times are medians, in seconds of the processor. Errors are relative to the reconstruction
of the sinogram without noise.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.five_phases import Scene, five_phases
from ndtomo_dask import find_spectral_basis, reconstruct
from ndtomo_dask.kernels.threads import thread_count

VISIBLE = 0.128
"""Height of the minority's peak, where the image has ``size`` pixels and one angle: with as many
counts per sample, it then stands out of the noise of any image as 1 does at 96² x 150."""
EVERY = 10
"""Errors are those of every tenth channel."""


Options = dict[str, Any]


def images_of(samples: np.ndarray, scan: xr.Dataset, options: Options) -> np.ndarray:
    """Reconstruct some channels, as if the scan had measured them."""
    few = scan.isel(channel=slice(samples.shape[-1]))
    return reconstruct(
        few.assign(sinogram=few.sinogram.copy(data=samples)), **options
    ).volume.values


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    made = work()
    return made, time.process_time() - start


class Judge:
    """Errors of a volume, and the share of the minority phase that is left in it."""

    def __init__(self, scene: Scene, options: Options) -> None:
        self.scene, self.options = scene, options
        self.truth = images_of(scene.clean[..., ::EVERY], scene.scan, options)
        self.common = images_of(scene.common[..., scene.peak], scene.scan, options)
        scene.clean = scene.common = np.zeros(0)

    def error(self, volume: xr.DataArray) -> float:
        difference = np.linalg.norm(volume.values[..., ::EVERY] - self.truth)
        return float(difference / np.linalg.norm(self.truth))

    def amount(self, volume: xr.DataArray) -> float:
        excess = volume.values[self.scene.spots][:, self.scene.peak]
        return float((excess - self.common[self.scene.spots]).mean())


Times = dict[str, list[float]]


def full_round(scan: xr.Dataset, judge: Judge, times: Times) -> tuple[list[float], xr.Dataset]:
    """Reconstruct every channel, and find a basis."""
    made, seconds = timed(lambda: reconstruct(scan, **judge.options))
    times["full"].append(seconds)
    basis, seconds = timed(lambda: find_spectral_basis(scan))
    times["find"].append(seconds)
    return [judge.error(made.volume), judge.amount(made.volume)], basis


def mixed_round(scan: xr.Dataset, basis: xr.Dataset, judge: Judge, times: Times) -> list[float]:
    """Reconstruct mixed channels: to maps of the components, and to the volume."""
    lazy = reconstruct(scan.chunk(), basis, **judge.options)
    _, seconds = timed(lazy.spectral_map.compute)
    times["maps"].append(seconds)
    made, seconds = timed(lambda: reconstruct(scan, basis, **judge.options))
    times["mixed"].append(seconds)
    return [judge.error(made.volume), judge.amount(made.volume)]


def measure(
    size: int, angles: int, channels: int, options: Options, *, strain: float, repeat: int
) -> list[str]:
    """Measure one size; return a row of the table."""
    scene = five_phases(
        size, angles, channels, width=10, strain=strain, minority=VISIBLE * size / angles**0.5
    )
    judge, scan = Judge(scene, options), scene.scan
    reconstruct(scan.isel(channel=slice(64)), **options)
    find_spectral_basis(scan)
    times: Times = {name: [] for name in ("full", "find", "maps", "mixed")}
    for _ in range(repeat):
        full, basis = full_round(scan, judge, times)
        less = mixed_round(scan, basis, judge, times)
    blind = find_spectral_basis(scan, threshold=np.inf)
    lost = judge.amount(reconstruct(scan, blind, **options).volume) / full[1]
    median = {name: statistics.median(values) for name, values in times.items()}
    return [
        f"{size}² × {angles}" + (f", shifts {strain:.1%}" if strain else ""),
        f"{basis.attrs['rank']} + {int(basis.kept_channel.sum())}",
        *(f"{median[name]:.2f}" for name in times),
        f"{median['full'] / (median['find'] + median['maps']):.1f}",
        f"{median['full'] / (median['find'] + median['mixed']):.1f}",
        f"{median['full'] / median['maps']:.1f}",
        f"{median['full'] / median['mixed']:.1f}",
        f"{full[0]:.3f}", f"{less[0]:.3f}", f"{less[1] / full[1]:.2f}", f"{lost:.2f}",
    ]  # fmt: skip


HEAD = (
    "scan", "components", "full, s", "basis, s", "maps, s", "volume, s", "basis and maps, ×",
    "basis and volume, ×", "maps, ×", "volume, ×", "error, full",
    "error, mixed", "minority", "unsearched",
)  # fmt: skip


def print_table(
    sizes: Sequence[tuple[int, int]], channels: int, *, strain: float = 0.0, repeat: int = 3,
    **options: Any,
) -> None:  # fmt: skip
    """Print a row for each size of the image and number of angles."""
    print(f"{channels} channels, {thread_count()} threads, median of {repeat}\n")
    print("| " + " | ".join(HEAD) + " |")
    print("| --- " * len(HEAD) + "|")
    for size, angles in sizes:
        row = measure(size, angles, channels, options, strain=strain, repeat=repeat)
        print("| " + " | ".join(row) + " |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["128x90", "256x180"], metavar="SIZExANGLES")
    parser.add_argument("--channels", type=int, default=2000)
    parser.add_argument("--strain", type=float, default=0.0, help="shift of the peaks, as a share")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sirt", type=int, help="steps of SIRT, in place of FBP")
    given = parser.parse_args(arguments)
    options = {"method": "sirt", "iterations": given.sirt} if given.sirt else {}
    sizes = [(int(size), int(angles)) for size, angles in (one.split("x") for one in given.sizes)]
    print_table(sizes, given.channels, strain=given.strain, repeat=given.repeat, **options)


if __name__ == "__main__":
    main()
