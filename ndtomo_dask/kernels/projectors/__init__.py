"""Every projector A: ``A(volume)`` projects, ``A.T(sinogram)`` back-projects, and they are adjoint.

The channel axis is last, and no channel sees another. What a pixel gives to which samples is the
model (`ndtomo_dask.kernels.projectors.footprints`); where it projects to is the geometry.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol, cast

from ndtomo_dask.errors import BackendError, SchemaError, nearest
from ndtomo_dask.geometry import ParallelGeometry, Selection

Array = Any
"""An array of whatever library the projector computes with."""

# A row imports nothing until it is asked for. CuPy gets a row once it has a projector of its own;
# until then, "torch" computes on CUDA devices.
LOADERS = {
    "reference": "ndtomo_dask.kernels.projectors.reference:MatrixProjector",
    "cpu": "ndtomo_dask.kernels.projectors.numba:NumbaProjector",
    "astra": "ndtomo_dask.kernels.projectors.astra:AstraProjector",
    "torch": "ndtomo_dask.kernels.projectors.torch:TorchProjector",
}

MODEL = "joseph"
"""Model by which verbs project, and by which methods iterate that do. Filtered back-projection does
not: it interpolates between samples (``"pixel"``)."""


class Projector(Protocol):
    """What a solver needs of a projector: A(x), A.T(y), and the geometry behind them.

    A projector of several models names them in ``models``, its own choice first, and is built as
    ``Projector(geometry, model)``; one without ``models`` knows ``"pixel"`` only and is built as
    ``Projector(geometry)``.

    A projector may have methods of its own that a solver calls instead of the generic one, where
    they are there. So far that is ``A.fbp(sinogram, filter_name)``: filtered back-projection,
    (angle, translation, ...) -> (y, x, ...), with the weights of ``A.geometry`` and the scale of
    `ndtomo_dask.kernels.solvers.fbp`; it raises `OptionError` for a filter that it does not have.
    """

    geometry: ParallelGeometry

    def __call__(self, volume: Array) -> Array:  # (y, x, channel) -> (angle, translation, channel)
        """Project a volume."""
        ...

    @property
    def T(self) -> Callable[[Array], Array]:  # (angle, translation, channel) -> (y, x, channel)
        """The adjoint: back-projects a sinogram, unfiltered."""
        ...

    def select(self, projections: Selection) -> "Projector":
        """Keep some of the projections: a mask, indices in any order, or a slice."""
        ...


def resolve_backend(name: str) -> str:
    """Name of the projector that ``name`` means on this worker; "auto" is its fastest.

    >>> resolve_backend("auto")
    'cpu'
    """
    # "auto" becomes CuPy where the worker sees a GPU, once that projector has its row.
    return "cpu" if name == "auto" else name


def check_backend(name: str) -> None:
    """Raise `BackendError` unless there is a projector of this name; nothing is loaded."""
    if name not in (*LOADERS, "auto"):
        raise BackendError(f"backend={name!r} is not known. {nearest(name, [*LOADERS, 'auto'])}")


@lru_cache(maxsize=8)
def load_projector(name: str, geometry: ParallelGeometry, model: str | None = None) -> Projector:
    """Build the named projector, or return the one this process built for an equal geometry.

    Parameters
    ----------
    name
        A name in `LOADERS`, or "auto".
    geometry
        Angles, translations and grid.
    model
        ``"pixel"``, ``"joseph"``, ``"line"`` or ``"strip"``; default: the backend's own choice,
        which is ``"joseph"`` of "astra" and ``"pixel"`` of all others.

    Raises
    ------
    BackendError
        The name is unknown, its library is not installed, or it does not have the model.
    """
    check_backend(name)
    name = resolve_backend(name)
    module, _, attribute = LOADERS[name].partition(":")
    try:
        projector = getattr(import_module(module), attribute)
    except ImportError as error:
        raise missing_library(name, str(error.name)) from error
    models = getattr(projector, "models", ("pixel",))
    if model is not None and model not in models:
        raise BackendError(
            f"backend={name!r} has no model={model!r}: pass model={models[0]!r}, or "
            f"backend='reference', which has all models."
        )
    made = projector(geometry, model or models[0]) if models != ("pixel",) else projector(geometry)
    return cast(Projector, made)


def missing_library(backend: str, library: str) -> BackendError:
    """Say that a backend's library is not here, and which extra has it."""
    return BackendError(
        f"backend={backend!r} needs {library!r}, which is not installed here: "
        f"pip install 'ndtomo-dask[{backend}]' on the workers, or pass backend='cpu'."
    )


def check_block(array: Array, leading: tuple[int, int], what: str) -> None:
    """Raise `SchemaError` unless ``array`` is real floating point and begins with these axes."""
    if array.ndim < 2 or tuple(array.shape[:2]) != leading:
        raise SchemaError(
            f"a {what} of shape {tuple(array.shape)} does not fit the geometry, "
            f"whose {what} begins with {leading}."
        )
    dtype = str(array.dtype).rpartition(".")[2]  # Torch says torch.float32
    if dtype not in ("float32", "float64"):
        raise SchemaError(
            f"a {what} of {dtype} cannot be projected: pass {what}.astype('float32')."
        )
