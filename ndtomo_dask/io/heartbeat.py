"""A file that is held by a process, and says so by a counter that grows."""

import json
import logging
import os
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from ndtomo_dask.errors import StoreError

BEAT = 5.0
"""Seconds between two steps of the counter."""
LOGGER = logging.getLogger("ndtomo_dask")


@dataclass(frozen=True)
class Sighting:
    """What a lock said when it was looked at."""

    lock: Path
    text: str

    def __str__(self) -> str:
        process, host = self.holder.get("process", "?"), self.holder.get("host", "an unknown host")
        return f"process {process} on {host}"

    @cached_property
    def holder(self) -> dict[str, Any]:
        """Who holds it; empty while the holder has not written its name."""
        try:
            content = json.loads(self.text)
        except json.JSONDecodeError:
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def alive(self) -> bool | None:
        """Whether the holder lives; None if that cannot be told from here."""
        here = "machine" if "machine" in self.holder else "host"
        if not self.holder or self.holder.get(here) != _about(os.getpid())[here]:
            return None
        started = _started(self.holder["process"])
        return started is not None and self.holder.get("started") in (None, started)


def sight(lock: Path) -> Sighting | None:
    """Look at a lock; None if there is none."""
    try:
        return Sighting(lock, lock.read_text(errors="replace"))
    except FileNotFoundError:
        return None


class Heartbeat:
    """A lock of ours.

    The counter is written through the file that we created. Should another process have taken the
    lock over, that file is no longer the one under its name, so a beat never touches the other's.
    """

    def __init__(self, lock: Path, stream: int) -> None:
        self._lock = lock
        self._stream = stream
        self._token = uuid4().hex
        self._count = 0
        self._ended = Event()
        self._thread = Thread(target=self._beat, name=f"beat of {lock.name}", daemon=True)

    @classmethod
    def begin(cls, lock: Path) -> "Heartbeat | None":
        """Create a lock and keep it alive; None if there is one already."""
        try:
            stream = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return None
        except OSError as error:
            raise _unwritable(lock, error) from error
        heart = cls(lock, stream)
        try:
            heart._write()
        except OSError as error:
            os.close(stream)
            lock.unlink(missing_ok=True)
            raise _unwritable(lock, error) from error
        heart._thread.start()
        return heart

    def end(self) -> None:
        """Stop beating, and remove the lock if it is still ours."""
        self._ended.set()
        self._thread.join()
        if self._is_ours():
            self._lock.unlink(missing_ok=True)
        os.close(self._stream)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            if not self._is_ours():
                LOGGER.warning("%s was taken over by another process.", self._lock)
                return
            try:
                self._write()
            except OSError as error:  # a full disk may be freed before anyone counts us as dead
                LOGGER.warning("%s could not be renewed: %s.", self._lock, error.strerror)

    def _write(self) -> None:
        self._count += 1
        content = _about(os.getpid()) | {"token": self._token, "beat": self._count}
        os.pwrite(self._stream, json.dumps(content).encode(), 0)
        os.fsync(self._stream)

    def _is_ours(self) -> bool:
        try:
            seen = sight(self._lock)
        except OSError:
            return True  # a file system that does not answer is no other process
        return seen is not None and self._token in seen.text


def _unwritable(lock: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{lock} cannot be written: {error.strerror}. Free space there, or write to another folder."
    )


def _about(process: int) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": process,
        "started": _started(process),
    }


def _machine() -> str:
    """Name what process numbers are numbers of: hosts may share a name, containers a host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _started(process: int) -> int | None:
    """When a process started, in ticks since the boot; 0 if unknown, None if there is no such."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _answers(process)
    return None if fields[0] in "ZX" else int(fields[19])


def _answers(process: int) -> int | None:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0
