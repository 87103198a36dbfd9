"""The projector for Torch: tensors in, tensors out, on their device, and differentiable.

The gradient of a projection is the back-projection of the gradient, and the other way round; both
are Torch functions with each other as their derivative, so nothing is recorded ray by ray.

Sums are made by gathering, line by line of pixels and angle by angle, with one multiplication and
one addition at a time. So the bits of a channel depend neither on its neighbors nor on threads, and
not on the order in which a GPU would scatter. Both ways, a weight comes from the same operations on
the same numbers, so that even a ray along an edge of pixels is adjoint. NumPy arrays are accepted
too, and computed on a CUDA device where Torch sees one.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.geometry import ParallelGeometry, Selection
from ndtomo_dask.kernels.projectors import check_block, missing_library
from ndtomo_dask.kernels.projectors.footprints import MODELS, check_gaps, footprint, reach

TEMPORARY = {"cpu": 2**19, "cuda": 2**24}
"""Values of one temporary, at most: small ones stay in a cache, large ones keep a GPU busy."""

ROUNDING = 1e-11
"""Taken from how far a pixel reaches: a weight of 0 but for rounding is not worth a tap."""

Tensor = Any
Block = Any
"""A tensor or a NumPy array."""
Float64 = NDArray[np.float64]


class TorchProjector:
    """Any model by Torch, channels last, float32 or float64, on any device; adjoint to rounding."""

    models = tuple(MODELS)

    def __init__(self, geometry: ParallelGeometry, model: str = "pixel") -> None:
        try:
            import torch
        except ImportError as error:
            raise missing_library("torch", "torch") from error
        check_gaps(model, geometry)
        self.torch = torch
        self.geometry = geometry
        self.model = model
        self.reach = reach(model, geometry)
        self.samples = (geometry.angles.size, geometry.translations)

    def __call__(self, volume: Block) -> Block:  # (y, x, ...) -> (angle, translation, ...)
        """Project a volume."""
        return self._on_device(0, volume)

    @property
    def T(self) -> Callable[[Block], Block]:
        """The adjoint: back-projects a sinogram, unfiltered."""
        return self._back_project

    def select(self, projections: Selection) -> "TorchProjector":
        """Keep some of the projections."""
        return type(self)(self.geometry.select(projections), self.model)

    def _back_project(self, sinogram: Block) -> Block:  # (angle, translation, ...) -> (y, x, ...)
        return self._on_device(1, sinogram)

    def _on_device(self, direction: int, block: Block) -> Block:
        """Compute with a tensor as it is; with a NumPy array on the best device, and back again."""
        apply = _functions()[direction]
        if isinstance(block, self.torch.Tensor):
            return apply(block, self)
        owned = block if block.flags.writeable else block.copy()  # Torch knows no read-only memory
        device = "cuda" if self.torch.cuda.is_available() else "cpu"
        tensor = self.torch.from_numpy(np.ascontiguousarray(owned)).to(device)
        return apply(tensor, self).cpu().numpy()


Apply = Callable[[Tensor, TorchProjector], Tensor]


@lru_cache(maxsize=1)
def _functions() -> tuple[Apply, Apply]:
    """Projection and back-projection, as Torch functions that are each other's derivative."""
    from torch.autograd import Function

    class Project(Function):
        @staticmethod
        def forward(ctx: Any, volume: Tensor, A: TorchProjector) -> Tensor:
            ctx.A = A
            return _project(A, volume)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return back_project(gradient, ctx.A), None

    class BackProject(Function):
        @staticmethod
        def forward(ctx: Any, sinogram: Tensor, A: TorchProjector) -> Tensor:
            ctx.A = A
            return _back_project(A, sinogram)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return project(gradient, ctx.A), None

    project: Apply = Project.apply
    back_project: Apply = BackProject.apply
    return project, back_project


def _project(A: TorchProjector, volume: Tensor) -> Tensor:
    geometry, torch = A.geometry, A.torch
    check_block(volume, geometry.shape, "volume")
    pixels = volume.reshape(*geometry.shape, math.prod(volume.shape[2:]))
    padded = torch.nn.functional.pad(pixels, (0, 0, 0, 1, 0, 1))  # zeros for what no ray sees
    channels = pixels.shape[2]
    sinogram = torch.zeros((*A.samples, channels), dtype=volume.dtype, device=volume.device)
    size = _fitting(geometry.translations * channels, volume.device)
    for lines in _both_ways(geometry, size):
        source = padded if lines.along == 1 else padded.transpose(0, 1)
        sinogram[torch.from_numpy(lines.angles).to(volume.device)] = _sum_lines(A, lines, source)
    return sinogram.reshape(*A.samples, *volume.shape[2:])


class _Lines:
    """Lines of pixels along one axis of the grid, for the angles whose rays cross it steeply."""

    def __init__(self, geometry: ParallelGeometry, along: int, angles: NDArray[np.int64]) -> None:
        cos, down = geometry.cos[angles], -geometry.sin[angles]
        self.along, self.angles = along, angles
        self.step, self.across = (cos, down) if along == 1 else (down, cos)
        self.positions, self.others = geometry.y, geometry.x
        if along == 1:
            self.positions, self.others = geometry.x, geometry.y

    def project(self, origin: Tensor, position: Tensor, other: float, *turn: Tensor) -> Tensor:
        """Where pixels of a line, at a distance from the other axis, project onto."""
        x, y = (position, other) if self.along == 1 else (other, position)
        return origin + x * turn[0] - y * turn[1]


