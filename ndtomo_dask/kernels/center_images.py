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
from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.filters import ramp_impulse
from ndtomo_dask.kernels.projectors.numba import NumbaProjector

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Limits = tuple[float, float]
Measure = Literal["entropy", "sharpness"]

LARGEST = 256
"""Pixels along an edge of the images, at most: finer data are binned."""
SMALLEST = 48
"""Pixels along an edge with which a search begins, at least."""
AROUND = 3.0
"""How far on either side of the best candidate the next, finer level searches, in its steps."""
FINE: Float64 = np.arange(-7.0, 8.0) / 8
"""The last candidates about the best, in steps: as many as are reconstructed in the time of one. A
parabola finds the place between them."""
RIM = 1.05
"""Radius of the pixels that are judged, as a share of what all projections see; somewhat more, for
the sample may fill it."""
BINS = 32, 256
"""Bins of the histogram whose entropy is taken: the root of the number of pixels, within these."""
OUTSIDE = 5e-4
"""Share of the pixels beyond either end of the histogram, which are counted in its last bin."""
SAMPLED = 100_000
"""Pixels, evenly spread, from which the ends of the histogram follow."""
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
    return _Level(rows, theta, 1).scores(candidates, measure)


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
    level = _Level(image, angles, first)
    steps = np.arange(low, high + first / 2, first / 2)
    coarse = level.scores(steps, measure)
    best = float(steps[np.argmin(coarse)])
    for factor in factors[1:]:
        level = _Level(image, angles, factor)
        near = best + factor * np.arange(-AROUND, AROUND + 0.25, 0.5)
        best = float(near[np.argmin(level.scores(near, measure))])
    fine = best + factors[-1] * FINE
    scores, parts = level.jackknife(fine, measure)
    found = [vertex(fine, part) for part in parts]
    spread = float(np.sqrt(len(found) - 1) * np.std(found))
    return ImageSearch(vertex(fine, scores), spread, *_joined(steps, coarse, fine, scores))


def _factors(translations: int) -> list[int]:
    """Powers of two by which translations are binned, from the coarsest level to the finest."""
    last = 1
    while translations / last > LARGEST:
        last *= 2
    factors = [last]
    while translations / (2 * factors[0]) >= SMALLEST:
        factors.insert(0, 2 * factors[0])
    return factors


def vertex(candidates: Float64, scores: Float64) -> float:
    """Lowest point of the parabola through the best of even candidates and its neighbors.

    >>> vertex(np.array([1.0, 2.0, 3.0]), np.array([4.0, 0.0, 2.0]))
    2.17
    """
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


