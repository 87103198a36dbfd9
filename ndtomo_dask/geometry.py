"""Parallel-beam geometry: where each ray of a scan passes through the reconstruction grid.

The convention, shared with scikit-image and ASTRA: lengths are in translation steps and counted
from the rotation axis, rows count downwards. A pixel (row, column) lies at
``x = x₀ + p (column - (columns - 1)/2)`` and ``y = y₀ + p (row - (rows - 1)/2)``, where p is
``pixel_size`` and (y₀, x₀) ``grid_center``, and projects at angle θ onto translation index
``rotation_center + x cos θ - y sin θ + shift(θ)``.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import SchemaError

Float64 = NDArray[np.float64]
Selection = NDArray[np.bool_] | NDArray[np.integer] | slice
"""Some projections: a mask over all of them, their indices in any order, or a slice."""


@dataclass(frozen=True, eq=False)
class ParallelGeometry:
    """A list of projection angles over one row of translations, and the grid they illuminate."""

    angles: Float64
    """Projection angles, in radians, in the order of the sinogram's rows."""
    translations: int
    """Number of sample positions across the beam."""
    rotation_center: float
    """Translation index (0-based, fractional) onto which the rotation axis projects."""
    shape: tuple[int, int]
    """Rows and columns of the reconstruction grid."""
    shifts: Float64 = field(default_factory=lambda: np.zeros(0))
    """Shift of each projection, in translation steps; empty means none."""
    pixel_size: float = 1.0
    """Edge of a pixel, in translation steps."""
    grid_center: tuple[float, float] = (0.0, 0.0)
    """Middle of the grid (y, x) as seen from the rotation axis, in translation steps."""

    def __post_init__(self) -> None:
        angles = np.ascontiguousarray(self.angles, dtype=np.float64)
        shifts = np.ascontiguousarray(self.shifts, dtype=np.float64)
        if not shifts.size:
            shifts = np.zeros_like(angles)
        object.__setattr__(self, "angles", angles)
        object.__setattr__(self, "shifts", shifts)
        self._make_plain()
        self._check()

    def _make_plain(self) -> None:
        """Turn NumPy's scalars into Python's, so that equal geometries have one digest."""
        rows, columns = self.shape
        down, right = self.grid_center
        object.__setattr__(self, "translations", int(self.translations))
        object.__setattr__(self, "rotation_center", float(self.rotation_center))
        object.__setattr__(self, "shape", (int(rows), int(columns)))
        object.__setattr__(self, "pixel_size", float(self.pixel_size))
        object.__setattr__(self, "grid_center", (float(down), float(right)))

    def _check(self) -> None:
        if self.angles.ndim != 1 or not self.angles.size:
            raise SchemaError(
                "a geometry needs at least one projection angle, but 'angle' is empty."
            )
        if not np.isfinite(self.angles).all():
            raise SchemaError("projection angles must be finite numbers.")
        if self.shifts.shape != self.angles.shape:
            raise SchemaError(
                f"{self.angles.size} angles need as many projection shifts, not {self.shifts.size}."
            )
        if not (np.abs(self.shifts) <= self.translations).all():
            raise SchemaError(
                f"projection shifts must be finite and within the {self.translations} translations."
            )
        if min(self.shape) < 1:
            raise SchemaError(f"a grid of {self.shape} has no pixels: pass a size of 1 or more.")
        if not (np.isfinite(self.pixel_size) and self.pixel_size > 0):
            raise SchemaError(f"pixel_size {self.pixel_size:g} must be a number greater than 0.")
        if not np.isfinite(self.grid_center).all():
            raise SchemaError(f"grid_center {self.grid_center} must be two finite numbers (y, x).")
        if not -0.5 <= self.rotation_center <= self.translations - 0.5:
            raise SchemaError(
                f"rotation_center {self.rotation_center:g} lies outside the {self.translations} "
                f"translations (indices 0 to {self.translations - 1})."
            )

    @classmethod
    def centered(
        cls,
        angles: Float64,
        translations: int,
        *,
        rotation_center: float | None = None,
        size: int | tuple[int, int] | None = None,
        shifts: Float64 | None = None,
        pixel_size: float = 1.0,
        grid_center: tuple[float, float] = (0.0, 0.0),
    ) -> "ParallelGeometry":
        """Build a grid of ``size`` pixels, or (rows, columns), around ``grid_center``.

        Without a size it is square, and as wide as the translations.
        """
        if size is None:
            size = max(1, round(translations / pixel_size)) if pixel_size > 0 else translations
        shape = (size, size) if isinstance(size, int) else size
        center = (translations - 1) / 2 if rotation_center is None else float(rotation_center)
        shifts = np.zeros(0) if shifts is None else shifts
        return cls(angles, translations, center, shape, shifts, pixel_size, grid_center)

    def select(self, projections: Selection) -> "ParallelGeometry":
        """Keep some of the projections, by a mask, by their indices or by a slice."""
        angles, shifts = self.angles[projections], self.shifts[projections]
        return replace(self, angles=angles, shifts=shifts)

    def turn(self, angle: float) -> "ParallelGeometry":
        """Add ``angle`` to every projection angle: the image turns counterclockwise by it.

        >>> float(ParallelGeometry.centered(np.array([0.5]), 9).turn(0.25).angles[0])
        0.75
        """
        return replace(self, angles=self.angles + angle)

    @cached_property
    def origins(self) -> Float64:
        """Translation index onto which the rotation axis projects, at each angle."""
        return self.rotation_center + self.shifts

    @cached_property
    def cos(self) -> Float64:
        """Cosine of each angle: how far a step to the right moves a pixel's projection."""
        return np.cos(self.angles)

    @cached_property
    def sin(self) -> Float64:
        """Sine of each angle: how far a step downwards moves a pixel's projection back."""
        return np.sin(self.angles)

    @cached_property
    def y(self) -> Float64:
        """Distance of each row of pixels below the rotation axis, in translation steps."""
        return self._centers(0)

    @cached_property
    def x(self) -> Float64:
        """Distance of each column of pixels to the right of the rotation axis."""
        return self._centers(1)

    def _centers(self, dimension: int) -> Float64:
        size = self.shape[dimension]
        offsets = self.pixel_size * (np.arange(size) - (size - 1) / 2)
        return np.asarray(self.grid_center[dimension] + offsets)

    @cached_property
    def weights(self) -> Float64:
        """Share of the half turn that each projection stands for, in radians; they sum to π.

        Angles are folded to one half turn, because opposite projections see the same lines, and
        each stands for half the gap to either neighbour (periodic trapezoidal rule); projections
        at one and the same folded angle share its gap. A gap wider than three median gaps is a
        missing wedge: its neighbours are not blown up to fill it.
        """
        return _half_turn_weights(self.angles)

    @cached_property
    def digest(self) -> str:
        """Content hash, by which a worker recognises a geometry it has seen."""
        grid = (*self.shape, self.pixel_size, *self.grid_center)
        numbers = (self.translations, self.rotation_center, *grid)
        content = repr(numbers).encode() + self.angles.tobytes() + self.shifts.tobytes()
        return blake2b(content, digest_size=16).hexdigest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParallelGeometry) and self.digest == other.digest

    def __dask_tokenize__(self) -> str:
        return self.digest


def _half_turn_weights(angles: Float64) -> Float64:
    folded = np.round(np.mod(angles, np.pi), 9)
    folded[folded >= np.round(np.pi, 9)] = 0.0
    distinct, inverse, counts = np.unique(folded, return_inverse=True, return_counts=True)
    if distinct.size == 1:
        return np.full(angles.size, np.pi / angles.size)
    gaps = np.diff(distinct, append=distinct[0] + np.pi)
    widest = 3 * float(np.median(gaps))
    gaps = np.minimum(gaps, widest)
    share = (gaps + np.roll(gaps, 1)) / 2
    return np.asarray((share / counts)[inverse])
