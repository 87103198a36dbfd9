"""A bar for whatever is computed."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from ndtomo_dask.computing import compute_here, computing_with
from ndtomo_dask.graphs import Batch
from ndtomo_dask.runtime.flight import compute_on

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def progress(stream: TextIO | None = None) -> Iterator[None]:
    """Show a bar for whatever is computed inside a ``with`` block, on ``stream`` (stderr)."""
    with computing_with(_Bar(stream or sys.stderr)):
        yield


def compute_anywhere(
    batches: Iterable[Batch],
    total: int,
    description: str,
    seen: Callable[[int], None] = lambda _: None,
) -> Iterator[list[Any]]:
    """Compute batches on the cluster that is connected, or here if none is."""
    client = _current_client()
    if client is None:
        return compute_here(batches, total, description)
    return compute_on(client, batches, description, seen)


class _Bar:
    """Compute batches while counting the results that are there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()

    def __call__(
        self, batches: Iterable[Batch], total: int, description: str
    ) -> Iterator[list[Any]]:
        start = time.monotonic()

        def show(done: int, end: str = "\r") -> None:
            if self._live or done == total:
                self._show(description, done, total, time.monotonic() - start, end)

        yield from compute_anywhere(batches, total, description, show)
        show(total, end="\n")

    def _show(self, description: str, done: int, total: int, elapsed: float, end: str) -> None:
        filled = 24 * done // total if total else 24
        bar = "█" * filled + "·" * (24 - filled)
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
