"""Some rows of a large array, chosen by their numbers in the data, so that no block matters."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

SPREAD = np.uint64(11400714819323198485)
"""2⁶⁴ over the golden ratio: its multiples fall evenly between those before (Knuth, TAOCP 3, 6.4).
"""


class Sample(NamedTuple):
    """Some of the rows, and their numbers in the data."""

    number: Int64
    rows: Float64


def chosen(number: Int64, share: float) -> Bool:
    """Choose a share of the rows by their numbers, evenly spread.

    >>> np.flatnonzero(chosen(np.arange(100), 0.05))
    array([ 0, 13, 34, 47, 68, 89])
    """
    if share >= 1:
        return np.ones(number.shape, dtype=bool)
    return np.asarray(_place(number) < np.uint64(share * 2.0**64))


def _place(number: Int64) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return number.astype(np.uint64) * SPREAD


def sample_partial(rows: Float, number: Int64, share: float) -> Sample:
    """Take the chosen rows of one block that are finite."""
    take = chosen(number, share)
    some, number = rows[take].astype(np.float64), number[take]
    whole = np.isfinite(some).all(axis=1)
    return Sample(number[whole], some[whole])


def sample_combine(first: Sample, second: Sample) -> Sample:
    """Merge the samples of two blocks."""
    number = np.concatenate([first.number, second.number])
    return Sample(number, np.concatenate([first.rows, second.rows]))


def sample_finalize(sample: Sample) -> Float64:
    """Order the rows, whatever the blocks were: the first are those of a smaller share."""
    rows: Float64 = sample.rows[np.argsort(_place(sample.number))]
    return rows
