"""Simulated scans with known truth: what the tests, the demo and the tutorials feed on."""

import numpy as np
import xarray as xr

from ndtomo_dask import axes, plan
from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.phantoms import (
    FWHM,
    REFLECTIONS,
    CapillaryPhantom,
    air_scatter,
    amorphous_halo,
    beam_decay,
    capillary_phantom,
    pattern,
    peak_area,
)
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.schema import SINOGRAM, label

ENERGY = 100.0
"""Photon energy of the simulated beam, in keV."""
FINENESS = 2
"""Fine pixels of the phantom along each edge of a pixel of the true maps."""
GLASS = 0.15
"""Scatter of the capillary's glass, relative to a strong reflection."""
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
    noise: str = "poisson",
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
    phantoms = [
        capillary_phantom(
            size * FINENESS, len(REFLECTIONS), grains, np.random.default_rng([seed, z])
        )
        for z in range(max(1, slices))
    ]
    truth = _truth(phantoms, slices, size, step, angles, span, decay, center_offset, shifts)
    truth = derive_axes(truth.assign_coords(_axes(channels)))

    parts = _partial_sinograms(truth, phantoms, slices, step, counts)
    spectra = _part_spectra(truth.q.values, phantoms[0], fraction)
    parts = parts.chunk(_blocks(parts, channels))

    expected = apply_kernel(
        count_photons,
        parts,
        _numbers(parts),
        truth.true_beam,
        core=("part",),
        out={"channel": channels},
        dtype="float32",
        spectra=spectra,
        air=air * air_scatter(truth.q.values - Q_RANGE[0]),
        noise=noise,
        seed=seed,
    )
    options = {"size": size, "angles": angles, "channels": channels, "seed": seed, "counts": counts}
    return label(truth, {SINOGRAM: expected}, step="simulate_scan", **options)


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
    maps = np.stack([_coarse(phantom.phase_map) for phantom in phantoms])
    strain = np.stack([_mean_strain(phantom) for phantom in phantoms])
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


def _coarse(fine: np.ndarray) -> np.ndarray:  # (fine y, fine x, …) -> (y, x, …)
    """Mean over the fine pixels of each pixel."""
    rows, columns = fine.shape[0] // FINENESS, fine.shape[1] // FINENESS
    tiles = fine.reshape(rows, FINENESS, columns, FINENESS, *fine.shape[2:])
    return np.asarray(tiles.mean(axis=(1, 3)))


def _mean_strain(phantom: CapillaryPhantom) -> np.ndarray:
    """Strain of each pixel, weighted by the amount of material."""
    amount = phantom.phase_map.sum(axis=-1)
    total = _coarse(amount)
    weighted = _coarse(amount * phantom.strain_map)
    return np.asarray(np.divide(weighted, total, out=np.zeros_like(total), where=total > 0))


def _partial_sinograms(
    truth: xr.Dataset, phantoms: list[CapillaryPhantom], slices: int, step: float, counts: float
) -> xr.DataArray:
    """Project what the data are a finite sum of: each phase at each strain, and the glass.

    The projection is made on the fine grid and averaged over the width of the beam, so that the
    data are not made by the operator that will reconstruct them.
    """
    size = truth.sizes["translation"]
    fine = ParallelGeometry.centered(
        np.deg2rad(truth.angle.values),
        size * FINENESS,
        rotation_center=FINENESS * (float(truth.true_rotation_center) + 0.5) - 0.5,
        shifts=truth.true_projection_shift.values * FINENESS,
    )
    projector = load_projector("cpu", fine)
    scale = step * counts / FINENESS
    parts = np.stack([_beam_wide(projector(_parts(phantom))) * scale for phantom in phantoms])
    lead = ("z",) if slices else ()
    dims = (*lead, "angle", "translation", "part")
    coords = {name: truth[name] for name in (*lead, "angle", "translation")}
    return xr.DataArray(parts if slices else parts[0], dims=dims, coords=coords)


def _beam_wide(fine: np.ndarray) -> np.ndarray:  # (angle, fine translation, part)
    angles, fine_translations, parts = fine.shape
    coarse = fine.reshape(angles, fine_translations // FINENESS, FINENESS, parts)
    return np.asarray(coarse.mean(axis=2))


def _parts(phantom: CapillaryPhantom) -> np.ndarray:  # -> (fine y, fine x, part)
    at_level = phantom.strain_map[..., None] == phantom.levels
    parts = phantom.phase_map[..., :, None] * at_level[..., None, :]
    parts = parts.reshape(*phantom.wall.shape, -1)
    return np.ascontiguousarray(np.concatenate([parts, phantom.wall[..., None]], axis=-1))


def _part_spectra(q: np.ndarray, phantom: CapillaryPhantom, fraction: float) -> np.ndarray:
    patterns = [
        pattern(q, reflections, fraction=fraction, strain=strain)
        for reflections in REFLECTIONS.values()
        for strain in phantom.levels
    ]
    return np.stack([*patterns, GLASS * amorphous_halo(q)])


def _blocks(parts: xr.DataArray, channels: int) -> dict[str, int]:
    sizes = {str(dim): size for dim, size in parts.sizes.items() if dim != "part"}
    block = plan.shard_of_projections({**sizes, "channel": channels}, 4)
    return {dim: block[dim] for dim in sizes}


def _numbers(parts: xr.DataArray) -> xr.DataArray:
    """Give each projection of the scan a number, hence a random stream of its own."""
    dims = [dim for dim in parts.dims if dim not in ("translation", "part")]
    shape = [parts.sizes[dim] for dim in dims]
    return xr.DataArray(np.arange(np.prod(shape)).reshape(shape), dims=dims)


def count_photons(
    parts: np.ndarray,
    number: np.ndarray,
    beam: np.ndarray,
    *,
    spectra: np.ndarray,
    air: np.ndarray,
    noise: str,
    seed: int,
) -> np.ndarray:  # (angle, translation, part), (part, channel) -> (angle, translation, channel)
    """Draw the counts of some projections from their expected values."""
    counts = np.empty((*parts.shape[:2], spectra.shape[1]), dtype=np.float32)
    for row, projection in enumerate(parts):
        expected = np.maximum(beam[row] * (projection @ spectra + air), 0)
        random = np.random.default_rng([seed, 1, int(number[row])])
        counts[row] = random.poisson(expected) if noise == "poisson" else expected
    return counts


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
