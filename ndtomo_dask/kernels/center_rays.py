"""Where the rotation axis projects, judged by the rays: opposite projections, and the double wedge.

Scores of many candidates, once for all projections and once without each group of them, so that a
jackknife costs little more than one search. Images are (angle, translation), angles ascending.
"""

from collections.abc import Callable

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import fftconvolve

from ndtomo_dask.errors import SchemaError

Float64 = NDArray[np.float64]
Complex = NDArray[np.complex128]
Curves = Callable[[ArrayLike], Float64]
"""Scores of candidates: of all projections, and without each group, (candidate, curve)."""
Unseen = Callable[[float], float]
"""Error of a center that leaving out groups of projections does not show, in steps."""

WEDGE = 1.0
"""Radius assumed for the sample in the double-wedge score, as a share of half the translations: it
may fill the field of view, and what it leaks out of a narrower wedge misleads."""
GROUPS = 8
"""Groups of projections left out in turn by the jackknife."""
WIDEST_GAP = 2.5
"""Median angle steps across which an opposite projection may still be interpolated."""
MODEL_ERROR = {"opposite": 0.005, "fourier": 0.01}
"""Error left in noise-free simulated scans by the finite number of angles, in steps."""
FEW = 30
"""Projections of which the jackknife of the double wedge shows half of what jitter does."""


