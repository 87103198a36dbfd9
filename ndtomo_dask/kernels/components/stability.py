"""How well sets of spectra agree: how many components repeat when the pixels are drawn again.

With too many components the surplus ones split noise, and come out otherwise from other pixels
(Brunet et al., PNAS 101, 4164 (2004); Nebgen et al., Mach. Learn.: Sci. Technol. 2, 025012 (2021)).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Float64 = NDArray[np.float64]


def agreement(first: Float64, second: Float64) -> Float64:
    """Cosine of each spectrum of the first set with the one of the second that is matched to it.

    >>> agreement(np.eye(2), np.array([[0.0, 3.0], [1.0, 0.0]])).round(6)
    array([1., 1.])
    """
    table = _unit(first) @ _unit(second).T
    rows, columns = linear_sum_assignment(-table)
    found = np.zeros(len(first))
    found[rows] = table[rows, columns]
    return found


def stability(sets: Sequence[Float64]) -> float:
    """Least mean agreement of a component of the first set with the other sets."""
    return float(np.mean([agreement(sets[0], other) for other in sets[1:]], axis=0).min())


def _unit(spectra: Float64) -> Float64:
    length = np.linalg.norm(spectra, axis=1, keepdims=True)
    return np.asarray(spectra / np.where(length > 0, length, 1.0))
