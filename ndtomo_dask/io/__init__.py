"""Files in, files out: `open_scan`, `convert`, `save`, `export`."""

from ndtomo_dask.io.export import export
from ndtomo_dask.io.scan import convert, open_scan
from ndtomo_dask.io.store import save

__all__ = ["convert", "export", "open_scan", "save"]
