"""Few channels that stand for many: a basis of the spectra of a sinogram, and how large it must be.

Every linear reconstruction R commutes with a mixing of channels, R(S M) = R(S) M. With the spectra
scaled so that their noise is alike, the r leading right singular vectors V of the sinogram span
what is not noise; r mixed channels are reconstructed in place of all (Chowdhury et al., "Fast
hyperspectral neutron tomography", arXiv:2410.22500).

Spectra are the rows of (sample, channel). A row with a value that is not finite is left out.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.components.factors import slabs
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

FLOOR = 0.01
"""Least mean of a channel or of a spectrum, as a share of the average: less is an empty one."""
GRAM_CHANNELS = 384
"""Channels beyond twice this are summed in groups for the Gram matrix, of which all eigenvalues are
needed: its cost grows with their cube."""
BAND = 16
"""Columns of a banded matrix that are multiplied together."""


class Gram(NamedTuple):
    """Products of whitened spectra, summed."""

    rows: int
    """Spectra summed."""
    products: Float64
    """Σ x xᵀ."""


class Scale(NamedTuple):
    """What makes the noise of counts alike: the square roots of the channels' means."""

    channel: Float64
    """Factor of each channel, (channel,); 0 marks a channel that is not used."""
    average: float
    """Mean of the spectra over the channels that are used."""

    @property
    def used(self) -> Bool:
        """Channels that take part."""
        return np.asarray(self.channel > 0)


def noise_scale(mean: Float64, used: Bool) -> Scale:
    """Scale of each channel from its mean over the samples, after Keenan & Kotula (2004).

    The variance of a count is its mean (Surf. Interface Anal. 36, 203). Means below `FLOOR` of
    their average are raised to it.

    >>> noise_scale(np.array([4.0, 0.0, 8.0]), np.array([True, True, False])).channel.round(2)
    array([2.  , 0.14, 0.  ])
    """
    average = float(np.abs(mean[used]).mean()) if used.any() else 1.0
    average = average or 1.0
    return Scale(np.sqrt(np.where(used, np.maximum(mean, FLOOR * average), 0.0)), average)


