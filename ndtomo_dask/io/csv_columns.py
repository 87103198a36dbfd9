"""CSV files as spreadsheets write them, by column."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ndtomo_dask.errors import StoreError


def read_columns(path: Path, what: str) -> dict[str, list[str]]:
    """Read the columns of a CSV file by the names in its first row; ``what`` is for the messages.

    Raises
    ------
    StoreError
        The file is no CSV, or its rows differ in length.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head, *rows = [row for row in csv.reader(file, skipinitialspace=True) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"the {what} {path} is no CSV file in UTF-8.") from error
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise StoreError(
                f"the {what} {path} has {len(row)} values in row {number}, but "
                f"{len(head)} columns; numbers are written with a point."
            )
    return {name.strip(): [row[place] for row in rows] for place, name in enumerate(head)}


def numbers(name: str, values: Sequence[object], path: Path, what: str) -> list[float]:
    """Turn a column into numbers, or name the row that has none."""
    return [_number(name, value, path, what, row) for row, value in enumerate(values, 1)]


def _number(name: str, value: object, path: Path, what: str, row: int) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # what it refuses is named below
    except (TypeError, ValueError):
        raise StoreError(
            f"the {what} {path} has {name}={value!r} in row {row}, which is no number."
        ) from None
