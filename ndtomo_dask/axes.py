"""Formulas between the spectral axes: 2θ, q, d, photon energy and wavelength.

Sources: Bragg's law λ = 2 d sin θ, and h·c from the 2019 SI definitions.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

HC = 12.398419843320026
"""h·c in keV·Å (exact in the 2019 SI, rounded to double precision)."""

Float = NDArray[np.floating]


def wavelength_from_energy(energy: ArrayLike) -> Float:
    """Wavelength λ = h·c/E, in Å, from the photon energy in keV.

    >>> round(float(wavelength_from_energy(100.0)), 5)
    0.12398
    """
    return HC / np.asarray(energy, dtype=float)


def energy_from_wavelength(wavelength: ArrayLike) -> Float:
    """Photon energy E = h·c/λ, in keV, from the wavelength in Å.

    >>> round(float(energy_from_wavelength(1.5406)), 4)
    8.0478
    """
    return HC / np.asarray(wavelength, dtype=float)


def q_from_tth(tth: ArrayLike, *, wavelength: float) -> Float:
    """Momentum transfer q = 4π sin(θ)/λ, in 1/Å, from 2θ in degrees and λ in Å.

    >>> round(float(q_from_tth(5.0, wavelength=0.2)), 2)
    2.74
    """
    theta = np.deg2rad(np.asarray(tth, dtype=float)) / 2
    return np.asarray(4 * np.pi * np.sin(theta) / wavelength)


def tth_from_q(q: ArrayLike, *, wavelength: float) -> Float:
    """Scattering angle 2θ = 2 asin(q λ / 4π), in degrees, from q in 1/Å and λ in Å.

    >>> round(float(tth_from_q(2.74, wavelength=0.2)), 2)
    5.0
    """
    return 2 * np.rad2deg(np.arcsin(np.asarray(q, dtype=float) * wavelength / (4 * np.pi)))


def d_from_q(q: ArrayLike) -> Float:
    """Lattice spacing d = 2π/q, in Å, from q in 1/Å; infinite at q = 0.

    >>> round(float(d_from_q(2.0)), 4)
    3.1416
    """
    with np.errstate(divide="ignore"):
        return 2 * np.pi / np.asarray(q, dtype=float)


def q_from_d(d: ArrayLike) -> Float:
    """Momentum transfer q = 2π/d, in 1/Å, from d in Å.

    >>> round(float(q_from_d(3.1416)), 3)
    2.0
    """
    return d_from_q(d)
