"""The compiled projector for CPUs: one set of interpolation weights for a vector of channels.

Back-projection and its filter stand in files of their own (`passes`, `tiles`, `packing`). To
project, the work is cut into square tiles of pixels by lanes of channels. A tile is first gathered
into a small scratch, so that the inner loop has neither edges nor long strides. There, weights meet
all lanes at once, and a sample is loaded and stored once for two lines of pixels. A channel is
summed in the same order whatever its neighbors, the lanes and the threads.
"""

import math
from collections.abc import Callable
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import check_choice
from ndtomo_dask.geometry import ParallelGeometry, Selection
from ndtomo_dask.kernels.filters import WINDOWS
from ndtomo_dask.kernels.projectors import check_block
from ndtomo_dask.kernels.projectors.footprints import check_gaps, footprint, reach
from ndtomo_dask.kernels.projectors.passes import PLAIN, BackProjection, Levels
from ndtomo_dask.kernels.projectors.tiles import compiled
from ndtomo_dask.kernels.threads import run_threaded

TILE = 32
"""Pixels along the edge of a tile: its lanes stay in the second cache, its weights in the first."""
PITCH = TILE + 1
"""Pixels from row to row of a gathered tile; a power of two would crowd a column in the cache."""
WIDE, NARROW = 64, 16
"""Channels a pass; both multiples of a cache line, so that no channel is left to a scalar loop."""
STRIP = 32
"""Angles that share one gathered tile when projecting, at most."""
SPAN = math.ceil(TILE * math.sqrt(2)) + 4
"""Sinogram samples that a tile can touch at any angle, with one to spare on either side."""

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]
Index = NDArray[np.uint64]


class NumbaProjector:
    """Linear interpolation on the CPU, adjoint to rounding; float32 or float64.

    Between samples (``"pixel"``) or between pixels (``"joseph"``): either way a pixel meets the two
    nearest samples and no other, by a triangular footprint. So pixels may not be larger than a
    translation step.
    """

    models = ("pixel", "joseph")

    def __init__(self, geometry: ParallelGeometry, model: str = "pixel") -> None:
        check_gaps("pixel", geometry)
        self.geometry = geometry
        self.model = model
        self._reach = reach(model, geometry)
        self._peak = footprint(
            model, np.zeros(geometry.angles.size), geometry.cos, geometry.sin,
            pixel_size=geometry.pixel_size,
        )  # fmt: skip
        self._rays = (np.cos(geometry.angles), np.sin(geometry.angles), geometry.origins)

    def __call__(self, volume: Block) -> Block:  # (y, x, ...) -> (angle, translation, ...)
        """Project a volume."""
        geometry = self.geometry
        check_block(volume, geometry.shape, "volume")
        pixels = _channels_last(volume)
        shape = (geometry.angles.size, geometry.translations)
        sinogram = np.zeros((*shape, pixels.shape[2]), dtype=volume.dtype)
        grid = (geometry.y, geometry.x, float(geometry.pixel_size))

        def project(piece: tuple[int, tuple[int, int]]) -> None:
            angle, (channel, lanes) = piece
            _project_strip(
                pixels, *grid, *self._rays, self._peak, self._reach, sinogram, angle, strip,
                channel, lanes,
            )  # fmt: skip

        strip = math.ceil(shape[0] / (2 * math.ceil(shape[0] / (2 * STRIP))))  # an even number
        run_threaded(project, product(range(0, shape[0], strip), _lanes(pixels.shape[2])))
        return sinogram.reshape(*shape, *volume.shape[2:])

    @property
    def T(self) -> Callable[[Block], Block]:
        """The adjoint: back-projects a sinogram, unfiltered."""
        return self._back_project

    def select(self, projections: Selection) -> "NumbaProjector":
        """Keep some of the projections; nothing is computed anew but their cosines."""
        return NumbaProjector(self.geometry.select(projections), self.model)

    def fbp(
        self, sinogram: Block, filter_name: str = "ram-lak", *, levels: Levels | None = None
    ) -> Block:  # (angle, translation, ...) -> (y, x, ...)
        """Reconstruct by filtered back-projection, filter and back-projection in one.

        Parameters
        ----------
        sinogram
            Line integrals, with lengths in translation steps.
        filter_name
            A name in `ndtomo_dask.kernels.filters.WINDOWS`.
        levels
            1 back-projects each projection for itself; 2 adds neighboring ones before, which is
            faster and not quite the same; default: 2 where the angles are so dense that it pays and
            stays within the error of 1. The data and their channels play no part in it.

        Returns
        -------
        Density per translation step.

        Raises
        ------
        OptionError
            If ``filter_name`` is not known.
        """
        check_choice("filter_name", filter_name, WINDOWS)
        geometry = self.geometry
        check_block(sinogram, (geometry.angles.size, geometry.translations), "sinogram")
        plan = self._fast if levels is None else BackProjection(geometry, levels)
        volume = plan.filtered(_channels_last(sinogram), filter_name)
        return volume.reshape(*geometry.shape, *sinogram.shape[2:])

    @cached_property
    def _fast(self) -> BackProjection:
        return BackProjection(self.geometry, None)

    @cached_property
    def _exact(self) -> BackProjection:
        return BackProjection(self.geometry, 1)

    def _back_project(self, sinogram: Block) -> Block:  # (angle, translation, ...) -> (y, x, ...)
        geometry = self.geometry
        check_block(sinogram, (geometry.angles.size, geometry.translations), "sinogram")
        narrow = PLAIN if self.model == "pixel" else 1 / self._reach
        volume = self._exact.copied(_channels_last(sinogram), self._peak, narrow)
        return volume.reshape(*geometry.shape, *sinogram.shape[2:])


