"""Processes that die: workers, the scheduler, the whole job; and signals of a batch system."""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.runs import (
    Bench,
    Command,
    Outcome,
    Work,
    expect,
    finished,
    wait_until,
)

PROGRAMS = Path(sys.executable).parent
KILLS, WHILE_WRITING = 20, 5
GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL on most clusters."""
LIMIT = "1200MB"
"""Memory of a worker that is to run out of it."""


def workers_killed(bench: Bench, every: float = 2.5) -> Outcome:
    """Kill one worker after the other, all through the run."""
    with bench.work("workers_killed", iterations=300) as work:
        command, killed = work.run(), 0
        wait_until(lambda: work.blocks() or not command.runs, "a block is stored")
        while command.runs:
            alive = command.workers()
            if alive and killed < 20:
                alive[killed % len(alive)].send_signal(signal.SIGKILL)
                killed += 1
            _wait_for_end(command, every)
        command.succeed()
        expect(killed >= 4, "the run ended before four workers were killed")
        return finished(
            work, f"SIGKILL to a worker every {every:g} s", f"{killed} workers replaced, code 0",
            resumed=False,
        )  # fmt: skip


def _wait_for_end(command: Command, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while command.runs and time.monotonic() < deadline:
        time.sleep(0.05)


def start_scheduler(work: Work, *, memory: str = "2GB", **environment: str) -> Command:
    """Start a scheduler and two workers as programs of their own; return the scheduler."""
    address = work.folder / "scheduler.json"
    address.unlink(missing_ok=True)
    dask = str(PROGRAMS / "dask")
    scheduler = work.start(
        dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address",
        "127.0.0.1:0", "--scheduler-file", str(address), **environment,
    )  # fmt: skip
    wait_until(address.is_file, "the scheduler has written its file")
    for _ in range(2):
        work.start(
            dask, "worker", "--scheduler-file", str(address), "--nthreads", "1", "--host",
            "127.0.0.1", "--memory-limit", memory, "--no-dashboard", "--death-timeout", "60",
            OMP_NUM_THREADS="1",
        )  # fmt: skip
    return scheduler


def out_of_memory(bench: Bench) -> Outcome:
    """Let a worker grow beyond its limit, so that its nanny kills it."""
    from distributed import Client

    with bench.work("out_of_memory") as work:
        start_scheduler(work, memory=LIMIT)
        address = str(work.folder / "scheduler.json")
        command = work.run("--cluster", address)
        work.wait_for_blocks(command, "volume", 1)
        with Client(scheduler_file=address, timeout=60) as client:
            before = client.run(_pid)
            victim = next(iter(before))
            client.run(_grow, workers=[victim])
            wait_until(lambda: victim not in client.scheduler_info()["workers"], "it is killed")
        command.succeed()
        return finished(
            work, f"a worker's memory grows past its limit of {LIMIT}",
            "its nanny ends it and starts another; code 0", resumed=False,
        )  # fmt: skip


def _pid() -> int:
    return os.getpid()


def _grow() -> None:
    """Take memory in a thread, and touch it, so that it is really held."""
    import threading

    def take(held: list[Any]) -> None:
        while len(held) < 400:
            held.append(bytearray(b"x" * 16_000_000))

    threading.Thread(target=take, args=([],), daemon=True).start()


def deadly_block(bench: Bench) -> Outcome:
    """Kill the worker of a block as often as is allowed, which here is never."""
    from distributed import Client

    with bench.work("deadly_block") as work:
        start_scheduler(work, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
        address = str(work.folder / "scheduler.json")
        command = work.run("--cluster", address)
        work.wait_for_blocks(command, "volume", 1)
        with Client(scheduler_file=address, timeout=60) as client:
            os.kill(next(iter(client.run(_pid).values())), signal.SIGKILL)
        said = command.refuse(2, "blocks failed (volume, z", "has died", "--resume")
        before = work.blocks()
        work.run("--resume", "--cluster", address).succeed()
        return finished(
            work, "SIGKILL to the worker of a block, of which no death is forgiven (ten are, "
            "usually)",
            f"code 2, names “{said.partition('(')[2].partition(')')[0]}”; {work.kept(before)}",
        )  # fmt: skip


def scheduler_killed(bench: Bench) -> Outcome:
    """Kill the scheduler while blocks are computed; go on with another."""
    with bench.work("scheduler_killed") as work:
        scheduler = start_scheduler(work)
        command = work.run("--cluster", str(work.folder / "scheduler.json"))
        work.wait_for_blocks(command, "volume", 2)
        scheduler.send(signal.SIGKILL)
        start = time.monotonic()
        command.refuse(2, "the scheduler was lost", "--resume")
        waited, before = time.monotonic() - start, work.blocks()
        for other in work.commands[:-1]:
            other.end()
        start_scheduler(work)
        work.run("--resume", "--cluster", str(work.folder / "scheduler.json")).succeed()
        return finished(
            work, "SIGKILL to the scheduler",
            f"code 2 after {waited:.0f} s, “the scheduler was lost”; {work.kept(before)}",
        )  # fmt: skip


def job_killed(bench: Bench, kills: int = KILLS, while_writing: int = WHILE_WRITING) -> Outcome:
    """Kill everything at random moments, some of them while a shard is being written."""
    draw = bench.random()
    with bench.work("job_killed", scan="large.nxs") as work:
        stored: dict[str, tuple[int, int]] = {}
        halves = done = 0
        for mark in _moments(work, draw, kills, while_writing):
            command = work.run("--resume")
            reached = _kill_at(work, command, mark, draw.uniform(0, 1.0))
            halves += bool(_halves(work))
            done += reached
            work.kept(stored)
            stored = work.blocks()
        expect(halves >= while_writing, f"only {halves} shards were hit while being written")
        work.run("--resume").succeed()
        return finished(
            work, f"SIGKILL to the whole process group at {done} random moments",
            f"{halves} of them while a shard was being written; {work.kept(stored)}",
        )  # fmt: skip


def _moments(work: Work, draw: random.Random, kills: int, while_writing: int) -> list[int | None]:
    """Draw numbers of stored blocks; None stands for a volume that is being written."""
    every = [name.split("/")[0] for name in work.expected if "/c/" in name]
    counts = [every.count(name) for name in work.save]
    marks = sorted(draw.sample(range(sum(counts) - 1), kills - while_writing))
    early = [mark for mark in marks if mark <= counts[0]]
    return [*early, *[None] * while_writing, *marks[len(early) :]]


def _halves(work: Work) -> list[Path]:
    return list((work.store / "volume" / "c").rglob("*.partial"))


def _kill_at(work: Work, command: Command, mark: int | None, delay: float) -> bool:
    """Kill a run at a number of stored blocks and a while, or when a shard is being written."""
    old = set(_halves(work))
    if mark is None:
        wait_until(
            lambda: set(_halves(work)) - old or not command.runs, "a shard is written", poll=0.0002
        )
    else:
        wait_until(lambda: len(work.blocks()) >= mark or not command.runs, f"{mark} blocks")
        _wait_for_end(command, delay)
    running = command.runs
    command.end()
    return running


def terminated(bench: Bench, *, group: bool = False) -> Outcome:
    """Send SIGTERM, to the command or to all its processes at once as ``scancel`` does."""
    with bench.work(f"terminated{'_group' * group}") as work:
        command = work.run()
        work.wait_for_blocks(command, "volume", 2)
        stored, start = len(work.blocks()), time.monotonic()
        command.send(signal.SIGTERM, group=group)
        _wait_for_end(command, GRACE)
        expect(not command.runs, f"it had not ended {GRACE:.0f} s later", command.text())
        waited = time.monotonic() - start
        command.refuse(75, "--resume")
        expect(not work.partial(), f"half a block is left: {work.partial()}")
        before = work.blocks()
        expect(len(before) > stored, "no block that was at work was ended", command.text())
        work.run("--resume").succeed()
        whom = "all processes at once" if group else "the command"
        return finished(
            work, f"SIGTERM to {whom}, SIGKILL {GRACE:.0f} s later",
            f"code 75 after {waited:.0f} s, blocks at work are ended; {work.kept(before)}",
        )  # fmt: skip


def group_terminated(bench: Bench) -> Outcome:
    """Send SIGTERM to every process of the run at once."""
    return terminated(bench, group=True)
