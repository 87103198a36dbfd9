"""Where the rotation axis projects.

Everything here works on one small image ``(angle, translation)``, in float64: the caller has
already summed or averaged the channels that it trusts. Angles are in radians, lengths in
translation steps. A point (x, y) of the sample projects at angle θ onto translation index
``center + x cos θ - y sin θ + shift(θ)``, so the projection half a turn later is the mirror image
about ``center``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import next_fast_len
from scipy.interpolate import CubicSpline
from scipy.signal import fftconvolve

from ndtomo_dask.errors import SchemaError, check_choice
from ndtomo_dask.kernels import center_images
from ndtomo_dask.kernels.alignment import bridged, center_of_mass, check_angles, fit_sine, leveled

Float64 = NDArray[np.float64]
Method = Literal["auto", "mass", "opposite", "fourier", "entropy", "sharpness"]
METHODS = get_args(Method)

WEDGE = 0.6
"""Radius assumed for the sample in the double-wedge score, as a share of half the translations."""
GROUPS = 8
"""Groups of projections left out in turn by the jackknife."""
WIDEST_GAP = 2.5
"""Median angle steps across which an opposite projection may still be interpolated."""
MODEL_ERROR = {"opposite": 0.01, "fourier": 0.1}
"""Error left in noise-free simulated scans by the finite number of angles, in steps."""
PIXELS_ERROR = 300.0, 0.005
"""The same of an image, times its pixels, and at least: few pixels have few gray values."""
STEP = 0.05
"""Spacing of the fine candidates, in translation steps."""
NEAR = 4.0, 0.03
"""How far from the other estimates images are searched: steps, or a share of the translations."""
APART = 3.0
"""Two estimates disagree if they are further apart than this many of their errors."""

CHECKED_BY: dict[str, tuple[Method, Method]] = {
    "fourier": ("entropy", "fourier"),
    "opposite": ("opposite", "entropy"),
    "mass": ("mass", "entropy"),
}
"""The method of ``"auto"``, and the one that checks it, by what suits the angles."""


@dataclass(frozen=True, eq=False)
class CenterSearch:
    """The rotation centre, its uncertainty, and the score curve it is the minimum of."""

    center: float
    error: float
    candidates: Float64
    scores: Float64
    method: str
    check: float = np.nan
    """What another method found."""
    checked_by: str = ""


def score_mass(image: NDArray[np.floating], angles: ArrayLike, candidates: ArrayLike) -> Float64:
    """Mean squared misfit of the best sine path through each candidate, in squared steps."""
    fit = fit_sine(center_of_mass(leveled(bridged(image))), angles)
    distance = np.asarray(candidates, dtype=np.float64) - fit.center
    return fit.misfit + fit.stiffness * distance**2


def score_opposite(
    image: NDArray[np.floating], angles: ArrayLike, candidates: ArrayLike
) -> Float64:
    """Relative mismatch between each projection and its opposite, mirrored about each candidate.

    Σ (p(θ, u) - p(θ + π, 2c - u))² over the overlap, divided by the intensity squared there: 0 is
    a perfect match, about 1 none. The opposite projection is interpolated between its two
    neighbors in angle. Whole and half steps need no interpolation along the translation, so noise
    does not favor either; between them the curve is a cubic spline.
    Raises `SchemaError` where no projection has an opposite one.
    """
    return _opposite_score(*_opposite_curves(*_prepared(image, angles)))(candidates)


def score_fourier(image: NDArray[np.floating], angles: ArrayLike, candidates: ArrayLike) -> Float64:
    """Energy outside the double wedge of the full-turn sinogram mirrored about each candidate.

    The 2-D Fourier transform of a sinogram over a full turn vanishes for angular frequencies above
    2π r ν, r the radius of the sample and ν the spatial frequency; a half turn completed with its
    own mirror image about a wrong axis does not (Vo et al., Optics Express 22, 19078, 2014). Here
    the energy is a Fourier series in the candidate, so that any fraction of a step is exact, and
    spatial frequencies count by their signal-to-noise ratio. 1 is the energy of halves that do
    not know of one another. The angles must span half a turn; uneven ones are interpolated.
    """
    return _fourier_score(*_half_turn(*_prepared(image, angles)))(candidates)


def find_center(
    image: NDArray[np.floating],
    angles: ArrayLike,
    *,
    method: Method = "auto",
    search: tuple[float, float] | None = None,
) -> CenterSearch:
    """Find the rotation center, as a fractional translation index.

    ``"auto"`` compares opposite projections where most projections have one, and takes the entropy
    of the image elsewhere; a span of less than half a turn leaves the center of mass. A second
    method checks: the entropy, or the double wedge. Two that agree are averaged by their errors;
    where they do not, the first stands, and half their distance is added to its error.

    The curve is searched over ``search`` (first and last index; default the middle half of the
    translations), coarse to fine, ended by a parabola; images, in the neighborhood of what the
    other methods find.

    The error is a delete-one-group jackknife over eight groups of projections (for ``"mass"`` the
    standard error of the fit), with ``MODEL_ERROR`` or ``PIXELS_ERROR`` added in quadrature. It
    answers to noise, and to drift and jitter of the stage; a cause that moves all projections alike
    cannot be seen. In simulated scans the actual error was 0.5 to 2 of these.

    Raises `SchemaError` for under three angles, no contrast, a minimum at the search's border.
    """
    check_choice("method", method, METHODS)
    prepared, theta = _prepared(image, angles)
    if method != "auto":
        return _found(prepared, theta, method, search)
    first, second = CHECKED_BY[_suited(theta)]
    found = _found(prepared, theta, first, search)
    return _checked(found, _found(prepared, theta, second, search, strict=False))


def _checked(found: CenterSearch, other: CenterSearch) -> CenterSearch:
    """Average two estimates that agree, by their errors; widen the error of one that does not."""
    apart = other.center - found.center
    told = replace(found, check=other.center, checked_by=other.method)
    if abs(apart) > APART * np.hypot(found.error, other.error):
        return replace(told, error=float(np.hypot(found.error, apart / 2)))
    share = found.error**2 / (found.error**2 + other.error**2)
    # As if the two erred together: both see the same noise.
    error = (1 - share) * found.error + share * other.error
    return replace(told, center=found.center + share * apart, error=error)


def _found(
    prepared: Float64,
    theta: Float64,
    method: Method,
    search: tuple[float, float] | None,
    *,
    strict: bool = True,
) -> CenterSearch:
    last = prepared.shape[1] - 1
    low, high = (last / 4, 3 * last / 4) if search is None else search
    if method == "mass":
        fit = fit_sine(center_of_mass(prepared), theta)
        candidates = np.arange(low, high + 0.25, 0.5)
        scores = score_mass(prepared, theta, candidates)
        return CenterSearch(fit.center, fit.error, candidates, scores, method)
    if method in ("entropy", "sharpness"):
        low, high = (low, high) if search else _neighborhood(prepared, theta, low, high)
        seen = center_images.search_images(prepared, theta, low, high, method)
        if strict and not low < seen.center < high:
            raise _at_the_border(low, high, seen.center)
        few = max(PIXELS_ERROR[0] / prepared.shape[1] ** 2, PIXELS_ERROR[1])
        error = float(np.hypot(seen.spread, few))
        return CenterSearch(seen.center, error, seen.candidates, seen.scores, method)
    finder = _opposite_finder if method == "opposite" else _fourier_finder
    whole, parts = finder(prepared, theta)
    center, candidates, scores = _minimum(whole, low, high, strict=strict)
    found = np.array([_minimum(part, low, high, strict=False)[0] for part in parts])
    spread = np.sqrt(found.size - 1) * found.std()
    error = float(np.hypot(spread, MODEL_ERROR[method]))
    return CenterSearch(center, error, candidates, scores, method)


def _neighborhood(
    prepared: Float64, theta: Float64, low: float, high: float
) -> tuple[float, float]:
    """Where images are worth their time: around what other methods find, and between them."""
    suited = _suited(theta)
    others = [fit_sine(center_of_mass(prepared), theta).center]
    if suited != "mass":
        finder = _opposite_finder if suited == "opposite" else _fourier_finder
        others.append(_minimum(finder(prepared, theta)[0], low, high, strict=False)[0])
    width = max(NEAR[0], NEAR[1] * prepared.shape[1])
    inside = np.clip(others, low, high)
    return float(inside.min() - width), float(inside.max() + width)


def _at_the_border(low: float, high: float, best: float) -> SchemaError:
    return SchemaError(
        f"the rotation center is not between translations {low:g} and {high:g}: the best score "
        f"lies at the border, {best:g}. Widen search=(first, last) or give the center."
    )


Score = Callable[[ArrayLike], Float64]


def _minimum(
    score: Score, low: float, high: float, *, strict: bool = True
) -> tuple[float, Float64, Float64]:
    """Search in half steps, then finely around the best, then fit a parabola to its neighbors."""
    coarse = np.arange(low, high + 0.25, 0.5)
    curve = score(coarse)
    best = int(np.argmin(curve))
    if strict and best in (0, coarse.size - 1):
        raise _at_the_border(low, high, float(coarse[best]))
    fine = coarse[best] + np.arange(-0.6, 0.6 + STEP / 2, STEP)
    detail = score(fine)
    middle = int(np.clip(np.argmin(detail), 1, fine.size - 2))
    before, here, after = detail[middle - 1 : middle + 2]
    bend = before - 2 * here + after
    offset = float(np.clip((before - after) / (2 * bend), -1, 1)) if bend > 0 else 0.0
    both, order = np.unique(np.concatenate([coarse, fine]), return_index=True)
    return float(fine[middle] + STEP * offset), both, np.concatenate([curve, detail])[order]


def _suited(theta: Float64) -> str:
    if np.mean(_opposites(theta)[3]) > 0.6:
        return "opposite"
    step = float(np.median(np.diff(theta)))
    return "fourier" if theta[-1] - theta[0] + 1.5 * step >= np.pi else "mass"


def _prepared(image: NDArray[np.floating], angles: ArrayLike) -> tuple[Float64, Float64]:
    """Bridge gaps, drop dead projections, sort by angle, subtract the background; or refuse."""
    theta = np.asarray(angles, dtype=np.float64)
    filled = bridged(image)
    if theta.shape != filled.shape[:1]:
        raise SchemaError(f"{filled.shape[0]} projections need as many angles, not {theta.size}.")
    alive = np.isfinite(filled).all(axis=1)
    check_angles(theta[alive])
    order = np.flatnonzero(alive)[np.argsort(theta[alive], kind="stable")]
    level = leveled(filled[order])
    if np.ptp(level) <= 1e-12 * np.abs(filled[order]).max(initial=0.0):
        raise SchemaError(
            "the rotation center is undetermined: the image has one value everywhere. "
            "Choose channels in which the sample is visible."
        )
    return level, theta[order]


def _signal_share(spectrum: NDArray[np.complex128]) -> Float64:
    """Share of signal in each spatial frequency's power; the highest quarter shows the noise."""
    power = np.mean(np.abs(spectrum) ** 2, axis=0)
    noise = np.median(power[3 * power.size // 4 :])
    return np.asarray(np.maximum(power - noise, 0.0) / np.maximum(power, 1e-300))


def _opposites(
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


def _opposite_curves(image: Float64, theta: Float64) -> tuple[Float64, Float64]:
    """Squared mismatch and energy of each pair, at every half step: (pair, 2·center)."""
    before, after, weight, near = _opposites(theta)
    if not near.any():
        raise SchemaError(
            "method='opposite' needs projections half a turn apart, and the angles hold none. "
            "Use method='fourier' for a scan over 180 degrees."
        )
    steps = image.shape[1]
    length = next_fast_len(2 * steps, real=True)
    spectrum = np.fft.rfft(image, length, axis=1)
    image = np.fft.irfft(spectrum * _signal_share(spectrum), length, axis=1)[:, :steps]
    mate = (1 - weight)[:, None] * image[before] + weight[:, None] * image[after]
    here, mate = image[near], mate[near]

    energy = fftconvolve(here**2 + mate**2, np.ones((1, steps)), axes=1)
    return energy - 2 * fftconvolve(here, mate, axes=1), energy


def _opposite_score(mismatches: Float64, energies: Float64) -> Score:
    mismatch, energy = mismatches.sum(axis=0), energies.sum(axis=0)
    floor = 1e-3 * energy.max()
    ratio = mismatch / np.maximum(energy, floor)
    ratio[energy < floor] = 1.0
    spline = CubicSpline(np.arange(ratio.size) / 2, ratio)
    return lambda candidates: np.asarray(spline(np.asarray(candidates, dtype=np.float64)))


def _opposite_finder(image: Float64, theta: Float64) -> tuple[Score, list[Score]]:
    """Score of all pairs, and of all pairs but one group; both ends of a pair share a group."""
    mismatch, energy = _opposite_curves(image, theta)
    near = _opposites(theta)[3]
    group = np.floor(np.mod(theta[near], np.pi) / np.pi * GROUPS).astype(int) % GROUPS
    keep = [group >= 0, *(group != left_out for left_out in range(GROUPS))]
    scores = [_opposite_score(mismatch[kept], energy[kept]) for kept in keep if kept.any()]
    return scores[0], scores[1:]


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


def _fourier_score(image: Float64, count: int) -> Score:
    """Energy outside the double wedge as a function of the candidate."""
    steps = image.shape[1]
    length = next_fast_len(2 * steps, real=True)
    spectrum = np.fft.rfft(image, length, axis=1)
    spatial = np.arange(spectrum.shape[1])
    angular = np.abs(np.fft.fftfreq(2 * count, 1 / (2 * count)).round())[:, None]
    measured = np.fft.fft(spectrum, 2 * count, axis=0)
    mirrored = (-1.0) ** angular * np.conj(measured[-np.arange(2 * count) % (2 * count)])
    edge = 2 * np.pi * spatial * (WEDGE * steps / 2) / length + 2
    weight = ((angular > edge) & (angular < count) & (spatial > 0)) * _signal_share(spectrum)
    useful = weight.any(axis=0)
    cross = np.sum(weight * measured * np.conj(mirrored), axis=0)[useful]
    level = np.sum(weight * (np.abs(measured) ** 2 + np.abs(mirrored) ** 2))
    phase = 4j * np.pi * spatial[useful] / length

    def score(candidates: ArrayLike) -> Float64:
        turned = np.exp(np.multiply.outer(np.asarray(candidates, dtype=np.float64), phase))
        return np.asarray(1 + 2 * np.real(turned @ cross) / level)

    return score


def _fourier_finder(image: Float64, theta: Float64) -> tuple[Score, list[Score]]:
    """Score of all projections, and with every eighth one replaced by its neighbors."""
    groups = min(GROUPS, theta.size // 2)
    index = np.arange(theta.size)
    parts = []
    for left_out in range(groups):
        kept = index[(index % groups != left_out) | (index % index[-1] == 0)]
        after = np.clip(np.searchsorted(kept, index), 1, kept.size - 1)
        low, gap = kept[after - 1], theta[kept[after]] - theta[kept[after - 1]]
        weight = ((theta - theta[low]) / np.maximum(gap, 1e-12))[:, None]
        replaced = (1 - weight) * image[low] + weight * image[kept[after]]
        parts.append(_fourier_score(*_half_turn(replaced, theta)))
    return _fourier_score(*_half_turn(image, theta)), parts