def _channels_last(block: Block) -> Block:
    return np.ascontiguousarray(block).reshape(*block.shape[:2], math.prod(block.shape[2:]))


def _lanes(channels: int) -> list[tuple[int, int]]:
    """First channel and width of each pass; a short rest takes narrow lanes."""
    wide = channels // WIDE * WIDE
    rest = channels - wide
    passes = [(channel, WIDE) for channel in range(0, wide, WIDE)]
    if rest > 2 * NARROW:
        return [*passes, (wide, WIDE)]
    return [*passes, *((channel, NARROW) for channel in range(wide, channels, NARROW))]


@compiled
def _aligned(size: int, like: Block) -> Block:
    """Zeros that begin on a cache line; loads that straddle two lines cost a third of the speed."""
    scratch = np.zeros(size + 64, dtype=like.dtype)
    skip = (-scratch.ctypes.data % 64) // scratch.itemsize
    return scratch[skip : skip + size]


@compiled
def _first_sample(u: float, cos: float, sin: float) -> int:
    """Lowest translation index that a tile touches, less one for rounding; u is at its corner."""
    return math.floor(u + min(0.0, (TILE - 1) * cos) + min(0.0, (1 - TILE) * sin)) - 1


@compiled
def _locate_rays(
    first: Index, weights: Block, slot: int, u: float, step: float, reach: float, count: int,
    seen: int, stride: int,
) -> None:  # fmt: skip
    """Write which ``seen`` pixels of a line each of ``count`` samples sees, and their weights.

    The first pixel projects onto u, the next onto u + step; with 0.7 <= abs(step) <= 1, no more
    than three lie within one sample, and no more than two within ``abs(step)``. ``stride`` is the
    distance of two pixels in the scratch.
    """
    where = first[slot * SPAN : slot * SPAN + count]
    weight = weights[3 * slot * SPAN : 3 * (slot + 1) * SPAN]
    before, middle, after = weight[:SPAN], weight[SPAN : 2 * SPAN], weight[2 * SPAN :]
    inverse, slope = 1 / step, 1 / reach
    ahead = reach * abs(inverse)
    for sample in range(count):
        pixel = math.floor((sample - u) * inverse - ahead) + 1
        pixel = min(max(pixel, 0), TILE - seen)
        offset = u + pixel * step - sample
        where[sample] = pixel * stride
        before[sample] = max(0.0, 1.0 - slope * abs(offset))
        middle[sample] = max(0.0, 1.0 - slope * abs(offset + step))
        after[sample] = max(0.0, 1.0 - slope * abs(offset + 2 * step))


@compiled
def _collect(
    taps: Block,
    line: Block,
    following: Block,
    first: Index,
    weights: Block,
    count: int,
    stride: int,
    lanes: int,
) -> None:
    """Add two lines of pixels to the samples they fall on; a sum is loaded and stored once."""
    wide, one, two = np.uint64(lanes), np.uint64(stride), np.uint64(2 * stride)
    for sample in range(count):
        i, j = first[sample], first[sample + SPAN]
        a0, a1, a2 = weights[sample], weights[sample + SPAN], weights[sample + 2 * SPAN]
        b0, b1, b2 = (
            weights[sample + 3 * SPAN],
            weights[sample + 4 * SPAN],
            weights[sample + 5 * SPAN],
        )
        tap = np.uint64(sample) * wide
        for lane in range(lanes):
            k = np.uint64(lane)
            total = taps[tap + k]
            total = total + a0 * line[i + k]
            total = total + a1 * line[i + one + k]
            total = total + a2 * line[i + two + k]
            total = total + b0 * following[j + k]
            total = total + b1 * following[j + one + k]
            total = total + b2 * following[j + two + k]
            taps[tap + k] = total


@compiled
def _collect_pairs(
    taps: Block, line: Block, following: Block, first: Index, weights: Block, count: int,
    stride: int, lanes: int,
) -> None:  # fmt: skip
    """Do the same where a sample sees two pixels of a line."""
    wide, one = np.uint64(lanes), np.uint64(stride)
    for sample in range(count):
        i, j = first[sample], first[sample + SPAN]
        a0, a1 = weights[sample], weights[sample + SPAN]
        b0, b1 = weights[sample + 3 * SPAN], weights[sample + 4 * SPAN]
        tap = np.uint64(sample) * wide
        for lane in range(lanes):
            k = np.uint64(lane)
            total = taps[tap + k]
            total = total + a0 * line[i + k]
            total = total + a1 * line[i + one + k]
            total = total + b0 * following[j + k]
            total = total + b1 * following[j + one + k]
            taps[tap + k] = total


