"""What NeXus attributes say: the default plot, its signal, its axes, and what lies beside it."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from ndtomo_dask.io.dimensions import KINDS, SPECTRAL_WORDS, dimension_of, is_angle
from ndtomo_dask.io.hdf5 import open_file
from ndtomo_dask.variables import CHANNEL, COORDINATES, VARIABLES

BESIDE = {
    "wavelength": ("instrument/monochromator/wavelength", "instrument/beam/incident_wavelength"),
    "beam_energy": ("instrument/monochromator/energy", "instrument/beam/incident_energy"),
    "monitor": ("monitor/data",),
}
"""Where an entry keeps what belongs to its data, by the NeXus base classes."""

EXCHANGE = {
    "sinogram": "exchange/data",
    "angle": "exchange/theta",
    "flat": "exchange/data_white",
    "dark": "exchange/data_dark",
}
"""Where the Data Exchange format of the APS keeps a scan (De Carlo et al. 2014)."""
EXCHANGE_AXES = ("theta", "y", "x")
"""Axes of every image stack in ``/exchange``, by that format, where no attribute names them."""

EXTRA = "extra"
"""Group of an entry in which `export` keeps the rest of a scan under the data model's names."""


def attribute_text(entry: h5py.HLObject, name: str) -> str | None:
    """Return an attribute as text, or None if it is absent or empty."""
    return (_texts(entry.attrs.get(name)) or [""])[0] or None


def _texts(value: object) -> list[str]:
    """Split an attribute into words: a list of texts, or one text with commas or colons."""
    if value is None:
        return []
    words = [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in np.atleast_1d(np.asarray(value, dtype=object)).ravel()
    ]
    return [word.strip() for word in words]


def _axes_attribute(entry: h5py.HLObject) -> list[str]:
    words = _texts(entry.attrs.get("axes"))
    if len(words) == 1:
        words = words[0].strip("[]").replace(":", ",").split(",")
    return [word.strip() for word in words]


def axis_words(file: h5py.File, dataset: str, ndim: int) -> list[str]:
    """Return the file's name for each axis of a dataset; an empty word where it has none.

    The attribute ``axes`` of the dataset itself comes first, then that of its NXdata group, whose
    ``NAME_indices`` attributes place the names when there are more or fewer of them than axes.
    """
    entry = file[dataset]
    words = _axes_attribute(entry)
    if len(words) == ndim:
        return words
    group = entry.parent
    words = _axes_attribute(group)
    if len(words) != ndim:
        words = _by_indices(group, words, ndim)
    if not any(words):
        words = _old_style(group, ndim)
    if not any(words) and group.name == "/exchange" and ndim == len(EXCHANGE_AXES):
        words = list(EXCHANGE_AXES)
    return ["" if word == "." else word for word in words]


def _by_indices(group: h5py.Group, words: list[str], ndim: int) -> list[str]:
    placed = [""] * ndim
    for word in words:
        indices = _texts(group.attrs.get(f"{word}_indices"))
        if len(indices) == 1 and indices[0].isdigit() and int(indices[0]) < ndim:
            placed[int(indices[0])] = word
    return placed


def _old_style(group: h5py.Group, ndim: int) -> list[str]:
    """Place the datasets of a group that carry the older attribute ``axis=1`` and so on."""
    placed = [""] * ndim
    for name, entry in group.items():
        number = attribute_text(entry, "axis") if isinstance(entry, h5py.Dataset) else None
        if number and number.isdigit() and 1 <= int(number) <= ndim:
            placed[int(number) - 1] = name
    return placed


def siblings(
    file: h5py.File, dataset: str, kind: str, *, fitting: bool = True
) -> dict[str, str | float]:
    """Map the coordinates that lie in the same group under the names of the dataset's axes.

    With ``fitting``, an axis whose length is not that of the data is passed over: the caller has a
    map of their own, and did not ask for it.
    """
    entry = file[dataset]
    group, found = entry.parent, {}
    for place, word in enumerate(axis_words(file, dataset, entry.ndim)):
        key = _coordinate(word, kind)
        beside = group.get(word) if word else None
        if key is None or beside is None or not _is_numeric(beside):
            continue
        if not fitting or beside.shape in ((entry.shape[place],), ()):
            found[key] = beside.name
    for name in SPECTRAL_WORDS:
        beside = group.get(name)
        if attribute_text(group, f"{name}_indices") and _is_numeric(beside) and beside.ndim == 1:
            found.setdefault(SPECTRAL_WORDS[name], beside.name)
    return found


