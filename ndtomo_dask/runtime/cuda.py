"""One worker for each GPU of this machine, by dask-cuda."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ndtomo_dask.errors import BackendError
from ndtomo_dask.runtime.libraries import imported
from ndtomo_dask.runtime.local import ANY_PORT, spawning

OPTIONS = ("workers", "threads", "memory", "scratch", "dashboard")


@contextmanager
def start(given: Mapping[str, Any], _least_memory: int | None) -> Iterator[Any]:
    """Start a worker for each GPU, which sees no other; they end with the ``with`` block."""
    from dask.system import CPU_COUNT

    dask_cuda = imported("dask_cuda", extra="cuda")
    workers = given.get("workers") or _gpus()
    with spawning(given.get("threads", max(1, CPU_COUNT // workers))):
        cluster = dask_cuda.LocalCUDACluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=given.get("memory", "auto"),
            local_directory=given.get("scratch"),
            dashboard_address=given.get("dashboard", ANY_PORT),
        )
    with cluster:
        yield cluster


def _gpus() -> int:
    utilities = imported("dask_cuda.utils", extra="cuda")
    try:
        found = int(utilities.get_n_gpus())
    except Exception as error:  # of the driver's library, whichever it is
        raise _no_gpu(str(error)) from error
    if not found:
        raise _no_gpu("there is none")
    return found


def _no_gpu(reason: str) -> BackendError:
    return BackendError(
        f"cluster 'cuda' finds no GPU on this machine ({reason}). Start it on one that has, or use "
        f"--cluster local."
    )
