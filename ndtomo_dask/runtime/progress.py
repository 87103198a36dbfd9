"""Computing with progress, retries, and the names of what failed."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import dask

from ndtomo_dask.apply import computing_with
from ndtomo_dask.errors import BlockError

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 2
"""Times a failing block is tried again; a worker's death is not counted."""
_POLL = 0.2


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
