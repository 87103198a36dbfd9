"""Files of the NeXus application NXxrdct, with its example's misleading ``axes``."""

import h5py
import numpy as np

AXES = "translation:rotation:channel"


def write_xrdct(path, scan, *, listed=True, order=("translation", "angle")):
    """Write a simulated scan, as one list of points or on its grid; return the file."""
    values = scan.sinogram.transpose(*order, "channel").values
    motors = {"rotation": scan.angle.values, "translation": scan.translation.values}
    if listed:
        slow, fast = ({"angle": "rotation"}.get(name, name) for name in order)
        both = np.meshgrid(motors[slow], motors[fast], indexing="ij")
        motors = dict(zip((slow, fast), (one.ravel() for one in both), strict=True))
        values = values.reshape(-1, values.shape[-1])
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXxrdct"
        data = entry.create_group("data")
        data.attrs.update(NX_class="NXdata", signal="data", axes=AXES)
        data["data"] = values
        data["rotation"], data["translation"] = motors["rotation"], motors["translation"]
        data["rotation"].attrs["units"], data["translation"].attrs["units"] = "deg", "mm"
        entry["instrument/detector/polar_angle"] = scan.tth.values
    return path
