"""NeXus masters as Diamond writes them: links into a file per device, some never written."""

import h5py


def write_diamond(path, scan, *, absent=("panda",), axes_in="imaging"):
    """Write a simulated scan as a master, with links into files of devices; return the master."""
    order = ("angle", "translation", "channel")
    devices = {name: path.with_name(f"{path.stem}-{name}.h5") for name in ("imaging", "panda")}
    for name, file in devices.items():
        if name not in absent:
            with h5py.File(file, "w") as device:
                entry = device.create_group("entry/data")
                values = scan.sinogram.transpose(*order).values
                entry.create_dataset("data", data=values, chunks=(1, *values.shape[1:]))
                for axis in ("angle", "translation", "tth"):
                    entry[axis] = scan[axis].values
                    entry[axis].attrs["units"] = scan[axis].attrs["units"]
    with h5py.File(path, "w") as master:
        master.attrs["default"] = "entry"
        entry = master.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="imaging")
        for name, file in devices.items():
            data = entry.create_group(name)
            data.attrs.update(NX_class="NXdata", signal="data", axes=["gts_theta", "x", "tth"])
            data["data"] = h5py.ExternalLink(file.name, "/entry/data/data")
            beside = devices[axes_in if name == "imaging" else name].name
            for axis, place in (("gts_theta", "angle"), ("x", "translation"), ("tth", "tth")):
                data[axis] = h5py.ExternalLink(beside, f"/entry/data/{place}")
        entry["diamond_scan/keys/panda"] = h5py.ExternalLink(devices["panda"].name, "/keys/key")
    return path
