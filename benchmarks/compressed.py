"""What spectral compression saves, and what it loses: ``python -m benchmarks.compressed``.

A noisy scan of five phases, and of a sixth in twelve pixels, is reconstructed by filtered
back-projection: every channel, and as mixed channels. Both are done in turn in one process; times
are medians, in seconds of the processor. Errors are relative to the reconstruction of the sinogram
without noise.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.five_phases import Scene, five_phases
from ndtomo_dask import reconstruct
from ndtomo_dask.compress import find_spectral_basis
from ndtomo_dask.kernels.threads import thread_count
from ndtomo_dask.mixing import compressed, expanded

VISIBLE = 0.128
"""Height of the minority's peak, where the image has ``size`` pixels and one angle: with as many
counts per sample, it then stands out of the noise of any image as 1 does at 96² x 150."""
EVERY = 10
"""Errors are those of every tenth channel."""


def volume_of(sinogram: xr.DataArray) -> xr.DataArray:
    """Filtered back-projection, by the public function."""
    angles = np.arange(sinogram.sizes["angle"]) * 180 / sinogram.sizes["angle"]
    return reconstruct(xr.Dataset({"sinogram": sinogram}, {"angle": angles})).volume


def mixed_volume(sinogram: xr.DataArray, basis: xr.Dataset) -> tuple[xr.DataArray, float]:
    """Do the same by mixed channels; and the seconds after which their maps were ready."""
    start = time.process_time()
    components = compressed(sinogram, basis).rename(component="channel")
    maps = volume_of(components).rename(channel="component")
    ready = time.process_time() - start
    return expanded(maps, basis), ready


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    made = work()
    return made, time.process_time() - start


class Judge:
    """Errors of a volume, and the share of the minority phase that is left in it."""

    def __init__(self, scene: Scene) -> None:
        some = {"dims": ("angle", "translation", "channel")}
        self.scene = scene
        self.truth = volume_of(xr.DataArray(scene.clean[..., ::EVERY], **some)).values
        self.common = volume_of(xr.DataArray(scene.common[..., scene.peak], **some)).values
        scene.clean = scene.common = np.zeros(0)

    def error(self, volume: xr.DataArray) -> float:
        difference = np.linalg.norm(volume.values[..., ::EVERY] - self.truth)
        return float(difference / np.linalg.norm(self.truth))

    def amount(self, volume: xr.DataArray) -> float:
        excess = volume.values[self.scene.spots][:, self.scene.peak]
        return float((excess - self.common[self.scene.spots]).mean())


def measure(size: int, angles: int, channels: int, *, strain: float, repeat: int) -> list[str]:
    """Measure one size; return a row of the table."""
    scene = five_phases(
        size, angles, channels, width=10, strain=strain, minority=VISIBLE * size / angles**0.5
    )
    judge, sinogram = Judge(scene), scene.scan.sinogram
    volume_of(sinogram[..., :64])
    basis = find_spectral_basis(scene.scan)
    times: dict[str, list[float]] = {name: [] for name in ("full", "find", "maps", "mixed")}
    for _ in range(repeat):
        volume, seconds = timed(lambda: volume_of(sinogram))
        times["full"].append(seconds)
        full = judge.error(volume), judge.amount(volume)
        del volume
        basis, seconds = timed(lambda: find_spectral_basis(scene.scan))
        times["find"].append(seconds)
        (volume, ready), seconds = timed(lambda: mixed_volume(sinogram, basis))  # noqa: B023
        times["maps"].append(ready)
        times["mixed"].append(seconds)
        less = judge.error(volume), judge.amount(volume)
        del volume
    blind = find_spectral_basis(scene.scan, threshold=np.inf)
    lost = judge.amount(mixed_volume(sinogram, blind)[0]) / full[1]
    median = {name: statistics.median(values) for name, values in times.items()}
    return [
        f"{size}² × {angles}" + (f", shifts {strain:.1%}" if strain else ""),
        f"{basis.attrs['rank']} + {int(basis.kept_channel.sum())}",
        *(f"{median[name]:.2f}" for name in times),
        f"{median['full'] / (median['find'] + median['maps']):.1f}",
        f"{median['full'] / (median['find'] + median['mixed']):.1f}",
        f"{median['full'] / median['mixed']:.1f}",
        f"{full[0]:.3f}", f"{less[0]:.3f}", f"{less[1] / full[1]:.2f}", f"{lost:.2f}",
    ]  # fmt: skip


HEAD = (
    "scan", "components", "full, s", "basis, s", "maps, s", "volume, s", "basis and maps, ×",
    "basis and volume, ×", "volume, ×", "error, full", "error, mixed", "minority", "unsearched",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["128x90", "256x180"], metavar="SIZExANGLES")
    parser.add_argument("--channels", type=int, default=2000)
    parser.add_argument("--strain", type=float, default=0.0, help="shift of the peaks, as a share")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(arguments)
    print(f"{given.channels} channels, {thread_count()} threads, median of {given.repeat}\n")
    print("| " + " | ".join(HEAD) + " |")
    print("| --- " * len(HEAD) + "|")
    for size in given.sizes:
        width, angles = map(int, size.split("x"))
        row = measure(width, angles, given.channels, strain=given.strain, repeat=given.repeat)
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
