"""The compiled projector for CPUs: one set of interpolation weights for a vector of channels.

Back-projection and its filter stand in files of their own (`passes`, `tiles`, `packing`), and so
does projection (`lines`). Here both are cut into pieces for threads. A channel is summed in the
same order whatever its neighbors, the lanes and the threads.
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
from ndtomo_dask.kernels.projectors.lines import project_strip
from ndtomo_dask.kernels.projectors.passes import PLAIN, BackProjection, Levels
from ndtomo_dask.kernels.threads import run_threaded

WIDE, NARROW = 64, 16
"""Channels a pass; both multiples of a cache line, so that no channel is left to a scalar loop."""
STRIP = 32
"""Angles that share one gathered tile when projecting, at most."""

Block = NDArray[np.floating]


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
            project_strip(
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
