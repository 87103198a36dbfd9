"""One reconstructed image per channel, all channels of a block at once."""

from collections.abc import Mapping
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
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.filters import WINDOWS
from ndtomo_dask.kernels.gaps import missing_samples
from ndtomo_dask.kernels.projectors import check_backend
from ndtomo_dask.kernels.reconstruction import (
    METHODS,
    given_options,
    reconstruct_block,
    variance_block,
)
from ndtomo_dask.reconstruction.compress import (
    check_basis,
    factors,
    find_spectral_basis,
    mixed_channels,
    unmixed_maps,
)
from ndtomo_dask.reconstruction.mixing import check_linear
from ndtomo_dask.scan_geometry import geometry_of, grid_coordinates, without_masked_rays
from ndtomo_dask.schema import floating, label, refuse_non_additive, require, step_of, valid_mask
from ndtomo_dask.variables import (
    MISSING_SAMPLES,
    SINOGRAM,
    SINOGRAM_VARIANCE,
    SPECTRAL_MAP,
    VOLUME,
    VOLUME_VARIANCE,
    Variable,
)

Method = Literal[
    "fbp", "sirt", "os_sirt", "sart", "cgls", "mlem", "osem", "tv", "vectorial_tv", "nuclear"
]
ASSUMED = "no self-absorption; powder averaging; parallel beam"
"""What a reconstruction takes for granted; it is stored with the volume."""
_RAYS = ("angle", "translation")


