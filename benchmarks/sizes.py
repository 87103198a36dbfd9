"""The sizes at which things are measured, by name."""

from dataclasses import dataclass


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
    def options(self) -> dict[str, int]:
        """What `ndtomo_dask.simulate_scan` is to be called with."""
        return {
            "size": self.size,
            "angles": self.angles,
            "channels": self.channels,
            "slices": self.slices,
        }


TINY = Size("tiny", 24, 20, 32)
"""For the tests: does it run at all?"""
SMALL = Size("small", 128, 90, 64)
BEAMLINE = Size("beamline", 256, 256, 256)
TERABYTE = Size("terabyte", 512, 512, 2048, slices=512, runs=False)
"""1.1 TB: only its graph is built."""
SIZES = {size.name: size for size in (SMALL, BEAMLINE, TERABYTE)}
