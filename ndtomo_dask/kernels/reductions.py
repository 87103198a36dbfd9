"""Sums over many rows whose order is fixed: the same bits on any threads and any workers.

A reduction is a partial per piece and a combine of two partials. Pieces are cut by rules that know
nothing of threads or workers, and merged two by two, in order.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Part = TypeVar("Part")

STRAND = 8192
"""Rows that one thread takes at a time."""


class Reduce(Protocol):
    """Reduce all rows, wherever they are."""

    def __call__(
        self, partial: Callable[..., Any], combine: Callable[[Any, Any], Any], **options: Any
    ) -> Any:
        """Combine ``partial(rows, **options)`` of all pieces."""
        ...


def merge_in_order(parts: Sequence[Part], combine: Callable[[Part, Part], Part]) -> Part:
    """Merge parts two by two, in order, as a tree.

    >>> merge_in_order(["a", "b", "c", "d", "e"], lambda left, right: f"({left}{right})")
    '(((ab)(cd))e)'
    """
    if len(parts) == 1:
        return parts[0]
    left = 1 << (len(parts) - 1).bit_length() - 1
    return combine(merge_in_order(parts[:left], combine), merge_in_order(parts[left:], combine))


def reduce_strands(
    partial: Callable[[Float], Part], combine: Callable[[Part, Part], Part], rows: Float
) -> Part:
    """Reduce an array of rows, `STRAND` of them at a time, on as many threads as are granted."""
    starts = range(0, max(1, rows.shape[0]), STRAND)
    parts: list[Part | None] = [None] * len(starts)

    def work(number: int) -> None:
        parts[number] = partial(rows[starts[number] : starts[number] + STRAND])

    run_threaded(work, range(len(starts)))
    return merge_in_order(cast(list[Part], parts), combine)


def reduce_array(rows: Float) -> Reduce:
    """Return the reduction of rows that are held in one array."""

    def reduce(
        partial: Callable[..., Any],
        combine: Callable[[Any, Any], Any],  # noqa: ARG001 - one piece, so nothing to combine
        **options: Any,
    ) -> Any:
        return partial(rows, **options)

    return reduce
