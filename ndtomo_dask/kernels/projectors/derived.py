"""Operators made of another operator: interlaced subsets of its projections, and weighted rays."""

from collections.abc import Callable

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry, Selection
from ndtomo_dask.kernels.projectors import Array, Projector


def interlaced(A: Projector, parts: int = 2) -> list[Projector]:
    """Split an operator into ``parts`` that take turns: every n-th projection, from 0, 1, ... on.

    Part n belongs to ``sinogram[n::parts]``. Two parts are the even and the odd projections, whose
    reconstructions have independent noise.
    """
    if not 1 <= parts <= A.geometry.angles.size:
        raise OptionError(
            f"parts={parts} is not possible with {A.geometry.angles.size} projections: "
            f"pass a number from 1 to {A.geometry.angles.size}."
        )
    return [A.select(slice(start, None, parts)) for start in range(parts)]


def weighted(A: Projector, weights: Array) -> "WeightedProjector":
    """Multiply each ray of an operator by a weight: x -> w A x, and y -> Aᵀ w y.

    A weight of 0 takes a ray out. With w = 1/σ, least squares of w A x against w y is weighted by
    the variance of y.

    Parameters
    ----------
    A
        Any projector.
    weights
        (angle, translation), for all channels, or (angle, translation, channel), of the same
        library and dtype as the blocks.
    """
    return WeightedProjector(A, weights)


class WeightedProjector:
    """An operator whose rays have weights; the adjoint is exact."""

    def __init__(self, A: Projector, weights: Array) -> None:
        samples = (A.geometry.angles.size, A.geometry.translations)
        if tuple(weights.shape[:2]) != samples:
            raise SchemaError(
                f"weights of shape {tuple(weights.shape)} do not fit the sinogram: "
                f"pass one weight for each of {samples} samples."
            )
        self.A = A
        self.weights = weights

    @property
    def geometry(self) -> ParallelGeometry:
        """The geometry of the operator inside."""
        return self.A.geometry

    def __call__(self, volume: Array) -> Array:  # (y, x, ...) -> (angle, translation, ...)
        """Project a volume, and weigh its rays."""
        sinogram = self.A(volume)
        return sinogram * self._spread(sinogram.ndim)

    @property
    def T(self) -> Callable[[Array], Array]:
        """The adjoint: weighs the rays and back-projects them."""
        return self._back_project

    def select(self, projections: Selection) -> "WeightedProjector":
        """Keep some of the projections, and their weights."""
        return WeightedProjector(self.A.select(projections), self.weights[projections])

    def _back_project(self, sinogram: Array) -> Array:
        return self.A.T(sinogram * self._spread(sinogram.ndim))

    def _spread(self, ndim: int) -> Array:
        """Give the weights as many trailing axes as the block has."""
        return self.weights.reshape(*self.weights.shape, *[1] * (ndim - self.weights.ndim))
