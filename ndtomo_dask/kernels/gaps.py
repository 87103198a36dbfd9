"""Samples that are not there: found, grouped, and bridged where a method cannot do without them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]


def missing_samples(sinogram: Float) -> NDArray[np.int64]:
    """Count the samples of each channel that are NaN or infinite.

    >>> missing_samples(np.array([[[1.0, np.nan]], [[np.inf, np.nan]]]))
    array([1, 2])
    """
    # (angle, translation, channel) -> (channel,)
    return np.asarray(np.count_nonzero(~np.isfinite(sinogram), axis=(0, 1)))


def kept_samples(block: Float, mask: Bool | None = None, dims: Sequence[int] = ()) -> Bool:
    """Tell which samples are finite and not masked; ``mask`` lies along the axes ``dims``.

    >>> kept_samples(np.array([[1.0, np.nan], [2.0, 3.0]]), np.array([True, False]), [0])
    array([[False, False],
           [ True,  True]])
    """
    kept = np.isfinite(block)
    if mask is not None:
        missing = [axis for axis in range(block.ndim) if axis not in dims]
        kept &= ~np.expand_dims(mask, missing)
    return kept


def channels_by_projections(finite: Bool) -> Iterator[tuple[Bool, NDArray[np.intp]]]:
    """Group channels by the projections of which they have a sample at all.

    (angle, translation, channel) -> pairs of (angle,) True where a projection is usable, and the
    channels of which this holds. Dead projections are mostly dead in every channel, so there are
    few groups; a channel's group does not depend on its neighbors.
    """
    usable = finite.any(axis=1)
    patterns, member = np.unique(usable, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        yield pattern, np.flatnonzero(np.ravel(member) == number)


def bridge_gaps(sinogram: Float, finite: Bool) -> Float:
    """Interpolate samples that are not finite linearly between their neighbors across the beam.

    At the ends of a projection the nearest finite sample is repeated. Every projection must have
    one. (angle, translation, channel) -> the same; the input where nothing is missing.
    """
    if finite.all():
        return sinogram
    bridged = sinogram.copy()
    place = np.arange(sinogram.shape[1])
    # A loop over the projections that have a gap, which are few.
    for row, channel in np.argwhere(~finite.all(axis=1)):
        known = finite[row, :, channel]
        if known.any():
            line = sinogram[row, :, channel]
            bridged[row, ~known, channel] = np.interp(place[~known], place[known], line[known])
    return bridged
