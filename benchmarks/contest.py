"""Timing the same work done by several programs, in turn, in one process."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

OURS = "ndtomo_dask"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Contestant:
    """One way of doing the work."""

    name: str
    work: Callable[[], Any]
    count: int
    """Pieces (channels, spectra) that one call works through: times are compared per piece."""
    error: Callable[[Any], float]
    """Distance of a result from the truth; each contest says how it is measured."""


@dataclass(frozen=True)
class Absent:
    """A contestant whose library is not installed: it is listed, not dropped."""

    name: str


@dataclass(frozen=True)
class Result:
    """What came of one contestant."""

    name: str
    seconds: float
    """Median over the repeats, per piece."""
    error: float
    count: int


Results = list[Result | Absent]


def threads_of(count: int) -> str:
    """Say how many threads.

    >>> threads_of(1), threads_of(2)
    ('1 thread', '2 threads')
    """
    return "1 thread" if count == 1 else f"{count} threads"


def enter(name: str, build: Callable[[], Contestant]) -> Contestant | Absent:
    """Build a contestant, or say that its library is not installed."""
    try:
        return build()
    except ImportError:
        return Absent(name)


def race(contestants: Sequence[Contestant | Absent], repeat: int) -> list[Result | Absent]:
    """Let all contestants work ``repeat`` times in turn, after one round that is not timed.

    Taking turns, all of them meet the same load of the machine. The first round compiles.
    """
    present = [one for one in contestants if isinstance(one, Contestant)]
    error = {one.name: one.error(one.work()) for one in present}
    seconds: dict[str, list[float]] = {one.name: [] for one in present}
    for _ in range(repeat):
        for one in present:
            start = time.perf_counter()
            one.work()
            seconds[one.name].append((time.perf_counter() - start) / one.count)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        one
        if isinstance(one, Absent)
        else Result(one.name, medians[one.name], error[one.name], one.count)
        for one in contestants
    ]


def table(title: str, results: Sequence[Result | Absent], *, piece: str, error: str) -> str:
    """Write results as a table; ratios are times over that of the first, which is ours."""
    ours = cast(Result, results[0])
    lines = [title, f"  {'':<38} {'ms per ' + piece:>15} {'ratio':>8}   {error}"]
    for one in results:
        if isinstance(one, Absent):
            lines.append(f"  {one.name:<38} {'not installed':>15}")
            continue
        ratio = one.seconds / ours.seconds
        timed = f"   ({one.count} timed)" if one.count != ours.count else ""
        lines.append(
            f"  {one.name:<38} {1e3 * one.seconds:>15.4g} {ratio:>8.2f}   {one.error:.4g}{timed}"
        )
    return "\n".join(lines)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Grant our kernels ``count`` threads inside a ``with`` block."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def granted(count: int, work: Callable[[], Any]) -> Callable[[], Any]:
    """Return ``work``, done with ``count`` threads."""

    def with_threads() -> Any:
        with threads(count):
            return work()

    return with_threads
