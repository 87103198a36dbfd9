"""An array that counts what is read of it."""

import threading

import dask.array as da
import numpy as np
import xarray as xr


class Counted:
    """Looks like a stored array; ``reads`` is how often all of it was read."""

    def __init__(self, values):
        self._values = np.asarray(values)
        self._lock = threading.Lock()
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.values_read = 0

    def __getitem__(self, where):
        part = self._values[where]
        with self._lock:
            self.values_read += part.size
        return part

    @property
    def reads(self):
        return self.values_read / self._values.size


def counted(ds, chunks, name="volume"):
    """A dataset whose variable is read in blocks from an array that counts."""
    array = ds[name]
    source = Counted(array.values)
    sizes = tuple(chunks.get(str(dim), size) for dim, size in array.sizes.items())
    lazy = da.from_array(source, chunks=sizes, asarray=False, name=False)
    return ds.assign({name: xr.DataArray(lazy, dims=array.dims, attrs=array.attrs)}), source
