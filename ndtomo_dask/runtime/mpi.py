"""Workers in the processes of an MPI job, by dask-mpi."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask

from ndtomo_dask import machine
from ndtomo_dask.errors import OptionError
from ndtomo_dask.runtime.libraries import imported
from ndtomo_dask.runtime.local import ANY_PORT, spawning
from ndtomo_dask.runtime.settings import environment_of_children

OPTIONS = ("threads", "memory", "scratch", "interface", "dashboard")
_NANNY = "distributed.Nanny"
"""Workers run in children of the MPI processes: only these can have another environment, and be
started again when they die."""

_QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical"}
"""A worker that ends while MPI ends it complains; what matters is told to the client anyway."""


@contextmanager
def start(given: Mapping[str, Any], _least_memory: int | None) -> Iterator[Any]:
    """Become scheduler, client or worker, by the rank in the MPI job; only the client comes back.

    How many workers a node has is said by ``mpirun``, so the layout cannot follow the plan.
    """
    dask_mpi = imported("dask_mpi", extra="mpi")
    comm = imported("mpi4py.MPI", extra="mpi").COMM_WORLD
    if comm.Get_size() < 3:
        raise OptionError(
            f"cluster 'mpi' needs three MPI processes or more, for the scheduler, the command and "
            f"the workers, but there is {comm.Get_size()}. Start with: mpirun -np 4 ndtomo-dask run"
        )
    layout = _layout(comm, given)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with spawning(layout.threads) as environment, environment_of_children(_QUIET):
        client_here = dask_mpi.initialize(
            interface=given.get("interface"),
            memory_limit=layout.memory,
            local_directory=given.get("scratch"),
            dashboard_address=given.get("dashboard", ANY_PORT),
            worker_class=_NANNY,
            worker_options={"env": environment},
            exit=False,
        )
    if not client_here:  # a scheduler or a worker, whose work is done
        raise SystemExit(0)
    scheduler = dask.config.get("scheduler-address")
    try:
        yield scheduler
    finally:
        _end_workers(scheduler)
        dask_mpi.send_close_signal()


def _end_workers(scheduler: str) -> None:
    """End the workers before the scheduler, or they would complain that it is gone."""
    from distributed import Client

    with Client(scheduler) as client:
        client.retire_workers(close_workers=True)


def _layout(comm: Any, given: Mapping[str, Any]) -> machine.WorkerLayout:
    """Share a node out to the MPI processes on it."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED).Get_size()
    shared = machine.worker_layout(CPU_COUNT, MEMORY_LIMIT, workers=here, limit=given.get("memory"))
    threads = given.get("threads", shared.threads)
    return machine.WorkerLayout(here, threads, shared.memory)
