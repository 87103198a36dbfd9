"""Workers on this machine: one process each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask

from ndtomo_dask import machine
from ndtomo_dask.runtime.settings import environment_of_children, worker_environment

OPTIONS = ("workers", "threads", "memory", "scratch", "dashboard")
ANY_PORT = "127.0.0.1:0"


@contextmanager
def start(given: Mapping[str, Any], least_memory: int | None) -> Iterator[Any]:
    """Start a cluster on this machine; it ends with the ``with`` block."""
    from dask.system import CPU_COUNT
    from distributed import LocalCluster
    from distributed.system import MEMORY_LIMIT

    layout = machine.worker_layout(
        CPU_COUNT,
        MEMORY_LIMIT,
        workers=given.get("workers"),
        limit=given.get("memory"),
        least=least_memory,
    )
    with spawning(given.get("threads", layout.threads)) as environment:
        cluster = LocalCluster(
            n_workers=layout.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=layout.memory,
            local_directory=given.get("scratch"),
            dashboard_address=given.get("dashboard", ANY_PORT),
            env=environment,
        )
    with cluster:
        yield cluster


@contextmanager
def spawning(threads: int) -> Iterator[dict[str, str]]:
    """Let the processes started inside the ``with`` block have the environment of workers."""
    environment = worker_environment(threads)
    settings = {"distributed.nanny.pre-spawn-environ": environment}
    with dask.config.set(settings), environment_of_children(environment):
        yield environment
