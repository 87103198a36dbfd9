"""Libraries that only some clusters need."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ndtomo_dask.errors import BackendError


def imported(module: str, *, extra: str) -> Any:
    """Import an optional library, or say what to install."""
    try:
        with _own_signals():
            return import_module(module)
    except ImportError as error:
        missing = (error.name or module).partition(".")[0]
        raise BackendError(
            f"cluster {extra!r} needs {missing.replace('_', '-')}, which is not installed. "
            f"Run: pip install 'ndtomo-dask[{extra}]'"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the meaning of signals: dask-jobqueue 0.9 ends the process at Ctrl-C once imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not set from Python
                signal.signal(number, handler)
