"""The table of faults: ``python -m benchmarks.faults``."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults import clocks, deaths, files, network
from benchmarks.faults.runs import Bench, Outcome, RowFailed, RowSkipped


@dataclass(frozen=True)
class Row:
    """A fault, and what injects it."""

    fault: str
    inject: Callable[[Bench], Outcome]
    quick: bool = False


ROWS = {
    "workers-killed": Row("workers killed", deaths.workers_killed),
    "out-of-memory": Row("worker out of memory", deaths.out_of_memory),
    "deadly-block": Row("a block kills its workers", deaths.deadly_block),
    "scheduler-killed": Row("scheduler killed", deaths.scheduler_killed),
    "job-killed": Row("job killed", deaths.job_killed),
    "terminated": Row("time is over: the command is told", deaths.terminated),
    "group-terminated": Row("time is over: all are told", deaths.group_terminated, quick=True),
    "worker-cut-off": Row("worker cut off", network.worker_cut_off),
    "worker-lost": Row("worker lost", network.worker_lost),
    "disk-full": Row("disk full", files.disk_full, quick=True),
    "disk-full-at-start": Row("disk full at the start", files.disk_full_at_start),
    "damaged-chunk": Row("input damaged", files.damaged_chunk, quick=True),
    "truncated-shard": Row("input truncated", files.truncated_shard),
    "damaged-hdf5": Row("HDF5 input damaged", files.damaged_hdf5),
    "damaged-output": Row("output damaged", files.damaged_output),
    "dead-locks": Row("leftovers of the dead", files.dead_locks),
    "two-runs": Row("two runs at once", files.two_runs),
    "changed-recipe": Row("recipe or input changed", files.changed_recipe),
    "clock-jumps": Row("clock jumps", clocks.clock_jumps),
}
HEADER = ("Fault", "Injected", "What happened", "To finish, type", "Same bits", "Seconds")


def take(name: str, bench: Bench) -> tuple[str, bool]:
    """Do a row; return its line of the table, and whether it passed."""
    row, start = ROWS[name], time.monotonic()
    try:
        outcome = row.inject(bench)
    except RowSkipped as reason:
        return _line(row.fault, "-", f"skipped: {reason}", "-", "-", "-"), True
    except RowFailed as reason:
        print(f"{name} FAILED: {reason}", file=sys.stderr)
        outcome = Outcome("-", f"FAILED: {str(reason).splitlines()[0]}", "-", same=False)
    seconds = f"{time.monotonic() - start:.0f}"
    same = "yes" if outcome.same else "NO"
    line = _line(row.fault, outcome.injected, outcome.happened, outcome.finish, same, seconds)
    return line, outcome.same


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _parse(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Inject faults into real runs, finish them, and compare the bits.",
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="only the rows that CI runs")
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the rows, print the table, and return 1 if one failed."""
    given = _parse(arguments)
    names = given.rows or [name for name, row in ROWS.items() if row.quick or not given.quick]
    folder = Path(tempfile.mkdtemp(prefix="faults_", dir=given.folder))
    passed = []
    try:
        bench = Bench(folder)
        print(_line(*HEADER))
        print(_line(*["---"] * len(HEADER)), flush=True)
        for name in names:
            line, well = take(name, bench)
            print(line, flush=True)
            passed.append(well)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{sum(passed)} of {len(passed)} rows passed.")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all that was started ends
    sys.exit(main())
