"""Where the work runs: connect to a cluster, and compute with progress and retries."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import dask
import yaml

from ndtomo_dask import plan
from ndtomo_dask.apply import computing_with
from ndtomo_dask.errors import BlockError, OptionError, nearest
from ndtomo_dask.kernels.threads import limit_blas

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 2
"""Times a failing block is tried again; a worker's death is not counted."""
LOCAL_OPTIONS = ("kind", "workers", "threads", "memory", "scratch", "dashboard")
_SETTINGS = {
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.scheduler.worker-ttl": "10 minutes",
    "distributed.scheduler.worker-saturation": 1.0,
}
"""Patience with a busy file system; and no block is read before a worker is free to use it."""
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "524288",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
}
"""Of glibc: blocks freed go back to the system, so a worker's memory is what it uses. Measured on
`benchmarks.out_of_core`: peaks of 480 MB instead of 700; lower thresholds cost time in the kernel.
"""
_POLL = 0.2
_ANSWER = "30s"
_ANY_PORT = "127.0.0.1:0"


def connect(
    where: str | Path = "local",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    scratch: str | None = None,
    dashboard: str | None = None,
) -> "Client":
    """Connect to a Dask cluster: start a local one, or join a scheduler that runs.

    One process per worker, one task at a time in it; the kernels use ``threads`` threads each. What
    a task may hold is taken from the workers' memory, so that plans fit the cluster.

    Parameters
    ----------
    where
        ``"local"``, the address of a scheduler (``"tcp://host:8786"``), or a YAML file such as
        ``cluster/local.yaml`` with these options as keys.
    workers
        Processes of a local cluster; default: as many as the cores and the memory allow.
    threads
        Threads of the kernels in each; default: the cores shared out.
    memory
        Memory limit of each worker, such as ``"4GB"``; default: the machine's, shared out.
    scratch
        Folder to which workers may spill.
    dashboard
        Address of the dashboard, such as ``":8787"``; default: any free port.

    Returns
    -------
        A `distributed.Client`; close it, or use it in a ``with`` statement.

    Raises
    ------
    OptionError
        ``where`` is none of these, or the file has an unknown option.
    """
    name = str(where)
    if Path(name).suffix in (".yaml", ".yml"):
        return connect(**_read_cluster_file(Path(name)))
    if "://" in name:
        return _join(name)
    if name != "local":
        raise OptionError(
            f"cluster {name!r} is not known. Use 'local', an address such as 'tcp://host:8786', "
            f"or a YAML file."
        )
    return _start_local(workers, threads, memory, scratch, dashboard)


def _read_cluster_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise OptionError(f"cluster file {path} does not exist.")
    try:
        options = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise OptionError(f"{path} is not valid YAML. Check its indentation.") from error
    if not isinstance(options, dict):
        raise OptionError(f"{path} must hold options with their values, such as 'workers: 4'.")
    for name in options:
        if name not in LOCAL_OPTIONS:
            raise OptionError(f"{path} has option {name!r}. {nearest(str(name), LOCAL_OPTIONS)}")
    return {"where": options.pop("kind", "local"), **options}


def _join(address: str) -> "Client":
    from distributed import Client

    try:
        client = Client(address, timeout=_ANSWER)
    except (OSError, ValueError) as error:
        raise OptionError(f"no scheduler answers at {address}. Is it running there?") from error
    _prepare(client)
    return client


def _start_local(
    workers: int | None,
    threads: int | None,
    memory: int | str | None,
    scratch: str | None,
    dashboard: str | None,
) -> "Client":
    from dask.system import CPU_COUNT
    from distributed import Client
    from distributed.system import MEMORY_LIMIT

    for name, count in (("workers", workers), ("threads", threads)):
        if count is not None and (not str(count).isdigit() or not int(count)):
            raise OptionError(f"{name}={count!r} is not a number of 1 or more.")
    limit = None if memory is None else plan.parse_bytes(memory)
    layout = plan.worker_layout(CPU_COUNT, MEMORY_LIMIT, workers=workers, limit=limit)
    kernel_threads = str(threads or layout.threads)
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**dict.fromkeys(limits, kernel_threads), **_ALLOCATOR}
    settings = {**_SETTINGS, "distributed.nanny.pre-spawn-environ": environment}
    with dask.config.set(settings), _environment(environment):
        client = Client(  # given no cluster it starts one, and closes it with itself
            n_workers=layout.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=layout.memory,
            local_directory=scratch,
            dashboard_address=dashboard or _ANY_PORT,
            env=environment,
        )
    _prepare(client)
    return client


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while workers start: Dask lets them outrank its own settings."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _prepare(client: "Client") -> None:
    """Let plans fit the smallest worker, and the workers round alike."""
    from distributed import WorkerPlugin

    class OneBlasThread(WorkerPlugin):  # type: ignore[misc]
        def setup(self, worker: object) -> None:  # noqa: ARG002
            limit_blas()

    client.register_plugin(OneBlasThread(), name="one BLAS thread")
    _adopt_memory(client)


def _adopt_memory(client: "Client") -> None:
    """Let plans fit the smallest worker."""
    client.wait_for_workers(1, timeout=120)
    known = client.scheduler_info(n_workers=-1)["workers"].values()
    share = [plan.task_mem(worker["memory_limit"], worker["nthreads"]) for worker in known]
    dask.config.set({"ndtomo_dask.allowed_mem": min(share)})


@contextmanager
def progress(stream: TextIO | None = None) -> Iterator[None]:
    """Show a bar for whatever is computed inside a ``with`` block, on ``stream`` (stderr)."""
    with computing_with(_Bar(stream or sys.stderr)):
        yield


class _Bar:
    """Compute collections while counting those that are done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()

    def __call__(self, collections: Sequence[Any], description: str) -> Sequence[Any]:
        start = time.monotonic()
        client = _current_client()
        if client is None:
            results: Sequence[Any] = dask.compute(*collections)
        else:
            results = self._watch(client, collections, description, start)
        self._show(description, len(collections), len(collections), start, end="\n")
        return results

    def _watch(
        self, client: "Client", collections: Sequence[Any], description: str, start: float
    ) -> Sequence[Any]:
        futures = client.compute(list(collections), retries=RETRIES)
        while not all(future.done() for future in futures):
            if self._live:
                done = sum(future.done() for future in futures)
                self._show(description, done, len(futures), start, end="\r")
            time.sleep(_POLL)
        failed = [place for place, future in enumerate(futures) if future.status == "error"]
        if failed:
            reason = futures[failed[0]].exception()
            raise BlockError(f"{description} failed: {reason}", failed) from reason
        return client.gather(futures)  # type: ignore[no-any-return]

    def _show(self, description: str, done: int, total: int, start: float, *, end: str) -> None:
        filled = 24 * done // total if total else 24
        bar = "█" * filled + "·" * (24 - filled)
        elapsed = time.monotonic() - start
        self._stream.write(f"  {description[:34]:<34} {bar} {done}/{total} {elapsed:6.1f} s{end}")
        self._stream.flush()


def _current_client() -> "Client | None":
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def describe(client: "Client") -> Mapping[str, Any]:
    """Say what a cluster is made of: workers, threads of each, and memory of each in bytes."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    return {
        "workers": len(workers),
        "threads": workers[0]["nthreads"] if workers else 0,
        "memory": min((worker["memory_limit"] for worker in workers), default=0),
    }
