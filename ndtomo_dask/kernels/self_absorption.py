"""What a sample absorbs of the beam on its way in, and of its own fluorescence on its way out.

A ray excites every pixel that it passes by what the pixels before it have left of the beam, and
what a pixel emits is weakened by all that lies between it and the detector. So a ray does not sum
pixels, but pixels times weights, which depend on the angle and, for a detector beside the beam, on
the pixel (Hogan, Gonsalves & Krieger, IEEE Trans. Nucl. Sci. 38, 1721 (1991)).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.geometry import ParallelGeometry, Selection
from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.projectors import MODEL, check_block, load_projector
from ndtomo_dask.kernels.projectors.numba import NumbaProjector
from ndtomo_dask.kernels.solvers import osem
from ndtomo_dask.kernels.threads import on_one_thread, run_threaded

Block = NDArray[np.floating]
Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Beam = Literal["down", "up"]

DIRECTIONS = 5
"""Directions that stand for a detector that is wide: nodes of Gauss and Legendre."""
SUBSETS, FEWEST = 24, 4
"""Subsets of the projections, of so many at least: three passes over 24 find what there is to find.
"""
STRANDS, SMALL = 2, 2**16
"""Sums over angles that run side by side; pixels times channels that are worth a thread."""
FAINT = 0.01
"""What pixels without attenuation begin at, relative to those of the most."""


@dataclass(frozen=True)
class Setup:
    """Where the beam comes from, and where the detector is."""

    detector: float = 90.0
    """Angle in degrees from the beam onwards towards the last translations; negative: the first."""
    opening: float = 0.0
    """Degrees that the detector spans in the plane of the slice."""
    beam: Beam = "down"
    """Along the columns of the image at angle 0: ``"down"``, to the last row, or ``"up"``."""

    def __post_init__(self) -> None:
        check_choice("beam", self.beam, ("down", "up"))
        if not (abs(self.detector) <= 180 and 0 <= self.opening < 180):
            raise OptionError(
                f"detector={self.detector} and opening={self.opening} are not a direction: pass "
                f"degrees, detector from -180 to 180 and opening from 0 to less than 180."
            )

    @cached_property
    def exits(self) -> tuple[Float64, Float64]:
        """Directions to the detector, in radians from the beam, and the share of each."""
        nodes, shares = np.polynomial.legendre.leggauss(DIRECTIONS if self.opening else 1)
        return np.deg2rad(self.detector + nodes * self.opening / 2), shares / 2

    def directions(self, angle: float) -> tuple[Float64, Float64]:
        """Return steps (x, y) from a pixel to the source, (2,), and to the detector, (exit, 2)."""
        sign = 1.0 if self.beam == "down" else -1.0
        onwards = sign * np.array([math.sin(angle), math.cos(angle)])
        across = np.array([math.cos(angle), -math.sin(angle)])
        turn = self.exits[0][:, None]
        return -onwards, np.cos(turn) * onwards + np.sin(turn) * across


@compiled("contract", allocates=True)
def _sweep(image: Float64, slope: float, down: bool, paths: Float64) -> None:
    """Sum an image from each pixel on along lines that move ``slope`` columns a row; one row each.

    Lines are as far apart as pixels, and go through the middles of rows: between two pixels of a
    row they see both, and a pixel takes its sum from the two lines beside it. A pixel itself counts
    by half.
    """
    rows, columns = image.shape
    begin = math.floor(-abs(slope) * rows / 2) - 1
    behind = np.zeros(columns - 2 * begin + 1)
    here = np.zeros(behind.size)
    for n in range(rows):
        row = rows - 1 - n if down else n
        offset = slope * (row - (rows - 1) / 2)
        for line in range(behind.size):
            place = begin + line + offset
            column = math.floor(place)
            part, value = place - column, 0.0
            if 0 <= column < columns:
                value += (1 - part) * image[row, column]
            if 0 <= column + 1 < columns:
                value += part * image[row, column + 1]
            here[line] = behind[line] + value / 2
            behind[line] += value
        for column in range(columns):
            place = column - offset - begin
            line = math.floor(place)
            part = place - line
            paths[row, column] = (1 - part) * here[line] + part * here[line + 1]


def paths_out(image: Float64, direction: Float64) -> Float64:  # (y, x), (x, y) -> (y, x)
    """Integrate an image from each pixel on in a direction, in units of a pixel's edge.

    >>> paths_out(np.ones((3, 3)), np.array([0.0, 1.0]))[:, 0]
    array([2.5, 1.5, 0.5])
    """
    right, down = float(direction[0]), float(direction[1])
    length = math.hypot(right, down)
    paths = np.empty(image.shape)
    if abs(down) >= abs(right):
        _sweep(np.ascontiguousarray(image), right / down, down > 0, paths)
        return paths * (length / abs(down))
    turned = np.empty(image.shape[::-1])
    _sweep(np.ascontiguousarray(image.T), down / right, right > 0, turned)
    return np.ascontiguousarray(turned.T) * (length / abs(right))


@dataclass(frozen=True, eq=False)
class Absorber:
    """A slice that absorbs, for a beam and a detector around it."""

    incident: Float64
    """Attenuation of the beam by a pixel, (y, x), times its edge."""
    emitted: Float64
    """The same of what is emitted, where its ratio is 1."""
    setup: Setup

    def weights(self, angle: float, ratios: Float64) -> Iterator[Float64]:  # (y, x) each
        """Yield the share of the beam that reaches each pixel, times that of its light that leaves.

        One for each ratio by which ``emitted`` is multiplied.
        """
        inwards, outwards = self.setup.directions(angle)
        before = paths_out(self.incident, inwards)
        behind = [paths_out(self.emitted, direction) for direction in outwards]
        for ratio in ratios:
            seen = np.zeros(before.shape)
            for share, path in zip(self.setup.exits[1], behind, strict=True):
                seen += share * np.exp(-before - ratio * path)
            yield seen


class EmissionProjector:
    """What the detector sees of each ray: pixels times weights, of every angle and channel."""

    def __init__(self, geometry: ParallelGeometry, absorber: Absorber, ratios: Float64) -> None:
        self.geometry, self.absorber, self.ratios = geometry, absorber, ratios
        self._distinct, self._group = np.unique(ratios, return_inverse=True)
        numbers = np.arange(geometry.angles.size)[:, None]
        self._rays = [NumbaProjector(geometry.select(one), MODEL) for one in numbers]

    def __call__(self, volume: Block) -> Block:  # (y, x, channel) -> (angle, translation, channel)
        """Project a volume, each channel by its own ratio."""
        check_block(volume, self.geometry.shape, "volume")
        shape = (self.geometry.angles.size, self.geometry.translations, volume.shape[2])
        sinogram = np.empty(shape, dtype=volume.dtype)

        def project(number: int) -> None:
            sinogram[number] = self._rays[number](self._weigh(volume, number))[0]

        _each(project, range(shape[0]), volume.size)
        return sinogram

    @property
    def T(self) -> Callable[[Block], Block]:
        """The adjoint: back-projects each projection, and weighs the pixels."""
        return self._back_project

    def select(self, projections: Selection) -> "EmissionProjector":
        """Keep some of the projections."""
        return EmissionProjector(self.geometry.select(projections), self.absorber, self.ratios)

    def _back_project(self, sinogram: Block) -> Block:
        sums = np.zeros((STRANDS, *self.geometry.shape, sinogram.shape[2]), dtype=sinogram.dtype)

        def add(strand: int) -> None:
            for number in range(strand, len(self._rays), STRANDS):
                spread = self._rays[number].T(sinogram[number : number + 1])
                sums[strand] += self._weigh(spread, number)

        _each(add, range(STRANDS), sums[0].size)
        return np.asarray(sums[0] + sums[1])

    def _weigh(self, volume: Block, number: int) -> Block:
        """Multiply a volume by the weights of one angle."""
        angle = float(self.geometry.angles[number])
        weighted = np.empty_like(volume)
        for group, weight in enumerate(self.absorber.weights(angle, self._distinct)):
            some = slice(None) if self._distinct.size == 1 else self._group == group
            weighted[..., some] = volume[..., some] * weight[..., None].astype(volume.dtype)
        return weighted


def _each(work: Callable[[int], None], pieces: range, pixels: int) -> None:
    """Work piece by piece, on several threads where an image of all channels is large enough."""

    def alone(piece: int) -> None:
        with on_one_thread():
            work(piece)

    if pixels < SMALL:
        for piece in pieces:
            alone(piece)
    else:
        run_threaded(alone, pieces)


def emission_share(
    sinogram: Block, kept: Bool, A: EmissionProjector, *, iterations: int
) -> Block:  # (angle, translation, channel) twice -> the same
    """Share of what a ray excites that the detector sees of it; 1 where it excites nothing.

    Where in a ray its light comes from is found by maximum likelihood with the weights of ``A`` in
    ordered subsets, from the attenuation as a start; few iterations tell the shares well, because
    they are means along rays. Only samples that are ``kept`` have a say.
    """
    matter = A.absorber.incident + A.absorber.emitted
    highest = float(matter.max())
    start = matter / highest + FAINT if highest > 0 else np.ones(matter.shape)
    shape = (*matter.shape, sinogram.shape[2])
    volume = osem(
        A, np.where(kept, np.maximum(sinogram, 0), sinogram.dtype.type(0)), mask=~kept,
        iterations=iterations, subsets=max(1, min(SUBSETS, A.geometry.angles.size // FEWEST)),
        x0=np.broadcast_to(start[..., None], shape),
    )  # fmt: skip
    excited = load_projector("cpu", A.geometry, MODEL)(volume)
    seen = A(volume)
    return np.divide(seen, excited, out=np.ones_like(seen), where=excited > 0)
