"""What a pencil beam measures of a phantom: projections, spectra, air, flux and counts.

The data are a finite sum over parts: each phase at each strain that its grains have, and the glass.
A part is a map times a pattern, so only the maps are projected, some tens of them, whatever the
number of channels.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.phantoms import (
    REFLECTIONS,
    CapillaryPhantom,
    air_scatter,
    amorphous_halo,
    capillary_phantom,
    pattern,
)
from ndtomo_dask.kernels.projectors.numba import NumbaProjector

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Noise = Literal["poisson", "none"]

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
    fraction: float,
    noise: Noise,
    seed: int,
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
    size, grains, center, step, counts, air, fraction, noise, seed
        As in `ndtomo_dask.synthetic.simulate_scan`; ``center`` is the rotation center.
    """
    phantom = slice_phantom(size, grains, seed, int(number[0]) // angles)
    fine = ParallelGeometry.centered(
        angle,
        size * FINENESS,
        rotation_center=FINENESS * (center + 0.5) - 0.5,
        shifts=shift * FINENESS,
    )
    amounts = _beam_wide(NumbaProjector(fine)(_parts(phantom))) * (step * counts / FINENESS)
    spectra = _spectra(q, phantom, fraction)
    scatter = air * air_scatter(q - q[0])

    measured = np.empty((angle.size, size, q.size), dtype=np.float32)
    for row, amount in enumerate(amounts):
        expected = np.maximum(beam[row] * (amount @ spectra + scatter), 0)
        random = np.random.default_rng([seed, 1, int(number[row])])
        measured[row] = random.poisson(expected) if noise == "poisson" else expected
    return measured


def _parts(phantom: CapillaryPhantom) -> Float64:  # -> (fine y, fine x, part)
    at_level = phantom.strain_map[..., None] == phantom.levels
    parts = phantom.phase_map[..., :, None] * at_level[..., None, :]
    parts = parts.reshape(*phantom.wall.shape, -1)
    return np.ascontiguousarray(np.concatenate([parts, phantom.wall[..., None]], axis=-1))


def _beam_wide(fine: Float) -> Float64:  # (angle, fine translation, part)
    """Mean over the fine translations of the width of the beam."""
    angles, translations, parts = fine.shape
    beams = fine.reshape(angles, translations // FINENESS, FINENESS, parts)
    return np.asarray(beams.mean(axis=2))


def _spectra(q: Float64, phantom: CapillaryPhantom, fraction: float) -> Float64:
    patterns = [
        pattern(q, reflections, fraction=fraction, strain=strain)
        for reflections in REFLECTIONS.values()
        for strain in phantom.levels
    ]
    return np.stack([*patterns, GLASS * amorphous_halo(q)])
