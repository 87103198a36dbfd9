"""Known spectra: how much of each is in every pixel, and the fractions that follow."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.errors import OptionError, SchemaError, nearest
from ndtomo_dask.kernels.components.reference_fit import (
    LEAST_ROWS,
    SLAB_SAMPLES,
    Design,
    ReferenceStatus,
    dependent_component,
    design_matrix,
    fit_amounts,
)
from ndtomo_dask.reference_patterns import Patterns, patterns_on
from ndtomo_dask.schema import anywhere, floating, label, require, variable_named, without_masked
from ndtomo_dask.variables import (
    REFERENCE_AMOUNT,
    REFERENCE_AMOUNT_ERROR,
    REFERENCE_FRACTION,
    REFERENCE_FRACTION_ERROR,
    REFERENCE_PATTERN,
    REFERENCE_REDUCED_CHI_SQUARE,
    REFERENCE_STATUS,
    SINOGRAM,
    VARIABLES,
    Variable,
)


def fit_references(
    ds: xr.Dataset,
    patterns: Patterns,
    *,
    nonnegative: bool = True,
    background: int | None = None,
    axis: str | None = None,
    variable: str = "volume",
    weighted: bool = False,
    uniform: bool = False,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Map how much of each known spectrum is in every pixel. Nothing is computed.

    The model of a spectrum is Σ amount × pattern plus a polynomial; amounts are its least squares,
    found exactly, not by iterations that are stopped. They add along a ray: a sinogram may be
    fitted as well as a volume. A sample that is not finite, or that ``mask`` marks in a sinogram,
    has no weight, in its own spectrum only.

    Parameters
    ----------
    ds
        A dataset with ``variable`` in whole spectra (``open_scan(store, layout="spectra")``).
    patterns
        The known spectra: an array ``(reference, channel)`` with their names on ``reference``, a
        dataset with a spectrum in each variable, or lists by name with their axis among them:
        ``{"q": [...], "Ni": [...]}``. On another grid they are interpolated linearly; they must
        cover that of the data. Their scale is the unit of the amounts.
    nonnegative
        Keep every amount at 0 or more; negative data are allowed.
    background
        Degree of a polynomial that is fitted with the patterns; None for none.
    axis
        Axis on which patterns and data are compared; default: the first of ``"q"``, ``"d"``,
        ``"energy"`` and ``"tth"`` that both have.
    variable
        ``"volume"``, ``"sinogram"``, or another variable with a channel axis.
    weighted
        Weigh each sample by the reciprocal of its variance, in ``<variable>_variance``.
    uniform
        Take the noise as the same in all channels of a spectrum: errors are found sooner, but
        those of counts are too small.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``ds`` with ``reference_amount`` and ``reference_amount_error ([time, z,] y, x, reference)``
        (of an amount held at 0, the error it would have if free), ``reference_status`` and
        ``reference_reduced_chi_square``, and ``reference_pattern`` as it was fitted. NaN where the
        status is not 0.

    Raises
    ------
    SchemaError
        A pattern does not cover the data, is zero, or is a sum of others; the spectra are split.
    OptionError
        A background that is no degree.

    Examples
    --------
    >>> counts = xr.Dataset({"spectrum": ("channel", [3.0, 2.0, 2.0, 0.0])})
    >>> known = xr.Dataset({"A": ("channel", [1.0, 0, 0, 0]), "B": ("channel", [0, 1.0, 1.0, 0])})
    >>> fit_references(counts, known, variable="spectrum").reference_amount.values
    array([3., 2.])
    """
    if background is not None and (isinstance(background, bool) or not 0 <= background <= 10):
        raise OptionError(f"background={background!r} is not a degree from 0 to 10, or None.")
    array = require(
        ds,
        variable_named(variable, verb="fit_references"),
        verb="fit_references",
        whole=["channel"],
    )
    if variable == SINOGRAM.name:
        array = without_masked(ds, array, verb="fit_references")
    known, values = patterns_on(ds, patterns, axis)
    design = design_matrix(known.values, values, background=background, nonnegative=nonnegative)
    _check_design(design, known, array.sizes["channel"])
    beside = [_variance(ds, array)] if weighted else []

    columns = 2 * design.references + 2
    sizes, block = sizes_of(array), block_of(array)
    plan.per_pixel(
        "fit_references", sizes, array.dtype.itemsize * (1 + len(beside)),
        channels=3 * sizes["channel"],
        values=columns, slab=max(LEAST_ROWS, SLAB_SAMPLES // sizes["channel"]), block=block,
        allowed_mem=allowed_memory(allowed_mem),
    )  # fmt: skip

    fitted = apply_kernel(
        references_block, array, *beside, core=["channel"], out={"column": columns},
        dtype=floating(array.dtype), design=design, uniform=uniform,
    )  # fmt: skip

    made = _maps(fitted, array, known, weighted=weighted)
    told = {"references": known.reference.values.tolist(), "background": background,
            "nonnegative": nonnegative, "weighted": weighted, "uniform": uniform}  # fmt: skip
    return label(ds, made, step="fit_references", variable=variable, **told)


def phase_fractions(ds: xr.Dataset, factors: Mapping[str, float] | None = None) -> xr.Dataset:
    """Turn the amounts of references into fractions that sum to 1 in every pixel, lazily.

    The fraction of phase i is fᵢ aᵢ / Σ fⱼ aⱼ, with errors as if amounts were independent. With
    patterns of pure phases measured alike, and all factors 1, it is the share of intensity. A
    factor of 1/RIR makes it one of mass (Chung, J. Appl. Cryst. 7, 519 (1974)), and one of Z M V,
    for patterns calculated per cell, too (Hill & Howard, J. Appl. Cryst. 20, 467 (1987)).

    Parameters
    ----------
    ds
        What `fit_references` returned.
    factors
        Factor of each reference, by its name; those not given are 1.

    Returns
    -------
        ``ds`` with ``reference_fraction`` and ``reference_fraction_error``; NaN where the amounts
        do not sum to more than 0.
    """
    amount = require(ds, anywhere(REFERENCE_AMOUNT), verb="phase_fractions")
    error = require(ds, anywhere(REFERENCE_AMOUNT_ERROR), verb="phase_fractions")
    names = [str(name) for name in amount.reference.values]
    given = dict(factors or {})
    for name in given:
        if name not in names:
            raise OptionError(f"factors has {name!r}. {nearest(str(name), names)}")
    factor = xr.DataArray([float(given.get(name, 1.0)) for name in names], dims="reference")

    scaled = amount * factor.astype(amount.dtype)
    total = scaled.sum("reference", skipna=False)
    total = total.where(total > 0)
    fraction = scaled / total
    spread = (error * factor.astype(amount.dtype)) ** 2
    others = spread.sum("reference", skipna=False) - spread
    variance = (1 - fraction) ** 2 * spread + fraction**2 * others
    found = {REFERENCE_FRACTION: fraction, REFERENCE_FRACTION_ERROR: variance**0.5 / total}
    return label(ds, found, step="phase_fractions", factors=given)


def _check_design(design: Design, known: xr.DataArray, channels: int) -> None:
    wrong = dependent_component(design)
    if wrong is not None:
        what = "the background"
        if wrong < design.references:
            what = f"reference {str(known.reference.values[wrong])!r}"
        raise SchemaError(
            f"{what} is a sum of the references before it, on the channels of the data, so that "
            f"its amount is not determined. Leave one of them out."
        )
    if channels <= len(design.rows):
        raise SchemaError(
            f"fit_references has {len(design.rows)} unknowns, but spectra of {channels} channels. "
            f"Give fewer patterns, or more channels."
        )


def _variance(ds: xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    name = f"{array.name}_variance"
    if name not in ds:
        raise SchemaError(
            f"fit_references(weighted=True) needs {name!r}, which the dataset does not have; of "
            f"counts it is ds.assign({name}=ds.{array.name}.clip(min=1))."
        )
    return ds[name].transpose(*array.dims)


def references_block(
    block: np.ndarray,
    variance: np.ndarray | None = None,
    *,
    design: Design,
    uniform: bool,
) -> np.ndarray:
    """Fit every spectrum: amounts, errors, chi-square and status; (…, channel) -> (…, column)."""
    rows = block.reshape(-1, block.shape[-1])
    spread = None if variance is None else variance.reshape(rows.shape)
    found = fit_amounts(rows, design, variance=spread, uniform=uniform)
    outcome = np.column_stack([found.reduced_chi_square, found.status])
    table = np.concatenate([found.amount, found.error, outcome], axis=1)
    table = table.astype(floating(block.dtype))
    return table.reshape(*block.shape[:-1], -1)


def _maps(
    fitted: xr.DataArray, array: xr.DataArray, known: xr.DataArray, *, weighted: bool
) -> dict[Variable, xr.DataArray]:
    count = known.sizes["reference"]
    units = array.attrs.get("units", VARIABLES[str(array.name)].units)
    names = {"reference": known.reference}
    amount = fitted.isel(column=slice(0, count)).rename(column="reference").assign_coords(names)
    error = fitted.isel(column=slice(count, -2)).rename(column="reference").assign_coords(names)
    status = fitted.isel(column=-1).astype("uint8")
    flags: dict[str, Any] = {
        "flag_values": [int(one) for one in ReferenceStatus],
        "flag_meanings": " ".join(one.name.lower() for one in ReferenceStatus),
    }
    squared = "1" if weighted else f"({units})^2"
    return {
        REFERENCE_AMOUNT: amount.assign_attrs(units=units),
        REFERENCE_AMOUNT_ERROR: error.assign_attrs(units=units),
        REFERENCE_REDUCED_CHI_SQUARE: fitted.isel(column=-2).assign_attrs(units=squared),
        REFERENCE_STATUS: status.assign_attrs(flags),
        REFERENCE_PATTERN: known,
    }
