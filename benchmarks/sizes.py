"""The sizes at which things are measured, by name."""

from dataclasses import dataclass
from typing import Any

import xarray as xr

import ndtomo_dask as nd


@dataclass(frozen=True)
class Size:
    """Extent of a scan."""

    name: str
    size: int
    """Translations, and rows and columns of each image."""
    angles: int
    channels: int
    slices: int = 0
    """Slices along z; 0 leaves the dimension out."""
    runs: bool = True
    """Whether it is computed; if not, only its graph is built."""

    @property
    def nbytes(self) -> int:
        """Bytes of the raw sinogram in float32."""
        return max(1, self.slices) * self.angles * self.size * self.channels * 4

    @property
    def words(self) -> str:
        """The extent as people say it."""
        return (
            f"{self.slices} slices of {self.size} translations, {self.angles} angles and "
            f"{self.channels} channels"
        )

    def simulate(self, **options: Any) -> xr.Dataset:
        """Simulate a scan of this size, lazily; ``options`` as of `ndtomo_dask.simulate_scan`."""
        return nd.simulate_scan(
            size=self.size,
            angles=self.angles,
            channels=self.channels,
            slices=self.slices,
            **options,
        )


TINY = Size("tiny", 24, 20, 32)
"""For the tests: does it run at all?"""
SMALL = Size("small", 128, 90, 64)
BEAMLINE = Size("beamline", 256, 256, 256)
TERABYTE = Size("terabyte", 512, 512, 2048, slices=512, runs=False)
"""1.1 TB: only its graph is built."""
SIZES = {size.name: size for size in (SMALL, BEAMLINE, TERABYTE)}