def _both_ways(geometry: ParallelGeometry, size: int) -> Iterator[_Lines]:
    """Rows of pixels, for angles at which they spread more over the samples, and columns.

    Of each, groups of ``size`` angles.
    """
    rows = np.abs(geometry.cos) >= np.abs(geometry.sin)
    for along, chosen in ((1, rows), (0, ~rows)):
        angles = np.flatnonzero(chosen)
        for start in range(0, angles.size, size):
            yield _Lines(geometry, along, angles[start : start + size])


def _sum_lines(
    A: TorchProjector, lines: _Lines, source: Tensor
) -> Tensor:  # (line, pixel, channel) -> (angle, translation, channel)
    """Add up what each sample sees of every line; a pixel with no weight is the zero at the end."""
    geometry, torch, device, angles = A.geometry, A.torch, source.device, lines.angles

    def column(values: Float64) -> Tensor:
        return torch.from_numpy(values).to(device)[:, None]

    pitch = geometry.pixel_size * lines.step
    pixels_seen = A.reach[angles] / np.abs(pitch)
    pixels_seen -= ROUNDING
    taps = int(np.floor(2 * pixels_seen.max())) + 1
    cos, sin, origin = map(
        column, (x[angles] for x in (geometry.cos, geometry.sin, geometry.origins))
    )
    far, step, across = map(column, (pixels_seen, pitch, lines.across))
    along, size = torch.from_numpy(lines.positions).to(device), lines.positions.size
    sample = torch.arange(geometry.translations, dtype=torch.float64, device=device)
    shape = (angles.size, geometry.translations, source.shape[2])
    total = torch.zeros(shape, dtype=source.dtype, device=device)
    for line, other in enumerate(map(float, lines.others)):
        start = origin + across * other + step / geometry.pixel_size * along[0]
        first = torch.ceil((sample - start) / step - far).to(torch.int64)
        for pixel in (first + tap for tap in range(taps)):
            position = along[pixel.clip(0, size - 1)]
            t = sample - lines.project(origin, position, other, cos, sin)
            weight = footprint(A.model, t, cos, sin, pixel_size=geometry.pixel_size, xp=torch)
            seen = (weight > 0) & (pixel >= 0) & (pixel < size)
            values = source[line].index_select(0, torch.where(seen, pixel, size).reshape(-1))
            total += values.reshape(shape).mul_(weight.to(source.dtype)[..., None])
    return total


def _fitting(values: int, device: Any) -> int:
    """How many slices of so many values make a temporary."""
    return max(1, TEMPORARY.get(device.type, TEMPORARY["cuda"]) // max(1, values))


def _back_project(A: TorchProjector, sinogram: Tensor) -> Tensor:
    geometry, torch, device = A.geometry, A.torch, sinogram.device
    check_block(sinogram, A.samples, "sinogram")
    rays = sinogram.reshape(*A.samples, math.prod(sinogram.shape[2:]))
    padded = torch.nn.functional.pad(rays, (0, 0, 0, 1))  # a zero for what lies beside the detector
    rows, columns = geometry.shape
    volume = torch.zeros((rows, columns, rays.shape[2]), dtype=rays.dtype, device=device)
    size = _fitting(columns * rays.shape[2], device)
    x, y = torch.from_numpy(geometry.x).to(device), torch.from_numpy(geometry.y).to(device)
    for start in range(0, rows, size):
        part = volume[start : start + size]
        for angle, projection in enumerate(padded):
            _add_projection(A, angle, projection, part, x, y[start : start + size, None])
    return volume.reshape(rows, columns, *sinogram.shape[2:])


def _add_projection(
    A: TorchProjector, angle: int, projection: Tensor, pixels: Tensor, x: Tensor, y: Tensor
) -> None:  # (translation, channel) -> (y, x, channel)
    """Add to some rows of pixels what they see of one projection, which ends with a zero."""
    geometry, torch = A.geometry, A.torch
    cos, sin = (
        torch.full((1, 1), float(turn[angle]), dtype=torch.float64, device=pixels.device)
        for turn in (geometry.cos, geometry.sin)
    )
    u = float(geometry.origins[angle]) + x * cos - y * sin
    far, size = float(A.reach[angle]) - ROUNDING, geometry.translations
    first = torch.ceil(u - far).to(torch.int64)
    for sample in (first + tap for tap in range(int(np.floor(2 * far)) + 1)):
        weight = footprint(A.model, sample - u, cos, sin, pixel_size=geometry.pixel_size, xp=torch)
        seen = (weight > 0) & (sample >= 0) & (sample < size)
        values = projection.index_select(0, torch.where(seen, sample, size).reshape(-1))
        pixels += values.reshape(pixels.shape).mul_(weight.to(pixels.dtype)[..., None])
