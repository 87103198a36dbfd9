"""Which datasets of numbers a file has."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py
import numpy as np

from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.hdf5 import open_file
from ndtomo_dask.io.nxdata import attribute_text

MOST = 20_000
"""Datasets that are looked at: a master of thousands of scans has hundreds of thousands."""
WORDS = ("monitor", "i0", "ic", "ic0", "ic1", "ion_chamber", "diode", "fpico", "fpico6", "mon")
"""Names of monitors, or the beginning of a name that ends in a number."""


@dataclass(frozen=True)
class Numbers:
    """A dataset of numbers in a file."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    unit: str | None

    @property
    def leaf(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


def numbers_of(path: Path) -> list[Numbers]:
    """List the datasets of numbers in a file, with their units; the first ones, if there are many.

    Raises
    ------
    StoreError
        The file cannot be read, or it holds no dataset.
    """
    found: list[Numbers] = []

    def collect(place: str, entry: h5py.HLObject) -> bool | None:
        if isinstance(entry, h5py.Dataset) and entry.shape and entry.dtype.kind in "iuf":
            unit = attribute_text(entry, "units")
            found.append(Numbers(place, entry.shape, entry.dtype, unit))
        return True if len(found) >= MOST else None  # which ends the walk

    with open_file(path) as file:
        file.visititems(collect)
        if not found and not len(file):
            raise StoreError(f"{path} holds no dataset at all. Write the scan first.")
    return found


def is_monitor(numbers: Numbers) -> bool:
    """Say whether a dataset is a monitor, by its name or that of its group."""
    if numbers.dtype.kind not in "iuf" or len(numbers.shape) > 3 or prod(numbers.shape) < 2:
        return False
    words = [part.lower().rstrip("0123456789") for part in numbers.path.split("/")[-2:]]
    return any(word in {name.rstrip("0123456789") for name in WORDS} for word in words)
