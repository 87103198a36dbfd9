"""Back-projection of all channels by passes of few: filter or copy their rays, then fill tiles.

Besides the sinogram and the volume, only the rays of one pass are held, whatever the channels.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.filters import filter_response
from ndtomo_dask.kernels.projectors import tiles
from ndtomo_dask.kernels.projectors.groups import rays_as_given, rays_in_groups
from ndtomo_dask.kernels.projectors.packing import (
    aligned_volume,
    aligned_zeros,
    copy_projections,
    filter_projections,
    folded_panels,
)
from ndtomo_dask.kernels.threads import on_one_thread, run_threaded

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]
Levels = Literal[1, 2]

WIDE = 64
"""Channels a pass, while there are as many; a rest takes 64, 32 or 16."""
PACKED = 1.25
"""Sinograms that packed rays may take; passes get narrower, down to 16 channels, to keep to it."""
TOGETHER = 8
"""Projections that a thread filters at a time."""
DENSE = 1024
"""Translations up to which matrices filter faster than Fourier transforms do."""
BEYOND = 4
"""Samples beside the detector to which filtered projections go on, in two levels."""
HALFWAY = 12
"""Samples from which one halfway between two is interpolated."""
SMOOTHING = 1.3
"""Two levels pass the frequency f as sinc(f)**1.3, for the noise and the error of one level.

