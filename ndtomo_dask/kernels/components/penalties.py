"""What nonnegative factors W H are charged for beside their misfit to the data.

With spectra h that sum to one, the objective is

    ‖X - W H‖² + 2 λ Σ w + μ Σₖ ‖wₖ‖² ‖D hₖ‖²,

with D the second difference along channels. For spectra of any scale, w stands for w Σh and
‖wₖ‖² ‖D hₖ‖² stays as it is, so that nothing is gained by making one factor small and the other
large. The first penalty makes maps sparse (Hoyer, NNSP 2002), the second spectra smooth.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.compiled import compiled

Float64 = NDArray[np.float64]

SWEEPS = 10
"""Sweeps of coordinate descent over the spectra in each iteration; they begin at the last ones."""


class Penalties(NamedTuple):
    """How much maps are made sparse, and spectra smooth."""

    threshold: float = 0.0
    """λ: what an amount must gain, in units of x·h, to be there at all."""
    smoothness: float = 0.0
    """μ, without a unit."""
    fixed: int = 0
    """Spectra that are known, the first ones: they are not charged for their shape."""

    @property
    def none(self) -> bool:
        """Whether nothing is charged."""
        return self.threshold == 0 and self.smoothness == 0

    def of_weights(self, spectra: Float64) -> tuple[Float64, Float64]:
        """Return what is taken from the products x·h, and what is added to h·h, (component,)."""
        return self.threshold * spectra.sum(axis=1), self.smoothness * self._roughness(spectra)

    def charge(self, weight: Float64, energy: Float64, spectra: Float64) -> float:
        """Sum both penalties, given Σ w and Σ w² of each component."""
        if self.none:
            return 0.0
        offset, ridge = self.of_weights(spectra)
        return float(2 * weight @ offset + energy @ ridge)

    def _roughness(self, spectra: Float64) -> Float64:
        second = np.diff(spectra, n=2, axis=1) if spectra.shape[1] > 2 else spectra[:, :0]
        rough = np.square(second).sum(axis=1)
        rough[: self.fixed] = 0.0
        return np.asarray(rough)


def smooth_spectra(
    products: Float64, gram: Float64, spectra: Float64, smoothness: float, fixed: int
) -> Float64:
    """Improve spectra H ≥ 0 in tr(Hᵀ G H) - 2 tr(P Hᵀ) + μ Σ Gₖₖ ‖D hₖ‖², from those given.

    (component, channel), (component, component), (component, channel) -> (component, channel). The
    first ``fixed`` stay as they are.
    """
    channels = spectra.shape[1]
    rows = max(0, channels - 2)
    bands = np.zeros((3, channels))
    for first, entry in enumerate((1.0, 4.0, 1.0)):
        bands[0, first : first + rows] += entry
    for first in range(2):
        bands[1, first : first + rows] -= 2.0
    bands[2, :rows] = 1.0
    improved = spectra.copy()
    _descend(products, gram, bands, smoothness, fixed, improved)
    return improved


@compiled(allocates=True)
def _descend(
    products: Float64, gram: Float64, bands: Float64, smoothness: float, fixed: int,
    spectra: Float64,
) -> None:  # fmt: skip
    # (component, channel), (component, component), diagonals of DᵀD (3, channel)
    components, channels = spectra.shape
    for _ in range(SWEEPS):
        for k in range(fixed, components):
            energy = gram[k, k]
            if energy <= 0.0:
                continue
            for c in range(channels):
                slope = products[k, c]
                for j in range(components):
                    slope -= gram[k, j] * spectra[j, c]
                bent = bands[0, c] * spectra[k, c]
                for offset in range(1, 3):
                    if c >= offset:
                        bent += bands[offset, c - offset] * spectra[k, c - offset]
                    if c + offset < channels:
                        bent += bands[offset, c] * spectra[k, c + offset]
                slope -= smoothness * energy * bent
                step = slope / (energy * (1.0 + smoothness * bands[0, c]))
                spectra[k, c] = max(0.0, spectra[k, c] + step)
