"""Fluorescence scans as MAPS keeps them: four elements of a detector, energy first."""

import h5py
import numpy as np

EXTRA_CHANNELS = 8
"""Entries of the energy axis beyond the spectra, as in files of 2-ID-E."""


def write_maps(path, scan, *, summed=True):
    """Write a simulated scan whose slow axis is the rotation; return the file.

    The counts are dealt out to four elements, each of which is also a file ``.h50`` to ``.h53``.
    """
    total = scan.sinogram.transpose("channel", "angle", "translation").values.astype(np.int64)
    shares = [total // 4, total // 4, total // 4, total - 3 * (total // 4)]
    energy = 0.01 * np.arange(total.shape[0] + EXTRA_CHANNELS)
    files = {path: shares} | {path.with_suffix(f".h5{n}"): [one] for n, one in enumerate(shares)}
    for name, elements in files.items():
        with h5py.File(name, "w") as file:
            maps = file.create_group("MAPS")
            maps["energy"] = energy
            maps["y_axis"], maps["x_axis"] = scan.angle.values, scan.translation.values
            maps["scalers"] = np.ones((2, *total.shape[1:]))
            if summed or len(elements) == 1:
                maps["mca_arr"] = sum(elements).astype(np.float64)
            for letter, values in zip("abcd", elements, strict=False):
                if len(elements) > 1:
                    file[f"MAPS_RAW/data_{letter}"] = values.astype(np.int16)
    return path