def _signal_share(spectrum: Complex) -> Float64:
    """Share of signal in each spatial frequency's power; the highest quarter shows the noise."""
    power = np.mean(np.abs(spectrum) ** 2, axis=0)
    noise = np.median(power[3 * power.size // 4 :])
    return np.asarray(np.maximum(power - noise, 0.0) / np.maximum(power, 1e-300))


def opposites(
    theta: Float64,
) -> tuple[NDArray[np.intp], NDArray[np.intp], Float64, NDArray[np.bool_]]:
    """Neighbors in angle of each θ + π, the weight of the second, and whether they are near."""
    turn = np.mod(theta, 2 * np.pi)
    order = np.argsort(turn, kind="stable")
    ring = np.concatenate([turn[order[-1:]] - 2 * np.pi, turn[order], turn[order[:1]] + 2 * np.pi])
    who = np.concatenate([order[-1:], order, order[:1]])
    target = np.mod(theta + np.pi, 2 * np.pi)
    after = np.clip(np.searchsorted(ring, target - 1e-9), 1, ring.size - 1)
    gap = ring[after] - ring[after - 1]
    weight = np.clip((target - ring[after - 1]) / np.maximum(gap, 1e-12), 0.0, 1.0)
    steps = np.diff(turn[order])
    near = gap <= WIDEST_GAP * float(np.median(steps[steps > 1e-9]))
    exact = np.minimum(weight, 1 - weight) * gap < 1e-6
    return who[after - 1], who[after], weight, near | exact


def _mismatches(image: Float64, theta: Float64) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    """Squared mismatch and energy of each pair, at every half step, and who has a pair.

    (pair, 2·center) twice, (angle,).
    """
    before, after, weight, near = opposites(theta)
    if not near.any():
        raise SchemaError(
            "method='opposite' needs projections half a turn apart, and the angles hold none. "
            "Use method='fourier' for a scan over 180 degrees."
        )
    steps = image.shape[1]
    length = scipy.fft.next_fast_len(2 * steps, real=True)
    spectrum = scipy.fft.rfft(image, length, axis=1)
    image = scipy.fft.irfft(spectrum * _signal_share(spectrum), length, axis=1)[:, :steps]
    mate = (1 - weight)[:, None] * image[before] + weight[:, None] * image[after]
    here, mate = image[near], mate[near]

    energy = fftconvolve(here**2 + mate**2, np.ones((1, steps)), axes=1)
    return energy - 2 * fftconvolve(here, mate, axes=1), energy, near


def opposite_curves(image: Float64, theta: Float64) -> tuple[Curves, Unseen]:
    """Score of all pairs, and of all pairs but one group; both ends of a pair share a group."""
    mismatches, energies, near = _mismatches(image, theta)
    group = np.floor(np.mod(theta[near], np.pi) / np.pi * GROUPS).astype(int) % GROUPS
    keep = [group >= 0, *(group != left_out for left_out in range(GROUPS))]
    keep = [kept for kept in keep if kept.any()]
    mismatch, energy = (
        np.stack([pairs[kept].sum(axis=0) for kept in keep]) for pairs in (mismatches, energies)
    )
    floor = 1e-3 * energy.max(axis=1, keepdims=True)
    ratio = np.where(energy < floor, 1.0, mismatch / np.maximum(energy, floor))
    spline = CubicSpline(np.arange(ratio.shape[1]) / 2, ratio, axis=1)

    def curves(candidates: ArrayLike) -> Float64:
        return np.asarray(spline(np.asarray(candidates, dtype=np.float64))).T

    return curves, lambda _: MODEL_ERROR["opposite"]


def _half_turn(image: Float64, theta: Float64) -> tuple[Float64, int]:
    """Projections on an even grid over the first half turn, interpolated only if they must be."""
    step = float(np.median(np.diff(theta)))
    if theta[-1] - theta[0] + 3.5 * step < np.pi:
        raise SchemaError(
            "method='fourier' needs angles over half a turn, not "
            f"{np.rad2deg(theta[-1] - theta[0]):.0f} degrees. Use method='mass'."
        )
    inside = theta < theta[0] + np.pi - step / 4
    image, theta = image[inside], theta[inside]
    count = theta.size
    even = theta[0] + np.arange(count) * np.pi / count
    if np.allclose(even, theta, rtol=0, atol=0.1 * np.pi / count):
        return image, count
    after = np.clip(np.searchsorted(theta, even), 1, count - 1)
    gap = np.maximum(theta[after] - theta[after - 1], 1e-12)
    weight = np.clip((even - theta[after - 1]) / gap, 0.0, 1.0)[:, None]
    return (1 - weight) * image[after - 1] + weight * image[after], count


def fourier_curves(image: Float64, theta: Float64) -> tuple[Curves, Unseen]:
    """Score of all projections, and with every eighth one replaced by its neighbors."""
    even, count = _half_turn(image, theta)
    length = scipy.fft.next_fast_len(2 * even.shape[1], real=True)
    spectrum = scipy.fft.rfft(even, length, axis=1)
    weight = _outside_wedge(spectrum, even.shape[1], length)
    useful = weight.any(axis=0)
    spectrum, weight = spectrum[:, useful], weight[:, useful]
    groups = min(GROUPS, count // 2)
    parts = (_replaced(spectrum, left_out, groups) for left_out in range(groups))
    whole = _outside(spectrum, weight)
    series = np.stack(
        [one.sum(axis=0) for one in (whole, *(_outside(p, weight) for p in parts))], axis=1
    )
    phase = 4j * np.pi * np.flatnonzero(useful) / length

    def curves(candidates: ArrayLike) -> Float64:
        turned = np.exp(np.multiply.outer(np.asarray(candidates, dtype=np.float64), phase))
        return np.asarray(1 + 2 * np.real(turned @ series))

    def unseen(center: float) -> float:
        share = min(1.0, FEW / count)
        return float(np.hypot(MODEL_ERROR["fourier"], share * _disagreement(whole, phase, center)))

    return curves, unseen


def _outside_wedge(spectrum: Complex, steps: int, length: int) -> Float64:
    """Weights of the positive angular frequencies, (angular - 1, spatial): 0 in the wedge."""
    count, spatial = spectrum.shape[0], np.arange(spectrum.shape[1])
    edge = 2 * np.pi * spatial * (WEDGE * steps / 2) / length + 2
    outside = (np.arange(1, count)[:, None] > edge) & (spatial > 0)
    return np.asarray(outside * _signal_share(spectrum))


def _outside(spectrum: Complex, weight: Float64) -> Complex:
    """Fourier series in the candidate of the energy outside the wedge, (angular, spatial).

    The angular spectrum of the mirrored half turn at frequency k is (-1)ᵏ times the conjugate of
    the measured one at -k.
    """
    count = spectrum.shape[0]
    measured = scipy.fft.fft(spectrum, 2 * count, axis=0)
    above, below = measured[1:count], measured[:-count:-1]
    sign = (-1.0) ** np.arange(1, count)[:, None]
    level = np.sum(weight * (above.real**2 + above.imag**2 + below.real**2 + below.imag**2))
    return np.asarray(weight * sign * above * below / max(level, 1e-300))


def _disagreement(series: Complex, phase: Complex, center: float) -> float:
    """Error of the center by how its angular frequencies differ about it (sandwich estimator)."""
    turned = series * np.exp(phase * center)
    slope = np.sum(phase.imag * turned.imag, axis=1)
    bend = -np.sum(phase.imag**2 * turned.real)
    return float(np.sqrt(slope @ slope) / bend) if bend > 0 else np.inf


def _replaced(spectrum: Complex, left_out: int, groups: int) -> Complex:
    """Put the mean of its neighbors in place of every so many-th projection, not of the ends."""
    rows = np.arange(left_out, len(spectrum) - 1, groups)
    rows = rows[rows > 0]
    part = spectrum.copy()
    part[rows] = (spectrum[rows - 1] + spectrum[rows + 1]) / 2
    return part
