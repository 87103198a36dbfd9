"""When the tasks of a cluster began and ended, as its scheduler saw it; and tasks that do nothing.

Those are here because a function of the module that is run (``__main__``) is pickled whole, with
every task.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class TaskTimes:
    """Times of all tasks that ran inside a ``with`` block; seconds are per worker."""

    workers: int
    begin: float = 0.0
    end: float = 0.0
    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def wall(self) -> float:
        return self.end - self.begin

    @property
    def busy(self) -> float:
        """Seconds in tasks."""
        return sum(stop - start for start, stop in self.spans) / self.workers

    @property
    def before(self) -> float:
        """Seconds before the first task began."""
        return min((start for start, _ in self.spans), default=self.end) - self.begin

    @property
    def after(self) -> float:
        """Seconds after the last task ended."""
        return self.end - max((stop for _, stop in self.spans), default=self.end)

    @property
    def idle(self) -> float:
        """Seconds without a task in between."""
        return self.wall - self.before - self.after - self.busy


@contextmanager
def watched(client: Any) -> Iterator[TaskTimes]:
    """Collect the times of the tasks that run inside a ``with`` block."""
    times = TaskTimes(len(client.scheduler_info(n_workers=-1)["workers"]))
    client.get_task_stream(start=time.time(), count=1)  # from here on the scheduler keeps them
    times.begin = time.time()
    yield times
    times.end = time.time()
    for task in client.get_task_stream(start=times.begin - 0.001, stop=times.end + 1.0):
        times.spans += [
            (span["start"], span["stop"])
            for span in task["startstops"]
            if span["action"] == "compute"
        ]


def do_nothing(block_id: tuple[int, ...]) -> np.ndarray:
    """Stand in for reading, computing and writing a block."""
    return np.ones((1,) * len(block_id), dtype=bool)


def see_block(block: np.ndarray) -> np.ndarray:
    """Have a block, and do nothing with it, (y, x, channel) -> (y, x, 1)."""
    return np.ones((*block.shape[:-1], 1), dtype=bool)
