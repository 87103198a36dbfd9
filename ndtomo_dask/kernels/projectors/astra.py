"""The ASTRA Toolbox as a projector, and its own algorithms one channel after the other.

The operator is ASTRA's sparse matrix, applied to all channels at once: ASTRA knows single images
only, and its projectors sum in float32, whereas one matrix both ways is exactly adjoint in either
precision. It holds 8 bytes for each pixel that each ray meets, and thrice that while it is made.
`AstraProjector.fbp` and `AstraProjector.run` are ASTRA's algorithms themselves (van Aarle et al.
2016, Opt. Express 24, 25129): they need no matrix, but compute in float32.
"""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ndtomo_dask.errors import BackendError, OptionError, SchemaError, check_choice
from ndtomo_dask.geometry import ParallelGeometry, Selection
from ndtomo_dask.kernels.filters import WINDOWS, filter_sinogram
from ndtomo_dask.kernels.projectors import check_block, missing_library
from ndtomo_dask.kernels.projectors.reference import MatrixProjector, check_size

NAMES = {"joseph": "linear", "line": "line", "strip": "strip"}
"""What ASTRA calls each model."""
ALGORITHMS = ("BP", "FBP", "SIRT", "SART", "ART", "CGLS")
CUDA_ALGORITHMS = ("FBP_CUDA", "BP_CUDA", "SIRT_CUDA", "SART_CUDA", "CGLS_CUDA", "EM_CUDA")
PROBE = """
import astra, numpy as np
grid = astra.create_vol_geom(2, 2, 2)
beam = astra.create_proj_geom("parallel3d", 1, 1, 2, 2, np.zeros(1))
astra.create_sino3d_gpu(np.ones((2, 2, 2), np.float32), beam, grid)
"""

Block = NDArray[np.floating]
Image = NDArray[np.float32]


def load_astra() -> Any:
    """Import the ASTRA Toolbox, 2.4.1 or later: FBP of earlier ones is not safe with threads."""
    try:
        import astra
    except ImportError as error:
        raise missing_library("astra", "astra") from error
    if tuple(int(part) for part in astra.__version__.split(".")[:3] if part.isdecimal()) < (
        2,
        4,
        1,
    ):
        raise BackendError(
            f"backend='astra' needs ASTRA 2.4.1 or later, but {astra.__version__} is installed: "
            f"pip install -U 'ndtomo-dask[astra]'."
        )
    return astra


@lru_cache(maxsize=1)
def has_cuda() -> bool:
    """Whether ASTRA can compute on a GPU here, tried once and in a child process.

    Without a driver, ASTRA's 3-D projector ends the process that called it.
    """
    load_astra()
    tried = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=False)
    return tried.returncode == 0


def require_cuda(what: str, instead: str = "") -> None:
    """Raise `BackendError` where ASTRA has no GPU; ``instead`` is what to do there."""
    if not has_cuda():
        raise BackendError(
            f"{what} runs on CUDA only, and ASTRA finds no CUDA device here: "
            f"run it where there is one{instead}."
        )


