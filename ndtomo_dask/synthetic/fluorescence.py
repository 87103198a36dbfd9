"""Fluorescence as a detector beside the beam sees it: weakened on its way, and so is the beam."""

from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.attenuation import absorbing_maps, ratios_of
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import MODEL, load_projector
from ndtomo_dask.kernels.self_absorption import Absorber, Beam, EmissionProjector, Setup
from ndtomo_dask.scan_geometry import geometry_of_volume, ray_coordinates
from ndtomo_dask.schema import label, require, step_of
from ndtomo_dask.variables import ANGLE, SINOGRAM, TRANSLATION, VOLUME

VERB = "simulate_fluorescence"


def simulate_fluorescence(
    ds: xr.Dataset,
    *,
    attenuation: xr.Dataset | None = None,
    emitted: xr.Dataset | None = None,
    ratio: Any = 1.0,
    detector: float = 90.0,
    opening: float = 0.0,
    beam: Beam = "down",
    angles: Any = None,
    translations: int | None = None,
) -> xr.Dataset:
    """Measure what a sample emits that absorbs the beam and what it emits, lazily.

    Parameters
    ----------
    ds
        A dataset with ``volume ([z,] y, x, channel)``, what each pixel emits per mm of the beam.
    attenuation, emitted, ratio, detector, opening, beam
        What absorbs, and where the detector is, as in `self_absorption_correction`; on the grid of
        the volume.
    angles, translations
        Rays, as in `project`; by default those of ``ds``, whose pixels may be smaller than a step.

    Returns
    -------
        ``sinogram ([z,] angle, translation, channel)`` in float32, and ``true_sinogram``, which it
        would be if nothing were absorbed. `simulate_defects` counts it.

    Raises
    ------
    SchemaError
        There is no volume or no attenuation, or they are of different grids.
    OptionError
        ``ratio`` has not one number for each channel, or the detector is not a direction.
    """
    volume = require(ds, VOLUME, verb=VERB, whole=["y", "x"])
    setup = Setup(float(detector), float(opening), beam)
    ratios = ratios_of(ratio, volume, verb=VERB)
    geometry = geometry_of_volume(ds, verb=VERB, angles=angles, translations=translations)
    pixel = step_of(ds, "x")
    known = ds if attenuation is None else attenuation
    maps = absorbing_maps(volume, known, emitted, pixel=pixel, verb=VERB)

    shape = {ANGLE: geometry.angles.size, TRANSLATION: geometry.translations}
    common: dict[str, Any] = {
        "core": ["y", "x"], "out": shape, "dtype": "float32", "geometry": geometry,
        "step": pixel / geometry.pixel_size,
    }  # fmt: skip
    seen = apply_kernel(emit_block, volume, *maps, ratios, setup=setup, **common)
    whole = apply_kernel(excite_block, volume, **common)

    coords = ray_coordinates(geometry, pixel)
    scan = ds.drop_dims([dim for dim in (ANGLE, TRANSLATION, "y", "x") if dim in ds.dims])
    scan = scan.assign_coords(coords).assign(true_sinogram=whole.assign_coords(coords))
    options = {"detector": setup.detector, "opening": setup.opening, "beam": beam}
    return label(scan, {SINOGRAM: seen}, step=VERB, **options)


def emit_block(
    volume: np.ndarray,
    incident: np.ndarray,
    emitted: np.ndarray,
    ratios: np.ndarray,
    *,
    geometry: ParallelGeometry,
    setup: Setup,
    step: float,
) -> np.ndarray:
    """Project what is seen of each pixel, (y, x, channel) -> (angle, translation, channel)."""
    absorber = Absorber(incident.astype(np.float64), emitted.astype(np.float64), setup)
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    return EmissionProjector(geometry, absorber, ratios)(volume) * np.float32(step)


def excite_block(volume: np.ndarray, *, geometry: ParallelGeometry, step: float) -> np.ndarray:
    """Project what each pixel emits, (y, x, channel) -> (angle, translation, channel)."""
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    return np.asarray(load_projector("cpu", geometry, MODEL)(volume) * np.float32(step))
