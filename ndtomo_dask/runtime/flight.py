"""Batches of tasks on a cluster: a few in flight, what failed is named, what began is waited for.

Only the tasks of the batches in flight are known to the scheduler, however large the work is.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask._expr import LLGExpr

from ndtomo_dask.errors import BlockError, ClusterError, NdtomoError, Stopped
from ndtomo_dask.graphs import Batch

if TYPE_CHECKING:
    from distributed import Client, Future

RETRIES = 2
"""Times a failing block is tried again; a worker's death is not counted."""
GRACE = 20.0
"""Seconds that blocks at work have to end when a run is stopped; batch systems kill after 30."""
_AHEAD = 2
"""Batches in flight: the next one is there before the last blocks of one are done."""
_LOST = "the scheduler was lost. What was written is kept: run again with resume=True."
_POLL, _LONGEST_POLL = 0.002, 0.05
"""Seconds between two looks at what is done: at first, and after a while."""


@dataclass
class _Flight:
    """A batch on its way: where its results begin in the whole, and its futures, in order."""

    first: int
    wanted: bool
    futures: "list[Future]"

    @property
    def done(self) -> int:
        return sum(future.done() for future in self.futures)


def compute_on(
    client: "Client",
    batches: Iterable[Batch],
    description: str,
    seen: Callable[[int], None] = lambda _: None,
) -> Iterator[list[Any]]:
    """Compute batches on a cluster; yield the results of each in turn, if they are wanted.

    ``seen`` is told now and then how many results are there.

    Raises
    ------
    BlockError
        Tasks failed, each after `RETRIES`; it has their positions. All others were done.
    ClusterError
        The scheduler was lost.
    """
    flights: deque[_Flight] = deque()
    failed: dict[int, BaseException] = {}
    source, begun, landed, pause = iter(batches), 0, 0, _POLL
    try:
        while True:
            while len(flights) < _AHEAD and (batch := next(source, None)) is not None:
                flights.append(_Flight(begun, batch.wanted, _submit(client, batch)))
                begun += len(batch.keys)
            if not flights:
                break
            if flights[0].done < len(flights[0].futures):
                _check_alive(client)
                seen(landed + sum(flight.done for flight in flights))
                time.sleep(pause)
                pause = min(1.1 * pause, _LONGEST_POLL)
                continue
            flight = flights.popleft()
            landed += len(flight.futures)
            failed |= _failures(flight)
            if failed and flight.wanted:
                break
            yield client.gather(flight.futures) if flight.wanted else []
            pause = _POLL
    except BaseException as error:
        _abandon(client, flights, wait=isinstance(error, Stopped))
        if isinstance(error, Exception) and not isinstance(error, NdtomoError):
            _check_alive(client)
        raise
    if failed:
        _abandon(client, flights, wait=False)
        reason = next(iter(failed.values()))
        raise BlockError(f"{description} failed: {reason}", sorted(failed)) from reason


def _submit(client: "Client", batch: Batch) -> "list[Future]":
    # With a token of its own: Dask would work one out from everything that the tasks hold.
    tasks = LLGExpr(batch.tasks(), _determ_token=uuid4().hex)
    keys = list(batch.keys)
    return list(client.get(tasks, keys, sync=False, retries=RETRIES, fifo_timeout="0s"))


def _failures(flight: _Flight) -> dict[int, BaseException]:
    failed = {}
    for position, future in enumerate(flight.futures, flight.first):
        if future.status == "error":
            failed[position] = _in_words(future.exception())
        elif future.status != "finished":
            raise ClusterError(_LOST)
    return failed


def _in_words(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    deaths = error.allowed_failures + 1
    return ClusterError(
        f"each worker that began it has died, {deaths} in all; their logs say why, and most often "
        f"it is their memory"
    )


def _check_alive(client: "Client") -> None:
    if client.status != "running":
        raise ClusterError(_LOST)


def _abandon(client: "Client", flights: Iterable[_Flight], *, wait: bool) -> None:
    """Take back what has not begun, and let what has begun come to its end."""
    left = [future for flight in flights for future in flight.futures]
    if client.status != "running":
        return
    client.cancel(left)
    deadline = time.monotonic() + GRACE
    while wait and time.monotonic() < deadline and _any_at_work(client):
        time.sleep(_LONGEST_POLL)


def _any_at_work(client: "Client") -> bool:
    try:
        return any(client.run(_at_work, on_error="ignore").values())
    except OSError:  # the batch system has stopped the workers too
        return False


def _at_work(dask_worker: Any) -> bool:
    return bool(dask_worker.active_threads)
