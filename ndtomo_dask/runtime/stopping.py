"""Stopping on a signal, as batch systems send one before they kill."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ndtomo_dask.errors import Stopped

EXIT_STOPPED = 75
"""Exit code of a run that was stopped and can be resumed: EX_TEMPFAIL of sysexits.h."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` at the first SIGTERM inside a ``with`` block; later ones change nothing.

    Processes that are started inside, such as workers, take the signal as they would elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.getpid() == process:
            raise Stopped(
                "stopped by a signal. What was written is kept: run again with resume=True."
            )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def await_nanny() -> None:
    """Let a worker end its block when a batch system signals all processes of a job at once.

    Its nanny has heard the signal too, and ends it; one that has a handler of its own keeps it.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
