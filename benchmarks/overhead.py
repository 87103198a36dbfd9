"""What Dask, the scheduler and the event loops cost, beside the bare work of the same blocks.

``python -m benchmarks.overhead`` takes a simulated scan through two stages, on a local cluster and,
in turn, in as many plain processes that loop over the same blocks without Dask: raw counts to a
stored volume (read, FBP, write), and spectra to stored component maps (read, map, write). The bare
time is all reading, kernels and writing, over the number of processes. Then it reads all spectra
through Dask and with plain Zarr. Files are warm in the page cache for both. Medians of the rounds.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import xarray as xr

import ndtomo_dask as nd
from benchmarks.bare import Processes, Work, processes, work_of, write_hollow
from benchmarks.out_of_core import COMPONENTS, scan_size
from benchmarks.tasks import TaskTimes, see_block, watched
from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.byte_sizes import MB, human, parse_bytes
from ndtomo_dask.components.decompose import weights_block
from ndtomo_dask.computing import compute
from ndtomo_dask.graphs import block_keys, in_batches
from ndtomo_dask.kernels.reconstruction import reconstruct_block
from ndtomo_dask.scan_geometry import geometry_of
from ndtomo_dask.schema import step_of

RAW, DASK, BARE = "raw.zarr", "dask.zarr", "bare.zarr"


@dataclass
class Round:
    """One round of a stage, in seconds."""

    dask: float
    read: float
    kernel: float
    write: float
    tasks: TaskTimes

    @property
    def bare(self) -> float:
        return self.read + self.kernel + self.write


@dataclass
class Stage:
    """A stage to be done by both."""

    name: str
    result: xr.Dataset
    """Lazy; what `save` computes."""
    work: Work
    folder: Path
    nbytes: int
    """Decoded bytes read and written."""
    rounds: list[Round] = field(default_factory=list)

    def turn(self, client: Any, bare: Processes) -> Round:
        """Let both do it once."""
        for name in (DASK, BARE):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        write_hollow(self.result, self.folder / BARE)
        bare.run(self.work)
        parts = [bare.sum(part) / bare.count for part in ("read", "kernel", "write")]
        with watched(client) as tasks:
            nd.save(self.result, self.folder / DASK)
        return Round(tasks.wall, *parts, tasks)

    def middle(self, value: Callable[[Round], float]) -> float:
        return median(value(one) for one in self.rounds)


def reconstruction(folder: Path) -> Stage:
    ds = nd.open_scan(folder / RAW, layout="images")
    result = nd.reconstruct(ds, backend="cpu")[["volume"]]
    options = {
        "geometry": geometry_of(ds, verb="reconstruct"),
        "step": step_of(ds, "translation"),
        "method": "fbp",
        "backend": "cpu",
        "options": {},
    }
    target = folder / BARE
    work = work_of(ds.sinogram, folder / RAW, reconstruct_block, options, result.volume, target)
    nbytes = ds.sinogram.nbytes + result.volume.nbytes
    return Stage("read, FBP, write", result, work, folder, nbytes)


def maps(folder: Path, volume: Path) -> Stage:
    ds = nd.open_scan(volume, layout="spectra")
    spectra = _some_spectra(ds.sizes["channel"])
    result = nd.map_components(ds, xr.Dataset({"component_spectrum": spectra}))[["component_map"]]
    options = {"spectra": spectra.values, "mean": None}
    target = folder / BARE
    work = work_of(ds.volume, volume, weights_block, options, result.component_map, target)
    nbytes = ds.volume.nbytes + result.component_map.nbytes
    return Stage("read, map components, write", result, work, folder, nbytes)


def _some_spectra(channels: int) -> xr.DataArray:
    """Give each component a few peaks: the time of a fit hardly depends on which."""
    axis = np.linspace(0, 1, channels)
    centers = (np.arange(COMPONENTS * 3).reshape(COMPONENTS, 3) * 0.37 + 0.1) % 1
    peaks = np.exp(-(((axis - centers[..., None]) / 0.01) ** 2)).sum(axis=1)
    return xr.DataArray(peaks.astype(np.float32), dims=("component", "channel"))


def read_spectra(client: Any, volume: xr.DataArray) -> float:
    """Read all blocks of spectra through Dask; return the seconds."""
    seen = apply_kernel(see_block, volume, core=["channel"], out={"seen": 1}, dtype=bool)
    keys = block_keys(seen.data, np.ndindex(*seen.data.numblocks))
    with watched(client) as tasks:
        for _ in compute(in_batches(seen.data.dask, [keys], wanted=False), len(keys), "read"):
            pass
    return tasks.wall


def report(stage: Stage, bare: Processes) -> str:
    """Write what a stage took, and where the rest went."""
    middle = stage.middle
    ratio = middle(lambda one: one.dask / one.bare)
    rates = {name: stage.nbytes / middle(value) / MB for name, value in (
        ("Dask", lambda one: one.dask), ("bare", lambda one: one.bare))}  # fmt: skip
    lines = [
        f"{stage.name}: {ratio:.2f} × bare  ({len(stage.work.regions)} blocks, "
        f"{human(stage.nbytes)} read and written)",
        f"  Dask {middle(lambda one: one.dask):8.2f} s   {rates['Dask']:6.0f} MB/s",
        f"  bare {middle(lambda one: one.bare):8.2f} s   {rates['bare']:6.0f} MB/s: "
        f"read {middle(lambda one: one.read):.2f}, kernel {middle(lambda one: one.kernel):.2f}, "
        f"write {middle(lambda one: one.write):.2f} s on each of {bare.count} processes",
        "  the rest, as part of bare: "
        + ", ".join(
            f"{name} {middle(lambda one, part=part: part(one) / one.bare):+.1%}"
            for name, part in REST.items()
        ),
    ]
    return "\n".join(lines)


REST: dict[str, Callable[[Round], float]] = {
    "before the first task": lambda one: one.tasks.before,
    "tasks slower than bare": lambda one: one.tasks.busy - one.bare,
    "workers idle in between": lambda one: one.tasks.idle,
    "after the last task": lambda one: one.tasks.after,
}


@contextmanager
def prepared(given: Any) -> Iterator[tuple[Any, Processes, Path]]:
    """Start both, and store a scan."""
    size = parse_bytes(given.size)
    scan = scan_size(size, size=given.pixels, angles=given.angles, channels=given.channels)
    with tempfile.TemporaryDirectory(prefix="overhead_", dir=given.folder) as name:
        folder, start = Path(name), time.perf_counter()
        with nd.connect("local", workers=given.workers, threads=1, scratch=name) as client:
            started = time.perf_counter() - start
            print(f"{human(scan.nbytes)} raw: {scan.words}; {given.workers} workers")
            print(f"not counted below: {started:.1f} s to start the cluster", flush=True)
            nd.save(scan.simulate(counts=200.0)[["sinogram"]], folder / RAW)
            with processes(given.workers) as bare:
                yield client, bare, folder


def measure(stage: Stage, repeat: int, client: Any, bare: Processes) -> None:
    """Let both take turns, after a round that is not counted, which compiles."""
    stage.turn(client, bare)
    stage.rounds = [stage.turn(client, bare) for _ in range(repeat)]
    print(report(stage, bare), flush=True)


def compare_reading(stage: Stage, repeat: int, client: Any, bare: Processes, path: Path) -> None:
    """Print the bandwidth of reading spectra, through Dask and without."""
    volume = nd.open_scan(path, layout="spectra").volume
    pipelines = ["ours", "Zarr", *(["zarrs"] if find_spec("zarrs") else [])]
    rates: dict[str, list[float]] = {name: [] for name in ("Dask", *pipelines)}
    for _ in range(repeat + 1):
        rates["Dask"].append(volume.nbytes / read_spectra(client, volume) / MB)
        for name in pipelines:
            bare.run(stage.work.reading(name))
            rates[name].append(volume.nbytes * bare.count / bare.sum("read") / MB)
    found = {name: median(each[1:]) for name, each in rates.items()}
    print(f"reading {human(volume.nbytes)} of spectra, decoded, on {bare.count} processes:")
    print(
        f"  through Dask {found['Dask']:.0f} MB/s; bare, as the package reads {found['ours']:.0f}"
    )
    for name in pipelines[1:]:
        print(f"  plain, {name} pipeline {found[name]:.0f}: Dask {found['Dask'] / found[name]:.0%}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--size", default="1GB", help="of the raw scan, at least (1GB)")
    parser.add_argument("--pixels", type=int, default=256, help="translations (256)")
    parser.add_argument("--angles", type=int, default=256, help="projections (256)")
    parser.add_argument("--channels", type=int, default=1024, help="channels (1024)")
    parser.add_argument("--workers", type=int, default=2, help="processes of each (2)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds that count (3)")
    parser.add_argument("--folder", help="where the stores go (a temporary folder)")
    given = parser.parse_args(arguments)
    with prepared(given) as (client, bare, folder):
        measure(reconstruction(folder), given.repeat, client, bare)
        volume = folder / "volume.zarr"
        (folder / DASK).rename(volume)
        stage = maps(folder, volume)
        measure(stage, given.repeat, client, bare)
        compare_reading(stage, given.repeat, client, bare, volume)
    return 0


if __name__ == "__main__":
    sys.exit(main())