def _limits(pixels: Float32) -> Limits:
    """Find the ends of a histogram of all candidates' pixels."""
    some = pixels[:: -(-pixels.size // SAMPLED)]
    low, high = np.quantile(some, [OUTSIDE, 1 - OUTSIDE])
    return float(low), float(high)


def _entropy(pixels: Float32, limits: Limits) -> Float64:  # (pixel, candidate) -> (candidate,)
    bins = int(np.clip(np.sqrt(len(pixels)), *BINS))
    counts = np.zeros((pixels.shape[1], bins))
    _count(counts, pixels, limits[0], (bins - 1) / max(limits[1] - limits[0], 1e-300))
    share = counts / max(len(pixels), 1)
    return np.asarray(-np.sum(share * np.log(np.maximum(share, 1e-300)), axis=1))


@compiled()
def _count(counts: Float64, pixels: Float32, low: float, scale: float) -> None:
    """Add pixels to bins: (candidate, bin), (pixel, candidate).

    A pixel between two bins counts in both, so that the entropy has no steps.
    """
    last = counts.shape[1] - 1
    for pixel in range(pixels.shape[0]):
        for candidate in range(pixels.shape[1]):
            place = min(max((pixels[pixel, candidate] - low) * scale, 0.0), last)
            lower = min(int(place), last - 1)
            counts[candidate, lower] += 1 - (place - lower)
            counts[candidate, lower + 1] += place - lower


def _sharpness(pixels: Float32, _: Limits) -> Float64:  # (pixel, candidate) -> (candidate,)
    total = np.abs(pixels.sum(axis=0, dtype=np.float64))
    return np.asarray(np.abs(pixels).sum(axis=0, dtype=np.float64) / np.maximum(total, 1e-300))


_MEASURES: dict[str, Callable[[Float32, Limits], Float64]] = {
    "entropy": _entropy,
    "sharpness": _sharpness,
}


class _Level:
    """Images of one pixel size: of each half turn, in bins of so many translations."""

    def __init__(self, image: Float64, angles: Float64, factor: int) -> None:
        kept = image[:, : image.shape[1] // factor * factor]
        binned = kept.reshape(image.shape[0], -1, factor).mean(axis=2)
        self._factor = factor
        self._turns = [_Stack(binned[turn], angles[turn]) for turn in _half_turns(angles)]

    def scores(self, candidates: Float64, measure: Measure) -> Float64:
        """Judge the images of candidates, which are translation indices."""
        score, place = _MEASURES[measure], self._place(candidates)
        images = (turn.pixels(place) for turn in self._turns)
        return np.asarray(np.mean([score(one, _limits(one)) for one in images], axis=0))

    def jackknife(self, candidates: Float64, measure: Measure) -> tuple[Float64, Float64]:
        """Judge them by all projections, and without each group; (candidate,), (group, ...)."""
        score, place = _MEASURES[measure], self._place(candidates)
        found = []
        for turn in self._turns:
            images = turn.jackknife(place)
            limits = _limits(images[0])
            found.append([score(image, limits) for image in images])
        scores = np.mean(found, axis=0)
        return scores[0], scores[1:]

    def _place(self, candidates: Float64) -> Float64:
        """Turn translation indices into those of bins."""
        return np.asarray((candidates - (self._factor - 1) / 2) / self._factor)


class _Stack:
    """Images of many candidates, filtered and reconstructed together."""

    def __init__(self, image: Float64, angles: Float64) -> None:
        self._geometry = ParallelGeometry.centered(angles, image.shape[1])
        self._length = scipy.fft.next_fast_len(2 * image.shape[1], real=True)
        spectrum = scipy.fft.rfft(image, self._length, axis=1)
        ramp = scipy.fft.rfft(ramp_impulse(self._length)).real
        gain = ramp * _window(spectrum, image.shape[1])
        filtered = spectrum * gain * self._geometry.weights[:, None]
        self._filtered = filtered.astype(np.complex64)

    def pixels(self, candidates: Float64) -> Float32:  # -> (pixel, candidate)
        """Reconstruct; keep the pixels that projections about the middle candidate see."""
        inside, A = self._seen(candidates), NumbaProjector(self._geometry)
        parts = (candidates[at : at + LANES] for at in range(0, candidates.size, LANES))
        return np.concatenate([A.T(self._rows(part))[inside] for part in parts], axis=1)

    def jackknife(self, candidates: Float64) -> list[Float32]:
        """Reconstruct with all projections, and without each group of them in turn, as bright."""
        inside, rows = self._seen(candidates), self._rows(candidates)
        group = np.arange(len(rows)) % GROUPS
        images = [self._part(rows, group == one)[inside] for one in range(GROUPS)]
        whole = np.sum(images, axis=0)
        counts = np.bincount(group, minlength=GROUPS)
        rest = [(1 - float(share)) or 1.0 for share in counts / len(rows)]
        return [whole, *((whole - one) / left for one, left in zip(images, rest, strict=True))]

    def _part(self, rows: Float32, kept: NDArray[np.bool_]) -> Float32:
        if not kept.any():
            return np.zeros((*self._geometry.shape, rows.shape[2]), dtype=np.float32)
        return NumbaProjector(self._geometry.select(kept)).T(rows[kept])

    def _rows(self, candidates: Float64) -> Float32:  # -> (angle, translation, candidate)
        """Move the filtered projections so that each candidate comes to lie in the middle."""
        away = candidates - (self._geometry.translations - 1) / 2
        frequency = scipy.fft.rfftfreq(self._length)
        turned = np.exp(2j * np.pi * np.multiply.outer(frequency, away)).astype(np.complex64)
        rows = scipy.fft.irfft(self._filtered[:, :, None] * turned, self._length, axis=1)
        return np.ascontiguousarray(rows[:, : self._geometry.translations])

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