def group_size(channels: int) -> int:
    """How many adjacent channels the Gram matrix takes as one.

    >>> group_size(240), group_size(2000)
    (1, 5)
    """
    return max(1, channels // GRAM_CHANNELS)


def whitened(rows: Float, scale: Scale) -> Float:
    """Scale spectra so that counting noise has unit variance, (sample, channel) -> (some, used).

    Both channels and spectra are divided by the square roots of their means.
    """
    used = scale.used
    some = rows if used.all() else rows[:, used]
    with np.errstate(invalid="ignore"):
        sums = some @ np.ones(some.shape[1], dtype=some.dtype)
    mean = sums.astype(np.float64) / max(1, some.shape[1])
    finite = np.isfinite(mean)
    if not finite.all():
        some, mean = some[finite], mean[finite]
    mean = np.maximum(mean / scale.average, FLOOR)
    factor = (1 / np.sqrt(mean))[:, None].astype(rows.dtype)
    white = some * (1 / scale.channel[used]).astype(rows.dtype)
    white *= factor
    return np.asarray(white)


def grouped(white: Float, size: int) -> Float:
    """Sum groups of adjacent channels, so that the noise keeps its variance; a rest is left out."""
    if size == 1:
        return white
    channels = white.shape[1] // size * size
    total = white[:, 0:channels:size].copy()
    for offset in range(1, size):
        total += white[:, offset:channels:size]
    total /= total.dtype.type(np.sqrt(size))
    return total


def gram_partial(block: Float, *, scale: Scale) -> Gram:
    """Sum the products of the whitened spectra of one block, (…, channel), in slabs of rows."""
    used = int(scale.used.sum())
    size = group_size(used)
    count, total = 0, np.zeros((used // size, used // size))
    for rows in _slabs(block):
        white = grouped(whitened(rows, scale), size)
        count += white.shape[0]
        total += white.T @ white
    return Gram(count, total)


def gram_combine(first: Gram, second: Gram) -> Gram:
    """Merge the sums of two blocks."""
    return Gram(first.rows + second.rows, first.products + second.products)


def significant_rank(singular_values: Float64, rows: int) -> int:
    """How many singular values stand above noise of unknown strength (Gavish & Donoho 2014).

    Those above ω(β) times their median are kept, ω(β) ≈ 0.56 β³ - 0.95 β² + 1.82 β + 1.43, where β
    is the aspect ratio of the matrix (IEEE Trans. Inf. Theory 60, 5040, eq. 5).

    >>> significant_rank(np.array([90.0, 40.0, 2.0, 1.9, 1.8, 1.7, 1.6]), 10_000)
    2
    """
    columns = singular_values.size
    if not columns or not rows:
        return 0
    beta = min(rows, columns) / max(rows, columns)
    omega = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    values = singular_values[: min(rows, columns)]
    return int(np.count_nonzero(values > omega * np.median(values)))


def eigen_decomposition(gram: Gram) -> tuple[Float64, Float64]:
    """Singular values of the whitened spectra, descending, and their right vectors in columns."""
    values, vectors = np.linalg.eigh(gram.products)
    return np.sqrt(values[::-1].clip(min=0)), vectors[:, ::-1]


def refine_partial(block: Float, *, scale: Scale, vectors: Float) -> Float64:
    """One step of the power method, Xᵀ X g, from vectors g of groups of channels to all channels.

    (…, channel), (group, rank) -> (used, rank)
    """
    used = int(scale.used.sum())
    size = group_size(used)
    total = np.zeros((used, vectors.shape[1]))
    narrow = vectors.astype(block.dtype)
    for rows in _slabs(block):
        white = whitened(rows, scale)
        total += white.T @ (grouped(white, size) @ narrow)
    return total


def mixing_matrices(vectors: Float64, scale: Scale) -> tuple[Float64, Float64]:
    """Weights D^-½ V that mix channels into components, and spectra (D^½ V)ᵀ that unmix them.

    (used, rank) -> (channel, rank), (rank, channel); both are 0 in channels that are not used. The
    largest entry of each vector is positive.
    """
    full = np.zeros((scale.channel.size, vectors.shape[1]))
    if not vectors.size:
        return full, full.T
    basis = np.linalg.qr(vectors)[0]
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=0)[None], axis=0)
    basis = basis * np.where(largest < 0, -1.0, 1.0)
    full[scale.used] = basis
    column = scale.channel[:, None]
    return np.divide(full, column, out=np.zeros_like(full), where=column > 0), (full * column).T


def mix_channels(block: Float, matrix: Float) -> Float:  # (…, from), (from, to) -> (…, to)
    """Mix channels by a matrix; what has the weight 0 may be anything, NaN too.

    Columns with a single entry are copied, and columns with entries in a narrow band are multiplied
    with that band only. The result has the dtype of the matrix.
    """
    rows = _rows(block)
    mixed = np.empty((rows.shape[0], matrix.shape[1]), dtype=matrix.dtype)
    entries = matrix != 0
    dense = entries.sum(axis=0) > 1
    single, source = np.flatnonzero(~dense), entries[:, ~dense].argmax(axis=0)
    weight = matrix[source, single]
    bands = _bands(entries, dense)

    def mix(where: slice) -> None:
        some, out = rows[where].astype(matrix.dtype, copy=False), mixed[where]
        for inputs, columns in bands:
            _multiply(some[:, inputs], matrix[inputs, columns], out[:, columns])
        if single.size:
            out[:, single] = np.where(weight != 0, some[:, source], 0) * weight

    steps = range(0, rows.shape[0], SLAB)
    run_threaded(mix, [slice(first, first + SLAB) for first in steps])
    return mixed.reshape(*block.shape[:-1], matrix.shape[1])


SLAB = 2048
"""Rows mixed at a time: of a fixed number, so that threads change nothing."""


def _bands(entries: Bool, dense: Bool) -> list[tuple[slice, slice]]:
    """Ranges of inputs and of columns that hold all entries of the dense columns."""
    columns = np.flatnonzero(dense)
    if not columns.size:
        return []
    low = entries.argmax(axis=0)
    high = entries.shape[0] - entries[::-1].argmax(axis=0)
    together = high[columns].max() - low[columns].min()
    banded = np.median((high - low)[columns]) * 4 < together
    size = BAND if banded else columns.size
    groups = (columns[first : first + size] for first in range(0, columns.size, size))
    return [
        (slice(int(low[some].min()), int(high[some].max())), slice(int(some[0]), int(some[-1]) + 1))
        for some in groups
    ]


def _multiply(rows: Float, matrix: Float, out: Float) -> None:
    """Product in which a weight of 0 also means nothing where the sample is not finite."""
    with np.errstate(invalid="ignore"):
        np.matmul(rows, matrix, out=out)
    used = matrix.any(axis=1)
    if not used.all():
        spoiled = ~np.isfinite(out).all(axis=1)
        if spoiled.any():
            out[spoiled] = rows[spoiled][:, used] @ matrix[used]


def _slabs(block: Float) -> Iterator[Float]:
    """Yield the spectra of a block, a few thousand at a time; copies are no larger either."""
    inside = math.prod(block.shape[1:-1])
    if block.ndim == 2:
        yield from slabs(block)
    elif inside > SLAB:
        for part in block:
            yield from _slabs(part)
    else:
        step = SLAB // max(1, inside)
        for first in range(0, block.shape[0], step):
            yield _rows(block[first : first + step])


def _rows(block: Float) -> Float:
    return block.reshape(math.prod(block.shape[:-1]), block.shape[-1])
