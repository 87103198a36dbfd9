"""The real scheduler and blocks that do nothing: tasks per second, memory, tasks held at once.

``python -m benchmarks.scheduler --blocks 1e6`` takes so many empty blocks down the path on which
`save` takes those that are read, computed and written: in batches, slice by slice. On a local
cluster client and scheduler are one process, whose memory is printed as the run goes on.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dask.array as da
import numpy as np
import psutil

import ndtomo_dask as nd
from benchmarks.tasks import do_nothing
from ndtomo_dask.byte_sizes import human
from ndtomo_dask.computing import compute
from ndtomo_dask.graphs import Key, block_keys, in_batches

PER_SLICE, PER_BATCH = 32, 512
_LOOK = 0.1
"""Seconds between two looks at the scheduler."""
_SHOWN = 600
"""One look in so many is printed while the run goes on."""


@dataclass(frozen=True)
class Look:
    """What was seen at one moment."""

    seconds: float
    done: int
    held: int
    """Tasks that the scheduler knew."""
    client: int
    """Bytes of the process of client and scheduler."""
    worker: int
    """Bytes of the largest worker."""

    def row(self) -> str:
        rate = self.done / self.seconds if self.seconds else 0.0
        return (
            f"{self.seconds:>8.1f} s {self.done:>10,} {rate:>9.0f}/s {self.held:>8,} "
            f"{human(self.client):>9} {human(self.worker):>9}"
        )


HEADER = f"{'time':>10} {'done':>10} {'tasks':>11} {'held':>8} {'client':>9} {'worker':>9}"


def batched_keys(array: da.Array) -> Iterator[list[Key]]:
    """Keys of all blocks, in batches, without ever listing all."""
    places = iter(np.ndindex(*array.numblocks))
    while batch := list(islice(places, PER_BATCH)):
        yield block_keys(array, batch)


class Watch:
    """Look at the scheduler and at the processes, now and then."""

    def __init__(self, client: Any) -> None:
        self.scheduler = client.cluster.scheduler
        self.own = psutil.Process()
        self.workers = [psutil.Process(pid) for pid in client.run(_own_pid).values()]
        self.done, self.looks, self.start = 0, list[Look](), time.perf_counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def __enter__(self) -> "Watch":
        self.start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        worker = max(process.memory_info().rss for process in self.workers)
        seconds, held = time.perf_counter() - self.start, len(self.scheduler.tasks)
        own = self.own.memory_info().rss
        self.looks.append(Look(seconds, self.done, held, own, worker))

    def _keep_looking(self) -> None:
        while not self._stop.wait(_LOOK):
            self.look()
            if len(self.looks) % _SHOWN == 0:
                print(self.looks[-1].row(), flush=True)


def _own_pid() -> int:
    import os

    return os.getpid()


def measure(blocks: int, client: Any) -> list[Look]:
    """Take blocks that do nothing through the scheduler; return what was seen on the way."""
    slices = -(-blocks // PER_SLICE)
    chunks = ((1,) * slices, (1,) * PER_SLICE)
    meta = np.empty((0, 0), dtype=bool)
    array = da.map_blocks(do_nothing, chunks=chunks, dtype=bool, meta=meta)
    batches = in_batches(array.dask, batched_keys(array), wanted=False)
    with Watch(client) as watch:
        for _ in compute(batches, slices * PER_SLICE, "nothing"):
            watch.done += PER_BATCH
        watch.done = slices * PER_SLICE
    return watch.looks


def report(looks: Sequence[Look], rows: int = 10) -> str:
    """Write some of the looks, and what they say in all."""
    some = [looks[round(n)] for n in np.linspace(0, len(looks) - 1, min(rows, len(looks)))]
    last, tenth = looks[-1], looks[len(looks) // 10]
    return "\n".join(
        [
            HEADER,
            *(look.row() for look in some),
            f"{last.done:,} tasks at {last.done / last.seconds:.0f} per second, "
            f"{1e3 * last.seconds / last.done:.2f} ms each; at most "
            f"{max(look.held for look in looks):,} held by the scheduler",
            f"client and scheduler: {human(tenth.client)} after a tenth, "
            f"{human(max(look.client for look in looks))} at most; "
            f"a worker: {human(max(look.worker for look in looks))} at most",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduler", description=__doc__)
    parser.add_argument("--blocks", type=float, default=1e6, help="how many (1e6)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    given = parser.parse_args(arguments)
    with nd.connect("local", workers=given.workers, threads=1) as client:
        print(report(measure(int(given.blocks), client)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
