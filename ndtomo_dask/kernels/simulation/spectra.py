"""Spectra in closed form: absorption edges and fluorescence lines, beside the powder patterns.

Stand-ins with known positions, heights and widths, to try methods on: not measured spectra.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import OptionError, nearest
from ndtomo_dask.kernels.simulation.phantoms import SIGMA_TO_FWHM, Reflections, pattern

Float64 = NDArray[np.float64]

LINES = {
    "S": (2.3078, 2.3066, 2.4640), "K": (3.3138, 3.3111, 3.5896), "Ca": (3.6917, 3.6881, 4.0127),
    "Ti": (4.5108, 4.5049, 4.9318), "Cr": (5.4147, 5.4055, 5.9467),
    "Mn": (5.8988, 5.8877, 6.4905), "Fe": (6.4038, 6.3908, 7.0580),
    "Co": (6.9303, 6.9153, 7.6494), "Ni": (7.4782, 7.4609, 8.2647),
    "Cu": (8.0478, 8.0278, 8.9053), "Zn": (8.6389, 8.6158, 9.5720),
    "As": (10.5437, 10.5080, 11.7262), "Se": (11.2224, 11.1814, 12.4959),
    "Br": (11.9242, 11.8776, 13.2914), "Sr": (14.1650, 14.0979, 15.8357),
    "Zr": (15.7751, 15.6909, 17.6678), "Mo": (17.4793, 17.3743, 19.6083),
}  # fmt: skip
"""Energies of Kα1, Kα2 and Kβ1 in keV: Bearden, Rev. Mod. Phys. 39, 78 (1967), as tabulated in the
X-ray Data Booklet (LBNL, 2009, table 1-2)."""
SHARES = (1.0, 0.51, 0.17)
"""Heights of Kα1, Kα2 and Kβ1, about those of the first-row transition metals (the same table)."""
DETECTOR_FWHM = 0.13
"""Width of a fluorescence line in an energy-dispersive detector, in keV; that of Mn Kα."""


class Edge(NamedTuple):
    """An absorption edge in closed form."""

    position: float
    """Middle of the step, in keV."""
    white_line: float
    """Height of the line above the step."""
    width: float = 2.0e-3
    """Full width at half maximum of the step's derivative, in keV."""
    above: float = 3.0e-3
    """How far above the step the white line lies, in keV."""


EDGES = {
    "Ni metal": Edge(8.3330, 0.15),
    "NiS": Edge(8.3345, 0.30),
    "NiO": Edge(8.3400, 0.95),
    "Ni(OH)2": Edge(8.3410, 1.10, width=1.6e-3),
    "Ni2O3": Edge(8.3430, 0.80, width=2.6e-3),
}
"""Five kinds of nickel: the K edge at 8.333 keV (X-ray Data Booklet, table 1-1), further up and
with a stronger white line the more it is oxidized. Shifts and heights are plausible, not measured.
"""


def edge_spectrum(energy: ArrayLike, edge: Edge) -> Float64:
    """Absorption edge: an arctan step from 0 to 1, and a Lorentzian white line.

    ``1/2 + arctan(2 (E - E₀)/w)/π + h / (1 + (2 (E - E₀ - a)/(2w))²)``, with position E₀, width w
    and a white line of height h at a above it.

    >>> round(float(edge_spectrum(8.333, Edge(8.333, 0.0))), 3)
    0.5
    """
    offset = np.asarray(energy, dtype=np.float64) - edge.position
    step = 0.5 + np.arctan(2 * offset / edge.width) / np.pi
    line = edge.white_line / (1 + ((offset - edge.above) / edge.width) ** 2)
    return np.asarray(step + line)


def element_lines(element: str) -> Reflections:
    """Energy in keV and height of an element's K lines; Kα1 has height 1.

    >>> element_lines("Fe")[0]
    (6.4038, 1.0)
    """
    if element not in LINES:
        raise OptionError(f"element {element!r} has no lines here. {nearest(element, LINES)}")
    return tuple(zip(LINES[element], SHARES, strict=True))


def line_spectrum(energy: ArrayLike, element: str) -> Float64:
    """Fluorescence of an element as an energy-dispersive detector sees it: Gaussians.

    Their width grows with the energy, as ``√(F² + 2.355² · 0.0038 · 0.12 (E - 5.9))`` for the pairs
    of electrons that a photon makes in silicon (3.8 eV a pair, Fano factor 0.12).

    >>> round(float(line_spectrum(6.4038, "Fe")), 1)
    1.5
    """
    total = np.zeros(np.shape(energy))
    for position, height in element_lines(element):
        pairs = SIGMA_TO_FWHM**2 * 0.0038 * 0.12 * (position - 5.9)
        fwhm = float(np.sqrt(DETECTOR_FWHM**2 + pairs))
        total = total + pattern(energy, ((position, height),), fwhm=fwhm, baseline=0.0)
    return np.asarray(total)