class AstraProjector:
    """ASTRA's matrix as an operator: ``"joseph"`` (its ``linear``), ``"line"`` or ``"strip"``."""

    models = tuple(NAMES)

    def __init__(self, geometry: ParallelGeometry, model: str = "joseph") -> None:
        self._astra = load_astra()
        check_choice("model", model, NAMES)
        self.geometry = geometry
        self.model = model

    def __call__(self, volume: Block) -> Block:  # (y, x, ...) -> (angle, translation, ...)
        """Project a volume."""
        return self._operator(volume)

    @property
    def T(self) -> Callable[[Block], Block]:
        """The adjoint: back-projects a sinogram, unfiltered."""
        return self._operator.T

    def select(self, projections: Selection) -> "AstraProjector":
        """Keep some of the projections: rows of the matrix, where it is there already."""
        some = type(self)(self.geometry.select(projections), self.model)
        if "_operator" in vars(self):
            vars(some)["_operator"] = self._operator.select(projections)
        return some

    @cached_property
    def _operator(self) -> MatrixProjector:
        return MatrixProjector(self.geometry, self.model, system_matrix(self.geometry, self.model))

    def fbp(self, sinogram: Block, filter_name: str = "ram-lak") -> Block:
        """Reconstruct by ASTRA's FBP, (angle, translation, ...) -> (y, x, ...).

        Projections count by `ParallelGeometry.weights`, so angles may be uneven. ASTRA filters only
        where the axis is in the middle and nothing is shifted; elsewhere the sinogram is filtered
        by `filter_sinogram`, and ASTRA back-projects.
        """
        check_choice("filter_name", filter_name, WINDOWS)
        weights = self.geometry.weights
        if _is_centered(self.geometry):
            share = (weights * weights.size / np.pi).astype(sinogram.dtype)
            sinogram = sinogram * share.reshape(-1, *[1] * (sinogram.ndim - 1))
            return self._solve("FBP", sinogram, 1, {"FilterType": filter_name})
        filtered = filter_sinogram(sinogram, filter_name, weights=weights)
        area = sinogram.dtype.type(self.geometry.pixel_size**2)
        return self._solve("BP", filtered, 1, {}) / area

    def run(
        self,
        algorithm: str,
        sinogram: Block,
        *,
        iterations: int = 1,
        start: Block | None = None,
        minimum: float | None = None,
        maximum: float | None = None,
        **options: Any,
    ) -> Block:  # (angle, translation, ...) -> (y, x, ...)
        """Run one of ASTRA's own algorithms on every channel, in float32.

        Parameters
        ----------
        algorithm
            A name in `ALGORITHMS` or, with a GPU, in `CUDA_ALGORITHMS`.
        sinogram
            One image (angle, translation), or any trailing axes of them.
        iterations
            Sweeps over all projections, for SART and ART too.
        start
            The first guess; zeros without one.
        minimum, maximum
            Bounds of the pixels after each step, for SIRT, SART and ART.
        options
            Handed to ASTRA as they are, such as ``Relaxation=0.5``, or ``FilterType="parzen"`` for
            FBP, which then counts all projections the same.
        """
        check_choice("algorithm", algorithm, (*ALGORITHMS, *CUDA_ALGORITHMS))
        if iterations < 1:
            raise OptionError(f"iterations={iterations} does nothing: pass a number of 1 or more.")
        if algorithm in CUDA_ALGORITHMS:
            require_cuda(
                f"{algorithm} of backend='astra'", f", or pass one of {', '.join(ALGORITHMS)}"
            )
        if algorithm == "FBP" and not _is_centered(self.geometry):
            raise SchemaError(
                "ASTRA's FBP needs the axis in the middle of the translations and no shifts: "
                "call A.fbp(sinogram), which filters before."
            )
        bounds = {"MinConstraint": minimum, "MaxConstraint": maximum}
        options |= {name: bound for name, bound in bounds.items() if bound is not None}
        angles, translations = self.geometry.angles.size, self.geometry.translations
        if algorithm in ("SART", "SART_CUDA"):
            options = {
                "ProjectionOrder": "custom",
                "ProjectionOrderList": _order(angles),
                **options,
            }
        steps = {"SART": angles, "SART_CUDA": angles, "ART": angles * translations}
        return self._solve(
            algorithm, sinogram, iterations * steps.get(algorithm, 1), options, start
        )

    def _solve(
        self,
        algorithm: str,
        sinogram: Block,
        iterations: int,
        options: dict[str, Any],
        start: Block | None = None,
    ) -> Block:
        """Run an algorithm channel by channel, on two images whose memory ASTRA shares."""
        geometry, astra = self.geometry, self._astra
        check_block(sinogram, (geometry.angles.size, geometry.translations), "sinogram")
        rays = sinogram.reshape(*sinogram.shape[:2], math.prod(sinogram.shape[2:]))
        first = np.zeros((*geometry.shape, 1)) if start is None else start
        check_block(first, geometry.shape, "volume")
        first = np.broadcast_to(
            first.reshape(*geometry.shape, -1), (*geometry.shape, rays.shape[2])
        )
        measured = np.empty(rays.shape[:2], dtype=np.float32)
        image = np.empty(geometry.shape, dtype=np.float32)
        volume = np.empty((*geometry.shape, rays.shape[2]), dtype=sinogram.dtype)
        with _prepared(astra, geometry, self.model, algorithm, measured, image) as config:
            config["option"] = options
            for channel in range(rays.shape[2]):
                measured[:] = rays[..., channel]
                image[:] = first[..., channel]
                with _deleted(astra.algorithm, astra.algorithm.create(config)) as running:
                    astra.algorithm.run(running, iterations)
                volume[..., channel] = image
        return volume.reshape(*geometry.shape, *sinogram.shape[2:])


