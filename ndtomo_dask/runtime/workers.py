"""Workers are checked when they join: their environment, and their memory against the plan."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import dask

from ndtomo_dask.byte_sizes import human
from ndtomo_dask.errors import OptionError, PlanError
from ndtomo_dask.kernels.threads import limit_blas
from ndtomo_dask.machine import task_mem, worker_mem

Facts = dict[str, Any]
SAME = ("ndtomo-dask", "python", "zarr", "numpy")
"""What must have one version everywhere: results, or the store, could differ."""
NEEDED = ("hdf5plugin",)
"""What must be there if it is here: without it some files cannot be read."""
HELPFUL = ("zarrs",)
"""What should be there if it is here: results are the same without, only later."""
_TOPIC = "ndtomo_dask workers"
_INSTALLED = [name for name in (*SAME, *NEEDED, *HELPFUL) if name != "python"]
_FIRST_WORKER = 120.0
"""Seconds in which workers join that do not wait in a queue."""
_QUEUE_NOTE = 60.0
"""Seconds after which those who wait for a queue are told so."""
_log = logging.getLogger("ndtomo_dask")


def admit(
    client: Any, undo: ExitStack, *, least_memory: int | None, joined: bool, queued: bool
) -> None:
    """Wait for workers, refuse those that do not fit, and see to those that join later.

    Until the client is closed, plans are made for the smallest of the first workers.

    Raises
    ------
    OptionError
        No worker joins, or one has another environment.
    PlanError
        A worker is too small for tasks that hold ``least_memory``.
    """
    _wait_for_one(client, queued)
    expected = gatherer(_INSTALLED)()
    _refuse_other_python(client, expected)
    seen = client.run(gatherer(_INSTALLED))
    _refuse(seen, expected)
    allowed = min(task_mem(facts["memory"], facts["threads"]) for facts in seen.values())
    if least_memory is not None and allowed < least_memory:
        raise PlanError(
            f"a task of this recipe holds {human(least_memory)}, but on these workers it may hold "
            f"{human(allowed)}. Give each worker {human(worker_mem(least_memory))} of memory."
        )
    undo.enter_context(dask.config.set({"ndtomo_dask.allowed_mem": allowed}))
    client.subscribe_topic(_TOPIC, lambda event: _tell(event[1], expected, allowed))
    plugin = f"{_TOPIC} of {client.id}"
    client.register_plugin(gatekeeper(expected, allowed), name=plugin)
    if joined:  # others may use this scheduler with other versions
        client.farewell.callback(client.unregister_worker_plugin, plugin)


def _wait_for_one(client: Any, queued: bool) -> None:
    start, told = time.monotonic(), not queued
    while not client.scheduler_info(n_workers=-1)["workers"]:
        waited = time.monotonic() - start
        if not queued and waited > _FIRST_WORKER:
            raise OptionError(
                f"no worker has joined {client.scheduler.address} in {_FIRST_WORKER:.0f} s. Start "
                f"one: dask worker {client.scheduler.address} --nthreads 1"
            )
        if not told and waited > _QUEUE_NOTE:
            _log.warning("Still waiting for the first job to start: see the queue, and its logs.")
            told = True
        time.sleep(0.1)


def _refuse_other_python(client: Any, expected: Facts) -> None:
    """Look first at the Python of the workers: functions cannot be sent from one to another."""
    for address, about in client.get_versions()["workers"].items():
        there = ".".join(about["host"]["python"].split(".")[:2])
        if said := fault({**expected, "python": there}, expected, address):
            raise OptionError(said)


def _refuse(seen: Mapping[str, Facts], expected: Facts) -> None:
    faults = [said for address, facts in seen.items() if (said := fault(facts, expected, address))]
    if faults:
        others = f" So it is with {len(faults)} of {len(seen)} workers." if faults[1:] else ""
        raise OptionError(faults[0] + others)
    for address, facts in seen.items():
        _tell({**facts, "worker": address}, expected, 0)


def _tell(facts: Facts, expected: Facts, allowed: int) -> None:
    """Say what is wrong with a worker that joins while the work goes on."""
    worker = facts["worker"]
    if said := fault(facts, expected, worker, allowed):
        _log.warning("It gets no work: %s", said)
        return
    for name in HELPFUL:
        if expected[name] and not facts[name]:
            _log.warning("worker %s has no %s, so it reads slower.", worker, name)
    if facts["blas"] != expected["blas"]:
        _log.warning(
            "worker %s multiplies matrices as on %s, this process as on %s: components may differ "
            "in their last digits. For equal ones set OPENBLAS_CORETYPE=Haswell everywhere.",
            worker, facts["blas"], expected["blas"],
        )  # fmt: skip


def fault(facts: Facts, expected: Facts, worker: str, allowed: int = 0) -> str | None:
    """Say in one sentence why a worker must not be used; None if it may be."""
    for name in (*SAME, *NEEDED):
        here, there = expected[name], facts[name]
        if here != there and not (name in NEEDED and (there or not here)):
            has = "no " + name if there is None else f"{name} {there}"
            wanted = name if here is None else f"{name} {here}"
            return f"worker {worker} has {has}, but {wanted} is expected: {_remedy(name, here)}."
    share = task_mem(facts.get("memory", 0), facts.get("threads", 1))
    if share < allowed:
        return (
            f"worker {worker} lets a task hold {human(share)}, but the plan was made for "
            f"{human(allowed)}: give it a memory limit of {human(worker_mem(allowed))}."
        )
    return None


def _remedy(name: str, version: str | None) -> str:
    if name == "python":
        return "start its workers with that Python"
    if version is None:
        return f"install {name} here, or remove it there"
    return f"run pip install '{name}=={version}' in its environment"


def gatherer(names: list[str]) -> Callable[..., Facts]:
    """Make the function that says what a process is like.

    It is sent by value and uses the standard library only, so it runs where ndtomo_dask is missing.
    """

    def gather(dask_worker: Any = None) -> Facts:
        import sys
        from importlib.metadata import PackageNotFoundError, version
        from importlib.util import find_spec

        facts: Facts = {"python": "{}.{}".format(*sys.version_info)}
        for name in names:
            try:
                facts[name] = version(name)
            except PackageNotFoundError:
                facts[name] = None
        facts["blas"] = None
        if find_spec("ndtomo_dask") is None:
            facts["ndtomo-dask"] = None
        elif facts["ndtomo-dask"] is None:
            facts["ndtomo-dask"] = "0+source"
        try:
            from ndtomo_dask.kernels.threads import blas_kernels

            facts["blas"] = blas_kernels()
        except ImportError:  # of another version, or none: said by another fact
            pass
        if dask_worker is not None:
            from distributed.system import MEMORY_LIMIT

            facts["memory"] = dask_worker.memory_manager.memory_limit or MEMORY_LIMIT
            facts["threads"] = dask_worker.state.nthreads
        return facts

    return gather


def gatekeeper(expected: Facts, allowed: int) -> Any:
    """Make the plugin that lets a worker in, or closes it before it computes anything."""
    from distributed import WorkerPlugin

    gather, topic = gatherer(_INSTALLED), _TOPIC

    class Gatekeeper(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            facts = {**gather(worker), "worker": worker.address}
            try:
                if facts["ndtomo-dask"] != expected["ndtomo-dask"]:
                    raise ImportError
                from ndtomo_dask.runtime.stopping import await_nanny
                from ndtomo_dask.runtime.workers import let_in

                fits = let_in(facts, expected, allowed)
                if worker.nanny:
                    await_nanny()
            except Exception:  # whatever is wrong with it, it must not work
                fits = False
            if fits:
                worker.log_event(topic, facts)
            else:
                self.turn_away(worker, facts)

        def turn_away(self, worker: Any, facts: Facts) -> None:
            from distributed.core import Status

            async def leave() -> None:
                # Awaited: the stream of Worker.log_event may be cut before it has said why.
                await worker.scheduler.log_event(topic=topic, msg=facts)
                # The scheduler gives to others what it may have given to this one.
                await worker.scheduler.retire_workers(
                    workers=[worker.address], close_workers=False, remove=True
                )
                await worker.close(reason="ndtomo-dask-turned-away")

            worker.status = Status.closing_gracefully  # so it begins nothing
            worker.loop.add_callback(leave)

    return Gatekeeper()


def let_in(facts: Facts, expected: Facts, allowed: int) -> bool:
    """Prepare a worker that fits: all must round alike."""
    if fault(facts, expected, facts["worker"], allowed):
        return False
    limit_blas()
    return True
