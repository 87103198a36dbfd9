"""Patterns of references in files: CSV with a column each, or as a step of a recipe stored them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.csv_columns import numbers, read_columns
from ndtomo_dask.io.scan import open_scan
from ndtomo_dask.variables import CHANNEL, REFERENCE_PATTERN, SPECTRAL_AXES

_WHAT = "table of patterns"


def read_patterns(path: str | Path) -> dict[str, list[float]]:
    """Read patterns as lists by name, and the axis on which they lie, by its own.

    Raises
    ------
    StoreError
        There is no such file, it has no axis or no pattern, or a number is none.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"the {_WHAT} {path} does not exist.")
    columns: Mapping[str, Any] = _of_store(path) if path.is_dir() else read_columns(path, _WHAT)
    if len(columns) < 2 or not set(columns) & set(SPECTRAL_AXES):
        raise StoreError(
            f"the {_WHAT} {path} needs a column with its axis, {', '.join(SPECTRAL_AXES)}, and one "
            f"for each pattern, but has {', '.join(columns) or 'none'}."
        )
    return {name: numbers(name, column, path, _WHAT) for name, column in columns.items()}


def _of_store(path: Path) -> dict[str, list[float]]:
    stored = open_scan(path)
    if REFERENCE_PATTERN.name not in stored:
        raise StoreError(f"the {_WHAT} {path} has no {REFERENCE_PATTERN.name!r}.")
    known = stored[REFERENCE_PATTERN.name].transpose("reference", CHANNEL)
    axes = {name: stored[name].values.tolist() for name in SPECTRAL_AXES if name in stored.coords}
    rows = zip(known.reference.values, known.values.tolist(), strict=True)
    return axes | {str(name): row for name, row in rows}


def inline_patterns(options: Mapping[str, Any]) -> dict[str, Any]:
    """Put patterns in place of the path of their file, so that they are part of the options."""
    given = options.get("patterns")
    if not isinstance(given, str):
        return dict(options)
    return dict(options) | {"patterns": read_patterns(given)}
