"""Files in, files out: `open_scan`, `convert`, `save`, `export…`; and `verify`."""

from ndtomo_dask.io.export import export
from ndtomo_dask.io.frames import open_frames
from ndtomo_dask.io.scan import convert, open_scan
from ndtomo_dask.io.store import save
from ndtomo_dask.io.verify import verify
from ndtomo_dask.io.write_frames import export_frames
from ndtomo_dask.io.xye import export_patterns

__all__ = [
    "convert",
    "export",
    "export_frames",
    "export_patterns",
    "open_frames",
    "open_scan",
    "save",
    "verify",
]
