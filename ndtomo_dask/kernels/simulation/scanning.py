"""What a pencil beam measures of a phantom: projections, spectra, air, flux and counts.

The data are a finite sum over parts: each phase at each strain that its grains have, and the glass.
A part is a map times a pattern, so only the maps are projected, some tens of them, whatever the
number of channels.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors.numba import NumbaProjector
from ndtomo_dask.kernels.simulation.defects import Defects, count_projection
from ndtomo_dask.kernels.simulation.phantoms import (
    REFLECTIONS,
    SAMPLE_RADIUS,
    CapillaryPhantom,
    air_scatter,
    amorphous_halo,
    capillary_phantom,
    pattern,
)

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]

FINENESS = 2
"""Fine pixels of the phantom along each edge of a pixel of the true maps: the data are not made by
the operator that will reconstruct them."""
GLASS = 0.15
"""Scatter of the capillary's glass, relative to a strong reflection."""


@lru_cache(maxsize=1)
def slice_phantom(size: int, grains: int, seed: int, z: int) -> CapillaryPhantom:
    """Phantom of slice ``z`` of the simulated sample, on the fine grid."""
    random = np.random.default_rng([seed, z])
    return capillary_phantom(size * FINENESS, len(REFLECTIONS), grains, random)


def coarse(fine: Float) -> Float64:  # (fine y, fine x, …) -> (y, x, …)
    """Mean over the fine pixels of each pixel."""
    rows, columns = fine.shape[0] // FINENESS, fine.shape[1] // FINENESS
    tiles = fine.reshape(rows, FINENESS, columns, FINENESS, *fine.shape[2:])
    return np.asarray(tiles.mean(axis=(1, 3)))


def mean_strain(phantom: CapillaryPhantom) -> Float64:  # -> (y, x)
    """Strain of each pixel, weighted by the amount of material."""
    amount = phantom.phase_map.sum(axis=-1)
    total, weighted = coarse(amount), coarse(amount * phantom.strain_map)
    return np.asarray(np.divide(weighted, total, out=np.zeros_like(total), where=total > 0))


def true_phases(number: NDArray[np.integer], *, size: int, grains: int, seed: int) -> Float64:
    """Amount of each phase in slice ``number``, () -> (y, x, phase)."""
    return coarse(slice_phantom(size, grains, seed, int(number)).phase_map)


def true_strain(number: NDArray[np.integer], *, size: int, grains: int, seed: int) -> Float64:
    """Strain of each pixel of slice ``number``, () -> (y, x)."""
    return mean_strain(slice_phantom(size, grains, seed, int(number)))


def measure_projections(
    number: NDArray[np.integer],
    angle: Float64,
    shift: Float64,
    beam: Float64,
    *,
    q: Float64,
    size: int,
    grains: int,
    angles: int,
    center: float,
    step: float,
    counts: float,
    air: float,
    absorption: float,
    amorphous: float,
    fraction: float,
    defects: Defects,
) -> NDArray[np.float32]:
    """Measure some projections of one slice, (angle,) -> (angle, translation, channel), in counts.

    Parameters
    ----------
    number
        Number of each projection in the whole scan, ``angles`` to a slice: the slice and the
        random stream of a projection follow from it, so any of them can be measured alone.
    angle, shift, beam
        Projection angle in radians, shift in translation steps, and relative flux, (angle,).
    q
        Momentum transfer of the channels, in 1/Å.
    size, grains, center, step, counts, air, absorption, amorphous, fraction
        As in `ndtomo_dask.synthetic.simulate_scan`; ``center`` is the rotation center.
    defects
        What goes wrong, and the seed.
    """
    phantom = slice_phantom(size, grains, defects.seed, int(number[0]) // angles)
    projector = NumbaProjector(_fine_geometry(angle, shift, size, center))
    passed = _passed(phantom, projector, size, absorption)
    amounts = _amounts(phantom, projector, passed, amorphous) * (step * counts / FINENESS)
    spectra = _spectra(q, phantom, fraction, amorphous)
    scatter = air * air_scatter(q - q[0])

    measured = np.empty((angle.size, size, q.size), dtype=np.float32)
    for row, amount in enumerate(amounts):
        around = scatter if passed is None else _beam_wide(passed)[row] * scatter
        expected = np.maximum(beam[row] * (amount @ spectra + around), 0)
        measured[row] = count_projection(expected, defects, number=int(number[row]), angles=angles)
    return measured


def transmit_projections(
    number: NDArray[np.integer],
    angle: Float64,
    shift: Float64,
    *,
    size: int,
    grains: int,
    angles: int,
    center: float,
    absorption: float,
    seed: int,
) -> Float64:
    """Share of the beam that passes the sample, (angle,) -> (angle, translation)."""
    phantom = slice_phantom(size, grains, seed, int(number[0]) // angles)
    projector = NumbaProjector(_fine_geometry(angle, shift, size, center))
    passed = _passed(phantom, projector, size, absorption)
    return np.ones((angle.size, size)) if passed is None else _beam_wide(passed)[..., 0]


def _fine_geometry(angle: Float64, shift: Float64, size: int, center: float) -> ParallelGeometry:
    return ParallelGeometry.centered(
        angle,
        size * FINENESS,
        rotation_center=FINENESS * (center + 0.5) - 0.5,
        shifts=shift * FINENESS,
    )


def _passed(
    phantom: CapillaryPhantom, projector: NumbaProjector, size: int, absorption: float
) -> Float64 | None:
    """Transmission of each fine ray, (angle, fine translation, 1), by the Beer-Lambert law.

    At small angles incident and diffracted beam pass the same chord: all of it attenuates.
    """
    if not absorption:
        return None
    density = phantom.phase_map.sum(axis=-1, keepdims=True)
    per_pixel = absorption / (2 * SAMPLE_RADIUS * size * FINENESS)
    return np.asarray(np.exp(-per_pixel * projector(np.ascontiguousarray(density))))


def _amounts(
    phantom: CapillaryPhantom,
    projector: NumbaProjector,
    passed: Float64 | None,
    amorphous: float,
) -> Float64:  # -> (angle, translation, part)
    """Project one phase after the other: all parts of a fine slice together are large."""
    at_level = phantom.strain_map[..., None] == phantom.levels
    parts = [phase[..., None] * at_level for phase in np.moveaxis(phantom.phase_map, -1, 0)]
    parts.append(phantom.wall[..., None])
    if amorphous:
        parts.append((phantom.labels >= 0)[..., None].astype(np.float64))
    fine = (projector(np.ascontiguousarray(part)) for part in parts)
    seen = fine if passed is None else (part * passed for part in fine)
    return np.concatenate([_beam_wide(part) for part in seen], axis=-1)


def _beam_wide(fine: Float) -> Float64:  # (angle, fine translation, part)
    """Mean over the fine translations of the width of the beam."""
    angles, translations, parts = fine.shape
    beams = fine.reshape(angles, translations // FINENESS, FINENESS, parts)
    return np.asarray(beams.mean(axis=2))


def _spectra(q: Float64, phantom: CapillaryPhantom, fraction: float, amorphous: float) -> Float64:
    patterns = [
        pattern(q, reflections, fraction=fraction, strain=strain)
        for reflections in REFLECTIONS.values()
        for strain in phantom.levels
    ]
    diffuse = [amorphous * amorphous_halo(q)] if amorphous else []
    return np.stack([*patterns, GLASS * amorphous_halo(q), *diffuse])
