"""Series of image files that have one line each, such as patterns or spectra, with their positions.

A line is the pattern of a point: the files need no calibration, but a table of positions. Files of
more rows are detector frames, which `integrate` turns into patterns.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from ndtomo_dask.coordinates import axis_variable
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.companions import as_float, variable_attrs
from ndtomo_dask.io.flattened import Grid, find_grid
from ndtomo_dask.io.frame_series import SUFFIXES, TABLE
from ndtomo_dask.io.frames import open_frames
from ndtomo_dask.io.hdf5 import BLOCK_BYTES
from ndtomo_dask.variables import ANGLE, CHANNEL, MONITOR, SINOGRAM, TRANSLATION


def is_line_series(path: Path) -> bool:
    """Say whether a path is an image, a pattern of names, or a folder of images."""
    if path.is_dir():
        return any(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    return path.suffix.lower() in SUFFIXES or "*" in path.name


def open_lines(path: Path) -> xr.Dataset:
    """Open lines on the grid of their positions, as a sinogram.

    Raises
    ------
    SchemaError
        The files hold frames, there are no positions, or the points are on no grid.
    """
    frames = open_frames(path)
    shape = (frames.sizes["row"], frames.sizes["column"])
    if shape[0] != 1:
        raise SchemaError(
            f"{path} holds frames of {shape[0]} by {shape[1]}, not lines. Integrate them: "
            f"nd.integrate(nd.open_frames({str(path)!r}), calibration='detector.poni')."
        )
    missing = [name for name in (ANGLE, TRANSLATION) if name not in frames.coords]
    if missing:
        raise SchemaError(
            f"{path} does not say the {missing[0]} of its {frames.sizes['frame']} files. Put a "
            f"table {TABLE} beside them, with columns file, angle and translation."
        )
    angle, translation = (np.asarray(frames[name], float) for name in (ANGLE, TRANSLATION))
    grid = find_grid(angle, translation, where=str(path))
    lines = _on_grid(frames["frames"].isel(row=0, drop=True).rename(column=CHANNEL), grid)
    lines = lines.copy(data=as_float(lines.data)).assign_attrs(variable_attrs(SINOGRAM.name))
    lines = lines.transpose(ANGLE, TRANSLATION, CHANNEL)
    ds = (lines.chunk(-1) if lines.nbytes <= BLOCK_BYTES else lines).to_dataset(name=SINOGRAM.name)
    if MONITOR.name in frames:
        ds[MONITOR.name] = _on_grid(frames[MONITOR.name], grid).transpose(ANGLE, TRANSLATION)
    axes = {name: axis_variable(name, values) for name, values in grid.positions.items()}
    ds.attrs = {"source": frames.attrs["source"], "assumed": grid.words}
    return ds.assign_coords(axes)


def _on_grid(points: xr.DataArray, grid: Grid) -> xr.DataArray:
    """Put points, one after the other, into lines, the backward ones turned."""
    order = np.arange(grid.rows * grid.columns).reshape(grid.rows, grid.columns)
    order[grid.backward] = order[grid.backward, ::-1]
    data = points.drop_vars(list(points.coords)).isel(frame=order.ravel()).data
    data = data.reshape(grid.rows, grid.columns, *data.shape[1:])
    return xr.DataArray(data, dims=(grid.slow, grid.fast, *points.dims[1:]), attrs=points.attrs)
