"""Series of image files with a line each, and their table of positions."""

import csv
from importlib import import_module

import numpy as np

IMAGES = {".edf": "edfimage.EdfImage", ".tif": "tifimage.TifImage", ".cbf": "cbfimage.CbfImage"}


def write_lines(folder, scan, suffix, *, zigzag=True, table=True, rows=1):
    """Write a simulated scan, a file per point, each projection a line; return the folder."""
    module, kind = IMAGES[suffix].split(".")
    image = getattr(import_module(f"fabio.{module}"), kind)
    folder.mkdir()
    lines = [("file", "angle", "translation", "monitor")]
    for number, angle in enumerate(scan.angle.values):
        order = range(scan.translation.size)
        for place in reversed(order) if zigzag and number % 2 else order:
            name = f"point_{len(lines)}{suffix}"
            values = scan.sinogram.values[number, place].astype(np.int32)
            image(data=np.repeat(values[None], rows, axis=0)).write(str(folder / name))
            lines.append((name, angle, scan.translation.values[place], 1e5 + place))
    if table:
        with (folder / "positions.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    return folder
