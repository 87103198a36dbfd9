"""How noise of a sinogram spreads into the volume: exactly for FBP, by sampling for the others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.solvers.filtered import Filter, window_response
from ndtomo_dask.kernels.threads import run_threaded

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]
Solve = Callable[..., Any]

LANES = 64
"""Channels at once: of each there are two filtered variances for every sample."""


def fbp_variance(
    geometry: ParallelGeometry,
    variance: Block,
    *,
    filter_name: Filter = "ram-lak",
    cutoff: float = 1.0,
) -> Block:  # (angle, translation, channel) -> (y, x, channel)
    """Variance of each pixel of `solvers.fbp`, from that of the samples, which are independent.

    FBP is linear, x = B y, so the diagonal of B diag(v) Bᵀ is Σ B² v: exact, no matter how the
    noise is distributed. A pixel that projects on u = i + f at an angle of weight w gets
    w ((1 - f) q(i) + f q(i + 1)) of the filtered projection q = h * y, hence the variance
    w² [(1 - f)² (h² * v)(i) + f² (h² * v)(i + 1) + 2 f (1 - f) ((h h₊) * v)(i)], h₊(n) = h(n + 1).
    The noise of neighboring pixels is correlated; of that, this says nothing.

    The weights are those of linear interpolation in the filtered projection, the model of the
    projectors; a faster approximate back-projection has nearly the same variance.

    Parameters
    ----------
    geometry
        Of the projections that were used.
    variance
        Variance of each sample, float32 or float64; a NaN spoils pixels of its channel only.
    filter_name, cutoff
        As of `solvers.fbp`.

    Returns
    -------
    Variance of the density, of the same dtype.
    """
    shape = (geometry.angles.size, geometry.translations)
    if variance.ndim != 3 or variance.shape[:2] != shape:
        raise SchemaError(
            f"a variance of shape {variance.shape} does not fit the geometry, whose sinogram "
            f"begins with {shape} and ends with the channels."
        )
    impulse = _impulse(filter_name, cutoff, geometry.translations)
    volume = np.empty((*geometry.shape, variance.shape[2]), dtype=variance.dtype)
    for first in range(0, variance.shape[2], LANES):
        some = slice(first, first + LANES)
        volume[..., some] = _propagate(geometry, np.ascontiguousarray(variance[..., some]), impulse)
    return volume


def _propagate(geometry: ParallelGeometry, variance: Block, impulse: Float64) -> Block:
    squares, products = impulse[1:-1] ** 2, impulse[1:-1] * impulse[2:]
    angles, translations, channels = variance.shape
    spread = np.zeros((angles, translations + 2, 2, channels), variance.dtype)  # 0 at both ends
    volume = np.empty((*geometry.shape, variance.shape[2]), dtype=variance.dtype)
    cos, sin = np.cos(geometry.angles), np.sin(geometry.angles)

    def filter_projection(angle: int) -> None:
        share = geometry.weights[angle] ** 2
        within = spread[angle, 1 : 1 + translations]
        _spread(variance[angle], squares, products, translations - 1, share, within)

    def fill_row(row: int) -> None:
        origins = geometry.origins - geometry.y[row] * sin
        _back_project_row(spread, origins, cos, geometry.x, volume[row])

    run_threaded(filter_projection, range(cos.size))
    run_threaded(fill_row, range(geometry.shape[0]))
    return volume


def _impulse(filter_name: Filter, cutoff: float, translations: int) -> Float64:
    """Response of the filter at -translations ... translations, as samples meet it."""
    impulse = np.zeros(2 * translations + 1)
    if filter_name is None and cutoff == 1:
        impulse[translations] = 1.0
        return impulse
    length = scipy.fft.next_fast_len(2 * translations, real=True)
    response = window_response(filter_name, length, cutoff=cutoff)
    whole = scipy.fft.irfft(response, length)
    n = np.arange(-translations, translations + 1)
    return np.asarray(whole[n % length])


@compiled(allocates=True)
def _spread(
    variance: Block, squares: Float64, products: Float64, center: int, share: float, spread: Float64
) -> None:
    """Sum share h²(i - t) v(t), and share h(i - t) h(i + 1 - t) v(t), over t."""
    translations, channels = variance.shape
    least = 1e-17 * squares[center]  # of the ramp itself every second number is 0
    gain = np.empty(2, dtype=spread.dtype)
    for i in range(translations):
        alone, paired = spread[i, 0], spread[i, 1]
        for t in range(translations):
            n = center + i - t
            gain[0], gain[1] = share * squares[n], share * products[n]
            square, product, sample = gain[0], gain[1], variance[t]
            if squares[n] > least:
                for k in range(channels):
                    alone[k] += square * sample[k]
            if i + 1 < translations and abs(products[n]) > least:
                for k in range(channels):
                    paired[k] += product * sample[k]


@compiled(allocates=True)
def _back_project_row(
    spread: Float64, origins: Float64, cos: Float64, x: Float64, row: Block
) -> None:
    """Add up what each angle gives to a row of pixels; ``spread`` begins a translation early."""
    translations, channels = spread.shape[1] - 2, spread.shape[3]
    total = np.zeros(channels, dtype=spread.dtype)
    share = np.empty(3, dtype=spread.dtype)
    for column in range(row.shape[0]):
        total[:] = 0.0
        for angle in range(cos.size):
            u = origins[angle] + x[column] * cos[angle]
            i = int(np.floor(u))
            if not -1 <= i < translations:
                continue
            f = u - i
            low, high, paired = (
                spread[angle, i + 1, 0],
                spread[angle, i + 2, 0],
                spread[angle, i + 1, 1],
            )
            share[0], share[1], share[2] = (1 - f) * (1 - f), f * f, 2 * f * (1 - f)
            a, b, c = share[0], share[1], share[2]
            for k in range(channels):
                total[k] += a * low[k] + b * high[k] + c * paired[k]
        for k in range(channels):
            row[column, k] = total[k]


class Sampled(NamedTuple):
    """Mean and variance of volumes that were reconstructed from samples of the noise."""

    mean: Any
    """Mean of the volumes; against the volume of the data themselves it shows the bias."""
    variance: Any
    """Variance of the volumes, unbiased."""
    samples: int
    """Number of volumes."""

    @property
    def standard_error(self) -> Any:
        """Standard error of the variance, √(2 / (samples - 1)) of it for normal noise.

        With 16 samples 37 %, with 200 10 %.
        """
        return self.variance * (2 / (self.samples - 1)) ** 0.5


def variance_by_sampling(
    solve: Solve, sinogram: Block, variance: Block, *, samples: int = 16, seed: int = 0
) -> Sampled:
    """Variance of the pixels of any method, by adding noise to the sinogram again and again.

    ``solve(sinogram)`` is called ``samples`` times, on the sinogram plus √variance times standard
    normal noise. All channels share the noise of a sample, so that a channel's result does not
    depend on how channels are cut into blocks; from one channel to the next it is therefore not
    independent.

    Parameters
    ----------
    solve
        From (angle, translation, channel) to (y, x, channel).
    sinogram, variance
        Samples, and the variance of each; where it is NaN, no noise is added.
    samples, seed
        How many volumes, and the seed of their noise.
    """
    spread = np.sqrt(np.where(np.isnan(variance), 0.0, variance)).astype(sinogram.dtype)

    def volume(sample: int) -> Any:
        noise = np.random.default_rng([seed, sample]).standard_normal(sinogram.shape[:2])
        return solve(sinogram + spread * noise[..., None].astype(sinogram.dtype))

    return _moments(volume, samples)


def variance_by_bootstrap(
    solve: Solve, sinogram: Block, *, samples: int = 16, seed: int = 0
) -> Sampled:
    """Variance of the pixels of any method with weights, by drawing projections with replacement.

    ``solve(sinogram, weights=...)`` is called ``samples`` times; the weights (angle, 1, 1) say how
    often a projection was drawn (Efron & Tibshirani 1993). It needs no known variance, and includes
    what differs from projection to projection; with few projections it also includes what their
    absence does to the image.
    """
    projections = sinogram.shape[0]

    def volume(sample: int) -> Any:
        drawn = np.random.default_rng([seed, sample]).integers(0, projections, projections)
        count = np.bincount(drawn, minlength=projections).astype(sinogram.dtype)
        weights = np.broadcast_to(count[:, None, None], (*sinogram.shape[:2], 1))
        return solve(sinogram, weights=weights)

    return _moments(volume, samples)


def _moments(volume: Callable[[int], Any], samples: int) -> Sampled:
    """Mean and variance in one pass (Welford 1962), in the order of the samples."""
    if samples < 2:
        raise OptionError(f"samples={samples} has no variance: pass 2 or more.")
    mean = np.array(volume(0), dtype=np.float64)
    squares = np.zeros_like(mean)
    for sample in range(1, samples):
        found = np.asarray(volume(sample))
        away = found - mean
        mean += away / (sample + 1)
        squares += away * (found - mean)
    return Sampled(mean.astype(found.dtype), (squares / (samples - 1)).astype(found.dtype), samples)