@contextmanager
def _deleted(kind: Any, number: int) -> Iterator[int]:
    """Give the number of an ASTRA object, and delete the object in the end."""
    try:
        yield number
    finally:
        kind.delete(number)


@contextmanager
def _prepared(
    astra: Any,
    geometry: ParallelGeometry,
    model: str,
    algorithm: str,
    measured: Image,
    image: Image,
) -> Iterator[dict[str, Any]]:
    """Configure an algorithm that reads ``measured`` and writes ``image``."""
    beam, grid = astra_geometries(geometry)
    config = astra.astra_dict(algorithm)
    with ExitStack() as held:
        for key, kind, shape, data in (
            ("ProjectionDataId", "-sino", beam, measured),
            ("ReconstructionDataId", "-vol", grid, image),
        ):
            linked = astra.data2d.link(kind, shape, data)
            config[key] = held.enter_context(_deleted(astra.data2d, linked))
        if algorithm not in CUDA_ALGORITHMS:
            made = astra.create_projector(NAMES[model], beam, grid)
            config["ProjectorId"] = held.enter_context(_deleted(astra.projector, made))
        yield config


def _is_centered(geometry: ParallelGeometry) -> bool:
    """Whether the axis projects onto the middle of the detector at every angle."""
    return bool(np.allclose(geometry.origins, (geometry.translations - 1) / 2, rtol=0, atol=1e-12))


def _order(angles: int) -> NDArray[np.int64]:
    """Projections ordered by golden-section steps, so that successive ones see different lines."""
    return np.argsort(np.arange(angles) * (np.sqrt(5) - 1) / 2 % 1)


def astra_geometries(geometry: ParallelGeometry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe beam and grid in ASTRA's terms: its y axis points up, its lengths are steps too."""
    astra = load_astra()
    (rows, columns), (down, right) = geometry.shape, geometry.grid_center
    height, width = rows * geometry.pixel_size / 2, columns * geometry.pixel_size / 2
    grid = astra.create_vol_geom(
        rows, columns, right - width, right + width, -down - height, -down + height
    )
    if _is_centered(geometry):
        return astra.create_proj_geom("parallel", 1.0, geometry.translations, geometry.angles), grid
    cos, sin = np.cos(geometry.angles), np.sin(geometry.angles)
    middle = (geometry.translations - 1) / 2 - geometry.origins
    # Of each projection: the ray's direction, the detector's middle, and one step along it.
    vectors = np.stack([sin, -cos, middle * cos, middle * sin, cos, sin], axis=1)
    return astra.create_proj_geom("parallel_vec", geometry.translations, vectors), grid


def system_matrix(geometry: ParallelGeometry, model: str = "joseph") -> sparse.csr_array:
    """ASTRA's weight of each pixel (column) in each sample (row), both in C order, in float32."""
    astra = load_astra()
    check_choice("model", model, NAMES)
    check_size(geometry, model)
    beam, grid = astra_geometries(geometry)
    made = astra.create_projector(NAMES[model], beam, grid)
    with (
        _deleted(astra.projector, made) as projector,
        _deleted(astra.matrix, astra.projector.matrix(projector)) as matrix,
    ):
        return sparse.csr_array(astra.matrix.get(matrix)).astype(np.float32)
