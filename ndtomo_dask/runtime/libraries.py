"""Libraries that only some clusters need."""

from importlib import import_module
from typing import Any

from ndtomo_dask.errors import BackendError


def imported(module: str, *, extra: str) -> Any:
    """Import an optional library, or say what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        missing = (error.name or module).partition(".")[0]
        raise BackendError(
            f"cluster {extra!r} needs {missing.replace('_', '-')}, which is not installed. "
            f"Run: pip install 'ndtomo-dask[{extra}]'"
        ) from error
