"""The projector as a sparse matrix, written to be obviously right; slow, and large in memory."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import check_block

Block = NDArray[np.floating]


class MatrixProjector:
    """Pixel-driven linear interpolation as one matrix, by which the fast projectors are judged."""

    def __init__(self, geometry: ParallelGeometry) -> None:
        self.geometry = geometry
        self.matrix = projection_matrix(geometry)

    def __call__(self, volume: Block) -> Block:  # (y, x, ...) -> (angle, translation, ...)
        """Project a volume."""
        geometry = self.geometry
        check_block(volume, geometry.shape, "volume")
        rays = self.matrix @ volume.reshape(self.matrix.shape[1], -1)
        shape = (geometry.angles.size, geometry.translations, *volume.shape[2:])
        return np.asarray(rays.reshape(shape), dtype=volume.dtype)

    @property
    def T(self) -> Callable[[Block], Block]:
        """The adjoint: back-projects a sinogram, unfiltered."""
        return self._back_project

    def _back_project(self, sinogram: Block) -> Block:  # (angle, translation, ...) -> (y, x, ...)
        geometry = self.geometry
        check_block(sinogram, (geometry.angles.size, geometry.translations), "sinogram")
        pixels = self.matrix.T @ sinogram.reshape(self.matrix.shape[0], -1)
        return np.asarray(
            pixels.reshape(*geometry.shape, *sinogram.shape[2:]), dtype=sinogram.dtype
        )


def projection_matrix(geometry: ParallelGeometry) -> sparse.csr_array:
    """Weight of each pixel (column) in each sinogram sample (row), both in C order."""
    rows, columns = geometry.shape
    y = np.arange(rows)[:, None] - (rows - 1) / 2
    x = np.arange(columns)[None, :] - (columns - 1) / 2
    pixel = np.arange(rows * columns)
    blocks = []
    for angle, origin in zip(geometry.angles, geometry.origins, strict=True):
        u = (origin + x * np.cos(angle) - y * np.sin(angle)).ravel()
        below = np.floor(u).astype(int)
        fraction = u - below
        sample = np.concatenate([below, below + 1])
        weight = np.concatenate([1 - fraction, fraction])
        seen = (sample >= 0) & (sample < geometry.translations)
        where = (sample[seen], np.tile(pixel, 2)[seen])
        shape = (geometry.translations, pixel.size)
        blocks.append(sparse.coo_array((weight[seen], where), shape=shape))
    return sparse.csr_array(sparse.vstack(blocks))
