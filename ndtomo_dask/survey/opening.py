"""Opening a scan for a survey: by what the file says, else by names, lengths and content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.dimensions import SPECTRAL_WORDS, dimension_of
from ndtomo_dask.io.hdf5 import open_file
from ndtomo_dask.io.line_series import is_line_series
from ndtomo_dask.io.scan import open_scan
from ndtomo_dask.survey.content import dims_by_content
from ndtomo_dask.survey.finding import Finding, Level, undetermined
from ndtomo_dask.survey.numbers import Numbers, is_monitor, numbers_of
from ndtomo_dask.variables import ANGLE, CHANNEL, COORDINATES, TRANSLATION, Z

SMALL = "4MB"
"""Memory for a task, so that blocks are small where the file's chunks are."""
QUESTION = "dimensions"
_UNITS = {"deg": ANGLE, "degree": ANGLE, "degrees": ANGLE, "rad": ANGLE, "mm": TRANSLATION,
          "um": TRANSLATION, "kev": "energy", "ev": "energy"}  # fmt: skip


@dataclass
class Opened:
    """A scan that was opened, or why it could not be."""

    ds: xr.Dataset | None
    finding: Finding
    options: dict[str, Any] = field(default_factory=dict)
    """Of `open_scan`, for the recipe."""
    numbers: list[Numbers] = field(default_factory=list)

    @property
    def stored(self) -> np.dtype | None:
        """Type of the samples in the file, where they are integers."""
        source = str(self.ds.attrs.get("source", "")) if self.ds is not None else ""
        place = source.partition(":")[2].rpartition(" mtime_ns=")[0].rpartition(" ")[0]
        place = place.rpartition(" ")[0].strip("/")
        found = [one.dtype for one in self.numbers if one.path == place]
        return found[0] if found and found[0].kind in "iu" else None

    @property
    def says_angle_unit(self) -> bool:
        """Whether the file gives the unit of its angles, or is a store of ours."""
        angles = [one for one in self.numbers if _role(one) == ANGLE and len(one.shape) == 1]
        return not self.numbers or any(one.unit is not None for one in angles)


def open_for_survey(path: Path, given: Mapping[str, Any]) -> Opened:
    """Open a scan in small blocks, settling what its file leaves open where its content does."""
    options = {name: value for name, value in given.items() if value is not None}
    numbers = [] if path.is_dir() or is_line_series(path) else numbers_of(path)
    try:
        ds = open_scan(path, allowed_mem=SMALL, **options)
    except SchemaError as error:
        return _by_content(path, options, numbers, error)
    if "sinogram" not in ds and not given.get("sinogram"):
        what = ", ".join(map(str, ds.data_vars))
        said = f"the file holds {what} {dict(ds.sizes)}; a survey is of a sinogram: name it"
        again = _by_content(path, options, numbers, SchemaError(said)) if numbers else None
        return again or Opened(None, undetermined(QUESTION, said), options, numbers)
    return Opened(ds, _as_opened(ds), options, numbers)


def _as_opened(ds: xr.Dataset) -> Finding:
    sizes = {str(dim): size for dim, size in ds["sinogram"].sizes.items()}
    assumed = str(ds.attrs.get("assumed", ""))
    by = assumed or "by what the file says of its axes, and by their lengths"
    level: Level = "look" if assumed else "fine"
    return Finding(QUESTION, _sizes(sizes), by, level, sizes)


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{dim} {size}" for dim, size in sizes.items())


def _role(numbers: Numbers) -> str | None:
    """Return the coordinate that a list of numbers is, by its name, else by its unit."""
    word = numbers.leaf.lower()
    if word in SPECTRAL_WORDS:
        return SPECTRAL_WORDS[word]
    dim = dimension_of(word, "sinogram")
    if dim in (ANGLE, TRANSLATION, Z):
        return dim
    return _UNITS.get((numbers.unit or "").lower()) if dim is None else None


def _by_content(
    path: Path, options: Mapping[str, Any], numbers: Sequence[Numbers], error: SchemaError
) -> Opened:
    """Name the datasets by their names and lengths, and their axes by what the data hold."""
    mapping = _named(options, numbers)
    if "sinogram" not in mapping:
        return Opened(None, undetermined(QUESTION, str(error)), {**options}, [*numbers])
    whose = {one.path: one for one in numbers}
    lengths = {_dimension(name): whose[place].shape[0] for name, place in mapping.items()
               if name != "sinogram" and place in whose}  # fmt: skip
    third = Z if Z in lengths and CHANNEL not in lengths else CHANNEL
    with open_file(path) as file:
        dataset = file[mapping["sinogram"]]
        dims, evidence = dims_by_content(dataset, lengths, third=third)
        shape = dataset.shape
        still = [name for name in (TRANSLATION, Z)
                 if name in mapping and np.ptp(file[mapping[name]][()]) == 0]  # fmt: skip
    mapping = {name: place for name, place in mapping.items() if name not in still}
    options = {name: value for name, value in options.items() if name not in mapping} | mapping
    named = ", ".join(f"{name} is {place}" for name, place in mapping.items())
    if dims is None:
        return Opened(None, undetermined(QUESTION, f"{error} By content: {evidence}."), options,
                      [*numbers])  # fmt: skip
    options = {**options, "dims": [*dims]}
    try:
        ds = open_scan(path, allowed_mem=SMALL, **options)
    except SchemaError as wrong:
        return Opened(None, undetermined(QUESTION, str(wrong)), options, [*numbers])
    sizes = dict(zip(dims, shape, strict=True))
    found = Finding(QUESTION, _sizes(sizes), f"{evidence}; {named}", "look", sizes)
    return Opened(ds, found, options, [*numbers])


def _dimension(name: str) -> str:
    return COORDINATES[name].dimension if name in COORDINATES else name


def _shared(path: str, other: str) -> int:
    """Count the groups that two paths begin with alike."""
    pairs = zip(path.split("/"), other.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _named(options: Mapping[str, Any], numbers: Sequence[Numbers]) -> dict[str, str]:
    """Choose the largest array, and for each coordinate the list that fits one of its axes."""
    arrays = [one for one in numbers if len(one.shape) in (2, 3) and min(one.shape) > 1]
    arrays = [one for one in arrays if not is_monitor(one)]
    known = {one.path for one in numbers}
    texts = {name: place.strip("/") for name, place in options.items() if isinstance(place, str)}
    given = {name: place for name, place in texts.items() if place in known}
    largest = max(arrays, key=lambda one: np.prod(one.shape), default=None)
    if "sinogram" not in given and largest is None:
        return given
    main = given.get("sinogram") or str(largest and largest.path)
    shape = next(one.shape for one in numbers if one.path == main)
    mapping = {"sinogram": main} | given
    for one in sorted(numbers, key=lambda one: -_shared(one.path, main)):
        role = _role(one)
        if len(one.shape) == 1 and one.shape[0] in shape and role and role not in mapping:
            mapping[role] = one.path
    return mapping