@compiled
def _project_tile(
    taps: Block, pixels: Block, first: Index, weights: Block, u: float, cos: float, sin: float,
    reach: float, lanes: int,
) -> None:  # fmt: skip
    """Add a whole tile to the samples of one angle, by lines along its flatter axis."""
    along, across = (cos, -sin) if abs(cos) >= abs(sin) else (-sin, cos)
    stride, pitch = (lanes, PITCH * lanes) if abs(cos) >= abs(sin) else (PITCH * lanes, lanes)
    seen = 2 if reach <= abs(along) * (1 + 1e-9) else 3
    for n in range(0, TILE, 2):
        near = u + n * across
        low = math.floor(min(near, near + across) + min(0.0, (TILE - 1) * along))
        high = math.floor(max(near, near + across) + max(0.0, (TILE - 1) * along))
        count = high - low + 2
        _locate_rays(first, weights, 0, near - low, along, reach, count, seen, stride)
        _locate_rays(first, weights, 1, near + across - low, along, reach, count, seen, stride)
        sums, line, following = taps[low * lanes :], pixels[n * pitch :], pixels[(n + 1) * pitch :]
        if seen == 2 and lanes == WIDE:  # a constant trip count is unrolled whole
            _collect_pairs(sums, line, following, first, weights, count, stride, WIDE)
        elif seen == 2:
            _collect_pairs(sums, line, following, first, weights, count, stride, NARROW)
        elif lanes == WIDE:
            _collect(sums, line, following, first, weights, count, stride, WIDE)
        else:
            _collect(sums, line, following, first, weights, count, stride, NARROW)


@compiled
def _scatter_tile(
    taps: Block, pixels: Block, u: float, across: float, down: float, reach: float, lanes: int
) -> None:
    """Add a whole tile of small pixels, any number of which may fall on one sample."""
    slope = 1 / reach
    for row in range(TILE):
        for column in range(TILE):
            position = u + column * across - row * down
            sample = math.floor(position)
            fraction = taps.dtype.type(max(0.0, 1 - (sample + 1 - position) * slope))
            rest = taps.dtype.type(max(0.0, 1 - (position - sample) * slope))
            near, far = taps[sample * lanes :], taps[(sample + 1) * lanes :]
            pixel = pixels[(row * PITCH + column) * lanes :]
            for lane in range(lanes):
                near[lane] += rest * pixel[lane]
                far[lane] += fraction * pixel[lane]


@compiled
def _project_strip(
    volume: Block, y: Float64, x: Float64, size: float, cos: Float64, sin: Float64,
    origins: Float64, peak: Float64, reach: Float64, sinogram: Block, angle: int, strip: int,
    channel: int, lanes: int,
) -> None:  # fmt: skip
    """Fill some whole projections of the sinogram, for the channels of one pass.

    The footprint of a pixel is a triangle, as high and as wide to either side as ``peak`` and
    ``reach`` say for each angle.
    """
    height, width, channels = volume.shape
    count = min(lanes, channels - channel)
    taps = _aligned(SPAN * lanes, volume)
    pixels = _aligned(TILE * PITCH * lanes, volume)
    first = np.zeros(2 * SPAN, dtype=np.uint64)
    weights = _aligned(6 * SPAN, volume)
    for row, column in _tiles(height, width):
        if row + TILE > height or column + TILE > width:
            pixels[:] = 0.0
        for r in range(min(TILE, height - row)):
            for c in range(min(TILE, width - column)):
                offset = (r * PITCH + c) * lanes
                pixel = pixels[offset : offset + count]
                for lane in range(count):
                    pixel[lane] = volume[row + r, column + c, channel + lane]
        for a in range(angle, min(angle + strip, cos.size)):
            taps[:] = 0.0
            u = origins[a] + x[column] * cos[a] - y[row] * sin[a]
            start = _first_sample(u, size * cos[a], size * sin[a])
            if size == 1.0:
                _project_tile(
                    taps, pixels, first, weights, u - start, cos[a], sin[a], reach[a], lanes
                )
            else:
                across, down = size * cos[a], size * sin[a]
                _scatter_tile(taps, pixels, u - start, across, down, reach[a], lanes)
            high = volume.dtype.type(peak[a])
            for sample in range(max(0, -start), min(SPAN, sinogram.shape[1] - start)):
                tap = taps[sample * lanes : sample * lanes + count]
                for lane in range(count):
                    sinogram[a, start + sample, channel + lane] += high * tap[lane]


@compiled
def _tiles(height: int, width: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(0, height, TILE) for column in range(0, width, TILE)]
