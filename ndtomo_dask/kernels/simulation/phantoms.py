"""Phantoms with known chemistry: shapes, Voronoi grains, powder patterns and a decaying beam.

Pixel (row, column) has its center at (row, column), so the middle of an image of ``n`` rows is row
``(n - 1)/2``, as in `ndtomo_dask.geometry`. Everything random is drawn from the generator given.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ndtomo_dask.errors import OptionError

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Reflections = tuple[tuple[float, float], ...]

SIGMA_TO_FWHM = 2 * np.sqrt(2 * np.log(2))
"""FWHM of a Gaussian of standard deviation 1."""

FWHM = 0.025 * SIGMA_TO_FWHM
"""Width of the reflections of the example patterns of nDTomo (σ = 0.025), in 1/Å."""

REFLECTIONS: dict[str, Reflections] = {
    "Al": ((2.6873, 1.006), (3.1030, 0.510), (4.3883, 0.374)),
    "Cu": ((3.0121, 1.004), (3.4781, 0.496)),
    "Fe": ((3.0999, 1.000), (4.3839, 0.169)),
    "Pt": ((2.7736, 1.011), (3.2027, 0.522)),
    "Zn": ((2.5409, 0.354), (2.7239, 0.221), (3.0056, 1.016), (3.7250, 0.182)),
}
"""(position q in 1/Å, height) per reflection, for q from 2.1 to 4.6: the closed form of the five
example patterns of nDTomo (``Patterns.h5``), which it reproduces to 2.5e-6."""

VOID_CHANCE, MIXED_CHANCE = 0.1, 0.2
SAMPLE_RADIUS, WALL_RADIUS, WALL_THICKNESS = 0.42, 0.45, 0.02


class CapillaryPhantom(NamedTuple):
    """A packed powder in a glass capillary, as maps of known truth."""

    phase_map: Float64
    """Amount of each phase, (y, x, phase); 0 outside the sample and in voids."""
    strain_map: Float64
    """Strain Δd/d of the grain, (y, x); one of `levels`, and 0 where there is no grain."""
    wall: Float64
    """Amount of capillary glass, (y, x)."""
    labels: Int64
    """Number of the grain, (y, x); -1 outside the sample."""
    levels: Float64
    """The strains that occur, ascending, so that the data are a finite sum of patterns."""


def _distance(shape: tuple[int, int], center: tuple[float, float] | None) -> Float64:
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2) if center is None else center
    return np.hypot(*(np.ogrid[: shape[0], : shape[1]][axis] - middle[axis] for axis in (0, 1)))


def disc(shape: tuple[int, int], radius: float, center: tuple[float, float] | None = None) -> Bool:
    """Pixels whose center lies within ``radius`` pixels of ``center``, (y, x), the rim included.

    ``center`` is (row, column), 0-based and fractional; the middle of the image unless given.

    >>> int(disc((5, 5), 1.0).sum())
    5
    """
    return _distance(shape, center) <= radius


def ring(
    shape: tuple[int, int],
    inner: float,
    outer: float,
    center: tuple[float, float] | None = None,
) -> Bool:
    """Pixels of ``disc(outer)`` that are not in ``disc(inner)``, (y, x).

    >>> int(ring((5, 5), 1.0, 1.5).sum())
    4
    """
    distance = _distance(shape, center)
    return (distance > inner) & (distance <= outer)


def voronoi_labels(shape: tuple[int, int], seeds: ArrayLike) -> Int64:
    """Index of the seed nearest to each pixel center, (seed, 2) -> (y, x); seeds are (row, column).

    >>> voronoi_labels((1, 4), [[0.0, 0.0], [0.0, 3.0]])
    array([[0, 0, 1, 1]])
    """
    pixels = np.indices(shape).reshape(2, -1).T
    _, nearest = cKDTree(np.asarray(seeds, dtype=np.float64)).query(pixels)
    return np.asarray(nearest, dtype=np.int64).reshape(shape)


def voronoi_grains(shape: tuple[int, int], grains: int, rng: np.random.Generator) -> Int64:
    """Label each pixel with its grain: Voronoi cells of seeds uniform over the image, (y, x)."""
    _check_positive("grains", grains)
    return voronoi_labels(shape, rng.uniform(-0.5, np.array(shape) - 0.5, (grains, 2)))


def capillary_phantom(
    size: int,
    phases: int,
    grains: int,
    rng: np.random.Generator,
    *,
    strain: float = 1e-3,
    levels: int = 5,
) -> CapillaryPhantom:
    """Fill a thin-walled capillary with grains of known phase, amount and strain.

    A grain holds an amount 0.6 to 1 of one phase; about 20 % of the grains share it between two
    phases and about 10 % are void. Each phase is dominant in at least one grain if there are as
    many grains as phases.

    Parameters
    ----------
    size
        Rows and columns of the maps, in pixels. The sample fills a disc of radius 0.42 ``size``,
        the wall lies outside it, up to 0.45 ``size``, and is at least a pixel thick.
    phases, grains
        Their numbers; all grains have their seed inside the sample.
    rng
        Source of everything random: the same seed gives the same phantom.
    strain, levels
        The strain of a grain is one of ``levels`` values evenly spaced from -strain to strain.

    Raises
    ------
    OptionError
        If a count is below 1, or the image is too small to hold a wall and a sample.
    """
    _check_positive("phases", phases)
    _check_positive("grains", grains)
    _check_positive("levels", levels)
    if size < 8:
        raise OptionError(f"size={size} is too small for a capillary. Use size=8 or more.")

    outer = WALL_RADIUS * size
    inner = outer - max(1.0, WALL_THICKNESS * size)
    radius = min(SAMPLE_RADIUS * size, inner)
    labels = voronoi_labels((size, size), _seeds_in_disc(size, radius, grains, rng))
    labels[~disc((size, size), radius)] = -1

    values = np.linspace(-strain, strain, levels) if levels > 1 else np.array([strain])
    amounts = grain_amounts(phases, grains, rng)
    strains = np.where(amounts.any(axis=1), rng.choice(values, grains), 0.0)
    # A last row of zeros is what the label -1, outside the sample, picks.
    return CapillaryPhantom(
        phase_map=np.vstack([amounts, np.zeros(phases)])[labels],
        strain_map=np.append(strains, 0.0)[labels],
        wall=ring((size, size), inner, outer).astype(np.float64),
        labels=labels,
        levels=values,
    )


def _seeds_in_disc(size: int, radius: float, count: int, rng: np.random.Generator) -> Float64:
    # The square root makes the density of seeds uniform over the area.
    distance = radius * np.sqrt(rng.random(count))
    angle = rng.uniform(0, 2 * np.pi, count)
    direction: Float64 = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return np.asarray((size - 1) / 2 + distance[:, None] * direction)


def grain_amounts(phases: int, grains: int, rng: np.random.Generator) -> Float64:
    """Amount of each phase in each grain: mostly one, sometimes two or none, (grain, phase)."""
    grain = np.arange(grains)
    first = grain % phases
    second = (first + 1 + rng.integers(max(phases - 1, 1), size=grains)) % phases
    chance = rng.random(grains)
    amount = rng.uniform(0.6, 1.0, grains)
    share = rng.uniform(0.2, 0.5, grains)

    # The first grain of each phase is never void, so that no phase is missing.
    amount[(chance < VOID_CHANCE) & (grain >= phases)] = 0.0
    share[(chance < VOID_CHANCE) | (chance >= VOID_CHANCE + MIXED_CHANCE)] = 0.0
    amounts = np.zeros((grains, phases))
    amounts[grain, first] = amount * (1 - share)
    amounts[grain, second] += amount * share
    return amounts


def pattern(
    q: ArrayLike,
    reflections: Reflections,
    *,
    fwhm: float = FWHM,
    fraction: float = 0.0,
    strain: float = 0.0,
    baseline: float = 0.01,
) -> Float64:
    """Powder pattern: baseline + Σ h (η L + (1 - η) G)(q - c/(1 + ε)), L and G of unit height.

    Parameters
    ----------
    q
        Momentum transfer, in 1/Å, any shape.
    reflections
        (position c in 1/Å, height h) per reflection, as in `REFLECTIONS`.
    fwhm
        Full width at half maximum of the Lorentzian L and of the Gaussian G, in 1/Å.
    fraction
        Lorentzian fraction η of the pseudo-Voigt profile, 0 to 1.
    strain
        ε = Δd/d; a stretched lattice (ε > 0) has its reflections at smaller q = c/(1 + ε).
    baseline
        Constant added to the pattern.

    Raises
    ------
    OptionError
        If the width is not positive, the fraction not in 0 to 1, or the strain not above -1.

    >>> round(float(pattern(2.6873, REFLECTIONS["Al"])), 3)
    1.016
    """
    _check_profile(fwhm, fraction)
    if strain <= -1:
        raise OptionError(f"strain={strain:g} leaves no lattice. Use a value above -1.")
    positions, heights = np.array(reflections, dtype=np.float64).reshape(-1, 2).T
    offset = (np.asarray(q, dtype=np.float64)[..., None] - positions / (1 + strain)) / fwhm
    profile = fraction / (1 + 4 * offset**2)
    profile += (1 - fraction) * np.exp(-4 * np.log(2) * offset**2)
    return np.asarray(baseline + profile @ heights)


def peak_area(height: float, fwhm: float = FWHM, fraction: float = 0.0) -> float:
    """Area of a pseudo-Voigt peak: h · fwhm · (η π/2 + (1 - η) √(π / 4 ln 2)).

    >>> round(peak_area(1.0, 2.0, 0.0), 4)
    2.1289
    """
    _check_profile(fwhm, fraction)
    shape = fraction * np.pi / 2 + (1 - fraction) * np.sqrt(np.pi / (4 * np.log(2)))
    return float(height * fwhm * shape)


def amorphous_halo(q: ArrayLike) -> Float64:
    """Scatter of a silica-like glass: broad Gaussians at 1.55 and, 0.35 as high, at 3.0 1/Å.

    A smooth stand-in for the wall of a capillary, not a structure factor; both are 1.2 1/Å wide.

    >>> round(float(amorphous_halo(3.0)), 2)
    0.37
    """
    return pattern(q, ((1.55, 1.0), (3.0, 0.35)), fwhm=1.2, baseline=0.0)


def air_scatter(q: ArrayLike) -> Float64:
    """Scatter of the air in the beam's path: exp(-q / 1.5), 1 at q = 0, with q in 1/Å.

    >>> round(float(air_scatter(1.5)), 4)
    0.3679
    """
    return np.asarray(np.exp(-np.asarray(q, dtype=np.float64) / 1.5))


def beam_decay(count: int, drop: float = 0.75, topups: int = 1) -> Float64:
    """Beam intensity that falls linearly from 1 to ``drop`` between top-ups, ``topups`` times.

    The fills are equally long, or a point longer for the first ones where ``count`` does not
    divide; each begins at 1 and, if it has more than one point, ends at ``drop``.

    >>> beam_decay(6, 0.8, topups=2)
    array([1. , 0.9, 0.8, 1. , 0.9, 0.8])
    """
    if not 0 < drop <= 1:
        raise OptionError(f"drop={drop:g} must lie above 0 and not above 1.")
    if not 1 <= topups <= count:
        raise OptionError(f"topups={topups} must lie between 1 and the {count} points.")
    longer = count % topups
    lengths = [count // topups + (fill < longer) for fill in range(topups)]
    return np.concatenate([np.linspace(1.0, drop, length) for length in lengths])


def _check_positive(option: str, value: int) -> None:
    if value < 1:
        raise OptionError(f"{option}={value} must be 1 or more.")


def _check_profile(fwhm: float, fraction: float) -> None:
    if not fwhm > 0:
        raise OptionError(f"fwhm={fwhm:g} must be above 0.")
    if not 0 <= fraction <= 1:
        raise OptionError(
            f"fraction={fraction:g} must lie between 0 (Gaussian) and 1 (Lorentzian)."
        )
