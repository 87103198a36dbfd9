"""Samples of a sinogram that no sample could give: hot ones, and spots of single crystals.

What the sample contains moves along a curve through the sinogram, so that it is seen in the
projections before and after, at most a translation aside. What is seen in one projection only is
no part of an image, and makes a streak of it.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]
Kind = Literal["high", "low", "both"]

FROM_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
EXPLAINED = 1 / 3
"""Share of a sample's height that its neighbors on both sides have where it is of the sample."""


def check_options(
    width: int, threshold: float, kind: str, percentiles: tuple[float, float]
) -> None:
    """Raise `OptionError` unless outliers can be looked for with these."""
    check_choice("kind", kind, ("high", "low", "both"))
    if width < 1 or not threshold > 0:
        raise OptionError(
            f"width={width} and threshold={threshold} must be 1 angle or more, and more than 0."
        )
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise OptionError(f"percentiles={percentiles} must be two numbers, in order, of 0 to 100.")


def replace_outliers(
    block: Float, kept: Bool, variance: Float | None = None, *, width: int, threshold: float,
    kind: Kind = "high", keep_nan: bool = False,
) -> Float:  # fmt: skip
    """Replace samples that stand out from their neighbors in angle; nothing else changes.

    A sample is replaced by the median of ``width`` projections on either side (NaN with
    ``keep_nan``) where it exceeds that by ``threshold`` times the noise, and the rays next to it in
    the projections before and after do not have a third of its height. The noise is the largest of
    three: the scatter of these neighbors, that of all angles of the ray, and the root of
    ``variance``. (angle, translation, channel), all three.
    """
    made = block.copy()

    def one(place: int) -> None:
        near = slice(max(place - 1, 0), place + 2)
        rays = np.where(kept[:, near], block[:, near], np.nan)
        values = rays[:, place - near.start]
        level, scatter = neighbor_median(values, width)
        noise = _noise(values - level, scatter)
        if variance is not None:
            noise = np.fmax(noise, np.sqrt(variance[:, place]))
        found = np.zeros(level.shape, dtype=bool)
        for sign in {"high": (1,), "low": (-1,), "both": (1, -1)}[kind]:
            found |= _stands_out(sign * rays, sign * values, sign * level, threshold * noise)
        made[:, place][found] = np.nan if keep_nan else level[found]

    run_threaded(one, range(block.shape[1]))
    return made


def neighbor_median(lines: Float, width: int) -> tuple[Float, Float]:
    """Median of ``width`` neighbors on either side, without the sample itself, and their scatter.

    (angle, channel) -> twice the same. The scatter is a standard deviation, from their median
    absolute deviation. NaN does not count; where there is no neighbor both are NaN.

    >>> level, _ = neighbor_median(np.array([[1.0], [2.0], [90.0], [4.0], [5.0]]), 2)
    >>> level[:, 0].tolist()
    [46.0, 4.0, 3.0, 5.0, 47.0]
    """
    angles = lines.shape[0]
    padded = np.pad(lines, ((width, width), (0, 0)), constant_values=np.nan)
    places = [shift for shift in range(2 * width + 1) if shift != width]
    around = np.stack([padded[shift : shift + angles] for shift in places])
    level = _median(around)
    return level, FROM_MAD * _median(np.abs(around - level))


def _median(values: Float) -> Float:
    """Median over the first axis of what is not NaN, which a sort puts last."""
    ordered = np.sort(values, axis=0)
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1)
    middle = [np.take_along_axis(ordered, index[None], 0)[0] for index in (low, high)]
    return np.asarray((middle[0] + middle[1]) / 2)


def _noise(residual: Float, scatter: Float) -> Float:
    """Scatter near a sample or along its ray; where both are zero the standard deviation."""
    ray = FROM_MAD * _median(np.abs(residual))
    known = np.isfinite(residual)
    count = np.maximum(known.sum(axis=0), 1)
    spread = np.sqrt(np.sum(residual**2, axis=0, where=known) / count)
    noise = np.fmax(scatter, ray)
    return np.asarray(np.where(noise > 0, noise, spread))


def _stands_out(aside: Float, values: Float, level: Float, least: Float) -> Bool:
    """Tell what stands out of a ray, (angle, channel); ``aside`` are this ray and those beside."""
    height = values - level
    bright = np.fmax.reduce(aside, axis=1)
    # Beyond either end, and where a projection is missing, nothing is known: it explains all.
    before, after = np.full_like(bright, np.nan), np.full_like(bright, np.nan)
    before[1:], after[:-1] = bright[:-1], bright[1:]
    seen = np.fmin(before, after) - level
    return np.asarray((height > least) & (seen < EXPLAINED * height))


def clip_percentiles(
    block: Float, kept: Bool, *, percentiles: tuple[float, float], keep_nan: bool = False
) -> Float:
    """Replace samples beyond percentiles of their channel by these (NaN with ``keep_nan``).

    (angle, translation, channel) -> the same. What is not ``kept`` does not count and stays.
    """
    made = block.copy()

    def one(channel: int) -> None:
        known = kept[..., channel]
        if not known.any():
            return
        values = block[..., channel]
        low, high = np.percentile(values[known], percentiles).astype(block.dtype)
        inside = np.full_like(values, np.nan) if keep_nan else np.clip(values, low, high)
        outside = known & ((values < low) | (values > high))
        made[..., channel][outside] = inside[outside]

    run_threaded(one, range(block.shape[2]))
    return made


def changed(before: Float, after: Float) -> Bool:
    """Tell which samples differ; NaN is what NaN was.

    >>> changed(np.array([1.0, np.nan, 2.0]), np.array([1.0, np.nan, np.nan]))
    array([False, False,  True])
    """
    return np.asarray((before != after) & ~(np.isnan(before) & np.isnan(after)))
