"""Cone beams and parallel beams in three dimensions, computed by ASTRA on a CUDA device.

A voxel (slice, row, column) lies at z, y, x from the middle of the grid: slices count upwards along
the rotation axis, rows downwards in the picture of a slice. With the source far away, each slice is
the parallel geometry of `ndtomo_dask.geometry`: u = center + x cos θ − y sin θ. All lengths share
one unit, whichever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.projectors.astra import load_astra, require_cuda

Float64 = NDArray[np.float64]
Block = NDArray[np.floating]

ALGORITHMS = ("FDK_CUDA", "BP3D_CUDA", "SIRT3D_CUDA", "CGLS3D_CUDA")


@dataclass(frozen=True, eq=False)
class ConeGeometry:
    """A source, an axis and a flat detector, which turn about the sample."""

    angles: Float64
    """Projection angles, in radians."""
    detector_shape: tuple[int, int]
    """Rows (along the axis) and columns of the detector."""
    shape: tuple[int, int, int]
    """Slices, rows and columns of the grid."""
    detector_pixel: float = 1.0
    """Edge of a detector pixel."""
    source_to_axis: float = np.inf
    """Distance of the source from the rotation axis; infinite for a parallel beam."""
    axis_to_detector: float = 0.0
    """Distance of the detector from the rotation axis."""
    voxel_size: float | None = None
    """Edge of a voxel; without one, what a detector pixel shows of the plane of the axis."""
    center: tuple[float, float] | None = None
    """Detector row and column, 0-based and fractional, that the axis' middle projects onto."""

    def __post_init__(self) -> None:
        angles = np.ascontiguousarray(self.angles, dtype=np.float64)
        object.__setattr__(self, "angles", angles)
        if angles.ndim != 1 or not angles.size or not np.isfinite(angles).all():
            raise SchemaError("a cone-beam geometry needs a list of finite projection angles.")
        if min(*self.detector_shape, *self.shape) < 1:
            raise SchemaError(
                f"a detector of {self.detector_shape} and a grid of {self.shape} pixels are empty: "
                f"pass sizes of 1 or more."
            )
        if not (self.detector_pixel > 0 and self.source_to_axis > 0 and self.axis_to_detector >= 0):
            raise SchemaError(
                "detector_pixel and source_to_axis must be greater than 0, and axis_to_detector "
                "not less than 0."
            )
        if not self.voxel > 0:
            raise SchemaError(f"voxel_size {self.voxel:g} must be a number greater than 0.")
        if np.isfinite(self.source_to_axis) and self.source_to_axis <= self.radius:
            raise SchemaError(
                f"the source, {self.source_to_axis:g} from the axis, lies inside the grid, whose "
                f"corners are {self.radius:.4g} from it: pass a larger source_to_axis."
            )

    @property
    def magnification(self) -> float:
        """Size of a shadow over that of the object at the axis."""
        if np.isinf(self.source_to_axis):
            return 1.0
        return (self.source_to_axis + self.axis_to_detector) / self.source_to_axis

    @property
    def voxel(self) -> float:
        """Edge of a voxel."""
        size = self.detector_pixel / self.magnification
        return size if self.voxel_size is None else self.voxel_size

    @property
    def radius(self) -> float:
        """Distance of the grid's corners from the axis."""
        return float(np.hypot(self.shape[1], self.shape[2]) * self.voxel / 2)

    @cached_property
    def origin(self) -> tuple[float, float]:
        """Detector row and column that the axis' middle projects onto."""
        rows, columns = self.detector_shape
        return ((rows - 1) / 2, (columns - 1) / 2) if self.center is None else self.center

    def project_points(self, points: Float64) -> Float64:  # (n, zyx) -> (angle, n, row and column)
        """Where points at (z, y, x) from the grid's middle fall on the detector, in pixels."""
        z, y, x = np.asarray(points, dtype=np.float64).T
        cos, sin = np.cos(self.angles)[:, None], np.sin(self.angles)[:, None]
        across, away = x * cos - y * sin, -(x * sin + y * cos)
        magnified = np.ones_like(across)
        if np.isfinite(self.source_to_axis):
            magnified = (self.source_to_axis + self.axis_to_detector) / (self.source_to_axis + away)
        row = self.origin[0] + z * magnified / self.detector_pixel
        return np.stack([row, self.origin[1] + across * magnified / self.detector_pixel], axis=-1)

    def vectors(self) -> Float64:  # (angle, 12)
        """ASTRA's vectors of each projection: source or ray, detector's middle, column, row.

        ASTRA's volumes count rows along its y axis (unlike its images), so ours is its y.
        """
        cos, sin, zero = np.cos(self.angles), np.sin(self.angles), np.zeros_like(self.angles)
        toward = np.stack([-sin, -cos, zero], axis=1)  # from the source to the detector
        column = self.detector_pixel * np.stack([cos, -sin, zero], axis=1)
        row = np.tile([0.0, 0.0, self.detector_pixel], (self.angles.size, 1))
        down, right = (
            (n - 1) / 2 - o for n, o in zip(self.detector_shape, self.origin, strict=True)
        )
        middle = self.axis_to_detector * toward + right * column + down * row
        source = toward if np.isinf(self.source_to_axis) else -self.source_to_axis * toward
        return np.concatenate([source, middle, column, row], axis=1)


