"""Where the rotation axis projects, judged by the images that candidates give.

Each candidate is reconstructed by filtered back-projection; the right one has the sharpest image.
The candidates share their angles, so they are reconstructed together, as if they were channels.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.filters import ramp_impulse
from ndtomo_dask.kernels.projectors.numba import NumbaProjector

Float64 = NDArray[np.float64]
Measure = Literal["entropy", "sharpness"]

LARGEST = 256
"""Pixels along an edge of the images, at most: finer data are binned."""
SMALLEST = 48
"""Pixels along an edge with which a search begins, at least."""
AROUND = 3.0
"""How far on either side of the best candidate the next, finer level searches, in its steps."""
FINE = 0.25
"""Spacing of the last candidates, in steps; a parabola finds the place between them."""
RIM = 1.05
"""Radius of the pixels that are judged, as a share of what all projections see; somewhat more, for
the sample may fill it."""
BINS = 32, 256
"""Bins of the histogram whose entropy is taken: the root of the number of pixels, within these."""
OUTSIDE = 5e-4
"""Share of the pixels beyond either end of the histogram, which are counted in its last bin."""
GROUPS = 8
"""Groups of projections left out in turn by the jackknife."""
LANES = 32
"""Candidates reconstructed at once."""


class ImageSearch(NamedTuple):
    """The best candidate, how far it moves when projections are left out, and its score curve."""

    center: float
    spread: float
    candidates: Float64
    scores: Float64


def score_images(
    image: NDArray[np.floating], angles: ArrayLike, candidates: ArrayLike, measure: Measure
) -> Float64:
    """Judge the image that each candidate gives; the smallest score is the best.

    ``"entropy"``: that of the histogram of the pixels, -Σ p log p; ``"sharpness"``: Σ |f| / Σ f, 1
    where no pixel is negative (Donath et al., J. Opt. Soc. Am. A 23, 1048 (2006)). The data are
    filtered by the ramp and, by their own signal-to-noise ratio, by a Wiener window, so that noise
    does not decide. ``image (angle, translation)`` is finite, with a background of 0.
    """
    rows, theta = np.asarray(image, dtype=np.float64), np.asarray(angles, dtype=np.float64)
    candidates = np.atleast_1d(np.asarray(candidates, dtype=np.float64))
    turns = [_Stack(rows[turn], theta[turn]) for turn in _half_turns(theta)]
    return np.asarray(
        np.mean([_MEASURES[measure](one.pixels(candidates)) for one in turns], axis=0)
    )


def _half_turns(angles: Float64) -> list[NDArray[np.bool_]]:
    """Projections of each half turn: a full turn about a wrong axis blurs, and does not sharpen."""
    turn = np.floor((angles - angles.min()) / np.pi + 1e-9).astype(int)
    counts = np.bincount(turn)
    whole = np.flatnonzero(counts > 0.5 * counts.max())
    return [turn == number for number in whole]


def search_images(
    image: Float64, angles: Float64, low: float, high: float, measure: Measure
) -> ImageSearch:
    """Search from ``low`` to ``high`` in coarse images, and ever finer around the best candidate.

    The scores of different levels are not of one scale: the curve is that of the last level, and of
    the first, scaled to it, elsewhere.
    """
    factors = _factors(image.shape[1])
    first = factors[0]
    steps = np.arange(low, high + first / 2, first / 2)
    coarse = _scores_at(image, angles, steps, first, measure)
    best = float(steps[np.argmin(coarse)])
    for factor in factors[1:]:
        near = best + factor * np.arange(-AROUND, AROUND + 0.25, 0.5)
        best = float(near[np.argmin(_scores_at(image, angles, near, factor, measure))])
    factor = factors[-1]
    fine = best + factor * np.arange(-1, 1 + FINE / 2, FINE)
    binned, place = _binned(image, angles, factor)[0], _place(fine, factor)
    turns = [_Stack(binned[turn], angles[turn]).jackknife(place) for turn in _half_turns(angles)]
    score = _MEASURES[measure]
    scores = np.mean([score(images[0]) for images in turns], axis=0)
    parts = [np.mean([score(image) for image in part], axis=0) for part in zip(*turns, strict=True)]
    found = [_vertex(fine, part) for part in parts[1:]]
    spread = float(np.sqrt(len(found) - 1) * np.std(found))
    return ImageSearch(_vertex(fine, scores), spread, *_joined(steps, coarse, fine, scores))


def _factors(translations: int) -> list[int]:
    """Powers of two by which translations are binned, from the coarsest level to the finest."""
    last = 1
    while translations / last > LARGEST:
        last *= 2
    factors = [last]
    while translations / (2 * factors[0]) >= SMALLEST:
        factors.insert(0, 2 * factors[0])
    return factors


def _scores_at(
    image: Float64, angles: Float64, candidates: Float64, factor: int, measure: Measure
) -> Float64:
    return score_images(*_binned(image, angles, factor), _place(candidates, factor), measure)


def _binned(image: Float64, angles: Float64, factor: int) -> tuple[Float64, Float64]:
    kept = image[:, : image.shape[1] // factor * factor]
    return kept.reshape(image.shape[0], -1, factor).mean(axis=2), angles


def _place(candidates: Float64, factor: int) -> Float64:
    """Turn translation indices into those of bins."""
    return np.asarray((candidates - (factor - 1) / 2) / factor)


def _vertex(candidates: Float64, scores: Float64) -> float:
    """Lowest point of the parabola through the best candidate and its neighbors."""
    middle = int(np.clip(np.argmin(scores), 1, candidates.size - 2))
    before, here, after = scores[middle - 1 : middle + 2]
    bend = before - 2 * here + after
    offset = np.clip((before - after) / (2 * bend), -1, 1) if bend > 0 else 0.0
    return float(candidates[middle] + (candidates[1] - candidates[0]) * offset)


def _joined(
    steps: Float64, coarse: Float64, fine: Float64, scores: Float64
) -> tuple[Float64, Float64]:
    """Put the fine curve into the coarse one, moved so that both have one least value."""
    outside = (steps < fine[0]) | (steps > fine[-1])
    places = np.concatenate([steps[outside], fine])
    values = np.concatenate([coarse[outside] - coarse.min() + scores.min(), scores])
    order = np.argsort(places)
    return places[order], values[order]


def _entropy(pixels: Float64) -> Float64:  # (pixel, candidate) -> (candidate,)
    bins = int(np.clip(np.sqrt(len(pixels)), *BINS))
    low, high = np.quantile(pixels, [OUTSIDE, 1 - OUTSIDE])
    span = max(float(high - low), 1e-300)
    place = np.clip((pixels - low) * ((bins - 1) / span), 0, bins - 1)
    # A pixel between two bins counts in both, so that the curve has no steps.
    lower = np.minimum(place.astype(np.intp), bins - 2)
    upper = place - lower
    counts = np.stack([
        np.bincount(one, 1 - weight, bins) + np.bincount(one + 1, weight, bins)
        for one, weight in zip(lower.T, upper.T, strict=True)
    ])  # fmt: skip
    share = counts / len(pixels)
    return np.asarray(-np.sum(share * np.log(np.maximum(share, 1e-300)), axis=1))


def _sharpness(pixels: Float64) -> Float64:  # (pixel, candidate) -> (candidate,)
    total = np.abs(pixels.sum(axis=0))
    return np.asarray(np.abs(pixels).sum(axis=0) / np.maximum(total, 1e-300))


_MEASURES: dict[str, Callable[[Float64], Float64]] = {"entropy": _entropy, "sharpness": _sharpness}


class _Stack:
    """Images of many candidates, filtered and reconstructed together."""

    def __init__(self, image: Float64, angles: Float64) -> None:
        self._geometry = ParallelGeometry.centered(angles, image.shape[1])
        self._length = scipy.fft.next_fast_len(2 * image.shape[1], real=True)
        spectrum = scipy.fft.rfft(image, self._length, axis=1)
        ramp = scipy.fft.rfft(ramp_impulse(self._length)).real
        gain = ramp * _window(spectrum, image.shape[1])
        self._filtered = spectrum * gain * self._geometry.weights[:, None]

    def pixels(self, candidates: Float64) -> Float64:  # -> (pixel, candidate)
        """Reconstruct; keep the pixels that projections about the middle candidate see."""
        everything = np.ones(self._geometry.angles.size, dtype=bool)
        return self._images(candidates, everything)

    def jackknife(self, candidates: Float64) -> list[Float64]:
        """Reconstruct with all projections, and without each group of them in turn."""
        group = np.arange(self._geometry.angles.size) % GROUPS
        images = [self._images(candidates, group == one) for one in range(GROUPS)]
        whole = np.sum(images, axis=0)
        return [whole, *(whole - image for image in images)]

    def _images(self, candidates: Float64, kept: NDArray[np.bool_]) -> Float64:
        inside = self._seen(candidates)
        if not kept.any():
            return np.zeros((int(inside.sum()), candidates.size))
        geometry = self._geometry.select(kept)
        A = NumbaProjector(geometry)
        middle = (geometry.translations - 1) / 2
        frequency = scipy.fft.rfftfreq(self._length)
        found = []
        for first in range(0, candidates.size, LANES):
            away = candidates[first : first + LANES] - middle
            turned = np.exp(2j * np.pi * np.multiply.outer(frequency, away))
            rows = self._filtered[kept][:, :, None] * turned
            rows = scipy.fft.irfft(rows, self._length, axis=1)[:, : geometry.translations]
            found.append(A.T(rows.astype(np.float32))[inside].astype(np.float64))
        return np.concatenate(found, axis=1)

    def _seen(self, candidates: Float64) -> NDArray[np.bool_]:
        last = self._geometry.translations - 1
        middle = float(np.mean(candidates))
        room = min(middle, last - middle)
        distance = np.hypot(self._geometry.y[:, None], self._geometry.x)
        return np.asarray(distance <= max(RIM * room, 2.0))


def _window(spectrum: NDArray[np.complex128], translations: int) -> Float64:
    """Wiener window of an image: the signal in each frequency over signal and noise.

    The highest quarter of the frequencies shows the noise. An image averages the noise of as many
    projections as there are to each independent one, π ν D, D the width of the field of view.
    """
    power = np.mean(np.abs(spectrum) ** 2, axis=0)
    noise = max(float(np.median(power[3 * power.size // 4 :])), 1e-300)
    width = max(1, power.size // 64)
    kernel = np.ones(2 * width + 1)
    smooth = np.convolve(power, kernel, "same") / np.convolve(np.ones(power.size), kernel, "same")
    frequency = np.arange(power.size) / (2 * (power.size - 1))
    repeats = np.maximum(len(spectrum) / (np.pi * frequency * translations + 1), 1.0)
    signal = np.maximum(smooth - noise, 0.0) / noise * repeats
    return np.asarray(signal / (1 + signal) * np.cos(np.pi * frequency) ** 2)
