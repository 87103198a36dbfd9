"""Which datasets of numbers a file has."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py
import numpy as np

from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.hdf5 import dataset_paths, open_file

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
    """List the datasets of numbers in a file, with their units."""
    with open_file(path) as file:
        if not dataset_paths(file):
            raise StoreError(f"{path} holds no dataset at all. Write the scan first.")
        found = []
        for place in dataset_paths(file):
            entry = file.get(place)
            if isinstance(entry, h5py.Dataset) and entry.shape and entry.dtype.kind in "iuf":
                unit = entry.attrs.get("units")
                unit = unit.decode() if isinstance(unit, bytes) else unit
                found.append(Numbers(place, entry.shape, entry.dtype, unit and str(unit)))
    return found


def is_monitor(numbers: Numbers) -> bool:
    """Say whether a dataset is a monitor, by its name or that of its group."""
    if numbers.dtype.kind not in "iuf" or len(numbers.shape) > 3 or prod(numbers.shape) < 2:
        return False
    words = [part.lower().rstrip("0123456789") for part in numbers.path.split("/")[-2:]]
    return any(word in {name.rstrip("0123456789") for name in WORDS} for word in words)