def _coordinate(word: str, kind: str) -> str | None:
    """Return the coordinate that an axis name means: ``theta`` is the angle, ``tth`` is ``tth``."""
    dim = dimension_of(word, kind)
    if dim != CHANNEL:
        return dim if dim in COORDINATES else None
    word = word.lower()
    return SPECTRAL_WORDS.get(word) or SPECTRAL_WORDS.get(word.rpartition("_")[0])


def _is_numeric(entry: object) -> bool:
    return isinstance(entry, h5py.Dataset) and entry.dtype.kind in "iufb"


def find_default(path: str | Path) -> dict[str, str | float] | None:
    """Map the default plot of a NeXus file, or its first NXdata, as `open_mapped` wants it.

    Returns None where the file has no such group, or one of maps that `export` wrote. Data with an
    angle among their axes are a sinogram, other data a volume, an image or a spectrum by their
    number of dimensions. Without NXdata, a Data Exchange file (``/exchange/data``) is followed.
    """
    with open_file(path) as file:
        return default_of(file)


def default_of(file: h5py.File) -> dict[str, str | float] | None:
    """Map the default plot of an open file, as `find_default` does."""
    for group in _candidates(file):
        signal = _signal(group)
        if signal is not None:
            leaf = signal.name.rpartition("/")[2]
            return None if leaf in set(VARIABLES) - set(KINDS) else _mapped(file, signal)
    found = {key: place for key, place in EXCHANGE.items() if _is_numeric(file.get(place))}
    return dict(found) if "sinogram" in found else None


def _candidates(file: h5py.File) -> Iterator[h5py.Group]:
    group: object = file
    while isinstance(group, h5py.Group):
        if "signal" in group.attrs:
            yield group
        name = attribute_text(group, "default")
        group = group.get(name) if name else None
    groups: list[h5py.Group] = []

    def collect(_: str, entry: h5py.HLObject) -> None:
        if isinstance(entry, h5py.Group) and attribute_text(entry, "NX_class") == "NXdata":
            groups.append(entry)

    file.visititems(collect)
    yield from (group for group in groups if _at_least_2d(group))


def _at_least_2d(group: h5py.Group) -> bool:
    signal = _signal(group)
    return signal is not None and signal.ndim >= 2


def _signal(group: h5py.Group) -> h5py.Dataset | None:
    """Return the dataset to plot: named by ``@signal``, or carrying the older ``signal=1``."""
    name = attribute_text(group, "signal")
    marked = [
        entry
        for entry in group.values()
        if isinstance(entry, h5py.Dataset) and attribute_text(entry, "signal") == "1"
    ]
    found = group.get(name) if name and name != "1" else (marked or [None])[0]
    return found if _is_numeric(found) else None


def _mapped(file: h5py.File, signal: h5py.Dataset) -> dict[str, str | float]:
    words = axis_words(file, signal.name, signal.ndim)
    leaf = signal.name.rpartition("/")[2]
    kind = leaf if leaf in KINDS else _kind_of(words, signal.ndim)
    found = siblings(file, signal.name, kind, fitting=False)
    return {kind: signal.name} | found | _beside(signal, kind)


def _kind_of(words: list[str], ndim: int) -> str:
    if any(is_angle(word) for word in words):
        return "sinogram"
    spectral = any(dimension_of(word, "volume") == CHANNEL for word in words)
    if ndim == 1:
        return "spectrum"
    return "image" if ndim == 2 and not spectral else "volume"


def _beside(signal: h5py.Dataset, kind: str) -> dict[str, str | float]:
    entry = signal.parent.parent
    found: dict[str, str | float] = {}
    for key, places in BESIDE.items():
        for place in places:
            beside = entry.get(place)
            if not _is_numeric(beside):
                continue
            fits = _lies_along(beside, signal) if key == "monitor" else beside.size == 1
            if fits and (kind == "sinogram" or key != "monitor"):
                found.setdefault(key, beside.name)
    if "wavelength" in found:
        found.pop("beam_energy", None)
    extra = entry.get(EXTRA)
    if isinstance(extra, h5py.Group):
        found |= {name: item.name for name, item in extra.items() if _is_numeric(item)}
    return found


def _lies_along(entry: h5py.Dataset, signal: h5py.Dataset) -> bool:
    """Say whether the axes of an entry are some of the signal's, in their order."""
    rest = iter(signal.shape)
    return entry.ndim > 0 and all(size in rest for size in entry.shape)