def astra_geometries(geometry: ConeGeometry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe beam and grid in ASTRA's terms."""
    astra = load_astra()
    slices, rows, columns = geometry.shape
    depth, height, width = (n * geometry.voxel / 2 for n in geometry.shape)
    grid = astra.create_vol_geom(
        rows, columns, slices, -width, width, -height, height, -depth, depth
    )
    kind = "parallel3d_vec" if np.isinf(geometry.source_to_axis) else "cone_vec"
    return astra.create_proj_geom(kind, *geometry.detector_shape, geometry.vectors()), grid


def project(
    volume: Block, geometry: ConeGeometry
) -> Block:  # (z, y, x, ...) -> (angle, row, column, ...)
    """Project a volume onto the detector, channel by channel, in float32.

    Raises `BackendError` where ASTRA has no CUDA device.
    """
    _check(volume, geometry.shape, "volume")
    require_cuda("a projection in three dimensions")
    astra = load_astra()
    beam, grid = astra_geometries(geometry)

    def project_one(one: Block) -> Block:
        number, rays = astra.create_sino3d_gpu(np.ascontiguousarray(one, np.float32), beam, grid)
        astra.data3d.delete(number)
        return np.asarray(rays.transpose(1, 0, 2))

    return _per_channel(project_one, volume)


def reconstruct(
    radiographs: Block,
    geometry: ConeGeometry,
    *,
    algorithm: str = "FDK_CUDA",
    iterations: int = 1,
    short_scan: bool = False,
    minimum: float | None = None,
) -> Block:  # (angle, row, column, ...) -> (z, y, x, ...)
    """Reconstruct a volume from its radiographs by ASTRA, channel by channel, in float32.

    Parameters
    ----------
    radiographs
        Line integrals: absorbance, not intensity.
    geometry
        Source, axis, detector and grid.
    algorithm
        ``"FDK_CUDA"`` (Feldkamp, Davis, Kress 1984, J. Opt. Soc. Am. A 1, 612), or one of
        `ALGORITHMS`.
    iterations
        Steps of ``"SIRT3D_CUDA"`` and ``"CGLS3D_CUDA"``.
    short_scan
        Weights of Parker (1982) for ``"FDK_CUDA"`` over less than a full turn.
    minimum
        Lowest value of a voxel, for ``"SIRT3D_CUDA"``.

    Raises
    ------
    BackendError
        ASTRA is not installed, or has no CUDA device.
    """
    check_choice("algorithm", algorithm, ALGORITHMS)
    if iterations < 1:
        raise OptionError(f"iterations={iterations} does nothing: pass a number of 1 or more.")
    _check(radiographs, (geometry.angles.size, *geometry.detector_shape), "stack of radiographs")
    if algorithm == "FDK_CUDA" and np.isinf(geometry.source_to_axis):
        raise SchemaError(
            "FDK needs a source at a distance: pass source_to_axis, or reconstruct a parallel "
            "beam slice by slice."
        )
    require_cuda(f"{algorithm} of ASTRA")
    options: dict[str, Any] = {"ShortScan": True} if short_scan else {}
    options |= {} if minimum is None else {"MinConstraint": minimum}
    return _per_channel(
        lambda one: _solve(one, geometry, algorithm, iterations, options), radiographs
    )


def _solve(
    one: Block, geometry: ConeGeometry, algorithm: str, iterations: int, options: dict[str, Any]
) -> Block:
    astra = load_astra()
    beam, grid = astra_geometries(geometry)
    rays = np.ascontiguousarray(one.transpose(1, 0, 2), dtype=np.float32)
    config = astra.astra_dict(algorithm)
    config["option"] = options
    config["ProjectionDataId"] = astra.data3d.create("-sino", beam, rays)
    config["ReconstructionDataId"] = astra.data3d.create("-vol", grid, 0)
    try:
        running = astra.algorithm.create(config)
        astra.algorithm.run(running, iterations)
        astra.algorithm.delete(running)
        return np.asarray(astra.data3d.get(config["ReconstructionDataId"]))
    finally:
        astra.data3d.delete([config["ProjectionDataId"], config["ReconstructionDataId"]])


def _check(block: Block, leading: tuple[int, ...], what: str) -> None:
    if tuple(block.shape[:3]) != leading:
        raise SchemaError(
            f"a {what} of shape {block.shape} does not fit the geometry, whose {what} begins with "
            f"{leading}."
        )


def _per_channel(solve: Callable[[Block], Block], block: Block) -> Block:
    """Apply a function of three dimensions to each of the trailing axes."""
    channels = block.reshape(*block.shape[:3], -1)
    made = [solve(channels[..., n]) for n in range(channels.shape[3])]
    stacked = np.stack(made, axis=-1).astype(block.dtype)
    return stacked.reshape(*stacked.shape[:3], *block.shape[3:])