def reconstruct(
    ds: xr.Dataset,
    basis: xr.Dataset | None = None,
    *,
    method: Method = "fbp",
    spectral_rank: int | Literal["auto"] | None = None,
    backend: str = "auto",
    filter: str = "ram-lak",
    cutoff: float | None = None,
    iterations: int | None = None,
    nonnegative: bool = False,
    regularization: float | None = None,
    relaxation: float | None = None,
    accelerated: bool = False,
    subsets: int | None = None,
    support: Literal["circle"] | None = None,
    stop: Mapping[str, float] | None = None,
    start: xr.Dataset | None = None,
    weighted: bool = False,
    variance: bool = False,
    samples: int = 16,
    region: Mapping[str, tuple[float, float]] | None = None,
    pixel_size: float | None = None,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Reconstruct every channel of a parallel-beam scan. Nothing is computed, save a basis.

    Each channel is an inverse problem A x = y of its own; channels share the geometry A and mix in
    ``"vectorial_tv"`` and ``"nuclear"`` only. The axis is at ``rotation_center`` and projections
    are displaced by ``projection_shift``, where the scan has them: rays are shifted, data are not
    resampled. Projections that ``mask`` marks, or that have no finite sample, are left out. Single
    samples that are not finite are counted; ``"fbp"`` interpolates them across the beam, the others
    give them no weight.

    Linear methods commute with mixing channels. Given a ``basis``, or a ``spectral_rank`` by which
    `find_spectral_basis` finds one, few mixed channels are reconstructed in place of thousands, and
    unmixed. Without either every channel is reconstructed as it is.

    Parameters
    ----------
    ds
        A scan with ``sinogram ([time, z,] angle, translation, channel)``, whole along ``angle``
        and ``translation`` unless channels are mixed.
    basis
        What `find_spectral_basis` found for this scan, or one like it.
    method
        ``"fbp"``: filtered back-projection; ``"sirt"``, ``"os_sirt"``, ``"sart"`` for few or noisy
        projections; ``"cgls"``: the same solution in fewer, less robust steps; ``"mlem"``,
        ``"osem"`` for counts; ``"tv"`` keeps edges and flattens the rest; ``"vectorial_tv"`` and
        ``"nuclear"`` let the channels share their edges, and need all channels in one block.
    spectral_rank
        How many mixed channels, or ``"auto"``; the basis is computed at once. Channels that it does
        not explain are reconstructed in full. Not for nonlinear methods.
    backend
        Where each block runs: ``"cpu"``, ``"torch"``, ``"astra"``, ``"reference"``; ``"auto"`` is
        decided by the worker.
    filter, cutoff
        Of ``"fbp"``: ``"ram-lak"``, ``"shepp-logan"``, ``"cosine"``, ``"hann"`` or ``"hamming"``,
        and the share of the frequencies that passes.
    iterations
        Steps of an iterative method, at most; each has its usual number.
    nonnegative
        Keep every pixel at 0 or more.
    regularization
        Weight of the penalty of ``"cgls"`` (Tikhonov) and of the total variation, as their solvers
        in `ndtomo_dask.kernels.solvers` define it; `find_regularization` finds one.
    relaxation, accelerated, subsets
        Step length, momentum, and subsets of projections of the simultaneous methods.
    support
        ``"circle"``: pixels beside the circle that all projections see are 0.
    stop
        When a channel stops before ``iterations``: ``{"residual": ...}``, ``{"change": ...}`` or
        ``{"discrepancy": 1.0}``, which is the noise itself and needs ``weighted=True``.
    start
        A dataset with a ``volume`` of this grid, from which an iterative method begins.
    weighted
        Weigh each sample by the reciprocal of ``sinogram_variance``; the penalty of
        ``"vectorial_tv"`` and ``"nuclear"`` then takes each channel in units of its noise.
    variance, samples
        Also return ``volume_variance``, from ``sinogram_variance``: exact for ``"fbp"``, from this
        many reconstructions of noisy sinograms for the others.
    region
        Range in mm along ``"y"``, ``"x"`` or both, to which the grid is cut.
    pixel_size
        Edge of a pixel in mm; default: the translation step.
    allowed_mem
        Bytes one task may hold, such as ``"2GB"``; blocks that would not fit are cut along the
        channels. Default: what the connected workers have, else 1 GB.

    Returns
    -------
        ``ds`` with ``volume ([time, z,] y, x, channel)`` in units of the sinogram per mm, and
        ``missing_samples ([time, z,] channel)``: how many samples were not finite. Where channels
        were mixed, also ``spectral_map ([time, z,] y, x, component)``, ``spectral_basis`` and
        ``kept_channel``, of which the volume is made; `expand_channels` makes it again.

    Raises
    ------
    SchemaError
        There is no sinogram, it is split along angle or translation, or it has no angles.
    OptionError
        An option is not one of this method's, or its value makes no sense.
    PlanError
        One channel alone does not fit ``allowed_mem``.

    Examples
    --------
    >>> from ndtomo_dask import simulate_scan
    >>> reconstruct(simulate_scan(size=32, angles=24, channels=8).load()).volume.sizes
    Frozen({'y': 32, 'x': 32, 'channel': 8})
    """
    check_backend(backend)
    check_choice("filter", filter, WINDOWS)
    asked: dict[str, Any] = {
        "filter": filter if method == "fbp" or filter != "ram-lak" else None,
        "cutoff": cutoff, "iterations": iterations, "nonnegative": nonnegative,
        "regularization": regularization, "relaxation": relaxation, "accelerated": accelerated,
        "subsets": subsets, "support": support, "stop": stop, "weighted": weighted,
        "start": start is not None,
    }  # fmt: skip
    options = given_options(method, asked)
    given = [*options, *(["variance"] if variance else [])]
    mixes = basis is not None or spectral_rank is not None
    if mixes:
        check_linear(method, given)
    sinogram = require(ds, SINOGRAM, verb="reconstruct", whole=_whole(method, mixes=mixes))
    refuse_non_additive(sinogram, verb="reconstruct")
    geometry = geometry_of(ds, verb="reconstruct", region=region, pixel_size=pixel_size)
    _check_grid(ds, geometry)
    if mixes:
        basis = _basis(ds, basis, spectral_rank, allowed_mem)
    sinogram, geometry = without_masked_rays(ds, sinogram, geometry, verb="reconstruct")
    images = sinogram if basis is None else _components(sinogram, basis, allowed_mem)

    planned = plan.reconstruct(
        sizes_of(images),
        images.dtype.itemsize,
        method=method,
        options=given,
        grid=geometry.shape,
        block=block_of(images) if is_lazy(images) else None,
        allowed_mem=allowed_memory(allowed_mem),
    )
    if not METHODS[method].coupled:
        images = split_blocks(images, dict(planned.block))

    step = step_of(ds, "translation")
    common: dict[str, Any] = {
        "core": _RAYS, "out": dict(zip(("y", "x"), geometry.shape, strict=True)),
        "dtype": floating(sinogram.dtype), "geometry": geometry, "step": step, "method": method,
        "options": options, "backend": backend,
    }  # fmt: skip
    spread = [_like(ds, SINOGRAM_VARIANCE, images)] if weighted or variance else []
    first = [] if start is None else [_start(start, geometry, images)]
    beside = [*(spread if weighted else []), *first]
    volume = apply_kernel(reconstruct_block, images, *beside, **common)
    units = sinogram.attrs.get("units", "count")
    made: dict[Variable, xr.DataArray] = {}
    if basis is not None:
        maps = volume.rename(channel="component").assign_attrs(units=f"{units}/mm", assumed=ASSUMED)
        made = {SPECTRAL_MAP: maps, **factors(basis)}
        volume = unmixed_maps(maps, basis, verb="reconstruct", allowed_mem=allowed_mem)
    made[VOLUME] = volume.assign_attrs(units=f"{units}/mm", assumed=ASSUMED)
    made[MISSING_SAMPLES] = _missing(sinogram if mixes else images)
    if variance:
        found = apply_kernel(variance_block, images, *spread, *first, **common, samples=samples)
        made[VOLUME_VARIANCE] = found.assign_attrs(units=f"{units}^2/mm^2")

    ds = ds.assign_coords(grid_coordinates(geometry, step))
    told = {name: value for name, value in asked.items() if name in options and name != "start"}
    told |= {"region": region} if region else {}
    told |= {"pixel_size": pixel_size} if pixel_size else {}
    told |= {} if basis is None else {"basis": basis.attrs.get("digest", "given")}
    return label(ds, made, step="reconstruct", method=method, backend=backend, **told)


def _whole(method: str, *, mixes: bool) -> tuple[str, ...]:
    """Dimensions along which a sinogram must be one block."""
    if mixes:
        return ("translation",)
    return (*_RAYS, "channel") if METHODS[method].coupled else _RAYS


def _basis(
    ds: xr.Dataset,
    basis: xr.Dataset | None,
    rank: int | Literal["auto"] | None,
    allowed_mem: int | str | None,
) -> xr.Dataset:
    if basis is not None and rank is not None:
        raise OptionError(f"reconstruct was given a basis and spectral_rank={rank!r}: pass one.")
    if basis is None:
        return find_spectral_basis(ds, rank=rank or "auto", allowed_mem=allowed_mem)
    check_basis(basis, ds.sizes["channel"], "reconstruct")
    return basis


def _components(
    sinogram: xr.DataArray, basis: xr.Dataset, allowed_mem: int | str | None
) -> xr.DataArray:
    """Mix the channels, each result a channel of its own; whole images."""
    mixed = mixed_channels(sinogram, basis, verb="reconstruct", allowed_mem=allowed_mem)
    mixed = mixed.rename(component="channel")
    return mixed.chunk(dict.fromkeys((*_RAYS, "channel"), -1)) if is_lazy(mixed) else mixed


def _missing(sinogram: xr.DataArray) -> xr.DataArray:
    """Count the samples of each channel that are not finite; lazily, in any blocks."""
    if any(len(sinogram.chunksizes.get(dim, ())) > 1 for dim in _RAYS):
        return sinogram.copy(data=~np.isfinite(sinogram.data)).sum(_RAYS)
    return apply_kernel(count_missing_block, sinogram, core=_RAYS, out={}, dtype="int64")


def _check_grid(ds: xr.Dataset, geometry: ParallelGeometry) -> None:
    """Refuse a grid on which other images of ``ds`` would not fit."""
    for dim, size in zip(("y", "x"), geometry.shape, strict=True):
        images = [str(name) for name in ds.data_vars if dim in ds[name].dims]
        if images and ds.sizes[dim] != size:
            raise SchemaError(
                f"reconstruct makes a grid of {geometry.shape} pixels, but "
                f"{images[0]!r} has {ds.sizes[dim]} along {dim!r}: ds.drop_dims(['y', 'x']) first."
            )


def _like(ds: xr.Dataset, variable: Variable, sinogram: xr.DataArray) -> xr.DataArray:
    """Return a variable of the sinogram's shape, at the projections that are used."""
    if variable.name not in ds:
        raise SchemaError(
            f"reconstruct needs {variable.name!r}, which the scan does not have; of raw counts it "
            f"is ds.assign({variable.name}=ds.sinogram)."
        )
    found = require(ds, variable, verb="reconstruct")
    if found.sizes["angle"] != sinogram.sizes["angle"]:
        found = found.isel(angle=~valid_mask(ds, verb="reconstruct").values)
    return found


def _start(start: xr.Dataset, geometry: ParallelGeometry, sinogram: xr.DataArray) -> xr.DataArray:
    volume = require(start, VOLUME, verb="reconstruct", whole=["y", "x"])
    wanted = {"y": geometry.shape[0], "x": geometry.shape[1], "channel": sinogram.sizes["channel"]}
    if {dim: volume.sizes[dim] for dim in wanted} != wanted:
        raise SchemaError(
            f"start has a volume of {dict(volume.sizes)}, but the grid is {wanted}: start from a "
            "volume of the same scan, region and pixel_size."
        )
    return volume


def count_missing_block(sinogram: np.ndarray) -> np.ndarray:
    """Count samples that are not finite, (angle, translation, channel) -> (channel,)."""
    return missing_samples(sinogram)
