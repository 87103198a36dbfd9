"""Clocks that jump, as when a machine is set right by its network."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.faults.runs import Bench, Outcome, RowSkipped, Work, expect, finished

SOURCE = Path(__file__).with_name("wall_clock.c")
JUMPS = (7200, -7200, 0)
"""Seconds by which the wall clock is wrong, one after the other."""


def clock_jumps(bench: Bench) -> Outcome:
    """Set the wall clock of all processes of a run two hours forward, then back, while it works."""
    with bench.work("clock_jumps") as work:
        library, clock = _compiled(work), work.folder / "clock"
        _set(clock, 0)
        command = work.run(LD_PRELOAD=str(library), WALL_CLOCK=str(clock))
        for count, seconds in enumerate(JUMPS, 1):
            work.wait_for_blocks(command, "volume", 2 * count - 1)
            _set(clock, seconds)
        text = command.succeed()
        for word in ("heartbeat", "Restarting", "restart"):
            expect(word not in text, f"a worker was thought dead: {word}", text)
        return finished(
            work, "the wall clock of all processes set 2 h forward, 4 h back, 2 h forward",
            "no worker is thought dead; code 0", resumed=False,
        )  # fmt: skip


def _compiled(work: Work) -> Path:
    """Make the library that stands before the system's clock."""
    compiler, library = shutil.which("cc"), work.folder / "wall_clock.so"
    if compiler is None:
        raise RowSkipped("no C compiler, so the clock cannot be changed for a run alone")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


def _set(clock: Path, seconds: int) -> None:
    """Write whole, for it is read at every look at the clock."""
    new = clock.with_suffix(".new")
    new.write_text(f"{seconds}\n")
    new.replace(clock)
