"""How Dask is set up wherever the work runs: patience, and threads and memory of a worker."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

DASK_SETTINGS = {
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.scheduler.worker-ttl": "10 minutes",
    "distributed.scheduler.worker-saturation": 1.0,
}
"""Patience with a busy file system; and no block is read before a worker is free to use it."""
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "524288",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
}
"""Of glibc: blocks freed go back to the system, so a worker's memory is what it uses. Measured on
`benchmarks.out_of_core`: peaks of 480 MB instead of 700; lower thresholds cost time in the kernel.
"""
_THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables of a worker whose kernels use ``threads`` threads."""
    return {**dict.fromkeys(_THREAD_LIMITS, str(threads)), **ALLOCATOR}


@contextmanager
def environment_of_children(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while workers start: Dask lets them outrank its own settings."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
