"""Files of the NeXus application NXxrdct, whose ``axes`` cannot be relied on.

Its own example lists the axes translation:rotation:channel for an array whose first axis counts
points, with both motors given for each of them. So the positions are found by name, and which axis
of the data is theirs is settled by length.
"""

from collections.abc import Iterator

import h5py
import numpy as np

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.dimensions import SPECTRAL_WORDS, dimension_of
from ndtomo_dask.io.nxdata import attribute_text
from ndtomo_dask.io.pieces import Place
from ndtomo_dask.variables import ANGLE, CHANNEL, TRANSLATION

DEFINITION = "NXxrdct"
_WORDS = {
    "polar_angle": "tth",
    "x_translation": TRANSLATION,
    "y_translation": TRANSLATION,
    "dty": TRANSLATION,
}


def entry_of(file: h5py.File) -> h5py.Group | None:
    """Return the entry of a file that follows this application, or None."""
    entries = (entry for entry in file.values() if isinstance(entry, h5py.Group))
    return next((entry for entry in entries if _definition(entry) == DEFINITION), None)


def is_by_length(file: h5py.File, dataset: str) -> bool:
    """Say whether a dataset belongs to such an entry, so that names of its axes do not count."""
    entry = file.get(dataset.strip("/").split("/")[0])
    return isinstance(entry, h5py.Group) and _definition(entry) == DEFINITION


def _definition(entry: h5py.Group) -> str | None:
    text = entry.get("definition")
    if not isinstance(text, h5py.Dataset) or text.shape not in ((), (1,)):
        return None
    value = np.asarray(text[()], dtype=object).ravel()[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def xrdct_map(entry: h5py.Group) -> dict[str, Place]:
    """Map the pattern of each point and the positions of the motors, as `open_mapped` wants it."""
    signal = _signal(entry)
    found: dict[str, Place] = {"sinogram": signal.name}
    for name, beside in _numbers(entry):
        key = _key(name)
        if key is not None and beside.name != signal.name and beside.ndim == 1:
            found.setdefault(key, beside.name)
    missing = [name for name in (ANGLE, TRANSLATION) if name not in found]
    if missing:
        raise SchemaError(
            f"{entry.file.filename} has no {missing[0]} in {entry.name}. Name it: "
            f"sinogram={signal.name!r}, {missing[0]}='{entry.name.strip('/')}/sample/...'."
        )
    return found


def _signal(entry: h5py.Group) -> h5py.Dataset:
    for group in entry.values():
        if isinstance(group, h5py.Group) and attribute_text(group, "NX_class") == "NXdata":
            found = group.get(attribute_text(group, "signal") or "data")
            if isinstance(found, h5py.Dataset) and found.ndim > 0:
                return found
    raise SchemaError(
        f"{entry.file.filename} says it is {DEFINITION}, but {entry.name} has no NXdata group with "
        f"a signal. Name the data: sinogram='entry/instrument/detector/data', angle=..."
    )


def _numbers(entry: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield datasets beside the signal first, then those of the sample, then the detector's."""
    places = ("data", "sample", "instrument/detector", "monitor")
    groups = [group for group in entry.values() if isinstance(group, h5py.Group)]
    named = [group for place in places if isinstance(group := entry.get(place), h5py.Group)]
    for group in [*named, *groups]:
        for name, beside in group.items():
            if isinstance(beside, h5py.Dataset) and beside.dtype.kind in "iuf":
                yield name, beside


def _key(name: str) -> str | None:
    """Return what a dataset is by its name.

    >>> _key("rotation_angle"), _key("translation_set"), _key("polar_angle"), _key("time")
    ('angle', 'translation', 'tth', None)
    """
    word = name.lower()
    if word in _WORDS or word in SPECTRAL_WORDS:
        return _WORDS.get(word) or SPECTRAL_WORDS[word]
    dim = dimension_of(word, "sinogram")
    return dim if dim in (ANGLE, TRANSLATION) and dim != CHANNEL else None
