"""How Dask is set up wherever the work runs: patience, and threads and memory of a worker."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

DASK_SETTINGS = {
    # A node that waits for its file system answers late; a scheduler that greets a thousand
    # workers at once does, too.
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "120s",
    # A connection that breaks in between is made again, in steps of up to 20 s.
    "distributed.comm.retry.count": 5,
    "distributed.comm.retry.delay.min": "1s",
    "distributed.comm.retry.delay.max": "20s",
    # A worker stuck in a read of the file system sends no heartbeat, but is not dead.
    "distributed.scheduler.worker-ttl": "10 minutes",
    # No block is read before a worker is free to use it.
    "distributed.scheduler.worker-saturation": 1.0,
    # A block whose workers died is not to blame when a batch system took them: three deaths, the
    # default, come soon on a cluster where jobs are preempted. One that kills them itself ends.
    "distributed.scheduler.allowed-failures": 10,
    # A worker whose nanny starts it again is back within a minute; only then is its job replaced.
    "distributed.deploy.lost-worker-timeout": "60s",
    # Logs for debugging keep the last messages, and one may name a whole batch of blocks: the
    # default of 1000 messages grows to hundreds of megabytes.
    "distributed.admin.low-level-log-length": 100,
}
"""Patience with a busy file system, and with workers that come and go."""
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
