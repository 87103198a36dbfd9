"""Tables of peaks in files: CSV as spreadsheets write it, or what `find_peaks` returned, stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.csv_columns import numbers, read_columns
from ndtomo_dask.io.scan import open_scan

NUMBERS = ("position", "window_low", "window_high")
"""Columns that a table must have, beside the names on ``peak``."""
WORDS = ("shape", "window")
"""Columns that it may have."""
_WHAT = "table of peaks"


def read_peak_table(path: str | Path) -> tuple[dict[str, list[Any]], str | None]:
    """Read a table of peaks as lists by column, and the axis on which it was found if it says so.

    Other columns than those of which a fit knows are left out.

    Raises
    ------
    StoreError
        There is no such file, a column is missing, or a number is none.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"the table of peaks {path} does not exist.")
    columns, axis = _of_store(path) if path.is_dir() else (read_columns(path, _WHAT), None)
    for name in ("peak", *NUMBERS):
        if name not in columns:
            raise StoreError(
                f"the table of peaks {path} has no column {name!r}; it needs peak, "
                f"{', '.join(NUMBERS)}, as find_peaks has them."
            )
    known = ("peak", *NUMBERS, *WORDS)
    return {name: _column(name, columns[name], path) for name in known if name in columns}, axis


def _of_store(path: Path) -> tuple[dict[str, list[Any]], str | None]:
    table = open_scan(path)
    columns = {str(name): array.values.tolist() for name, array in table.variables.items()
               if array.dims == ("peak",)}  # fmt: skip
    return columns, table.attrs.get("axis")


def _column(name: str, values: list[Any], path: Path) -> list[Any]:
    if name not in NUMBERS:
        return ["" if value is None else str(value).strip() for value in values]
    return [*numbers(name, values, path, _WHAT)]


def inline_table(options: Mapping[str, Any]) -> dict[str, Any]:
    """Put a table of peaks in place of its path, so that what it says is part of the options."""
    given = options.get("peaks")
    if not isinstance(given, str):
        return dict(options)
    columns, axis = read_peak_table(given)
    return ({} if axis is None else {"axis": axis}) | dict(options) | {"peaks": columns}
