"""A smaller part of the data, or a wider one."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, planned_sinogram
from ndtomo_dask.coordinates import attach_indexes
from ndtomo_dask.correct.correction import mask_beside
from ndtomo_dask.errors import OptionError, check_choice, nearest
from ndtomo_dask.schema import record, require, step_of
from ndtomo_dask.variables import MASK, MONITOR, SINOGRAM, SINOGRAM_VARIANCE, TRANSLATION

Range = Sequence[float]


def crop(
    ds: xr.Dataset,
    *,
    ranges: Mapping[str, Range] | None = None,
    indices: Mapping[str, Sequence[int]] | None = None,
) -> xr.Dataset:
    """Keep a part of the data; the rotation center moves along.

    Parameters
    ----------
    ds
        A scan or a result.
    ranges
        First and last value to keep, by coordinate: ``{"q": (1, 5), "translation": (-1, 1)}``.
    indices
        First index to keep and the one after the last, by dimension: ``{"angle": (0, 90)}``.
        Negative ones count from the end.

    Returns
    -------
        All variables, cut. A sinogram that is cut where the sample still is, is one of a region of
        interest: its images are wrong near their edge.
    """
    kept: dict[str, slice] = {}
    for name, pair in (ranges or {}).items():
        axis = _axis(ds, name)
        kept[str(axis.dims[0])] = _within(axis, pair)
    for dim, pair in (indices or {}).items():
        if dim not in ds.sizes:
            raise OptionError(f"crop has no dimension {dim!r}. {nearest(dim, map(str, ds.sizes))}")
        kept[dim] = _between(pair, dim, ds.sizes[dim])
    if not kept:
        raise OptionError(
            "crop was told nothing to keep: give ranges={'q': (1, 5)} or "
            "indices={'angle': (0, 90)}."
        )

    cropped = attach_indexes(ds.isel(kept))
    first = kept[TRANSLATION].start if TRANSLATION in kept else 0
    told = {dim: (part.start, part.stop) for dim, part in kept.items()}
    return record(_center_moved(cropped, ds, -first), "crop", **told)


def _axis(ds: xr.Dataset, name: str) -> xr.DataArray:
    known = [str(axis) for axis, values in ds.coords.items() if values.ndim == 1]
    if name not in known:
        raise OptionError(f"crop has no coordinate {name!r}. {nearest(name, known)}")
    return ds[name]


def _within(axis: xr.DataArray, pair: Range) -> slice:
    low, high = _pair(pair, str(axis.name))
    inside = np.flatnonzero((axis.values >= low) & (axis.values <= high))
    if not inside.size:
        raise OptionError(
            f"crop leaves nothing: {axis.name!r} from {low:g} to {high:g}, but the data go from "
            f"{float(axis.min()):g} to {float(axis.max()):g}."
        )
    if np.any(np.diff(inside) != 1):
        raise OptionError(
            f"crop by {axis.name!r} from {low:g} to {high:g} would leave pieces, since it is not "
            f"in order. Crop by indices, or sort the data: ds.sortby({axis.name!r})."
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _between(pair: Sequence[int], dim: str, size: int) -> slice:
    low, high = _pair(pair, dim)
    part = slice(*slice(int(low), int(high)).indices(size)[:2])
    if part.stop <= part.start:
        raise OptionError(f"crop leaves nothing of {dim!r}: {tuple(pair)} of {size} entries.")
    return part


def _pair(pair: Range, name: str) -> tuple[float, float]:
    if len(pair) != 2:
        raise OptionError(f"crop takes two numbers for {name!r}, not {pair!r}.")
    return pair[0], pair[1]


def _center_moved(ds: xr.Dataset, before: xr.Dataset, steps: int) -> xr.Dataset:
    """Keep the rotation axis where it is, in a sinogram that begins elsewhere or is of other width.

    Without the coordinate the axis is in the middle of the scan as it was.
    """
    if TRANSLATION not in before.sizes or ds.sizes.get(TRANSLATION) == before.sizes[TRANSLATION]:
        return ds
    middle = (before.sizes[TRANSLATION] - 1) / 2
    center = float(before["rotation_center"]) if "rotation_center" in before else middle
    about = {"units": "1", "long_name": "rotation axis in translation steps"}
    return ds.assign_coords(rotation_center=xr.Variable((), center + steps, about))


def pad(
    ds: xr.Dataset, *, translation: int | Sequence[int] = 1, fill: Literal["edge", "zero"] = "edge"
) -> xr.Dataset:
    """Add translations at both sides of a scan; the rotation center moves along.

    Parameters
    ----------
    ds
        A scan with ``sinogram``, whole along translation.
    translation
        How many at each side, or two numbers: before the first and after the last.
    fill
        ``"edge"``: the nearest ray is repeated, for a sample that reaches beyond the field of view;
        ``"zero"``: empty rays, for one that does not, to get a wider image.

    Returns
    -------
        The scan with wider ``sinogram``, ``sinogram_variance`` (NaN in what was added), ``monitor``
        and ``mask``; other variables along translation are dropped.
    """
    check_choice("fill", fill, ("edge", "zero"))
    before, after = (translation, translation) if isinstance(translation, int) else translation
    if min(before, after) < 0:
        raise OptionError(f"translation={translation} must be 0 or more rays at each side.")
    sinogram = planned_sinogram(ds, "pad", [TRANSLATION])

    added = (before, after)
    made = {SINOGRAM.name: _wider(sinogram, added, fill)}
    if SINOGRAM_VARIANCE.name in ds:
        made[SINOGRAM_VARIANCE.name] = _wider(
            require(ds, SINOGRAM_VARIANCE, verb="pad", whole=[TRANSLATION]), added, "nan"
        )
    if MONITOR.name in ds:
        made[MONITOR.name] = _wider(ds[MONITOR.name], added, "edge")
    if MASK.name in ds and TRANSLATION in ds[MASK.name].dims:
        (mask,), _ = mask_beside(ds, "pad")
        made[MASK.name] = _wider(mask, added, "zero")

    others = ds.drop_dims(TRANSLATION)
    coords = {TRANSLATION: _longer(ds, added)} if TRANSLATION in ds.coords else {}
    wide = others.assign(made).assign_coords(coords)
    return record(_center_moved(wide, ds, before), "pad", translation=added, fill=fill)


def _wider(array: xr.DataArray, added: tuple[int, int], fill: str) -> xr.DataArray:
    size = array.sizes[TRANSLATION] + sum(added)
    along = [name for name, axis in array.coords.items() if TRANSLATION in axis.dims]
    made = apply_kernel(
        pad_block, array.drop_vars(along), core=[TRANSLATION], out={TRANSLATION: size},
        added=added, fill=fill, axis=array.dims.index(TRANSLATION) - array.ndim,
    )  # fmt: skip
    return made.assign_attrs(array.attrs)


def _longer(ds: xr.Dataset, added: tuple[int, int]) -> xr.Variable:
    axis = ds[TRANSLATION]
    sign = 1 if axis.size < 2 or axis.values[-1] >= axis.values[0] else -1
    step = sign * step_of(ds, TRANSLATION)
    low = axis.values[0] - step * np.arange(added[0], 0, -1)
    high = axis.values[-1] + step * np.arange(1, added[1] + 1)
    return xr.Variable(TRANSLATION, np.concatenate([low, axis.values, high]), axis.attrs)


def pad_block(block: np.ndarray, *, added: tuple[int, int], fill: str, axis: int) -> np.ndarray:
    """Add rays along an axis, counted from the last."""
    widths = [(0, 0)] * block.ndim
    widths[axis] = added
    options: dict[str, Any] = {"mode": "edge"} if fill == "edge" else {
        "mode": "constant", "constant_values": np.nan if fill == "nan" else 0,
    }  # fmt: skip
    return np.pad(block, widths, **options)
