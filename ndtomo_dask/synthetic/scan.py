"""A simulated XRD-CT scan of a capillary, with the defects of a real one and known truth."""

from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, sizes_of
from ndtomo_dask.block_sizes import shard_of_projections
from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.simulation.defects import Defects, Noise
from ndtomo_dask.kernels.simulation.phantoms import (
    FWHM,
    REFLECTIONS,
    SAMPLE_RADIUS,
    beam_decay,
    peak_area,
)
from ndtomo_dask.kernels.simulation.scanning import (
    measure_projections,
    transmit_projections,
    true_phases,
    true_strain,
)
from ndtomo_dask.schema import label
from ndtomo_dask.synthetic.spectra import pattern_axes
from ndtomo_dask.synthetic.truth import projection_numbers, true_defects
from ndtomo_dask.variables import SINOGRAM


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
    absorption: float = 0.0,
    amorphous: float = 0.0,
    stripes: float = 0.0,
    spots: int = 0,
    hot_channels: int = 0,
    dead_channels: int = 0,
    missing: int = 0,
    noise: Noise = "poisson",
    seed: int = 0,
) -> xr.Dataset:
    """Simulate an XRD-CT scan of a packed powder in a capillary, with the defects of a real one.

    Five phases (Al, Cu, Fe, Pt, Zn) in Voronoi grains, each grain with its own strain; the 2θ axis
    is that of a 100 keV beam. Counts are Poisson distributed about
    ``beam(angle) gain(angle, translation) transmission(angle, translation) (projection(phantom) +
    air(channel)) + spots``. The data are lazy and made projection by projection, each from a seed
    of its own, so any part of a terabyte can be drawn. A defect does not change what the others
    draw.

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
    absorption
        Absorbance -log(transmission) of as much solid phase as the sample is wide. The whole chord
        attenuates, as at small scattering angles (Beer-Lambert).
    amorphous
        Scatter of a diffuse matrix that fills the sample, relative to a strong reflection.
    stripes
        Standard deviation of the gain of each translation, which drifts during the scan.
    spots
        Bright reflections of single crystals per slice: one ray, some channels each.
    hot_channels, dead_channels
        Channels with false counts, and without any.
    missing
        Projections without counts, the same in all slices.
    noise
        ``"poisson"`` counts, or ``"none"``: the expected values.
    seed
        Of everything that is random.

    Returns
    -------
        ``sinogram ([z,] angle, translation, channel)``, in counts, and the truth it was made of:
        ``true_phase_map ([z,] y, x, phase)``, ``true_strain ([z,] y, x)``, ``true_beam (angle)``,
        ``true_rotation_center``, ``true_projection_shift (angle)``; where there are such defects,
        ``true_transmission ([z,] angle, translation)``, ``true_stripe_gain (angle, translation)``,
        ``true_spot_angle``, ``…_translation``, ``…_channel`` and ``…_height ([z,] spot)``,
        ``true_channel_state (channel)`` (0 good, 1 hot, 2 dead) and ``true_missing (angle)``.

    Examples
    --------
    >>> simulate_scan(size=32, angles=24, channels=50).sinogram.sizes
    Frozen({'angle': 24, 'translation': 32, 'channel': 50})
    """
    if min(angles, channels) < 1 or size < 8:
        raise OptionError("simulate_scan needs size >= 8, angles >= 1 and channels >= 1.")
    bright = counts * step * 2 * SAMPLE_RADIUS * size
    defects = Defects(
        stripes, spots, hot_channels, dead_channels, missing, bright, noise=noise, seed=seed
    )
    shifts = np.random.default_rng(seed).normal(0.0, jitter, angles) if jitter else 0.0
    sample: dict[str, Any] = {"size": size, "grains": grains}
    coords = _coordinates(size, step, angles, span, slices)
    truth = xr.Dataset(
        {
            **_maps(coords, sample, seed),
            "true_beam": ("angle", beam_decay(angles, decay, topups=2)),
            "true_rotation_center": ((), (size - 1) / 2 + center_offset),
            "true_projection_shift": ("angle", np.broadcast_to(shifts, angles).copy()),
        },
        coords={**coords, "phase": list(REFLECTIONS)},
    )
    truth = derive_axes(truth.assign_coords(pattern_axes(channels)))

    numbers = projection_numbers(truth)
    numbers = numbers.chunk(_blocks(numbers, size, channels))

    rays = np.deg2rad(truth.angle), truth.true_projection_shift
    center = float(truth.true_rotation_center)
    sample |= {"angles": angles, "center": center, "absorption": absorption}
    sinogram = apply_kernel(
        measure_projections,
        numbers,
        *rays,
        truth.true_beam,
        out={"translation": size, "channel": channels},
        dtype="float32",
        q=truth.q.values,
        step=step,
        counts=counts,
        air=air,
        amorphous=amorphous,
        fraction=fraction,
        defects=defects,
        **sample,
    )
    if absorption:
        passed = apply_kernel(
            transmit_projections, numbers, *rays, out={"translation": size}, dtype="float64",
            seed=seed, **sample,
        )  # fmt: skip
        truth = truth.assign(true_transmission=passed)

    truth = true_defects(truth, defects)
    options: dict[str, Any] = {
        "size": size,
        "angles": angles,
        "channels": channels,
        "seed": seed,
        "counts": counts,
    }
    continuous = {"absorption": absorption, "amorphous": amorphous}
    options |= {name: value for name, value in continuous.items() if value} | defects.given()
    return label(truth, {SINOGRAM: sinogram}, step="simulate_scan", **options)


def _coordinates(
    size: int, step: float, angles: int, span: float, slices: int
) -> dict[str, xr.Variable]:
    place = (np.arange(size) - (size - 1) / 2) * step
    coords = {name: axis_variable(name, place) for name in ("translation", "y", "x")}
    coords["angle"] = axis_variable("angle", np.linspace(0.0, span, angles, endpoint=False))
    if slices:
        coords["z"] = axis_variable("z", np.arange(slices) * step)
    return coords


def _maps(
    coords: dict[str, xr.Variable], sample: dict[str, Any], seed: int
) -> dict[str, xr.DataArray]:
    """Make the true maps; those of many slices slice by slice, and only where they are wanted."""
    if "z" in coords:
        number = xr.DataArray(np.arange(coords["z"].size), dims="z").chunk(z=1)
    else:
        number = xr.DataArray(0)
    image = dict.fromkeys(("y", "x"), sample["size"])
    options: dict[str, Any] = {"dtype": "float64", "seed": seed, **sample}
    phases = {**image, "phase": len(REFLECTIONS)}
    return {
        "true_phase_map": apply_kernel(true_phases, number, out=phases, **options),
        "true_strain": apply_kernel(true_strain, number, out=image, **options),
    }


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
