"""Kernels: arrays in, arrays out; they know nothing of xarray, Dask or files."""
