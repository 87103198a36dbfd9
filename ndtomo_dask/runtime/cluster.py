"""Connecting to a cluster: start a local one, or join a scheduler that runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import yaml

from ndtomo_dask import plan
from ndtomo_dask.errors import OptionError, nearest
from ndtomo_dask.kernels.threads import limit_blas
from ndtomo_dask.runtime.settings import (
    DASK_SETTINGS,
    environment_of_children,
    worker_environment,
)

if TYPE_CHECKING:
    from distributed import Client

LOCAL_OPTIONS = ("kind", "workers", "threads", "memory", "scratch", "dashboard")
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
    environment = worker_environment(threads or layout.threads)
    settings = {**DASK_SETTINGS, "distributed.nanny.pre-spawn-environ": environment}
    with dask.config.set(settings), environment_of_children(environment):
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


def describe(client: "Client") -> Mapping[str, Any]:
    """Say what a cluster is made of: workers, threads of each, and memory of each in bytes."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    return {
        "workers": len(workers),
        "threads": workers[0]["nthreads"] if workers else 0,
        "memory": min((worker["memory_limit"] for worker in workers), default=0),
    }
