"""Every projector A: ``A(volume)`` projects, ``A.T(sinogram)`` back-projects, and they are adjoint.

All share one model, pixel-driven linear interpolation: a pixel projects onto a fractional
translation index u and gives 1 - f of its value to index floor(u) and f = u - floor(u) to the next;
what falls beside the detector is lost. The channel axis is last, and no channel sees another.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol, cast

from ndtomo_dask.errors import BackendError, SchemaError, nearest
from ndtomo_dask.geometry import ParallelGeometry

Array = Any
"""An array of whatever library the projector computes with."""

# CuPy, Torch and ASTRA projectors get one row each; a row imports nothing until it is asked for.
LOADERS = {
    "reference": "ndtomo_dask.kernels.projectors.reference:MatrixProjector",
    "cpu": "ndtomo_dask.kernels.projectors.numba:NumbaProjector",
}


class Projector(Protocol):
    """What a solver needs of a projector: A(x), A.T(y), and the geometry behind them."""

    geometry: ParallelGeometry

    def __call__(self, volume: Array) -> Array:  # (y, x, channel) -> (angle, translation, channel)
        """Project a volume."""
        ...

    @property
    def T(self) -> Callable[[Array], Array]:  # (angle, translation, channel) -> (y, x, channel)
        """The adjoint: back-projects a sinogram, unfiltered."""
        ...


def resolve_backend(name: str) -> str:
    """Name of the projector that ``name`` means on this worker; "auto" is its fastest.

    >>> resolve_backend("auto")
    'cpu'
    """
    # "auto" becomes CuPy where the worker sees a GPU, once that projector has its row.
    return "cpu" if name == "auto" else name


@lru_cache(maxsize=8)
def load_projector(name: str, geometry: ParallelGeometry) -> Projector:
    """Build the named projector, or return the one this process built for an equal geometry.

    Raises `BackendError` where the name is unknown or its library is not installed.
    """
    name = resolve_backend(name)
    if name not in LOADERS:
        raise BackendError(f"backend={name!r} is not known. {nearest(name, [*LOADERS, 'auto'])}")
    module, _, attribute = LOADERS[name].partition(":")
    try:
        projector = getattr(import_module(module), attribute)
    except ImportError as error:
        raise BackendError(
            f"backend={name!r} needs {error.name!r}, which is not installed here: "
            f"pip install 'ndtomo-dask[{name}]' on the workers, or pass backend='cpu'."
        ) from error
    return cast(Projector, projector(geometry))


def check_block(array: Array, leading: tuple[int, int], what: str) -> None:
    """Raise `SchemaError` unless ``array`` is real floating point and begins with these axes."""
    if array.ndim < 2 or tuple(array.shape[:2]) != leading:
        raise SchemaError(
            f"a {what} of shape {tuple(array.shape)} does not fit the geometry, "
            f"whose {what} begins with {leading}."
        )
    if array.dtype.name not in ("float32", "float64"):
        raise SchemaError(
            f"a {what} of {array.dtype.name} cannot be projected: pass {what}.astype('float32')."
        )
