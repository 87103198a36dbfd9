"""The projector as a sparse matrix, written to be obviously right; slow, and large in memory."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ndtomo_dask.errors import PlanError
from ndtomo_dask.geometry import ParallelGeometry, Selection
from ndtomo_dask.kernels.projectors import check_block
from ndtomo_dask.kernels.projectors.footprints import MODELS, check_gaps, footprint, reach

LARGEST_MATRIX = 2**28
"""Entries of the largest matrix that is built: 2 GB in float32, and a few times that meanwhile."""

Block = NDArray[np.floating]


class MatrixProjector:
    """Any model as one matrix, by which the fast projectors are judged."""

    models = tuple(MODELS)

    def __init__(
        self,
        geometry: ParallelGeometry,
        model: str = "pixel",
        matrix: sparse.csr_array | None = None,
    ) -> None:
        self.geometry = geometry
        self.model = model
        self.matrix = projection_matrix(geometry, model) if matrix is None else matrix
        self._rounded: dict[str, sparse.csr_array] = {}

    def __call__(self, volume: Block) -> Block:  # (y, x, ...) -> (angle, translation, ...)
        """Project a volume."""
        check_block(volume, self.geometry.shape, "volume")
        rays = self._matrix(volume) @ volume.reshape(self.matrix.shape[1], -1)
        return np.asarray(rays.reshape(*self._samples, *volume.shape[2:]))

    @property
    def T(self) -> Callable[[Block], Block]:
        """The adjoint: back-projects a sinogram, unfiltered."""
        return self._back_project

    def select(self, projections: Selection) -> "MatrixProjector":
        """Keep some of the projections: the same rows of the same matrix."""
        geometry = self.geometry.select(projections)
        rows = np.arange(self.matrix.shape[0]).reshape(self._samples)[projections]
        return type(self)(geometry, self.model, self.matrix[rows.ravel()])

    def _back_project(self, sinogram: Block) -> Block:  # (angle, translation, ...) -> (y, x, ...)
        check_block(sinogram, self._samples, "sinogram")
        pixels = self._matrix(sinogram).T @ sinogram.reshape(self.matrix.shape[0], -1)
        return np.asarray(pixels.reshape(*self.geometry.shape, *sinogram.shape[2:]))

    @property
    def _samples(self) -> tuple[int, int]:
        return self.geometry.angles.size, self.geometry.translations

    def _matrix(self, block: Block) -> sparse.csr_array:
        """Give the matrix in the block's precision; it is kept, because solvers ask often."""
        dtype = block.dtype.name
        if dtype not in self._rounded:
            self._rounded[dtype] = self.matrix.astype(dtype, copy=False)
        return self._rounded[dtype]


def projection_matrix(geometry: ParallelGeometry, model: str = "pixel") -> sparse.csr_array:
    """Weight of each pixel (column) in each sinogram sample (row), both in C order.

    Parameters
    ----------
    geometry
        Angles, translations and grid.
    model
        What a pixel gives to the samples near its projection: a name in
        `ndtomo_dask.kernels.projectors.footprints.MODELS`.
    """
    check_gaps(model, geometry)
    check_size(geometry, model)
    blocks = [_projection(geometry, model, angle) for angle in range(geometry.angles.size)]
    return sparse.csr_array(sparse.vstack(blocks))


def check_size(geometry: ParallelGeometry, model: str) -> None:
    """Raise `PlanError` where the matrix would have more than `LARGEST_MATRIX` entries."""
    entries = 2 * reach(model, geometry).sum() * geometry.shape[0] * geometry.shape[1]
    if entries > LARGEST_MATRIX:
        raise PlanError(
            f"the matrix of {geometry.angles.size} projections of {geometry.shape} pixels would "
            f"have about {entries:.1e} entries, more than {LARGEST_MATRIX:.1e}: "
            f"pass backend='cpu', which has no matrix."
        )


def _projection(geometry: ParallelGeometry, model: str, angle: int) -> sparse.coo_array:
    """Weight of each pixel in each sample of one projection."""
    cos, sin = geometry.cos[angle], geometry.sin[angle]
    u = (geometry.origins[angle] + geometry.x * cos - geometry.y[:, None] * sin).ravel()
    far = reach(model, geometry)[angle]
    samples, pixels, weights = [], [], []
    for sample in _samples_within(u, far):
        weight = footprint(model, sample - u, cos, sin, pixel_size=geometry.pixel_size)
        seen = (weight > 0) & (sample >= 0) & (sample < geometry.translations)
        samples.append(sample[seen])
        pixels.append(np.flatnonzero(seen))
        weights.append(weight[seen])
    where = (np.concatenate(samples), np.concatenate(pixels))
    shape = (geometry.translations, u.size)
    return sparse.coo_array((np.concatenate(weights), where), shape=shape)


def _samples_within(u: Block, far: float) -> Iterator[NDArray[np.int64]]:
    """Sample numbers no further than ``far`` from ``u``: the lowest of each, the next, ..."""
    first = np.ceil(u - far).astype(np.int64)
    return (first + n for n in range(int(np.floor(2 * far)) + 1))
