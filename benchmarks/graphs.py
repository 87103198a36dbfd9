"""The graph of a scan of ten terabytes, which has its labels and its blocks but no counts.

``python -m benchmarks.graphs`` prints what the client does before and while such a scan is saved:
seconds until the chain of verbs is there, seconds to list the blocks that are missing, seconds to
spell out all tasks (batch by batch: a run does it while the workers work), tasks and pickled bytes
per block, and the most memory of the process. Seconds are of the processor, in one thread. Each
chain is built in a process of its own.
"""

import argparse
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cloudpickle
import xarray as xr

import ndtomo_dask as nd
from benchmarks.bench_kernels import empty_scan
from benchmarks.sizes import TERABYTE, Size
from ndtomo_dask.byte_sizes import human, parse_bytes
from ndtomo_dask.computing import computing_with
from ndtomo_dask.graphs import Batch

RAW = "raw.zarr"
_PICKLED_EVERY = 32
"""Pickling is for the count of bytes only, and is not timed: some batches are enough."""


def fbp(ds: xr.Dataset) -> xr.Dataset:
    return nd.reconstruct(nd.set_rotation_center(ds, 255.0))


def air_flux_fbp(ds: xr.Dataset) -> xr.Dataset:
    return fbp(ds.pipe(nd.remove_air).pipe(nd.normalize_projections))


CHAINS: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "FBP": fbp,
    "air, flux, FBP": air_flux_fbp,
}
"""The second makes its estimates along the way, which is the larger graph."""


@dataclass
class Spelled:
    """What spelling out the tasks of all batches took."""

    blocks: int = 0
    tasks: int = 0
    largest: int = 0
    """Tasks of the largest batch; a scheduler holds two."""
    seconds: float = 0.0
    begun: float = 0.0
    pickled_blocks: int = 0
    pickled_bytes: int = 0

    def __call__(
        self, batches: Iterable[Batch], _total: int, _description: str
    ) -> Iterator[list[Any]]:
        self.begun = start = time.process_time()
        for number, batch in enumerate(batches):
            tasks = batch.tasks()
            self.seconds += time.process_time() - start
            self._count(batch, tasks, number)
            start = time.process_time()
            yield []

    def _count(self, batch: Batch, tasks: dict[Any, Any], number: int) -> None:
        self.blocks += len(batch.keys)
        self.tasks += len(tasks)
        self.largest = max(self.largest, len(tasks))
        if number % _PICKLED_EVERY == 0:
            self.pickled_blocks += len(batch.keys)
            self.pickled_bytes += len(cloudpickle.dumps(tasks))


@dataclass(frozen=True)
class Graph:
    """What the graph of one chain took."""

    chain: str
    built: float
    """Seconds to open the scan and to chain the verbs."""
    listed: float
    """Seconds to write the metadata of the result and to list the blocks that are missing."""
    spelled: Spelled
    idle: int
    """Bytes of the process before."""
    peak: int

    def row(self) -> str:
        spelled = self.spelled
        return (
            f"{self.chain:<16} {spelled.blocks:>8,} {self.built:>8.2f} s {self.listed:>8.2f} s "
            f"{spelled.seconds:>8.2f} s {1e6 * spelled.seconds / spelled.blocks:>7.0f} µs "
            f"{spelled.tasks / spelled.blocks:>7.2f} "
            f"{spelled.pickled_bytes / spelled.pickled_blocks:>8.0f} B {spelled.largest:>8,} "
            f"{human(self.idle):>8} {human(self.peak):>8}"
        )


HEADER = (
    f"{'chain':<16} {'blocks':>8} {'build':>10} {'list':>10} {'spell':>10} {'a block':>10} "
    f"{'tasks':>7} {'bytes':>10} {'batch':>8} {'idle':>8} {'peak':>8}"
)


def measure(chain: str, folder: Path) -> Graph:
    """Build, list and spell out the graph of a chain, in this process."""
    idle, spelled, start = _peak(), Spelled(), time.process_time()
    ds = CHAINS[chain](nd.open_scan(folder / RAW, layout="images"))
    built = time.process_time() - start
    with computing_with(spelled):
        nd.save(ds[["volume"]], folder / f"{chain}.zarr", overwrite=True)
    return Graph(chain, built, spelled.begun - start - built, spelled, idle, _peak())


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write_hollow(size: Size, path: Path) -> None:
    """Write a scan's metadata and axes, and no block of counts."""
    with computing_with(lambda *_: iter(())):
        nd.save(empty_scan(size), path)


def graph_size(nbytes: int) -> Size:
    """Slices of 512 × 512 × 2048 that make a scan of at least so many bytes."""
    one = replace(TERABYTE, slices=1)
    return replace(one, name="hollow", slices=max(1, math.ceil(nbytes / one.nbytes)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs", description=__doc__)
    parser.add_argument("--size", default="10TB", help="of the raw scan, at least (10TB)")
    size = graph_size(parse_bytes(parser.parse_args(arguments).size))
    print(f"{human(size.nbytes)} raw: {size.words}")
    print("CPU seconds; build: open, chain; list: metadata, missing blocks; spell: all tasks")
    print("tasks, bytes: per block, as the scheduler gets them; batch: tasks of the largest")
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory(prefix="graphs_") as name:
        write_hollow(size, Path(name) / RAW)
        for chain in CHAINS:
            with get_context("spawn").Pool(1) as fresh:
                print(fresh.apply(measure, (chain, Path(name))).row(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
