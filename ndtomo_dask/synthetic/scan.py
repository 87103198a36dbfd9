"""A simulated XRD-CT scan of a capillary, with the defects of a real one and known truth."""

import numpy as np
import xarray as xr

from ndtomo_dask import axes
from ndtomo_dask.apply import apply_kernel, sizes_of
from ndtomo_dask.block_sizes import shard_of_projections
from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.kernels.phantoms import (
    FWHM,
    REFLECTIONS,
    CapillaryPhantom,
    beam_decay,
    peak_area,
)
from ndtomo_dask.kernels.scanning import (
    Noise,
    coarse,
    mean_strain,
    measure_projections,
    slice_phantom,
)
from ndtomo_dask.schema import label
from ndtomo_dask.variables import SINOGRAM

ENERGY = 100.0
"""Photon energy of the simulated beam, in keV."""
Q_RANGE = (2.1, 4.6)
"""Range of the simulated patterns, in 1/Å."""


def simulate_scan(
    *,
    size: int = 64,
    angles: int = 96,
    channels: int = 250,
    slices: int = 0,
    grains: int = 60,
    span: float = 180.0,
    step: float = 0.02,
    counts: float = 2000.0,
    air: float = 20.0,
    decay: float = 0.75,
    center_offset: float = 2.3,
    jitter: float = 0.3,
    fraction: float = 0.3,
    noise: Noise = "poisson",
    seed: int = 0,
) -> xr.Dataset:
    """Simulate an XRD-CT scan of a packed powder in a capillary, with the defects of a real one.

    Five phases (Al, Cu, Fe, Pt, Zn) in Voronoi grains, each grain with its own strain; the 2θ axis
    is that of a 100 keV beam. Counts are Poisson distributed about
    ``beam(angle) (projection(phantom) + air(channel))``. The data are lazy and made projection by
    projection, each from a seed of its own, so any part of a terabyte can be drawn.

    Parameters
    ----------
    size
        Translations, and rows and columns of the true maps.
    angles, span
        Number of projections, and the range they cover, in degrees (end point excluded).
    channels
        Points of the 2θ axis.
    slices
        Number of slices along ``z``; 0 leaves the dimension out.
    grains
        Grains per slice.
    step
        Translation step, in mm.
    counts
        Counts per mm of a phase whose pattern is 1, in the full beam.
    air
        Counts of the air scatter at low q, in the full beam.
    decay
        Flux left when the beam is topped up, which happens twice a scan; 1 is a steady beam.
    center_offset
        Offset of the rotation axis from the middle, in translation steps.
    jitter
        Standard deviation of the sample's random shift per projection, in translation steps.
    fraction
        Lorentzian share of the reflections.
    noise
        ``"poisson"`` counts, or ``"none"``: the expected values.
    seed
        Of everything that is random.

    Returns
    -------
        ``sinogram ([z,] angle, translation, channel)``, in counts, and the truth it was made of:
        ``true_phase_map ([z,] y, x, phase)``, ``true_strain ([z,] y, x)``, ``true_beam (angle)``,
        ``true_rotation_center``, ``true_projection_shift (angle)``.

    Examples
    --------
    >>> simulate_scan(size=32, angles=24, channels=50).sinogram.sizes
    Frozen({'angle': 24, 'translation': 32, 'channel': 50})
    """
    check_choice("noise", noise, ("poisson", "none"))
    if min(angles, channels) < 1 or size < 8:
        raise OptionError("simulate_scan needs size >= 8, angles >= 1 and channels >= 1.")
    rng = np.random.default_rng(seed)
    shifts = rng.normal(0.0, jitter, angles) if jitter else np.zeros(angles)
    phantoms = [slice_phantom(size, grains, seed, z) for z in range(max(1, slices))]
    truth = _truth(phantoms, slices, size, step, angles, span, decay, center_offset, shifts)
    truth = derive_axes(truth.assign_coords(_axes(channels)))

    numbers = _projection_numbers(truth)
    numbers = numbers.chunk(_blocks(numbers, size, channels))

    sinogram = apply_kernel(
        measure_projections,
        numbers,
        np.deg2rad(truth.angle),
        truth.true_projection_shift,
        truth.true_beam,
        out={"translation": size, "channel": channels},
        dtype="float32",
        q=truth.q.values,
        size=size,
        grains=grains,
        angles=angles,
        center=float(truth.true_rotation_center),
        step=step,
        counts=counts,
        air=air,
        fraction=fraction,
        noise=noise,
        seed=seed,
    )
    options = {"size": size, "angles": angles, "channels": channels, "seed": seed, "counts": counts}
    return label(truth, {SINOGRAM: sinogram}, step="simulate_scan", **options)