Linear interpolation passes sinc(f)² on average, and also noise from beyond the largest frequency;
two levels do not."""
SMALL = 2**24
"""Samples that a pass adds to pixels in less than a millisecond; on a busy machine a thread begins
milliseconds after it is started, and is waited for."""
PLAIN = np.zeros(0)
"""Linear interpolation between two samples, at every angle."""


class Pass(NamedTuple):
    """Some channels, and how their rays are packed."""

    channel: int
    lanes: int
    width: int
    share: int


def passes(channels: int, widest: int = WIDE) -> list[tuple[int, int]]:
    """First channel and lanes of each pass, of 64, 32 or 16 lanes.

    >>> passes(100), passes(100, 32), passes(7)
    ([(0, 64), (64, 64)], [(0, 32), (32, 32), (64, 32), (96, 16)], [(0, 16)])
    """
    whole = channels // widest * widest
    found = [(channel, widest) for channel in range(0, whole, widest)]
    rest = channels - whole
    narrow = next((lanes for lanes in (16, 32) if rest <= lanes), WIDE)
    return [*found, (whole, narrow)] if rest else found


class BackProjection:
    """The projections of a geometry, ready to be back-projected in one level or in two."""

    def __init__(self, geometry: ParallelGeometry, levels: Levels | None) -> None:
        rays = rays_as_given(geometry) if levels == 1 else rays_in_groups(geometry, tiles.SMALL)
        if levels is None and not rays.worth_grouping:
            rays, levels = rays_as_given(geometry), 1
        self.geometry, self.rays, self.levels = geometry, rays, levels or 2
        fine, beyond = (1, 0) if self.levels == 1 else (tiles.FINE, BEYOND)
        self.fine, self.samples = fine, fine * (geometry.translations - 1) + 1 + 2 * beyond
        self._lines = fine * np.stack([np.cos(rays.angles), np.sin(rays.angles), rays.origins])
        self._lines[2] += beyond
        self._means = fine * np.stack([np.cos(rays.means), np.sin(rays.means)])

    def copied(self, sinogram: Block, factors: Float64, narrow: Float64 = PLAIN) -> Block:
        """Back-project the samples as they are, in one level; contiguous blocks of 3 axes.

        Each projection is multiplied by its factor, and interpolated by a triangle that is so many
        times as steep as the usual one.
        """
        rays, factors = self.rays, factors[self.rays.order]

        def pack(packed: Block, first: int, some: slice, turn: Pass) -> None:
            chosen = (rays.order[some], rays.mirrored[some], factors[some])
            copy_projections(
                packed, sinogram, first, *chosen, turn.width, turn.share, turn.channel, turn.lanes
            )

        return self._run(sinogram, pack, narrow[rays.order] if narrow.size else PLAIN)

    def filtered(self, sinogram: Block, filter_name: str) -> Block:
        """Reconstruct; contiguous blocks of 3 axes."""
        rays, weights = self.rays, self.geometry.weights[self.rays.order]
        translations = self.geometry.translations
        dense = None
        if translations <= DENSE:
            dense = _matrices(filter_name, translations, self.fine, sinogram.dtype)

        def pack(packed: Block, first: int, some: slice, turn: Pass) -> None:
            place = (turn.width, turn.share, turn.channel, turn.lanes)
            chosen = (rays.order[some], rays.mirrored[some], weights[some])
            if dense is not None:
                even, odd, halves, lines = dense
                filter_projections(
                    packed, sinogram, first, *chosen, even, odd, halves, lines, self.samples, *place
                )
                return
            channels = slice(turn.channel, turn.channel + turn.lanes)
            found = _transform(
                sinogram[rays.order[some], :, channels], filter_name, self.samples, self.fine
            )
            numbers = np.arange(found.shape[0])
            copy_projections(packed, found, first, numbers, *chosen[1:], *place[:2], 0, turn.lanes)

        return self._run(sinogram, pack)

    def _run(
        self,
        sinogram: Block,
        pack: Callable[[Block, int, slice, Pass], None],
        narrow: Float64 = PLAIN,
    ) -> Block:
        channels, count = sinogram.shape[2], self.rays.order.size
        volume = aligned_volume((*self.geometry.shape, channels), sinogram.dtype)
        room = count * (self.samples + tiles.GAP) + tiles.GAP
        packed = aligned_zeros(0, sinogram.dtype)
        for channel, lanes in passes(channels, self._widest(channels)):
            if packed.size != room * lanes:
                packed = aligned_zeros(room * lanes, sinogram.dtype)
            width = lanes if self.levels == 1 else tiles.LANES
            turn = Pass(channel, lanes, width, room * width)

            def fill(first: int, packed: Block = packed, turn: Pass = turn) -> None:
                pack(packed, first, slice(first, first + TOGETHER), turn)

            with on_one_thread() if self._small(lanes) else nullcontext():
                run_threaded(fill, range(0, count, TOGETHER))
                self._fill_tiles(volume, packed, turn, narrow)
        return volume

    def _widest(self, channels: int) -> int:
        """Lanes of a pass whose packed rays are not much larger than the sinogram."""
        allowed = PACKED * self.geometry.translations * channels
        return next((n for n in (WIDE, 32) if n * (self.samples + tiles.GAP) <= allowed), 16)

    def _small(self, lanes: int) -> bool:
        """Whether a pass is soon done, so that threads would be waited for."""
        height, width = self.geometry.shape
        return self.rays.order.size * height * width * lanes <= SMALL

    def _fill_tiles(self, volume: Block, packed: Block, turn: Pass, narrow: Float64) -> None:
        y, x, pixel = self.geometry.y, self.geometry.x, float(self.geometry.pixel_size)

        def directly(row: int) -> None:
            tiles.back_project_directly(
                volume, packed, self.samples, self._lines, narrow, y, x, pixel, row, turn.channel,
                turn.lanes,
            )  # fmt: skip

        def by_groups(piece: tuple[int, int]) -> None:
            part, row = piece
            share = packed[part * turn.share : (part + 1) * turn.share]
            tiles.back_project_by_groups(
                volume, share, self.samples, self._lines, self.rays.groups, self._means, y, x,
                pixel, row, turn.channel + part * turn.width,
            )  # fmt: skip

        height = self.geometry.shape[0]
        if self.levels == 1:
            run_threaded(directly, range(0, height, tiles.TILE))
            return
        parts = -(-min(turn.lanes, volume.shape[2] - turn.channel) // turn.width)
        run_threaded(by_groups, product(range(parts), range(0, height, tiles.LARGE)))


def filter_gain(filter_name: str, length: int, fine: int) -> Float64:
    """Gain of a filter that undoes the mean loss of the linear interpolations that follow it.

    In two levels these are two, with ``fine`` samples a translation step, so sinc(f / fine)⁴.
    """
    gain = filter_response(filter_name, length)
    if fine == 1:
        return gain
    frequency = scipy.fft.rfftfreq(length)
    return np.asarray(gain * np.sinc(frequency) ** SMOOTHING / np.sinc(frequency / fine) ** 4)


@lru_cache(maxsize=8)
def _matrices(
    filter_name: str, translations: int, fine: int, dtype: np.dtype[np.floating]
) -> tuple[Block, Block, Block, int]:
    """Both matrices of a filter, weights of the samples halfway, and how many the matrices make."""
    length = scipy.fft.next_fast_len(4 * translations + 64, real=True)
    impulse = scipy.fft.irfft(filter_gain(filter_name, length, fine), length)
    halves = np.zeros(0, dtype) if fine == 1 else halfway_weights(HALFWAY).astype(dtype)
    beyond = 0 if fine == 1 else HALFWAY // 2 - 1 + BEYOND // fine
    lines = translations + 2 * beyond
    return *folded_panels(impulse, translations, lines, dtype), halves, lines


def halfway_weights(taps: int) -> Float64:
    """Weights of the samples about a place halfway between two; they sum to 1.

    A least-squares fit to a gain of 1, weighted toward low frequencies by cos⁸; at the largest one
    no weights have any.

    >>> halfway_weights(2), halfway_weights(4).round(2)
    (array([0.5, 0.5]), array([-0.08,  0.58,  0.58, -0.08]))
    """
    frequency = np.linspace(0, 0.5, 512)
    weight = np.cos(np.pi * frequency) ** 8
    waves = 2 * np.cos(2 * np.pi * np.outer(frequency, np.arange(taps // 2) + 0.5))
    found = np.linalg.lstsq(waves * weight[:, None], weight, rcond=None)[0]
    found /= 2 * found.sum()
    return np.concatenate([found[::-1], found])


def _transform(
    rays: Block, filter_name: str, samples: int, fine: int
) -> Block:  # (angle, translation, channel) -> (angle, sample, channel)
    translations = rays.shape[1]
    length = scipy.fft.next_fast_len(2 * translations + 64, real=True)
    gain = (fine * filter_gain(filter_name, length, fine)).astype(rays.dtype)
    if fine > 1 and length % 2 == 0:
        gain[-1] /= 2  # the largest frequency becomes two, one of either sign
    beyond = (samples - 1 - fine * (translations - 1)) // 2
    filtered = np.empty((rays.shape[0], samples, rays.shape[2]), dtype=rays.dtype)
    for target, one in zip(filtered, rays, strict=True):
        spectrum = scipy.fft.rfft(one, length, axis=0)
        spectrum *= gain[:, None]
        found = scipy.fft.irfft(spectrum, length * fine, axis=0)
        target[:beyond] = found[length * fine - beyond :]
        target[beyond:] = found[: samples - beyond]
    return filtered
