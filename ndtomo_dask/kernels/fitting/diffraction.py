"""What positions and widths of diffraction peaks say of a crystal: cell, strain, size.

Everything goes through the momentum transfer q, so that an axis of 2θ, d or energy is no case of
its own. Arrays end in the dimension ``peak``; a pixel's numbers come from that pixel alone.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.axes import HC
from ndtomo_dask.errors import OptionError

Float64 = NDArray[np.float64]

SYSTEMS = {
    "cubic": ("a",),
    "tetragonal": ("a", "c"),
    "hexagonal": ("a", "c"),
    "orthorhombic": ("a", "b", "c"),
}
"""Lattice parameters of each crystal system."""
_DETERMINED = 1e-9
"""Least determinant, of a normal matrix with unit diagonal, at which it is solved."""
_GAUSSIAN_PART = (-0.74417, -0.24781, -0.00810)
_LORENTZIAN_PART = (0.72928, 0.19289, 0.07783)
"""Thompson, Cox & Hastings, J. Appl. Cryst. 20, 79 (1987): the Voigt profile of a pseudo-Voigt."""
_LORENTZIAN_SQUARE = 0.2166


def q_and_slope(
    position: Float64,
    axis: str,
    *,
    wavelength: float | None = None,
    scattering_angle: float | None = None,
) -> tuple[Float64, Float64]:
    """Momentum transfer q of a position on an axis, in 1/Å, and |dq/d position| there.

    From 2θ in degrees it needs the wavelength in Å, from energy in keV the fixed 2θ in degrees.

    >>> q, slope = q_and_slope(np.array([5.0]), "tth", wavelength=0.2)
    >>> float(q[0].round(3)), float(slope[0].round(3))
    (2.741, 0.548)
    """
    if axis == "q":
        return position, np.ones_like(position)
    if axis == "d":
        return 2 * np.pi / position, 2 * np.pi / position**2
    if axis == "tth" and wavelength is not None:
        theta, scale = np.deg2rad(position) / 2, 4 * np.pi / wavelength
        return scale * np.sin(theta), scale * np.cos(theta) * np.pi / 360
    if axis == "energy" and scattering_angle is not None:
        scale = 4 * np.pi * np.sin(np.deg2rad(scattering_angle) / 2) / HC
        return scale * position, np.full_like(position, scale)
    raise OptionError(f"no q follows from axis {axis!r} alone.")


def metric_rows(hkl: ArrayLike, system: str) -> Float64:
    """Rows f of 1/d² = Σ f·p, with p = 1/a², 1/b², 1/c² as a system has them.

    # (peak, 3) -> (peak, parameter)

    >>> metric_rows([[1, 1, 1], [2, 0, 0]], "cubic")
    array([[3.],
           [4.]])
    """
    h, k, m = np.asarray(hkl, dtype=np.float64).T
    if system == "cubic":
        return np.column_stack([h**2 + k**2 + m**2])
    if system == "tetragonal":
        return np.column_stack([h**2 + k**2, m**2])
    if system == "hexagonal":
        return np.column_stack([4 / 3 * (h**2 + h * k + k**2), m**2])
    return np.column_stack([h**2, k**2, m**2])


def solve_weighted(design: Float64, values: Float64, variance: Float64) -> tuple[Float64, Float64]:
    """Solve small weighted least squares: the solution and the variance of each unknown.

    A value or variance that is not finite, or a variance of 0, has no weight; NaN where too few are
    left.

    # (..., peak, unknown), (..., peak), (..., peak) -> (..., unknown), (..., unknown)
    """
    usable = np.isfinite(values) & np.isfinite(variance) & (variance > 0)
    usable &= np.isfinite(design).all(axis=-1)
    weight = np.where(usable, 1 / np.where(usable, variance, 1), 0)
    rows = np.where(usable[..., None], design, 0)
    right = np.where(usable, values, 0)
    unknowns = rows.shape[-1]
    normal = np.zeros((*values.shape[:-1], unknowns, unknowns))
    product = np.zeros((*values.shape[:-1], unknowns))
    # Peaks one by one, so that sums have one order however many pixels there are.
    for peak in range(values.shape[-1]):
        weighted = weight[..., peak, None] * rows[..., peak, :]
        normal += weighted[..., :, None] * rows[..., peak, None, :]
        product += weighted * right[..., peak, None]
    scale = np.sqrt(np.diagonal(normal, axis1=-2, axis2=-1))
    scale = np.where(scale > 0, scale, 1)
    normal /= scale[..., :, None] * scale[..., None, :]
    singular = ~(np.linalg.det(normal) > _DETERMINED) | (usable.sum(axis=-1) < unknowns)
    normal[singular] = np.eye(unknowns)
    inverse = np.linalg.inv(normal)
    solution = (inverse * (product / scale)[..., None, :]).sum(axis=-1) / scale
    spread = np.diagonal(inverse, axis1=-2, axis2=-1) / scale**2
    singular = singular[..., None]
    return np.where(singular, np.nan, solution), np.where(singular, np.nan, spread)


def lattice_parameters(q: Float64, q_error: Float64, rows: Float64) -> tuple[Float64, Float64]:
    """Lattice parameters in Å and their errors, from all peaks: least squares of 1/d².

    # (..., peak), (..., peak), (peak, parameter) -> (..., parameter), (..., parameter)

    >>> a, _ = lattice_parameters(np.array([3.0]), np.array([0.01]), np.array([[3.0]]))
    >>> float(a[0].round(4))  # 2π √3 / q
    3.6276
    """
    inverse_square = (q / (2 * np.pi)) ** 2
    variance = (2 * q * q_error / (2 * np.pi) ** 2) ** 2
    design = np.broadcast_to(rows, (*q.shape, rows.shape[-1]))
    solution, spread = solve_weighted(design, inverse_square, variance)
    solution = np.where(solution > 0, solution, np.nan)
    return solution**-0.5, np.sqrt(spread) / 2 * solution**-1.5


def voigt_parts(fwhm: Float64, fraction: Float64) -> tuple[Float64, Float64]:
    """Gaussian and Lorentzian fwhm of the Voigt profile that a pseudo-Voigt stands for.

    >>> gaussian, lorentzian = voigt_parts(np.array([1.0]), np.array([0.0]))
    >>> float(gaussian[0]), float(lorentzian[0])
    (1.0, 0.0)
    """
    one, two, three = _GAUSSIAN_PART
    square = 1 + fraction * (one + fraction * (two + fraction * three))
    one, two, three = _LORENTZIAN_PART
    lorentzian = fraction * (one + fraction * (two + fraction * three))
    return fwhm * np.sqrt(np.maximum(square, 0)), fwhm * lorentzian


def voigt_fwhm(gaussian: Float64, lorentzian: Float64) -> tuple[Float64, Float64, Float64]:
    """Width of a Voigt profile from those of its parts, to 0.02 %, and its derivatives by these.

    0.5346 L + √(0.2166 L² + G²) of Olivero & Longbothum, J. Quant. Spectrosc. Radiat. Transfer 17,
    233 (1977).
    """
    root = np.sqrt(_LORENTZIAN_SQUARE * lorentzian**2 + gaussian**2)
    rate = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    width = (1 - np.sqrt(_LORENTZIAN_SQUARE)) * lorentzian + root
    by_lorentzian = 1 - np.sqrt(_LORENTZIAN_SQUARE) + _LORENTZIAN_SQUARE * lorentzian * rate
    return width, gaussian * rate, by_lorentzian


def sample_width(
    fwhm: Float64, fraction: Float64, instrument: Float64, instrument_fraction: Float64
) -> tuple[Float64, Float64]:
    """Width of the sample's own profile, and its derivative by the measured width.

    Gaussian parts subtract in squares, Lorentzian parts as they are; NaN where the measured peak
    is no wider than the instrument's.

    >>> width, _ = sample_width(*(np.array([v]) for v in (5.0, 0.0, 3.0, 0.0)))
    >>> float(width[0])
    4.0
    """
    gaussian, lorentzian = voigt_parts(fwhm, fraction)
    own_gaussian, own_lorentzian = voigt_parts(instrument, instrument_fraction)
    square = gaussian**2 - own_gaussian**2
    # A part below that of the instrument is the noise of the fraction: the other has it all.
    rest = np.sqrt(np.maximum(square, 0))
    width, by_gaussian, by_lorentzian = voigt_fwhm(rest, np.maximum(lorentzian - own_lorentzian, 0))
    stretch = np.divide(gaussian, rest, out=np.zeros_like(rest), where=rest > 0)
    gaussian_share, lorentzian_share = voigt_parts(np.ones_like(fwhm), fraction)
    slope = by_gaussian * stretch * gaussian_share
    slope += np.where(lorentzian > own_lorentzian, by_lorentzian * lorentzian_share, 0)
    # The parts are those of a profile nearly, not quite, as wide: without an instrument, nothing
    # may change.
    scale = 1 / voigt_fwhm(gaussian_share, lorentzian_share)[0]
    width, slope = width * scale, slope * scale
    wider = (fwhm > instrument) & (width > 0)
    return np.where(wider, width, np.nan), np.where(wider, slope, np.nan)


def scherrer_size(
    width: Float64, width_error: Float64, shape_factor: float
) -> tuple[Float64, Float64]:
    """Crystallite size 2π K/Δq in Å, from a width in 1/Å, and its error (Scherrer 1918).

    >>> size, _ = scherrer_size(np.array([0.01]), np.array([0.0]), 0.9)
    >>> round(float(size[0]), 1)
    565.5
    """
    size = 2 * np.pi * shape_factor / width
    return size, size * width_error / width


def williamson_hall_line(
    q: Float64, width: Float64, width_error: Float64, shape_factor: float, *, squares: bool
) -> tuple[Float64, Float64, Float64, Float64]:
    """Size and microstrain with their errors, from Δq = 2π K/L + 2 ε q over the peaks of a pixel.

    With ``squares`` the terms add in squares, as Gaussian profiles do. A term below 0 is NaN: what
    is left of it beside noise cannot be told (Williamson & Hall, Acta Metall. 1, 22 (1953)).

    # (..., peak) -> four times (...)
    """
    power = 2 if squares else 1
    design = np.stack([np.ones_like(q), (2 * q) ** power], axis=-1)
    values, spread = width**power, (power * width ** (power - 1) * width_error) ** 2
    terms, variance = solve_weighted(design, values, spread)
    positive = np.where(terms > 0, terms, np.nan)
    roots = positive ** (1 / power)
    errors = np.sqrt(variance) / power * positive ** (1 / power - 1)
    size, size_error = scherrer_size(roots[..., 0], errors[..., 0], shape_factor)
    return size, size_error, roots[..., 1], errors[..., 1]
