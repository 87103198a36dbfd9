"""Ending the daemons of a batch system that a test started, and whatever they left behind."""

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress

import psutil

STOP = 30
"""Seconds that a process has to end before it is killed."""


def stop_daemons(daemons: Iterable[subprocess.Popen[bytes]]) -> None:
    """End daemons, the last started first."""
    daemons = list(daemons)
    for daemon in reversed(daemons):
        daemon.terminate()
    for daemon in daemons:
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(timeout=STOP)
        daemon.kill()
        daemon.wait()


def end_processes_with(variable: str, value: str) -> None:
    """End every other process in whose environment a variable has this value."""
    left = [process for process in psutil.process_iter() if _has(process, variable, value)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=STOP)


def _has(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        known = process.environ().get(variable)
    except (psutil.Error, OSError):
        return False
    return known == value and process.pid != os.getpid()
