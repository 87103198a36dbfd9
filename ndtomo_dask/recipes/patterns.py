"""Patterns of known lines as a step of a recipe, whose result the next one takes."""

from functools import wraps
from typing import Any

import xarray as xr

from ndtomo_dask.components.line_patterns import line_patterns
from ndtomo_dask.variables import REFERENCE_PATTERN


@wraps(line_patterns)
def drawn_patterns(ds: xr.Dataset, *args: Any, **options: Any) -> xr.Dataset:
    """Draw patterns as one variable, which has the same name whatever theirs are."""
    drawn = line_patterns(ds, *args, **options)
    return drawn.to_dataarray("reference").to_dataset(name=REFERENCE_PATTERN.name)
