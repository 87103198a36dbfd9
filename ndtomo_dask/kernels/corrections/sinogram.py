"""Corrections of a sinogram: air, intensity of each projection, absorbance, masks.

Blocks are ``(angle, translation, channel)``, channel last. A sample that is not finite is left out
of every estimate and stays as it is in every result; no input is written. float32 and float64 come
back as they came, anything else as float32; sums are float64. What needs the whole scan is split
into a partial sum per block, sums of those (by ``+``, in any order), and a last step.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, SchemaError, check_choice

Array = NDArray[np.number | np.bool_]
Real = NDArray[np.floating]
Float64 = NDArray[np.float64]
SLAB = 2**17
"""Samples that are worked on at once in float64."""
Counts = NDArray[np.int64]
Side = Literal["both", "first", "last"]
AirMethod = Literal["separable", "channel", "projection"]
Reference = Literal["max", "mean", "median"]

REFERENCES: dict[str, Callable[[Float64], np.floating]] = {
    "max": np.max,
    "mean": np.mean,
    "median": np.median,
}


def air_partial(block: Array, *, width: int = 1, side: Side = "both") -> tuple[Float64, Counts]:
    """Sum the edge translations, where the beam meets only air: (sums, counts) per angle, channel.

    ``width`` translations are taken at ``side`` of the scan. The block must hold all translations;
    blocks of other angles or channels are laid side by side.
    """
    # (angle, translation, channel) -> (angle, channel), (angle, channel)
    edge = _edges(_floating(block), width, side)
    finite = np.isfinite(edge)
    sums = np.asarray(np.sum(edge, axis=1, where=finite, dtype=np.float64))
    return sums, np.asarray(np.sum(finite, axis=1, dtype=np.int64))


def air_mean(sums: Float64, counts: Counts) -> Float64:
    """Mean of the edge samples, from their sums and counts; NaN where there was none."""
    mean = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return np.asarray(mean)


def air_model(edge_mean: Float64, *, method: AirMethod = "separable") -> Float64:
    """Air signal of each projection and channel, from the edge mean of the whole scan.

    ``"separable"`` is beam(angle) × spectrum(channel): the product of the row and column sums over
    the total, the rank-one table with the same margins. Air scatters one spectrum, as bright as the
    beam is, so that is less noisy than each edge by itself and, unlike one number per channel,
    follows a decaying beam. ``"channel"`` is the mean over angles; ``"projection"`` the edge mean.
    Entries that are not finite are left out of the sums, which are then completed by iteration.
    Edges that sum to about nothing (air already removed) have no brightness to follow: then
    ``"separable"`` gives the mean over angles as well.

    Shapes (angle, channel) -> (angle, channel). A row or column without a finite entry is NaN.

    >>> air_model(np.outer([1.0, 0.5], [4.0, 8.0]))
    array([[4., 8.],
           [2., 4.]])
    """
    check_choice("method", method, ("separable", "channel", "projection"))
    table = np.asarray(edge_mean, dtype=np.float64)
    finite = np.isfinite(table)
    if method == "projection":
        return np.where(finite, table, np.nan)
    if method == "channel":
        return np.broadcast_to(air_mean(_sum(table, finite, 0), finite.sum(axis=0)), table.shape)
    return _rank_one(table, finite)


def subtract_air(block: Array, air: Array) -> Real:
    """Subtract the air of each (angle, channel) from all translations of a block."""
    values = _floating(block)
    return np.asarray(values - np.asarray(air)[:, None, :].astype(values.dtype))


def projection_sums(block: Array) -> Float64:
    """Sum each projection and channel over the translations, in float64; NaN if a sample is not.

    Blocks of other angles or channels are laid side by side.
    """
    # (angle, translation, channel) -> (angle, channel)
    sums = np.asarray(_floating(block).sum(axis=1, dtype=np.float64))
    sums[~np.isfinite(sums)] = np.nan
    return sums


def projection_totals(sums: Float64) -> Float64:
    """Total counts of each projection, over the channels that are whole in all live projections.

    A channel with a bad sample anywhere has no say: counted in some projections and not in others,
    it would rescale the rest. Where no channel is whole, each projection is summed over what it
    has. A projection without a finite channel is dead, and NaN.

    >>> projection_totals(np.array([[1.0, 2.0], [3.0, np.nan], [np.nan, np.nan]]))
    array([ 1.,  3., nan])
    """
    # (angle, channel) -> (angle,)
    finite = np.isfinite(sums)
    alive = finite.any(axis=1)
    whole = finite[alive].all(axis=0)
    counted = finite & whole if whole.any() else finite
    return np.where(alive, np.sum(sums, axis=1, where=counted), np.nan)


def projection_scale(totals: Float64, *, reference: Reference = "max") -> Float64:
    """Brightness of each projection against the reference: total / reference(totals).

    In parallel-beam scans the sum of a projection does not depend on the angle while the sample
    stays in the field of view, so what varies is the beam. A total that is zero, negative or not
    finite is a dead projection: its scale is NaN, and it has no part in the reference.

    >>> projection_scale(np.array([8.0, 4.0, 0.0]))
    array([1. , 0.5, nan])
    """
    check_choice("reference", reference, REFERENCES)
    totals = np.asarray(totals, dtype=np.float64)
    alive = np.isfinite(totals) & (totals > 0)
    if not alive.any():
        raise SchemaError(
            "no projection has a positive total, so there is nothing to normalize to. "
            "Check the mask, and that the air was not subtracted twice."
        )
    level = float(REFERENCES[reference](totals[alive]))
    return np.where(alive, totals, np.nan) / level


def monitor_scale(monitor: Array) -> Float64:
    """Incident flux against its greatest finite value; zero, negative or not finite gives NaN.

    >>> monitor_scale(np.array([50, 100, 0]))
    array([0.5, 1. , nan])
    """
    flux = np.asarray(monitor, dtype=np.float64)
    alive = np.isfinite(flux) & (flux > 0)
    if not alive.any():
        raise SchemaError("the monitor has no positive value, so it cannot normalize anything.")
    return np.where(alive, flux, np.nan) / float(flux[alive].max())


def divide_projections(block: Array, scale: Array) -> Real:
    """Divide a block by a scale per (angle,), or per (angle, translation) as a monitor gives it.

    Where the scale is NaN or zero the result is NaN.
    """
    values = _floating(block)
    factor = np.asarray(scale, dtype=np.float64)
    if factor.shape not in (values.shape[:1], values.shape[:2]):
        raise SchemaError(
            f"a scale of shape {factor.shape} does not fit projections (angle, translation) "
            f"{values.shape[:2]}. Give one number per angle, or per angle and translation."
        )
    inverse = np.divide(1.0, factor, out=np.full(factor.shape, np.nan), where=factor != 0)
    inverse = inverse.reshape(factor.shape + (1,) * (3 - factor.ndim))
    return np.asarray(values * inverse.astype(values.dtype))


def absorbance(block: Array, flat: Array, dark: Array | float = 0.0) -> Real:
    """Absorbance -log((I - dark) / (flat - dark)), by the Beer-Lambert law.

    ``flat`` and ``dark`` broadcast against the block: (translation, channel) as measured without
    the sample, or (angle, 1, channel) as from `flat_from_edges`. Where the transmission is not
    positive, or the flat not above the dark, no absorbance exists and the result is NaN.

    >>> absorbance(np.array([[[36.787944]]]), np.array([[100.0]])).round(6)
    array([[[1.]]])
    """
    values = _floating(block)
    return _in_slabs(_absorbance, values, flat, dark)


def _absorbance(values: Real, flat: Array, dark: Array) -> Float64:
    offset = np.asarray(dark, dtype=np.float64)
    open_beam, through = np.asarray(flat, dtype=np.float64) - offset, values - offset
    good = (through > 0) & (open_beam > 0) & np.isfinite(through)
    ratio = np.divide(through, open_beam, out=np.full(good.shape, np.nan), where=good)
    return np.asarray(-np.log(ratio))


def _in_slabs(work: Callable[..., Float64], values: Real, *beside: Array | float) -> Real:
    """Work in float64 on a few projections at a time, of what has as many angles as the values."""
    made = np.empty_like(values)
    rows = max(1, SLAB * len(values) // max(1, values.size))
    for first in range(0, len(values), rows):
        some = slice(first, first + rows)
        parts = [np.asarray(one) for one in beside]
        parts = [one[some] if one.ndim == 3 and len(one) > 1 else one for one in parts]
        made[some] = work(values[some], *parts)
    return made


def absorbance_variance(
    variance: Array, block: Array, flat: Array | float, dark: Array | float = 0.0
) -> Real:
    """Variance of the absorbance to first order, var(I) / (I - dark)²; NaN where it has no value.

    The derivative of -log((I - dark) / (flat - dark)) by I is -1 / (I - dark). A flat from the
    edges decides nothing here but where there is no absorbance, so it may be left at 1.

    >>> float(absorbance_variance(np.full((1, 1, 1), 50.0), np.full((1, 1, 1), 50.0), 1.0)[0, 0, 0])
    0.02
    """
    return _in_slabs(_absorbance_variance, _floating(variance), block, flat, dark)


def _absorbance_variance(spread: Real, values: Array, flat: Array, dark: Array) -> Float64:
    offset = np.asarray(dark, dtype=np.float64)
    through = np.asarray(values, dtype=np.float64) - offset
    good = (through > 0) & (np.asarray(flat) > offset) & np.isfinite(through)
    made = np.divide(spread, through**2, out=np.full(good.shape, np.nan), where=good)
    return np.asarray(made)


def flat_from_edges(block: Array, *, width: int = 1, side: Side = "both") -> Float64:
    """Open beam of each projection and channel, from the translations beside the sample.

    For scans without flats whose sample does not reach the edges taken.
    """
    # (angle, translation, channel) -> (angle, 1, channel)
    return air_mean(*air_partial(block, width=width, side=side))[:, None, :]


def _floating(block: Array) -> Real:
    """Return float32 and float64 as they are, and anything else as a float32 copy."""
    values = np.asarray(block)
    kind = values.dtype if values.dtype in (np.float32, np.float64) else np.float32
    return np.asarray(values, dtype=kind)


def check_edges(translations: int, width: int, side: str) -> None:
    """Raise `OptionError` unless ``width`` translations can be taken at ``side``."""
    check_choice("side", side, ("both", "first", "last"))
    most = translations // (2 if side == "both" else 1)
    if not 1 <= width <= most:
        raise OptionError(
            f"width={width} edge translations cannot be taken from {translations} at "
            f"side={side!r}. Give width from 1 to {most}."
        )


def _edges(values: Real, width: int, side: str) -> Real:
    check_edges(values.shape[1], width, side)
    first, last = values[:, :width], values[:, values.shape[1] - width :]
    if side == "both":
        return np.concatenate([first, last], axis=1)
    return first if side == "first" else last


def _sum(table: Float64, finite: NDArray[np.bool_], axis: int) -> Float64:
    return np.asarray(np.sum(table, axis=axis, where=finite))


def _rank_one(table: Float64, finite: NDArray[np.bool_]) -> Float64:
    """Outer product with the row and column sums of the finite entries, by proportional fitting."""
    alive = np.outer(finite.any(axis=1), finite.any(axis=0))
    rows, columns = _sum(table, finite, 1), _sum(table, finite, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        beam = rows
        for _ in range(1 if finite.all() else 50):
            spectrum = columns / (beam @ finite)
            beam = rows / (finite @ np.where(np.isfinite(spectrum), spectrum, 0.0))
            beam = np.where(np.isfinite(beam), beam, 0.0)
        model = np.outer(beam, spectrum)
    if not np.sum(model**2, where=alive) <= 1.5 * np.sum(table**2, where=finite & alive):
        model = np.broadcast_to(air_mean(columns, finite.sum(axis=0)), table.shape)
    return np.where(alive & np.isfinite(model), model, np.nan)
