"""Master files of Bliss, the control system of the ESRF: one group ``N.M`` per scan.

``N.1/measurement`` has what was measured at each point, ``N.1/instrument/positioners`` all motors:
those that moved with a position per point, the others with one. A tomogram is one scan of two
motors, or a scan per translation (or per angle) in which one motor moves.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from ndtomo_dask.errors import SchemaError, nearest
from ndtomo_dask.io.dimensions import dimension_of
from ndtomo_dask.io.hdf5 import refuse_broken_link
from ndtomo_dask.io.motors import NAMES
from ndtomo_dask.io.nxdata import attribute_text
from ndtomo_dask.io.pieces import Place
from ndtomo_dask.variables import ANGLE, TRANSLATION

_SCAN = re.compile(r"(\d+)\.(\d+)")
ROLES = (ANGLE, TRANSLATION)
UNITS = {ANGLE: ("deg", "degree", "rad"), TRANSLATION: ("mm", "um", "µm")}


def is_bliss(file: h5py.File) -> bool:
    """Say whether a file has a group ``N.M`` with something measured."""
    return bool(_scans(file))


def bliss_map(file: h5py.File, group: str | None = None) -> dict[str, Place]:
    """Map the scan of a master file, as `open_mapped` wants it.

    Parameters
    ----------
    file
        The master file.
    group
        The scan, such as ``"2.1"``; without it all scans that have the same detector are put
        together, line by line.

    Raises
    ------
    SchemaError
        It is not clear what was measured, or which motor is which; the message lists the choices.
    """
    known = _scans(file)
    if group is not None and group.strip("/") not in known:
        raise SchemaError(f"{file.filename} has no scan {group!r}. {nearest(group, known)}")
    wanted = known if group is None else [group.strip("/")]
    signals = {scan: _signal(file, scan) for scan in wanted}
    scans = [scan for scan, signal in signals.items() if signal is not None]
    if not scans:
        raise SchemaError(_no_signal(file, wanted))
    _refuse_unlike(file, {scan: str(signals[scan]) for scan in scans})
    places = {scan: f"/{scan}/{signals[scan]}" for scan in scans}
    motors = {role: _motor(file, scans, role, places) for role in ROLES}
    found: dict[str, list[str]] = {"sinogram": [places[scan] for scan in scans]}
    found |= {role: [f"{scan}/{motors[role]}" for scan in scans] for role in ROLES}
    return {key: place[0] if len(scans) == 1 else place for key, place in found.items()}


def _scans(file: h5py.File) -> list[str]:
    names = [name for name in file if _SCAN.fullmatch(name)]
    names = [name for name in names if isinstance(file.get(f"{name}/measurement"), h5py.Group)]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


def _arrays(group: Any) -> dict[str, h5py.Dataset]:
    found = {name: group.get(name) for name in group} if isinstance(group, h5py.Group) else {}
    return {
        name: entry
        for name, entry in found.items()
        if isinstance(entry, h5py.Dataset) and entry.shape and entry.dtype.kind in "iuf"
    }


def _signal(file: h5py.File, scan: str) -> str | None:
    """Return where the one spectrum per point of a scan lies, inside the scan."""
    spectra = [
        f"measurement/{name}"
        for name, entry in _arrays(file[f"{scan}/measurement"]).items()
        if entry.ndim == 2 and entry.shape[0] > 1
    ]
    for process in file[scan]:
        group = file.get(f"{scan}/{process}/integrated")
        if isinstance(group, h5py.Group):
            name = attribute_text(group, "signal") or "intensity"
            if name in group and group[name].ndim == 2:
                spectra.append(f"{process}/integrated/{name}")
    if len(spectra) > 1:
        raise SchemaError(
            f"scan {scan} of {file.filename} has {len(spectra)} sets of spectra: "
            f"{', '.join(spectra)}. Say which: sinogram='{scan}/{spectra[0]}', "
            f"angle='{scan}/measurement/rot', translation='{scan}/measurement/dty'."
        )
    return spectra[0] if spectra else None


def _no_signal(file: h5py.File, scans: Sequence[str]) -> str:
    scan = scans[0]
    for name in file[f"{scan}/measurement"]:
        refuse_broken_link(file, f"{scan}/measurement/{name}")
    arrays = _arrays(file[f"{scan}/measurement"])
    frames = [name for name, entry in arrays.items() if entry.ndim == 3]
    if frames:
        return (
            f"scan {scan} of {file.filename} holds frames of the detector {frames[0]!r}, not "
            f"spectra. Integrate them: nd.integrate(nd.open_frames(...), calibration='x.poni')."
        )
    counters = ", ".join(arrays) or "nothing"
    return (
        f"scan {scan} of {file.filename} has no spectra; it measured {counters}. Say which counter "
        f"is the scan: sinogram='{scan}/measurement/...', angle='{scan}/measurement/rot', "
        f"translation='{scan}/measurement/dty'."
    )


def _refuse_unlike(file: h5py.File, signals: Mapping[str, str]) -> None:
    first, *others = ((scan, file[f"{scan}/{signal}"]) for scan, signal in signals.items())
    for scan, entry in others:
        if entry.shape != first[1].shape or entry.dtype != first[1].dtype:
            raise SchemaError(
                f"the scans of {file.filename} differ: {first[0]} has {first[1].shape}, {scan} has "
                f"{entry.shape}. Say which is the tomogram: group={first[0]!r}; there are "
                f"{', '.join(signals)}."
            )


def _motor(file: h5py.File, scans: Sequence[str], role: str, places: Mapping[str, str]) -> str:
    """Return where the motor of a role lies inside each scan: it moved in one or between them."""
    moved = _moved(file, scans, file[places[scans[0]]].shape[0])
    by_name = [name for name in NAMES[role] if name in moved]
    by_word = [name for name in moved if dimension_of(name, "sinogram") == role]
    by_unit = [name for name in moved if _unit(file, moved[name], scans) in UNITS[role]]
    choices = by_name[:1] or by_word or by_unit
    if len(choices) != 1:
        said = f"moved: {', '.join(moved)}" if moved else "no motor moved"
        hint = " Take one scan: group='1.1'." if len(scans) > 1 else ""
        raise SchemaError(
            f"{file.filename} does not say which motor is the {role}; {said}. Name it: "
            f"{role}='{scans[0]}/measurement/...', and sinogram='{places[scans[0]].strip('/')}'."
            f"{hint}"
        )
    return moved[choices[0]]


def _moved(file: h5py.File, scans: Sequence[str], points: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for place in ("measurement", "instrument/positioners"):
        group = file.get(f"{scans[0]}/{place}")
        for name in group or ():
            where = f"{place}/{name}"
            positions = [_positions(file, f"{scan}/{where}") for scan in scans]
            lengths = {position.size for position in positions}
            if name not in found and lengths <= {1, points} and 0 not in lengths:
                together = np.concatenate(positions)
                if np.ptp(together) > 0 and _is_motor(file, scans[0], name, place):
                    found[name] = where
    return found


def _is_motor(file: h5py.File, scan: str, name: str, place: str) -> bool:
    """Tell motors from counters: their units, their place or their usual names say it."""
    known = {word for role in ROLES for word in NAMES[role]}
    unit = attribute_text(file[f"{scan}/{place}/{name}"], "units")
    of_motors = {unit for units in UNITS.values() for unit in units}
    return place != "measurement" or name in known or unit in of_motors


def _positions(file: h5py.File, place: str) -> np.ndarray:
    entry = file.get(place)
    numeric = isinstance(entry, h5py.Dataset) and entry.dtype.kind in "iuf" and entry.ndim < 2
    return np.atleast_1d(np.asarray(entry[()], dtype=float)) if numeric else np.zeros(0)


def _unit(file: h5py.File, where: str, scans: Sequence[str]) -> str | None:
    return attribute_text(file[f"{scans[0]}/{where}"], "units")
