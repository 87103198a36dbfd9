"""What NeXus attributes say: the default plot, its signal, its axes, and what lies beside it."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from ndtomo_dask.io.dimensions import KINDS, SPECTRAL_WORDS, dimension_of, is_angle
from ndtomo_dask.io.hdf5 import open_file, refuse_broken_link
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
FIXED_AXES = {"/exchange": ("theta", "y", "x")} | dict.fromkeys(
    ("/MAPS", "/MAPS_RAW", "/MAPS/Spectra"), ("energy", "y", "x")
)
"""Axes of every stack in a group, by the format that has it, where no attribute names them."""

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
    words = _axes_attribute(file[dataset])
    if len(words) == ndim:
        return words
    group = _group_of(file, dataset)
    words = _axes_attribute(group)
    if len(words) != ndim:
        words = _by_indices(group, words, ndim)
    if not any(words):
        words = _old_style(group, ndim)
    fixed = FIXED_AXES.get(group.name, ())
    if not any(words) and ndim == len(fixed):
        words = list(fixed)
    return ["" if word == "." else word for word in words]


def _group_of(file: h5py.File, dataset: str) -> h5py.Group:
    """Return the group that names a dataset, which may itself lie in another file."""
    return file[dataset.strip("/").rpartition("/")[0] or "/"]


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
    entry, group = file[dataset], _group_of(file, dataset)
    found: dict[str, str | float] = {}
    for place, word in enumerate(axis_words(file, dataset, entry.ndim)):
        key = _coordinate(word, kind)
        beside = group.get(word) if word else None
        if key is not None and beside is None and not fitting:
            refuse_broken_link(file, f"{group.name}/{word}")
        if key is None or beside is None or not _is_numeric(beside):
            continue
        if not fitting or beside.shape in ((entry.shape[place],), ()):
            found[key] = f"{group.name.rstrip('/')}/{word}"
    for name in SPECTRAL_WORDS:
        beside = group.get(name)
        if attribute_text(group, f"{name}_indices") and _is_numeric(beside) and beside.ndim == 1:
            found.setdefault(SPECTRAL_WORDS[name], f"{group.name.rstrip('/')}/{name}")
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


def default_of(file: h5py.Group) -> dict[str, str | float] | None:
    """Map the default plot of an open file or of an entry in it, as `find_default` does.

    A default that lies in another file, which is absent, is refused; other data are passed over
    where there are more.
    """
    for group in _by_default(file):
        refuse_broken_link(file.file, f"{group.name}/{_signal(group)}")
    absent: list[str] = []
    for group in (*_by_default(file), *_by_class(file)):
        name = _signal(group)
        place = f"{group.name.rstrip('/')}/{name}"
        if name is not None and _is_numeric(group.get(name)):
            return None if name in set(VARIABLES) - set(KINDS) else _mapped(file.file, place)
        absent += [place] if name is not None else []
    for place in absent:
        refuse_broken_link(file.file, place)
    found: dict[str, str | float] = {
        key: place for key, place in EXCHANGE.items() if _is_numeric(file.get(place))
    }
    return dict(found) if "sinogram" in found else None


def _by_default(file: h5py.Group) -> Iterator[h5py.Group]:
    group: object = file
    while isinstance(group, h5py.Group):
        if "signal" in group.attrs:
            yield group
        name = attribute_text(group, "default")
        group = group.get(name) if name else None


def _by_class(file: h5py.Group) -> Iterator[h5py.Group]:
    groups: list[h5py.Group] = []

    def collect(_: str, entry: h5py.HLObject) -> None:
        if isinstance(entry, h5py.Group) and attribute_text(entry, "NX_class") == "NXdata":
            groups.append(entry)

    file.visititems(collect)
    yield from (group for group in groups if _may_be_scan(group))


def _may_be_scan(group: h5py.Group) -> bool:
    """Say whether the signal of a group has two axes, or lies in a file that is absent."""
    name = _signal(group)
    signal = group.get(name) if name else None
    return name is not None and (signal is None or (_is_numeric(signal) and signal.ndim >= 2))


def _signal(group: h5py.Group) -> str | None:
    """Return the name of what is to be plotted: given by ``@signal``, or marked ``signal=1``."""
    name = attribute_text(group, "signal")
    if name and name != "1":
        return name if group.get(name, getlink=True) is not None else None
    marked = (
        name
        for name, entry in group.items()
        if isinstance(entry, h5py.Dataset) and attribute_text(entry, "signal") == "1"
    )
    return next(marked, None)


def _mapped(file: h5py.File, place: str) -> dict[str, str | float]:
    signal, leaf = file[place], place.rpartition("/")[2]
    words = axis_words(file, place, signal.ndim)
    kind = leaf if leaf in KINDS else _kind_of(words, signal.ndim)
    found = siblings(file, place, kind, fitting=False)
    return {kind: place} | found | _beside(_group_of(file, place).parent, signal, kind)


def _kind_of(words: list[str], ndim: int) -> str:
    if any(is_angle(word) for word in words):
        return "sinogram"
    spectral = any(dimension_of(word, "volume") == CHANNEL for word in words)
    if ndim == 1:
        return "spectrum"
    return "image" if ndim == 2 and not spectral else "volume"


def _beside(entry: h5py.Group, signal: h5py.Dataset, kind: str) -> dict[str, str | float]:
    found: dict[str, str | float] = {}
    for key, places in BESIDE.items():
        for place in places:
            beside = entry.get(place)
            if not _is_numeric(beside):
                continue
            fits = _lies_along(beside, signal) if key == "monitor" else beside.size == 1
            if fits and (kind == "sinogram" or key != "monitor"):
                found.setdefault(key, f"{entry.name.rstrip('/')}/{place}")
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
