"""One reconstructed image per channel, all channels of a block at once."""

from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import (
    allowed_memory,
    apply_kernel,
    block_of,
    is_lazy,
    sizes_of,
    split_blocks,
)
from ndtomo_dask.coordinates import axis_variable
from ndtomo_dask.errors import BackendError, OptionError, check_choice, nearest
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.filters import WINDOWS
from ndtomo_dask.kernels.gaps import bridge_gaps, channels_by_projections, missing_samples
from ndtomo_dask.kernels.projectors import LOADERS, Projector, load_projector
from ndtomo_dask.schema import (
    MISSING_SAMPLES,
    SINOGRAM,
    VOLUME,
    floating,
    geometry_of,
    label,
    require,
    step_of,
    valid_mask,
    without_masked,
)

Method = Literal["fbp", "sirt", "cgls"]
METHODS = ("fbp", "sirt", "cgls")
ASSUMED = "no self-absorption; powder averaging; parallel beam"
"""What a reconstruction takes for granted; it is stored with the volume."""


def reconstruct(
    ds: xr.Dataset,
    *,
    method: Method = "fbp",
    backend: str = "auto",
    filter: str = "ram-lak",  # noqa: A002  the field's word
    iterations: int = 20,
    nonnegative: bool = False,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Reconstruct every channel of a parallel-beam scan. Nothing is computed.

    Each channel is an inverse problem A x = y of its own; channels share the geometry A and never
    mix. The axis is at ``rotation_center`` and projections are displaced by ``projection_shift``,
    where the scan has them: rays are shifted, data are not resampled. Projections that ``mask``
    marks, or that have no finite sample, are left out. Single samples that are not finite are
    counted; ``"fbp"`` interpolates them across the beam, the others give them no weight.

    Parameters
    ----------
    ds
        A scan with ``sinogram ([time, z,] angle, translation, channel)``, whole along ``angle``
        and ``translation``.
    method
        ``"fbp"``: filtered back-projection; ``"sirt"`` for few or noisy projections; ``"cgls"``:
        the same solution in fewer, less robust steps.
    backend
        Where each block runs: ``"cpu"``, ``"reference"``; ``"auto"`` is decided by the worker.
    filter
        Of ``"fbp"``: ``"ram-lak"``, ``"shepp-logan"``, ``"cosine"``, ``"hann"`` or ``"hamming"``.
    iterations, nonnegative
        Of the iterative methods; ``nonnegative`` is for ``"sirt"``.
    allowed_mem
        Bytes one task may hold, such as ``"2GB"``; blocks that would not fit are cut along the
        channels. Default: what the connected workers have, else 1 GB.

    Returns
    -------
        ``ds`` with ``volume ([time, z,] y, x, channel)`` in units of the sinogram per mm, and
        ``missing_samples ([time, z,] channel)``: how many samples were not finite.

    Raises
    ------
    SchemaError
        There is no sinogram, it is split along angle or translation, or it has no angles.
    PlanError
        One channel alone does not fit ``allowed_mem``.

    Examples
    --------
    >>> from ndtomo_dask import simulate_scan
    >>> reconstruct(simulate_scan(size=32, angles=24, channels=8).load()).volume.sizes
    Frozen({'y': 32, 'x': 32, 'channel': 8})
    """
    check_choice("method", method, METHODS)
    check_choice("filter", filter, WINDOWS)
    _check_options(method, backend, iterations, nonnegative)
    sinogram = require(ds, SINOGRAM, verb="reconstruct", whole=["angle", "translation"])
    sinogram, geometry = _usable(ds, sinogram, geometry_of(ds, verb="reconstruct"))

    sizes = sizes_of(sinogram)
    stored = block_of(sinogram) if is_lazy(sinogram) else None
    planned = plan.reconstruct(
        sizes,
        sinogram.dtype.itemsize,
        method=method,
        block=stored,
        allowed_mem=allowed_memory(allowed_mem),
    )
    sinogram = split_blocks(sinogram, dict(planned.block))

    options: dict[str, Any] = {"method": method, "backend": backend, "filter": filter}
    options |= {} if method == "fbp" else {"iterations": iterations, "nonnegative": nonnegative}
    step = step_of(ds, "translation")
    volume = apply_kernel(
        reconstruct_block, sinogram, core=["angle", "translation"],
        out=dict(zip(("y", "x"), geometry.shape, strict=True)), dtype=floating(sinogram.dtype),
        geometry=geometry, step=step, **options,
    )  # fmt: skip
    bridged = apply_kernel(
        count_missing_block, sinogram, core=["angle", "translation"], out={}, dtype="int64"
    )

    ds = ds.assign_coords(_grid(geometry, step))
    volume = volume.assign_attrs(
        units=f"{sinogram.attrs.get('units', 'count')}/mm", assumed=ASSUMED
    )
    return label(ds, {VOLUME: volume, MISSING_SAMPLES: bridged}, step="reconstruct", **options)


def _check_options(method: str, backend: str, iterations: int, nonnegative: bool) -> None:
    if backend not in (*LOADERS, "auto"):
        raise BackendError(
            f"backend={backend!r} is not known. {nearest(backend, [*LOADERS, 'auto'])}"
        )
    if iterations < 1:
        raise OptionError(f"iterations={iterations} does nothing: pass a number of 1 or more.")
    if nonnegative and method != "sirt":
        raise OptionError(f"nonnegative=True is for method='sirt', not for {method!r}.")


def _usable(
    ds: xr.Dataset, sinogram: xr.DataArray, geometry: ParallelGeometry
) -> tuple[xr.DataArray, ParallelGeometry]:
    """Leave masked projections out; where single samples or channels are masked, make them NaN."""
    if "mask" not in ds or ds["mask"].dims != ("angle",):
        return without_masked(ds, sinogram, verb="reconstruct"), geometry
    kept = ~valid_mask(ds, verb="reconstruct").values
    return sinogram.isel(angle=kept), geometry.select(kept)


def _grid(geometry: ParallelGeometry, step: float) -> dict[str, xr.Variable]:
    return {
        dim: axis_variable(dim, (np.arange(size) - (size - 1) / 2) * step)
        for dim, size in zip(("y", "x"), geometry.shape, strict=True)
    }


def reconstruct_block(
    sinogram: np.ndarray,
    *,
    geometry: ParallelGeometry,
    step: float,
    method: str,
    backend: str,
    **options: Any,
) -> np.ndarray:
    """Reconstruct one block, (angle, translation, channel) -> (y, x, channel), per mm."""
    sinogram = np.asarray(sinogram, dtype=floating(sinogram.dtype))
    finite = np.isfinite(sinogram)
    if method == "fbp":
        volume = _back_project(sinogram, finite, geometry, backend, options["filter"])
    else:
        volume = _iterate(sinogram, finite, load_projector(backend, geometry), method, options)
    volume /= sinogram.dtype.type(step)
    return volume


def _back_project(
    sinogram: np.ndarray,
    finite: np.ndarray,
    geometry: ParallelGeometry,
    backend: str,
    filter_name: str,
) -> np.ndarray:
    """Filter and back-project; what is missing is bridged, or left out projection by projection."""
    if finite.all():
        A = load_projector(backend, geometry)
        return np.asarray(solvers.fbp(A, sinogram, filter_name=filter_name))
    volume = np.full((*geometry.shape, sinogram.shape[2]), np.nan, dtype=sinogram.dtype)
    for usable, channels in channels_by_projections(finite):
        if usable.any():
            some = np.ix_(usable, np.ones(sinogram.shape[1], dtype=bool), channels)
            A = load_projector(backend, geometry.select(usable))
            bridged = bridge_gaps(sinogram[some], finite[some])
            volume[..., channels] = solvers.fbp(A, bridged, filter_name=filter_name)
    return volume


def _iterate(
    sinogram: np.ndarray, finite: np.ndarray, A: Projector, method: str, options: dict[str, Any]
) -> np.ndarray:
    """Solve iteratively; a missing sample has no weight, and need not be made up."""
    mask = None
    if not finite.all():
        sinogram, mask = np.where(finite, sinogram, sinogram.dtype.type(0)), ~finite
    iterations, nonnegative = options["iterations"], options["nonnegative"]
    volume = np.asarray(
        solvers.cgls(A, sinogram, iterations=iterations, mask=mask)
        if method == "cgls"
        else solvers.sirt(A, sinogram, iterations=iterations, nonnegative=nonnegative, mask=mask)
    )
    volume[..., ~finite.any(axis=(0, 1))] = np.nan
    return volume


def count_missing_block(sinogram: np.ndarray) -> np.ndarray:
    """Count samples that are not finite, (angle, translation, channel) -> (channel,)."""
    return missing_samples(sinogram)
