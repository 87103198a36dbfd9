"""Files in, files out: `open_scan`, `save`, `convert`, `export`."""

from ndtomo_dask.io.store import save

__all__ = ["save"]
