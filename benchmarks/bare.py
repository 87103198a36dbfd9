"""The work of a stage without Dask: plain processes that read, compute and write its blocks."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

import ndtomo_dask as nd
from ndtomo_dask.apply import _each_frame, block_of
from ndtomo_dask.computing import computing_with
from ndtomo_dask.io.arrays import open_for_reading
from ndtomo_dask.io.blocks import write_shard
from ndtomo_dask.kernels.threads import limit_blas
from ndtomo_dask.runtime.settings import environment_of_children, worker_environment
from ndtomo_dask.variables import LEADING

OURS = "ours"
PIPELINES = {
    "Zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}


@dataclass(frozen=True)
class Work:
    """Blocks to be read, worked on and written, one after the other."""

    source: str
    regions: tuple[tuple[slice, ...], ...]
    kernel: Callable[..., np.ndarray] | None = None
    """Called with a block; None only reads."""
    write: Callable[..., Any] | None = None
    """Called with a result and its place."""
    places: tuple[tuple[int, ...], ...] = ()
    pipeline: str = OURS

    def reading(self, pipeline: str = OURS) -> "Work":
        """Return the reading alone."""
        return Work(self.source, self.regions, pipeline=pipeline)


@dataclass(frozen=True)
class Seconds:
    """What a share of the work took: reading with decoding, the kernel, encoding with writing."""

    read: float = 0.0
    kernel: float = 0.0
    write: float = 0.0
    wall: float = 0.0

    @property
    def all(self) -> float:
        return self.read + self.kernel + self.write


def work_of(
    array: xr.DataArray,
    source: Path,
    kernel: Callable[..., Any],
    options: Mapping[str, Any],
    result: xr.DataArray | None = None,
    target: Path | None = None,
) -> Work:
    """Describe the work that a verb does on the blocks of a stored array."""
    framed = (tuple(True for dim in array.dims if dim in LEADING),)
    data: Any = array.data
    write = None
    if result is not None and target is not None:
        path = str((target / str(result.name)).resolve())
        write = partial(write_shard, path=path, extent=tuple(block_of(result).values()))
    return Work(
        str((source / str(array.name)).resolve()),
        tuple(da.core.slices_from_chunks(data.chunks)),
        partial(_each_frame, kernel=kernel, framed=framed, **options),
        write,
        tuple(np.ndindex(*data.numblocks)),
    )


def write_hollow(ds: xr.Dataset, path: Path) -> None:
    """Write the metadata and axes of a dataset, and none of its blocks."""
    with computing_with(lambda *_: iter(())):
        nd.save(ds, path)


@dataclass
class Processes:
    """Processes that wait for work, each with a share of it."""

    pool: Any
    count: int
    shares: list[Seconds] = field(default_factory=list)

    def run(self, work: Work) -> float:
        """Do the work; return its bare time: the seconds of all its parts, over the processes."""
        jobs = [(work, number, self.count) for number in range(self.count)]
        self.shares = self.pool.starmap(do_share, jobs, chunksize=1)
        return self.sum("all") / self.count

    def sum(self, part: str) -> float:
        """Seconds of one part, such as "kernel", over all processes, in the last work."""
        return float(sum(getattr(share, part) for share in self.shares))


@contextmanager
def processes(count: int, threads: int = 1) -> Iterator[Processes]:
    """Start processes with the environment of workers: threads of kernels, BLAS, allocator."""
    with environment_of_children(worker_environment(threads)):
        pool = get_context("spawn").Pool(count, initializer=limit_blas)
    try:
        yield Processes(pool, count)
    finally:
        pool.close()
        pool.join()


def do_share(work: Work, number: int, of: int) -> Seconds:
    """Do every ``of``-th block, and time its parts."""
    array, begun = opened(work.source, work.pipeline), time.perf_counter()
    places: Sequence[Any] = work.places or [None] * len(work.regions)
    read = kernel = write = 0.0
    for region, place in list(zip(work.regions, places, strict=True))[number::of]:
        start = time.perf_counter()
        block = array[region]
        is_read = time.perf_counter()
        result = block if work.kernel is None else work.kernel(block)
        is_made = time.perf_counter()
        if work.write is not None:
            work.write(result, block_id=place)
        read += is_read - start
        kernel += is_made - is_read
        write += time.perf_counter() - is_made
    return Seconds(read, kernel, write, time.perf_counter() - begun)


@lru_cache
def opened(path: str, pipeline: str) -> Any:
    """Open a stored array as the package does, or as plain Zarr does with a pipeline."""
    if pipeline == OURS:
        return open_for_reading(path)
    if pipeline == "zarrs":
        import zarrs  # noqa: F401 - importing it registers the pipeline
    with zarr.config.set({"codec_pipeline.path": PIPELINES[pipeline]}):
        return zarr.open_array(path, mode="r")
