"""Where a fit begins: the templates that stand out most from the background, peak by peak."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.fitting.peak_shapes import LN2

Float64 = NDArray[np.float64]
Integers = NDArray[np.int64]
Interval = tuple[float, float]


STEP = 1.6
"""Ratio of the widths of templates."""
HALF_STEP = 1.27


class Templates(NamedTuple):
    """Peaks of unit height, cut to one fwhm either side, among which a fit finds its start."""

    values: Float64
    """All templates, one after the other."""
    offset: Integers
    """Where each begins in ``values``; one more than there are templates."""
    first: Integers
    """The channel at which each begins."""
    norm: Float64
    """Length of each once the background is projected out."""
    position: Float64
    fwhm: Float64
    peak: Integers
    """Where those of each peak begin; one more than there are peaks."""
    basis: Float64
    """Orthonormal rows of the background. (term, channel)"""


class _Template(NamedTuple):
    position: float
    fwhm: float
    first: int
    values: Float64
    norm: float


def build_templates(
    t: Float64, background: Float64, positions: Sequence[Interval], widths: Sequence[Interval]
) -> Templates:
    """Tabulate Gaussians over the bounds of every peak's position and fwhm, half a width apart.

    Widths grow by `STEP` from two channels (or the upper bound, if less). Templates that the
    background could imitate are left out, unless none remains. A peak without an interval has none.

    # t ascending (channel,), (term, channel) -> Templates
    """
    basis = np.ascontiguousarray(np.linalg.qr(background.T)[0].T.reshape(len(background), t.size))
    peaks = [_templates_of(t, basis, *both) for both in zip(positions, widths, strict=True)]
    every = [template for group in peaks for template in group]
    lengths = [template.values.size for template in every]
    return Templates(
        np.concatenate([np.zeros(0), *(template.values for template in every)]),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.array([template.first for template in every], dtype=np.int64),
        np.array([template.norm for template in every]),
        np.array([template.position for template in every]),
        np.array([template.fwhm for template in every]),
        np.cumsum([0, *(len(group) for group in peaks)]).astype(np.int64),
        basis,
    )


def _templates_of(
    t: Float64, basis: Float64, position: Interval, fwhm: Interval
) -> list[_Template]:
    kept: list[_Template] = []
    spare: list[_Template] = []
    if not position[0] <= position[1]:
        return kept
    for width in _widths(fwhm, 2 * float(np.median(np.diff(t)))):
        for center in _centers(position, float(width)):
            first = min(int(np.searchsorted(t, center - width)), t.size - 1)
            inside = t[first : max(int(np.searchsorted(t, center + width)), first + 1)]
            values = np.exp(-4 * LN2 * ((inside - center) / width) ** 2)
            total = float(values @ values)
            rest = total - float(((basis[:, first : first + inside.size] @ values) ** 2).sum())
            norm = math.sqrt(max(rest, 1e-6 * total, 1e-300))
            one = _Template(float(center), float(width), first, values, norm)
            (kept if rest > 0.05 * total else spare).append(one)
    return kept or spare


def _widths(bounds: Interval, least: float) -> Float64:
    low, high = min(max(bounds[0], least), bounds[1]), bounds[1]
    return np.geomspace(low, high, 1 + math.ceil(math.log(high / low) / math.log(STEP)))


def _centers(bounds: Interval, width: float) -> Float64:
    low, high = bounds
    count = math.ceil(2 * (high - low) / width)
    return np.linspace(low, high, count + 1) if count else np.array([(low + high) / 2])


@compiled("contract", "reassoc")
def dot(a: Float64, b: Float64) -> float:
    """Inner product, in an order that depends on the length alone."""
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@compiled()
def copy(source: Float64, target: Float64) -> None:
    """Copy a vector: an assignment of slices would look for overlaps, and allocate."""
    for i in range(source.size):
        target[i] = source[i]


@compiled()
def largest(values: Float64, count: int) -> float:
    """Return the largest of the first ``count`` values that are not negative."""
    most = 0.0
    for i in range(count):
        most = max(most, values[i])
    return most


@compiled()
def remove_background(y: Float64, basis: Float64) -> None:
    """Project the background out of a spectrum, in place."""
    for k in range(basis.shape[0]):
        row = basis[k]
        share = dot(y, row)
        for i in range(y.size):
            y[i] -= share * row[i]


@compiled()
def find_template(
    y: Float64, templates: Templates, peak: int, low: float, high: float, width: float
) -> tuple[int, float]:
    """Find the template of one peak that stands out most, and its score; -1 if none does.

    Only templates within half a width of ``low`` to ``high`` are tried, and only those nearest to
    ``width`` unless that is 0.
    """
    values, offset, first, norm = (
        templates.values, templates.offset, templates.first, templates.norm
    )  # fmt: skip
    position, fwhm = templates.position, templates.fwhm
    best, score = -1, 0.0
    for k in range(templates.peak[peak], templates.peak[peak + 1]):
        if not low - 0.5 * fwhm[k] <= position[k] <= high + 0.5 * fwhm[k]:
            continue
        if width > 0.0 and not width < HALF_STEP * fwhm[k] < HALF_STEP * HALF_STEP * width:
            continue
        template = values[offset[k] : offset[k + 1]]
        total = dot(y[first[k] : first[k] + template.size], template)
        if total > score * norm[k]:
            best, score = k, total / norm[k]
    return best, score


@compiled()
def find_starts(
    y: Float64, templates: Templates, low: Float64, high: Float64, spare: Float64,
    chosen: Integers, heights: Float64, scores: Float64,
) -> float:  # fmt: skip
    """Choose a template for every peak; return the width that several peaks have in common.

    ``y`` is a spectrum beside its background, and is overwritten where there are several peaks. The
    widest template may cover two of them. So the mean of the widths that fit each best is taken,
    and templates are chosen again among those of that width. ``scores`` are projections on the
    template; a peak that nothing speaks for has -1 and 0.
    """
    if chosen.size == 1:
        chosen[0], scores[0] = find_template(y, templates, 0, low[0], high[0], 0.0)
        heights[0] = scores[0] / templates.norm[chosen[0]] if chosen[0] >= 0 else 0.0
        return 0.0
    copy(y, spare)
    _match(spare, templates, low, high, 0.0, chosen, heights, scores)
    total, count = 0.0, 0
    for k in range(chosen.size):
        if chosen[k] >= 0:
            total += math.log(templates.fwhm[chosen[k]])
            count += 1
    width = math.exp(total / count) if count else 0.1
    _match(y, templates, low, high, width, chosen, heights, scores)
    return width


@compiled()
def _match(
    y: Float64, templates: Templates, low: Float64, high: Float64, width: float,
    chosen: Integers, heights: Float64, scores: Float64,
) -> None:  # fmt: skip
    """Choose the template of the strongest peak, take it from ``y``, and so on."""
    for k in range(chosen.size):
        chosen[k] = -2
    for _ in range(chosen.size):
        peak, best, score = -1, -1, -1.0
        for k in range(chosen.size):
            if chosen[k] == -2:
                found, value = find_template(y, templates, k, low[k], high[k], width)
                if value > score:
                    peak, best, score = k, found, value
        chosen[peak], scores[peak], heights[peak] = best, max(score, 0.0), 0.0
        if best < 0:
            continue
        heights[peak] = score / templates.norm[best]
        begin, first = templates.offset[best], templates.first[best]
        for i in range(templates.offset[best + 1] - begin):
            y[first + i] -= heights[peak] * templates.values[begin + i]
        remove_background(y, templates.basis)


@compiled()
def select(values: Float64, count: int, rank: int) -> float:
    """Find the value of a rank by Hoare's quickselect, which reorders ``values``."""
    low, high = 0, count - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return float(values[rank])


LARGEST_NOISE = 2.1
"""Most that `estimate_noise` can be over the rms: half the values are no less than the median."""


@compiled("contract", "reassoc")
def bound_noise(y: Float64) -> float:
    """Return what `estimate_noise` cannot exceed, without sorting anything."""
    squares = 0.0
    for i in range(y.size - 2):
        bend = y[i] - 2.0 * y[i + 1] + y[i + 2]
        squares += bend * bend
    return LARGEST_NOISE * math.sqrt(squares / (6.0 * (y.size - 2)))


@compiled()
def estimate_noise(y: Float64, scratch: Float64) -> float:
    """1.4826·median|second difference|/√6, or the rms where most of them are zero (few counts)."""
    count = y.size - 2
    squares = 0.0
    for i in range(count):
        bend = abs(y[i] - 2.0 * y[i + 1] + y[i + 2])
        scratch[i] = bend
        squares += bend * bend
    rms = math.sqrt(squares / (6.0 * count))
    upper = select(scratch, count, count // 2)
    lower = upper if count % 2 else select(scratch, count, count // 2 - 1)
    robust = 1.4826 * 0.5 * (lower + upper) / math.sqrt(6.0)
    return robust if robust > 1e-6 * rms else rms
