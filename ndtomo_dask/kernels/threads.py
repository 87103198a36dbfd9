"""Threads for compiled kernels, which release the GIL and split their work into pieces."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Thread, local
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Piece = TypeVar("Piece")
_here = local()


def thread_count() -> int:
    """Threads that a kernel may use in this process.

    ``OMP_NUM_THREADS`` decides where it is a positive number, because batch systems and Dask's
    nannies set it to what they granted; else all cores that this process may run on.
    """
    granted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if granted.isdecimal() and int(granted) > 0:
        return int(granted)
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let matrix products run on one thread inside a ``with`` block.

    BLAS splits a product by the number of its threads, and so rounds differently on each machine
    and in each worker. Blocks run side by side anyway. Enter it once, around the threads that
    compute, not inside them: the limit holds for the whole process.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield


def limit_blas() -> None:
    """Let matrix products run on one thread from now on, as befits a worker."""
    import scipy.linalg  # noqa: F401 - its BLAS is another than NumPy's, and must be loaded

    _controller().limit(limits=1, user_api="blas")


def blas_kernels() -> str:
    """Name the kinds of processor for which the BLAS libraries chose their kernels.

    OpenBLAS has kernels of its own for each generation of processors, and they round differently.
    """
    import scipy.linalg  # noqa: F401 - its BLAS is another than NumPy's

    libraries = _controller().select(user_api="blas").info()
    return ", ".join(sorted({str(library.get("architecture")) for library in libraries}))


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let `run_threaded` start no threads when it is called in this one inside a ``with`` block.

    For pieces that are themselves cut into pieces, and for work that takes less than to start one.
    """
    before = getattr(_here, "alone", False)
    _here.alone = True
    try:
        yield
    finally:
        _here.alone = before


def run_threaded(function: Callable[[Piece], object], pieces: Iterable[Piece]) -> None:
    """Call ``function`` once for each piece, on as many threads as `thread_count` grants.

    Each piece must write a part of the output of its own, so that the result does not depend on
    the number of threads. The first error of a piece is raised.

    >>> squares = [0, 0, 0]
    >>> run_threaded(lambda i: squares.__setitem__(i, i * i), range(3))
    >>> squares
    [0, 1, 4]
    """
    waiting = deque(pieces)
    errors: list[BaseException] = []

    def work() -> None:
        while not errors:
            try:
                piece = waiting.popleft()
            except IndexError:
                return
            try:
                function(piece)
            except BaseException as error:
                errors.append(error)

    # The caller works too: starting a thread takes as long as a small piece.
    granted = 1 if getattr(_here, "alone", False) else thread_count()
    others = [Thread(target=work) for _ in range(min(granted, len(waiting)) - 1)]
    for other in others:
        other.start()
    work()
    for other in others:
        other.join()
    if errors:
        raise errors[0]
