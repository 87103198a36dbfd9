"""Who is at work on a store: files beside it, kept alive by a beating counter.

A lock names its holder's machine, process and the process's start, and holds a counter that the
holder raises every few seconds. A holder on this machine is judged by its process; one elsewhere by
whether its counter moves, so differing or jumping clocks do not matter.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ndtomo_dask.errors import OptionError, StoreError
from ndtomo_dask.io.heartbeat import LOGGER, Heartbeat, Sighting, sight

WATCH = 30.0
"""Seconds for which a counter must stand still until its holder counts as dead."""
POLL = 0.5
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
_SHARE = re.compile(r"([1-9]\d*)/([1-9]\d*)")


@contextmanager
def locked(store: Path, share: str | None = None) -> Iterator[None]:
    """Hold the lock of a store inside a ``with`` block.

    Without a share the lock is ``….lock`` and exclusive. With one, such as ``"3/8"``, it is
    ``….lock.3-of-8``: shares of one division may be held side by side. The lock of a process that
    has ended is taken over: at once on this machine, after watching its counter on another.

    Raises
    ------
    StoreError
        Another run, or another run of this share, is at work on the store.
    OptionError
        The share is not written as ``"3/8"``.
    """
    lock = store.with_name(f"{store.name}.lock" + ("" if share is None else _suffix(share)))
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _acquired(lock, store, lambda: _rivals(store, share)):
        yield


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold ``….lock`` beside a path inside a ``with`` block, waiting while another process does."""
    lock = path.with_name(f"{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _waited_for(lock):
        yield


def _suffix(share: str) -> str:
    match = _SHARE.fullmatch(share)
    if match is None or int(match[1]) > int(match[2]):
        raise OptionError(f"share={share!r} is not a share. Write the third of eight as 3/8.")
    return f".{int(match[1])}-of-{int(match[2])}"


def _rivals(store: Path, share: str | None) -> list[Path]:
    """Locks that may not be held beside ours: shares of other divisions, or whole stores."""
    division = None if share is None else share.split("/")[1]
    name = re.compile(re.escape(f"{store.name}.lock.") + r"\d+-of-(\d+)")
    shares = [path for path in store.parent.iterdir() if name.fullmatch(path.name)]
    others = [path for path in shares if path.name.rpartition("-")[2] != division]
    return others if share is None else [store.with_name(f"{store.name}.lock"), *others]


@contextmanager
def _acquired(lock: Path, store: Path, rivals: Callable[[], Sequence[Path]]) -> Iterator[None]:
    """Create our lock first and look at its rivals then: of two who do so one sees the other."""
    while (heart := Heartbeat.begin(lock)) is None:
        _refuse(_living([lock]), store)
    try:
        _refuse(_living(rivals()), store)
        yield
    finally:
        heart.end()


@contextmanager
def _waited_for(lock: Path) -> Iterator[None]:
    wait = _FIRST_WAIT
    while (heart := Heartbeat.begin(lock)) is None:
        if _living([lock]) is not None:
            time.sleep(wait)
            wait = min(1.5 * wait, _LONGEST_WAIT)  # many may wait, and a file system serves them
    try:
        yield
    finally:
        heart.end()


def _refuse(holder: Sighting | None, store: Path) -> None:
    if holder is not None:
        raise StoreError(
            f"{store} is being written by {holder} ({holder.lock.name}). Wait for it to end, or "
            f"stop it; the lock of a process that has died is taken over without help."
        )


def _living(locks: Sequence[Path]) -> Sighting | None:
    """Return a lock that is held; remove those whose holders are dead.

    All are watched together, so a hundred dead holders take no longer than one.
    """
    first = {lock: sighting for lock in locks if (sighting := sight(lock)) is not None}
    unknown = [str(lock) for lock, sighting in first.items() if sighting.alive is None]
    if unknown:
        LOGGER.warning("Watching %s: is its holder alive?", ", ".join(unknown))
    watched, deadline = dict(first), time.monotonic() + WATCH
    while watched and time.monotonic() < deadline:
        for lock, before in list(watched.items()):
            now = sight(lock)
            if now is None or now.alive is False:
                del watched[lock]
            elif now.alive or now.text != before.text:
                return now
        if watched:
            time.sleep(POLL)
    for sighting in first.values():
        _bury(sighting)
    return None


def _bury(dead: Sighting) -> None:
    """Remove a dead holder's lock, unless someone else has done so and holds it now."""
    lock = dead.lock
    with _waited_for(lock.with_name(f"{lock.name}.takeover")):
        now = sight(lock)
        if now is not None and now.text == dead.text:
            LOGGER.warning("%s is taken over from %s, which has ended.", lock, dead)
            lock.unlink(missing_ok=True)
