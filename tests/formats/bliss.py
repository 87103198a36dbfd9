"""Master files as Bliss writes them: virtual datasets or external links, motors, counters."""

import h5py
import numpy as np


def write_bliss(path, scan, *, fast="angle", per="scan", zigzag=True, link="virtual", lost=0):
    """Write a simulated scan; return the master.

    ``per="scan"`` is one scan of both motors, ``per="line"`` one scan for each line, ``lost`` the
    points missing at its end. Spectra lie in a file per scan, ``link``\\ ed to it.
    """
    order = ("translation", "angle") if fast == "angle" else ("angle", "translation")
    values = scan.sinogram.transpose(*order, "channel").values
    places = [scan[order[0]].values, scan[order[1]].values]
    lines = [
        (np.full(places[1].size, one), places[1][::turn], line[::turn])
        for number, (one, line) in enumerate(zip(places[0], values, strict=True))
        for turn in [-1 if zigzag and number % 2 else 1]
    ]
    if per == "scan":
        slow, moved, spectra = (np.concatenate(part) for part in zip(*lines, strict=True))
        lines = [(slow[: slow.size - lost], moved[: slow.size - lost],
                  spectra[: slow.size - lost])]  # fmt: skip
    with h5py.File(path, "w") as file:
        for number, (slow, moved, spectra) in enumerate(lines, 1):
            positions = dict(zip(order, (slow, moved), strict=True))
            _write_scan(file, path, number, positions, spectra, fast, link)
    return path


def _write_scan(file, path, number, positions, spectra, fast, link):
    scan = file.create_group(f"{number}.1")
    scan.attrs["NX_class"] = "NXentry"
    scan["title"] = "fscan2d dty rot" if len(np.unique(positions["translation"])) > 1 else "fscan"
    motors = {"rot": positions["angle"], "dty": positions["translation"]}
    measurement = scan.create_group("measurement")
    positioners = scan.create_group("instrument/positioners")
    for name, values in motors.items():
        stands = np.ptp(values) == 0
        positioners[name] = values[0] if stands else values
        positioners[name].attrs["units"] = "deg" if name == "rot" else "mm"
        if not stands:
            measurement[name] = h5py.SoftLink(positioners[name].name)
    positioners["pz"] = 1.25
    measurement["fpico6"] = spectra.sum(axis=1) * 0 + 1e5
    measurement["elapsed_time"] = np.arange(len(spectra)) * 0.01
    raw = path.parent / f"scan{number:04d}" / "mca_0000.h5"
    raw.parent.mkdir(exist_ok=True)
    with h5py.File(raw, "w") as lima:
        chunk = (1, spectra.shape[1])
        lima.create_dataset("entry_0000/measurement/data", data=spectra, chunks=chunk,
                            compression="gzip")  # fmt: skip
    target = f"{raw.parent.name}/{raw.name}"
    if link == "external":
        measurement["mca"] = h5py.ExternalLink(target, "entry_0000/measurement/data")
    else:
        layout = h5py.VirtualLayout(spectra.shape, spectra.dtype)
        layout[:] = h5py.VirtualSource(target, "entry_0000/measurement/data", spectra.shape)
        measurement.create_virtual_dataset("mca", layout)
