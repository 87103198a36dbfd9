"""Gains of the translations, common to all channels, found together with the image.

A gain that a translation keeps during the whole scan makes rings. An image can hold rings: what
tells the two apart is that a sample has few edges, and that all channels share the gains. So the
gains are unknowns of the reconstruction, as rings are in Paleo & Mirone, J. Synchrotron Rad. 22,
1268 (2015), and flat fields in Aggrawal et al., IEEE Trans. Comput. Imaging 4, 17 (2018).

With y what was measured, summed in groups of channels, the image x and the gains g minimize

    sum w (y - g A x)² + s² (2 K sum log(|gradient of x|² + b²) + sum 2 pi r ((g - 1) / strength)²)

where w is the inverse of a ray's brightness, s² the mean square misfit, the gradient that of all K
groups together, and b a tenth of its mean: nothing depends on the unit of y. A logarithm leaves
sharp edges as sharp as they are. A gain is weighed by the circumference of its ring, r from the
axis, along which all edges are one and the same. Each pass solves a least-squares problem, about
the edges and the projections of the image before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors.numba import NumbaProjector
from ndtomo_dask.kernels.solvers.gradients import gradient, gradient_adjoint

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Real = NDArray[np.floating]

GROUPS = 24
"""Groups of channels that are told apart, usually."""
COMPONENTS = 6
"""Mixtures of the groups that are reconstructed: those of the greatest variance."""
STEPS = 20
"""Conjugate gradients between two looks at the edges."""
DIMMEST = 0.1
"""Brightness of a ray, relative to the mean, below which its weight grows no more."""
EDGES, BLUNT = 2.0, 0.1
"""Weight of edges, and the gradient, relative to the mean one, below which there is none."""
PASSES = 30
HASTE = 0.8
"""How much farther than it went a pass is started, at most: each goes a part of the way."""
SETTLED = 2e-4
"""Change of the gains in a pass, root mean square, below which it is the last."""
DRIFT = 0.5
"""How much of a gain comes and goes during a scan, relative to what stays."""
TIE = 30.0
"""Stiffness by which the mean of the corrections is held: the image may be of any brightness."""


def sum_channels(block: Real, bins: Mapping[int, int]) -> Float32:
    """Sum neighboring channels, ``bins[last axis]`` at a time; NaN where one is not finite.

    >>> sum_channels(np.array([[1.0, 2.0, 3.0, np.nan]]), {1: 2})
    array([[ 3., nan]], dtype=float32)
    """
    width = bins.get(block.ndim - 1, 1)
    runs = np.ascontiguousarray(block).reshape(*block.shape[:-1], -1, width)
    whole = np.asarray(np.isfinite(runs).all(axis=-1, keepdims=True))
    sums = np.sum(runs, axis=-1, where=whole, dtype=np.float64)
    return np.where(whole[..., 0], sums, np.nan).astype(np.float32)


def translation_gains(
    groups: Real,
    geometry: ParallelGeometry,
    *,
    strength: float = 0.05,
    drift: bool = True,
    passes: int = PASSES,
) -> Float64:
    """Find the gain of each translation, (angle, translation, group) -> (angle, translation).

    Parameters
    ----------
    groups
        Sums over groups of channels. A group that is not finite at most rays, or not positive in
        the mean, has no part; nor has a ray at which another group is not finite.
    geometry
        Where the rays pass.
    strength
        Standard deviation that gains are expected to have.
    drift
        Whether gains change linearly from the first projection to the last.
    passes
        How often the edges are looked at again, at most.

    Returns
    -------
    Gains with a mean of 1, weighted by what each translation tells. They are 1 where nothing was
    measured.
    """
    samples, weights = _mixtures(groups)
    times = np.linspace(-1.0, 1.0, len(samples))
    basis = np.stack([np.ones_like(times), times])[: 2 if drift else 1]
    A = NumbaProjector(geometry, "joseph")
    problem = _Problem(A, samples, weights, basis, samples)
    image = np.zeros((*geometry.shape, samples.shape[2]), dtype=np.float32)
    # An image first: a gain that starts beside a dark image would make its translation dark.
    bare = replace(problem, basis=basis[:0])
    image = _descend(bare, _Point(image, bare.no_amounts())).image
    found = before = _Point(image, problem.no_amounts())
    for number in range(passes):
        haste = min(HASTE, number / (number + 3))
        ahead = found.moved(haste, found).moved(-haste, before)
        problem = problem.at(ahead, strength)
        before, found = found, _descend(problem, ahead)
        change = np.sum((found.amounts - before.amounts) ** 2, axis=0)
        if np.sum(problem.share * change) < SETTLED**2:
            break
    gains = 1 + basis.T @ found.amounts
    return np.asarray(gains / np.sum(problem.share * gains.mean(axis=0)))


def _mixtures(groups: Real) -> tuple[Float32, Float32]:
    """Leading mixtures of the groups, (angle, translation, component), and a weight for each ray.

    A group is divided by the root of its mean, so that counting noise is alike in all.
    """
    finite = np.isfinite(groups)
    means = np.where(finite, groups, 0.0).mean(axis=(0, 1), dtype=np.float64)
    used = (finite.mean(axis=(0, 1)) > 0.5) & (means > 0)
    kept = np.asarray(finite[..., used].all(axis=-1))
    if not (used.any() and kept.any()):
        raise SchemaError(
            "no channel is positive and finite at most rays, so translations cannot be compared. "
            "Check the mask, and that the air was not subtracted twice."
        )
    values = np.where(kept[..., None], groups[..., used], 0.0).astype(np.float64)
    total = values.sum(axis=-1)
    weights = kept / np.maximum(total / total.mean(), DIMMEST)
    values /= np.sqrt(means[used])
    weighted = (np.sqrt(weights)[..., None] * values).reshape(-1, values.shape[2])
    mixing = np.linalg.eigh(weighted.T @ weighted)[1][:, ::-1][:, :COMPONENTS]
    mixed = values @ mixing
    mixed /= np.sqrt(np.mean(weights[..., None] * mixed**2))
    return mixed.astype(np.float32), weights[..., None].astype(np.float32)


class _Point(NamedTuple):
    """What is sought: images (y, x, component), and amounts of the basis (base, translation)."""

    image: Float32
    amounts: Float64

    def moved(self, length: float, way: "_Point") -> "_Point":
        return _Point(self.image + np.float32(length) * way.image,
                      self.amounts + length * way.amounts)  # fmt: skip

    def dot(self, other: "_Point") -> float:
        images = np.vdot(self.image.astype(np.float64), other.image.astype(np.float64))
        return float(images + np.vdot(self.amounts, other.amounts))


@dataclass(frozen=True)
class _Problem:
    """The least-squares problem of one pass, about the edges of an image."""

    A: NumbaProjector
    samples: Float32  # (angle, translation, component)
    weights: Float32  # (angle, translation, 1)
    basis: Float64
    """What a gain is made of, (base, angle): what stays, and what drifts."""
    seen: Float32
    """What the gains multiply: projections of the image so far, as `samples`."""
    edges: Float32 | None = None
    """Weight of the gradient at each pixel, (y, x, 1)."""
    stiffness: float = 0.0
    """By which amounts are held at 0."""

    @cached_property
    def signal(self) -> Float64:
        """What each ray tells of its gain, (angle, translation)."""
        return np.asarray(np.sum(self.weights * self.seen**2, axis=2, dtype=np.float64))

    @cached_property
    def share(self) -> Float64:
        """What each translation tells, as a share of all, (translation,)."""
        told = self.signal.sum(axis=0)
        return np.asarray(told / told.sum())

    @cached_property
    def held(self) -> Float64:
        """Curvature of the amounts by what they are held at, (base, translation)."""
        geometry = self.A.geometry
        radius = np.abs(np.arange(geometry.translations) - geometry.rotation_center)
        drifts_less = np.array([[1.0], [DRIFT**-2]])[: len(self.basis)]
        return np.asarray(self.stiffness * drifts_less * np.maximum(1.0, 2 * np.pi * radius))

    def no_amounts(self) -> Float64:
        """Amounts of gains that are all 1."""
        return np.zeros((len(self.basis), self.samples.shape[1]))

    def at(self, point: _Point, strength: float) -> "_Problem":
        """Return the problem about the edges of an image, weighed by how well it fits."""
        seen = self.A(point.image)
        misfit = self.samples - self.factors(point.amounts, 1.0) * seen
        noise = float(np.mean(self.weights * misfit**2, dtype=np.float64))
        slopes = gradient(point.image.astype(np.float64))
        squares = np.sum(slopes**2, axis=(0, 3))[..., None]
        mean = np.sqrt(squares).mean()
        edges = EDGES * noise * self.samples.shape[2] / (squares + (BLUNT * mean) ** 2)
        return replace(
            self, seen=seen, edges=edges.astype(np.float32), stiffness=noise / strength**2
        )

    def factors(self, amounts: Float64, constant: float) -> Float32:
        """Constant and gains of the rays, (angle, translation, 1)."""
        return np.asarray((constant + self.basis.T @ amounts)[..., None], dtype=np.float32)

    def pull(self, point: _Point, constant: float) -> _Point:
        """Where the objective falls, for samples that are taken ``constant`` times."""
        gained = self.factors(point.amounts, 0.0) * self.seen
        misfit = np.float32(constant) * self.samples - self.A(point.image) - gained
        misfit *= self.weights
        image = self.A.T(misfit)
        if self.edges is not None:
            image -= gradient_adjoint(self.edges * gradient(point.image))
        by_ray = np.sum(misfit * self.seen, axis=2, dtype=np.float64)
        amounts = self.basis @ by_ray - self.held * point.amounts
        if len(amounts):
            tied = TIE**2 * self.signal.sum() * self.share
            amounts[0] -= tied * np.sum(self.share * point.amounts[0])
        return _Point(image, amounts)

    def eased(self, pull: _Point) -> _Point:
        """Divide a pull by the curvature, about: a filter for the image."""
        rows, columns = pull.image.shape[:2]
        smooth = np.fft.rfft2(pull.image / self._spread, s=(2 * rows, 2 * columns), axes=(0, 1))
        smooth *= self._filter
        image = np.fft.irfft2(smooth, s=(2 * rows, 2 * columns), axes=(0, 1))[:rows, :columns]
        return _Point((image / self._spread).astype(np.float32), pull.amounts / self._curvature)

    @cached_property
    def _curvature(self) -> Float64:  # (base, translation)
        """Never nothing, also where no ray tells anything."""
        curvature = self.basis**2 @ self.signal + self.held
        return np.asarray(np.maximum(curvature, 1e-6 * curvature.max(initial=1e-30)))

    @cached_property
    def _weight_of_pixels(self) -> Float32:  # (y, x, 1)
        return np.asarray(self.A.T(self.weights))

    @cached_property
    def _middle(self) -> float:
        """Weight of a pixel in the middle, which stands for all."""
        rows, columns = (size // 2 for size in self.A.geometry.shape)
        return float(
            self._weight_of_pixels[
                rows - rows // 4 : rows + rows // 4 + 1,
                columns - columns // 4 : columns + columns // 4 + 1,
            ].mean()
        )

    @cached_property
    def _spread(self) -> Float32:
        return np.asarray(np.sqrt(np.maximum(self._weight_of_pixels / np.float32(self._middle), 1)))

    @cached_property
    def _filter(self) -> Float32:
        """Inverse of the curvature of the image by its frequencies: a ramp, and edges."""
        rows, columns = self.A.geometry.shape
        down = np.fft.fftfreq(2 * rows)[:, None]
        right = np.fft.rfftfreq(2 * columns)[None]
        frequency = np.maximum(np.hypot(down, right), 0.125 / max(rows, columns))
        curvature = self._middle / (np.pi * frequency)
        if self.edges is not None:
            waves = 4 - 2 * np.cos(2 * np.pi * down) - 2 * np.cos(2 * np.pi * right)
            curvature = curvature + float(np.median(self.edges)) * waves
        return np.asarray(1 / curvature, dtype=np.float32)[..., None]


def _descend(problem: _Problem, start: _Point) -> _Point:
    """Follow conjugate gradients for a while."""
    found, left = start, problem.pull(start, 1.0)
    way = eased = problem.eased(left)
    size = left.dot(eased)
    for _ in range(STEPS):
        if not size > 0:
            break
        change = problem.pull(way, 0.0)
        length = -size / way.dot(change)
        found, left = found.moved(length, way), left.moved(length, change)
        eased = problem.eased(left)
        before, size = size, left.dot(eased)
        way = eased.moved(size / before, way)
    return found