def _axes(channels: int) -> dict[str, object]:
    wavelength = float(axes.wavelength_from_energy(ENERGY))
    q = np.linspace(*Q_RANGE, channels, endpoint=channels < 2)
    first, last = map(float, axes.tth_from_q(q[[0, -1]], wavelength=wavelength))
    tth = np.linspace(first, last, channels)
    about = {"units": "angstrom", "long_name": "wavelength"}
    return {"tth": axis_variable("tth", tth), "wavelength": xr.Variable((), wavelength, about)}


def _truth(
    phantoms: list[CapillaryPhantom],
    slices: int,
    size: int,
    step: float,
    angles: int,
    span: float,
    decay: float,
    center_offset: float,
    shifts: np.ndarray,
) -> xr.Dataset:
    lead = ("z",) if slices else ()
    place = (np.arange(size) - (size - 1) / 2) * step
    coords = {name: axis_variable(name, place) for name in ("translation", "y", "x")}
    coords["angle"] = axis_variable("angle", np.linspace(0.0, span, angles, endpoint=False))
    if slices:
        coords["z"] = axis_variable("z", np.arange(slices) * step)
    maps = np.stack([coarse(phantom.phase_map) for phantom in phantoms])
    strain = np.stack([mean_strain(phantom) for phantom in phantoms])
    return xr.Dataset(
        {
            "true_phase_map": ((*lead, "y", "x", "phase"), maps if slices else maps[0]),
            "true_strain": ((*lead, "y", "x"), strain if slices else strain[0]),
            "true_beam": ("angle", beam_decay(angles, decay, topups=2)),
            "true_rotation_center": ((), (size - 1) / 2 + center_offset),
            "true_projection_shift": ("angle", shifts),
        },
        coords={**coords, "phase": list(REFLECTIONS)},
    )


def _projection_numbers(truth: xr.Dataset) -> xr.DataArray:
    """Give each projection of the whole scan its number, slice after slice."""
    lead = ("z",) if "z" in truth.dims else ()
    dims = (*lead, "angle")
    shape = [truth.sizes[dim] for dim in dims]
    coords = {dim: truth[dim] for dim in dims}
    return xr.DataArray(np.arange(np.prod(shape)).reshape(shape), dims=dims, coords=coords)


def _blocks(numbers: xr.DataArray, size: int, channels: int) -> dict[str, int]:
    sizes = {**sizes_of(numbers), "translation": size, "channel": channels}
    block = shard_of_projections(sizes, 4)
    return {str(dim): block[str(dim)] for dim in numbers.dims}


def true_peaks(
    ds: xr.Dataset, peaks: dict[str, tuple[str, int]], *, counts: float, fraction: float = 0.3
) -> xr.Dataset:
    """Area and position (in q) that a perfect fit of a simulated scan would give.

    Parameters
    ----------
    ds
        A simulated scan with its truth.
    peaks
        Name of each peak: the phase it belongs to, and which of its reflections it is (0-based).
    counts, fraction
        As they were given to `simulate_scan`.
    """
    reflections = {name: REFLECTIONS[phase][number] for name, (phase, number) in peaks.items()}
    amount = [ds.true_phase_map.sel(phase=phase, drop=True) for phase, _ in peaks.values()]
    area = [
        amount[i] * counts * peak_area(height, FWHM, fraction)
        for i, (_, height) in enumerate(reflections.values())
    ]
    position = [
        (center / (1 + ds.true_strain)).where(amount[i] > 0)
        for i, (center, _) in enumerate(reflections.values())
    ]
    names = xr.Variable("peak", list(peaks))
    return xr.Dataset(
        {"true_peak_area": xr.concat(area, names), "true_peak_position": xr.concat(position, names)}
    ).transpose(..., "peak")
