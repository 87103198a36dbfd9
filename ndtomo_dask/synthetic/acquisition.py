"""Samples that change while they are measured: the order of the rays, and what they see."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, sizes_of, split_blocks
from ndtomo_dask.coordinates import axis_variable
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors.numba import NumbaProjector
from ndtomo_dask.kernels.simulation.acquisition import (
    Acquisition,
    Fast,
    Interlacing,
    Motion,
    Path,
    visit,
)
from ndtomo_dask.scan_geometry import geometry_of_volume
from ndtomo_dask.schema import label, record, require, step_of
from ndtomo_dask.variables import ANGLE, SINOGRAM, TIME, TRANSLATION, VOLUME

POINT = "point"
TURNS = 4
"""Projections between two angles, between which those of a rotation that never stops lie."""


def simulate_acquisition(
    *,
    angles: int = 96,
    translations: int = 64,
    span: float = 180.0,
    step: float = 0.02,
    path: Path = "zigzag",
    fast: Fast = "translation",
    motion: Motion = "fast",
    passes: int = 1,
    interlacing: Interlacing = "golden",
    exposure: float = 0.1,
    settle: float = 0.2,
) -> xr.Dataset:
    """List where a pencil beam is, and when: the rays of a scan in the order of their measurement.

    Parameters
    ----------
    angles, span
        Number of projections, and the range they cover, in degrees (end point excluded).
    translations, step
        Number of sample positions, and their distance in mm.
    path
        ``"zigzig"``: every line begins at the same end, after a way back with the beam off;
        ``"zigzag"``: every second line is measured on the way back.
    fast
        What moves along a line: ``"translation"`` or ``"rotation"``.
    motion
        ``"stepped"``: the motor stops for each point; ``"fast"``: it stops at the ends of lines;
        ``"continuous"``: the rotation never stops while the sample is translated.
    passes, interlacing
        Passes over all angles, each over every ``passes``-th one. Their first angles follow the
        ``"golden"`` ratio, a ``"binary"`` sequence that halves the widest gap, or one another
        (``"sequential"``).
    exposure, settle
        Seconds that a point takes, and that a motor takes to stop.

    Returns
    -------
        ``time``, ``angle``, ``translation``, ``angle_number`` and ``translation_number (point)``.

    Examples
    --------
    >>> table = simulate_acquisition(angles=4, translations=2, passes=2, interlacing="binary")
    >>> table.angle_number.values
    array([0, 0, 2, 2, 1, 1, 3, 3])
    """
    acquisition = Acquisition(
        angles, translations, path, fast, motion, passes, interlacing, exposure, settle
    )
    visits = visit(acquisition)
    turn = span / angles
    turned = (visits.angle + visits.advance) * turn
    place = (visits.translation - (translations - 1) / 2) * step
    table = {
        "time": _column(visits.time, "s", "time since the start"),
        "angle": _column(turned, "degree", "projection angle"),
        "translation": _column(place, "mm", "sample position across the beam"),
        "angle_number": _column(visits.angle, "1", "number of the projection"),
        "translation_number": _column(visits.translation, "1", "number of the position"),
    }
    options = {"path": path, "fast": fast, "motion": motion, "passes": passes}
    return record(xr.Dataset(table, attrs={"turn": turn}), "simulate_acquisition", **options)


def _column(values: np.ndarray, units: str, words: str) -> xr.Variable:
    return xr.Variable(POINT, values, {"units": units, "long_name": words})


def simulate_measurement(ds: xr.Dataset, acquisition: xr.Dataset) -> xr.Dataset:
    """Measure a sample that changes, each ray at its own time: the sinogram that will be had.

    Between two frames of the sample it changes evenly; before the first and after the last it
    stands still. Rays of a rotation that never stops are interpolated between projections.

    Parameters
    ----------
    ds
        A series ``volume (time, [z,] y, x, channel)``, whole along ``y`` and ``x``, with ``time``
        in seconds, such as `simulate_volume` makes.
    acquisition
        What `simulate_acquisition` returned.

    Returns
    -------
        ``sinogram ([z,] angle, translation, channel)``, each ray at its place in the scan, whenever
        it was measured; ``true_time`` and ``true_angle (angle, translation)`` say when, and at
        which angle.

    Raises
    ------
    SchemaError
        The volume has no ``time``, or the table is not one of `simulate_acquisition`.
    """
    verb = "simulate_measurement"
    volume = require(ds, VOLUME, verb=verb, whole=["y", "x"])
    if TIME not in volume.dims or TIME not in volume.coords:
        raise SchemaError(
            f"{verb} needs a series: simulate_volume(maps, simulate_spectra(frames=10)) makes one."
        )
    moments, turned = _on_grid(acquisition, "time"), _on_grid(acquisition, "angle")
    turn = float(acquisition.attrs["turn"])
    nominal = np.arange(moments.sizes[ANGLE]) * turn
    geometry = geometry_of_volume(ds, verb=verb, angles=nominal, translations=moments.shape[1])
    step = step_of(ds, "x")

    weights = _frame_weights(np.asarray(volume[TIME], dtype=float), moments.values)
    seen = apply_kernel(
        measure_frame, split_blocks(volume, {TIME: 1}),
        xr.DataArray(weights, dims=(TIME, ANGLE, TRANSLATION)),
        core=["y", "x"], out=sizes_of(moments), dtype="float32", geometry=geometry, step=step,
        advance=(turned.values - nominal[:, None]) / turn, turn=float(np.deg2rad(turn)),
    )  # fmt: skip
    sinogram = seen.sum(TIME)

    place = (np.arange(moments.shape[1]) - (moments.shape[1] - 1) / 2) * step
    coords = {ANGLE: axis_variable(ANGLE, nominal), TRANSLATION: axis_variable(TRANSLATION, place)}
    scan = ds.drop_dims([dim for dim in (TIME, "y", "x") if dim in ds.dims]).assign_coords(coords)
    scan = scan.assign(true_time=moments, true_angle=turned)
    return label(scan, {SINOGRAM: sinogram}, step=verb)


def _on_grid(acquisition: xr.Dataset, name: str) -> xr.DataArray:
    """Lay a column of the table out by angle and translation."""
    if not {name, "angle_number", "translation_number"} <= set(acquisition.variables):
        raise SchemaError(
            "simulate_measurement takes the table of simulate_acquisition, which has "
            "'angle_number' and 'translation_number'."
        )
    rows, columns = (acquisition[f"{axis}_number"].values for axis in (ANGLE, TRANSLATION))
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows, columns] = acquisition[name].values
    return xr.DataArray(grid, dims=(ANGLE, TRANSLATION), attrs=acquisition[name].attrs)


def _frame_weights(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Share of each frame in what is seen at each moment, (time, angle, translation)."""
    frames = np.eye(times.size)
    return np.stack([np.interp(moments, times, frame) for frame in frames])


def measure_frame(
    volume: np.ndarray,
    weight: np.ndarray,
    *,
    geometry: ParallelGeometry,
    step: float,
    advance: np.ndarray,
    turn: float,
) -> np.ndarray:
    """Project one frame where it is seen, (y, x, channel), (angle, translation) -> a sinogram."""
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    seen = np.zeros((*weight.shape, volume.shape[-1]), dtype=np.float32)
    for part in range(TURNS + 1):
        share = weight * np.maximum(1 - abs(advance * TURNS - part), 0.0)
        rows = np.flatnonzero(share.any(axis=1))
        if rows.size:
            turned = geometry.turn(part * turn / TURNS).select(rows)
            projected = NumbaProjector(turned, "joseph")(volume) * np.float32(step)
            seen[rows] += projected * share[rows][..., None].astype(np.float32)
    return seen
