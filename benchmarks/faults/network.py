"""A worker whose cable is out for longer than the scheduler waits for its heartbeat."""

from collections.abc import Sequence

from benchmarks.faults.deaths import PROGRAMS
from benchmarks.faults.hosts import Host, hosts
from benchmarks.faults.runs import (
    Bench,
    Command,
    Outcome,
    Work,
    expect,
    finished,
    wait_until,
)

SHORT = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
}
"""The scheduler gives a silent worker up after 5 s, not after minutes."""
GIVEN_UP, JOINED = "Worker failed to heartbeat", "Register worker"


def worker_cut_off(bench: Bench) -> Outcome:
    """Cut a worker off, wait until the scheduler has given it up, and connect it again."""
    with hosts(3) as (head, *others), bench.work("worker_cut_off") as work:
        scheduler, command = _cut_off(work, head, others)
        wait_until(lambda: GIVEN_UP in scheduler.text() or not command.runs, "it is given up")
        expect(command.runs, "the run had ended before the worker was given up", command.text())
        joined = registered(scheduler, others[0])
        others[0].connect()
        wait_until(
            lambda: registered(scheduler, others[0]) > joined or not command.runs, "it is back"
        )
        again = registered(scheduler, others[0]) > joined
        command.succeed()
        expect(again, "the worker did not come back", scheduler.text())
        return finished(
            work, "a worker on a host of its own (network namespace) is cut off for longer than "
            "the scheduler waits for its heartbeat (here 5 s), then connected again",
            "it is started again by its nanny, joins, gets work; code 0", resumed=False,
        )  # fmt: skip


def worker_lost(bench: Bench) -> Outcome:
    """Cut a worker off for good."""
    with hosts(3) as (head, *others), bench.work("worker_lost") as work:
        _, command = _cut_off(work, head, others)
        command.succeed()
        return finished(
            work, "a worker on a host of its own is cut off for good",
            "its blocks are done by the other; code 0", resumed=False,
        )  # fmt: skip


def _cut_off(work: Work, head: Host, others: Sequence[Host]) -> tuple[Command, Command]:
    """Start a run and take one worker's cable out; return the scheduler and the run."""
    scheduler, address = start_on(work, head, others)
    command = work.run("--cluster", address, before=head.inside)
    work.wait_for_blocks(command, "volume", 1)
    others[0].cut_off()
    return scheduler, command


def start_on(work: Work, head: Host, others: Sequence[Host]) -> tuple[Command, str]:
    """Start a scheduler on one host and a worker on each other; return it and its address."""
    dask, address = str(PROGRAMS / "dask"), f"tcp://{head.address}:8786"
    scheduler = work.start(
        *head.inside, dask, "scheduler", "--host", head.address, "--port", "8786",
        "--dashboard-address", "127.0.0.1:0", **SHORT,
    )  # fmt: skip
    wait_until(lambda: "Scheduler at" in scheduler.text(), "the scheduler listens")
    for host in others:
        work.start(
            *host.inside, dask, "worker", address, "--host", host.address, "--nthreads", "1",
            "--memory-limit", "2GB", "--no-dashboard", OMP_NUM_THREADS="1",
        )  # fmt: skip
    for host in others:
        wait_until(lambda host=host: registered(scheduler, host), "the workers have joined")
    return scheduler, address


def registered(scheduler: Command, host: Host) -> int:
    """How often a worker on a host has joined."""
    lines = scheduler.text().splitlines()
    return sum(JOINED in line and f"{host.address}:" in line for line in lines)
