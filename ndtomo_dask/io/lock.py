"""One run at a time on a store: a file beside it says who is at work."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ndtomo_dask.errors import StoreError


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold ``….lock`` beside a store inside a ``with`` block.

    The lock of a process of this machine that has ended is taken over; that of another machine is
    not, since nothing here can tell whether it still works.

    Raises
    ------
    StoreError
        Another run holds the lock.
    """
    lock = store.with_name(f"{store.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    if not _create(lock):
        _refuse_if_held(lock, store)
        lock.unlink(missing_ok=True)
        if not _create(lock):
            _refuse_if_held(lock, store)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _create(lock: Path) -> bool:
    """Create the lock with our name in it; False if there is one. Linking makes it in one step."""
    mine = lock.with_name(f"{lock.name}.{socket.gethostname()}.{os.getpid()}")
    mine.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
    try:
        os.link(mine, lock)
    except FileExistsError:
        return False
    finally:
        mine.unlink()
    return True


def _refuse_if_held(lock: Path, store: Path) -> None:
    try:
        holder = json.loads(lock.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return
    if holder["host"] == socket.gethostname() and not _is_alive(holder["process"]):
        return
    raise StoreError(
        f"{store} is being written by process {holder['process']} on {holder['host']}. Wait for it "
        f"to end; if it has died, remove {lock}."
    )


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
