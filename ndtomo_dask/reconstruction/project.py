"""From a volume back to the sinogram that it would give."""

from typing import Any

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
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import MODEL, check_backend, load_projector
from ndtomo_dask.scan_geometry import geometry_of_volume, ray_coordinates
from ndtomo_dask.schema import floating, label, require, step_of
from ndtomo_dask.variables import ANGLE, PROJECTED_SINOGRAM, TRANSLATION, VOLUME


def project(
    ds: xr.Dataset,
    *,
    angles: Any = None,
    translations: int | None = None,
    backend: str = "auto",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Project a volume: the sinogram that a scan of it would give. Nothing is computed.

    Beside the scan that a volume was reconstructed from, ``ds.sinogram - ds.projected_sinogram`` is
    what the volume does not explain: noise, and what is wrong with the data or the model.

    Parameters
    ----------
    ds
        A dataset with ``volume ([time, z,] y, x, channel)``, whole along ``y`` and ``x``. Where it
        is still a scan, its angles, translations, axis and shifts are used.
    angles
        Projection angles in degrees, instead of the scan's.
    translations
        Number of translations, each a pixel wide, instead of the scan's or the volume's width.
    backend
        Where each block runs, as in `reconstruct`.
    allowed_mem
        Bytes one task may hold; blocks that would not fit are cut along the channels.

    Returns
    -------
        ``ds`` with ``projected_sinogram ([time, z,] angle, translation, channel)``, in the unit of
        the volume times mm.

    Raises
    ------
    SchemaError
        There is no volume, it is split along y or x, its pixels are not squares, or no angles are
        known.

    Examples
    --------
    >>> from ndtomo_dask import reconstruct, simulate_scan
    >>> ds = reconstruct(simulate_scan(size=32, angles=24, channels=8).load())
    >>> project(ds).projected_sinogram.sizes
    Frozen({'angle': 24, 'translation': 32, 'channel': 8})
    """
    check_backend(backend)
    volume = require(ds, VOLUME, verb="project", whole=["y", "x"])
    geometry = geometry_of_volume(ds, verb="project", angles=angles, translations=translations)
    if angles is not None or translations is not None:
        ds = ds.drop_dims([dim for dim in (ANGLE, TRANSLATION) if dim in ds.dims])
    coords = (
        {}
        if {ANGLE, TRANSLATION} <= set(ds.coords)
        else ray_coordinates(geometry, step_of(ds, "x"))
    )

    shape = {ANGLE: geometry.angles.size, TRANSLATION: geometry.translations}
    planned = plan.project(
        sizes_of(volume),
        shape,
        volume.dtype.itemsize,
        block=block_of(volume) if is_lazy(volume) else None,
        allowed_mem=allowed_memory(allowed_mem),
    )
    volume = split_blocks(volume, dict(planned.block))
    pixel = step_of(ds, "x")
    step = pixel / geometry.pixel_size
    projected = apply_kernel(
        project_block, volume, core=["y", "x"], out=shape, dtype=floating(volume.dtype),
        geometry=geometry, step=step, backend=backend,
    )  # fmt: skip

    units = str(volume.attrs.get("units", "count/mm"))
    projected = projected.assign_attrs(units=units.removesuffix("/mm"))
    options = {"backend": backend}
    return label(
        ds.assign_coords(coords), {PROJECTED_SINOGRAM: projected}, step="project", **options
    )


def project_block(
    volume: np.ndarray, *, geometry: ParallelGeometry, step: float, backend: str
) -> np.ndarray:
    """Project one block, (y, x, channel) per mm -> (angle, translation, channel)."""
    volume = np.asarray(volume, dtype=floating(volume.dtype))
    sinogram = np.asarray(load_projector(backend, geometry, MODEL)(volume))
    sinogram *= volume.dtype.type(step)
    return sinogram
