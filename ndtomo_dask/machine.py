"""Cores and memory shared out to workers, in integers.

Each worker does one task at a time. What a task may hold follows from the worker's memory limit,
and how many workers a machine can take follows from what a task must hold.
"""

from dataclasses import dataclass

from ndtomo_dask.byte_sizes import GB, MB

RESERVED_MEM = 350 * MB
"""A worker that has imported and compiled everything: measured 325-346 MB."""
LEAST_WORKER_MEM = GB
"""With less, blocks become so small that overhead shows."""
_USED_TENTHS = 6
"""Tenths of a worker's memory that are used: beyond, Dask spills."""


def task_mem(worker_limit: int, threads: int = 1) -> int:
    """Share of a worker's memory that one task may hold, below Dask's spilling threshold (60 %)."""
    return max(MB, (worker_limit * _USED_TENTHS // 10 - RESERVED_MEM) // threads)


def worker_mem(task: int) -> int:
    """Memory limit that a worker needs for tasks that hold ``task`` bytes.

    >>> task_mem(worker_mem(2 * GB)) == 2 * GB
    True
    """
    return -(-(task + RESERVED_MEM) * 10 // _USED_TENTHS)


@dataclass(frozen=True)
class WorkerLayout:
    """How the cores and the memory of a machine are shared out."""

    workers: int
    threads: int
    """Threads of the kernels in each worker."""
    memory: int
    """Memory limit of each worker, in bytes."""


def worker_layout(
    cores: int,
    memory: int,
    *,
    workers: int | None = None,
    limit: int | None = None,
    least: int | None = None,
) -> WorkerLayout:
    """Share a machine out: one worker per core, or fewer and larger ones if they would starve.

    Parameters
    ----------
    cores, memory
        What is shared out; memory in bytes.
    workers
        Number of workers, if it is decided.
    limit
        Memory limit of each worker, if it is decided.
    least
        Bytes that one task must be able to hold.

    >>> worker_layout(8, 12 * GB)
    WorkerLayout(workers=8, threads=1, memory=1500000000)
    >>> worker_layout(8, 4 * GB)
    WorkerLayout(workers=4, threads=2, memory=1000000000)
    >>> worker_layout(8, 12 * GB, least=2 * GB)
    WorkerLayout(workers=3, threads=2, memory=4000000000)
    """
    if workers is None:
        enough = limit or max(LEAST_WORKER_MEM, worker_mem(least or 0))
        workers = max(1, min(cores, memory // enough))
    return WorkerLayout(workers, max(1, cores // workers), limit or memory // workers)
