"""Which axis of an array in a file is which dimension: by name, else by length, never a guess."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np

from ndtomo_dask.errors import SchemaError, nearest
from ndtomo_dask.variables import ANGLE, CHANNEL, TIME, TRANSLATION, X, Y, Z

KINDS: dict[str, tuple[str, ...]] = {
    "sinogram": (TIME, Z, ANGLE, TRANSLATION, CHANNEL),
    "volume": (TIME, Z, Y, X, CHANNEL),
    "image": (TIME, Z, Y, X),
    "spectrum": (CHANNEL,),
}
"""Canonical order of the dimensions of each kind of data."""

GROWS = -1
"""Length of an axis that grows, in the shape of an array that is being written: any will do."""

_FIRST = {
    "sinogram": (ANGLE, TRANSLATION, CHANNEL, Z, TIME),
    "volume": (Y, X, CHANNEL, Z, TIME),
    "image": (Y, X, Z, TIME),
    "spectrum": (CHANNEL,),
}

SPECTRAL_WORDS = {
    "tth": "tth",
    "twotheta": "tth",
    "two_theta": "tth",
    "2theta": "tth",
    "q": "q",
    "d": "d",
    "energy": "energy",
}
"""Spectral axes by the names that files use, in lower case."""

_COMMON = (
    dict.fromkeys(("channel", "channels", "frame", "energy_bin", "bin", "mca"), CHANNEL)
    | dict.fromkeys(SPECTRAL_WORDS, CHANNEL)
    | {"time": TIME}
)
_ANGLE_WORDS = (
    "angle",
    "angles",
    "theta",
    "rotation_angle",
    "rotation",
    "rot",
    "omega",
    "phi",
    "gts_theta",
)
_SINOGRAM_WORDS = (
    _COMMON
    | dict.fromkeys(_ANGLE_WORDS, ANGLE)
    | dict.fromkeys((TRANSLATION, "x", "detector", "detector_x", "column"), TRANSLATION)
    | dict.fromkeys(("z", "y", "height", "slice", "row", "detector_y"), Z)
)
_IMAGE_WORDS = _COMMON | {
    "x": X,
    "column": X,
    "y": Y,
    "row": Y,
    "z": Z,
    "height": Z,
    "slice": Z,
}


def dimension_of(word: str, kind: str) -> str | None:
    """Return the dimension that a file's word for an axis means, or None if it is not known.

    A last part that states the unit or the role is passed over.

    >>> dimension_of("rotation_angle", "sinogram"), dimension_of("theta_white", "sinogram")
    ('angle', 'angle')
    """
    words = _SINOGRAM_WORDS if kind == "sinogram" else _IMAGE_WORDS
    word = word.strip().lower()
    return words.get(word) or words.get(word.rpartition("_")[0])


def is_angle(word: str) -> bool:
    """Say whether a file's word for an axis means the projection angle."""
    return dimension_of(word, "sinogram") == ANGLE


def named(words: Sequence[str], kind: str) -> list[str | None]:
    """Translate a file's axis names; a frame beside a spectral axis is time, doubles stay open."""
    found = [dimension_of(word, kind) for word in words]
    if found.count(CHANNEL) == 2 and "frame" in words:
        found[list(words).index("frame")] = TIME
    return [dim if found.count(dim) == 1 and dim in KINDS[kind] else None for dim in found]


def explicit(dims: Sequence[str], shape: tuple[int, ...], kind: str, where: str) -> tuple[str, ...]:
    """Check dimensions given by the caller against the shape of the data."""
    for dim in dims:
        if dim not in KINDS[kind]:
            raise SchemaError(
                f"dims has {dim!r}, which a {kind} does not have. {nearest(dim, KINDS[kind])}"
            )
    if len(dims) != len(shape) or len(set(dims)) != len(dims):
        raise SchemaError(
            f"dims={tuple(dims)} does not name each of the {len(shape)} axes of {where} "
            f"{shape} once."
        )
    return tuple(dims)


def settle(
    shape: tuple[int, ...],
    words: Sequence[str | None],
    lengths: Mapping[str, int],
    kind: str,
    where: str,
) -> tuple[str, ...]:
    """Return the dimension of each axis, from the names known and the lengths of the coordinates.

    Parameters
    ----------
    shape
        Shape of the array in the file.
    words
        Dimension of each axis where its name is known, else None.
    lengths
        Length of each coordinate at hand, by dimension.
    kind
        One of `KINDS`.
    where
        Name of the dataset, for the message.

    Raises
    ------
    SchemaError
        A coordinate fits no axis, or more than one assignment fits.
    """
    wanted = [dim for dim in words if dim] + [dim for dim in lengths if dim not in words]
    wanted += [dim for dim in _FIRST[kind] if dim not in wanted]
    wanted = wanted[: len(shape)]
    fits = [order for order in permutations(wanted) if _fits(order, shape, words, lengths)]
    if not fits and {ANGLE, TRANSLATION} <= set(lengths):  # lengths are facts, names may be wrong
        unnamed = [None] * len(shape)
        fits = [order for order in permutations(wanted) if _fits(order, shape, unnamed, lengths)]
        fits = fits if len(fits) == 1 else []
    if len(fits) == 1 and len(wanted) == len(shape):
        return fits[0]
    if not fits:
        raise SchemaError(_misfit(shape, words, lengths, where))
    raise SchemaError(
        f"the axes of {where} {shape} cannot be told apart. Say which is which, for instance "
        f"dims={fits[0]}."
    )


def _fits(
    order: Sequence[str],
    shape: tuple[int, ...],
    words: Sequence[str | None],
    lengths: Mapping[str, int],
) -> bool:
    return all(
        word in (None, dim) and (size == GROWS or lengths.get(dim, size) == size)
        for dim, size, word in zip(order, shape, words, strict=False)
    )


def _misfit(
    shape: tuple[int, ...], words: Sequence[str | None], lengths: Mapping[str, int], where: str
) -> str:
    for dim, length in lengths.items():
        if dim in words and shape[list(words).index(dim)] != length:
            size = shape[list(words).index(dim)]
            return (
                f"axis {dim!r} has {length} values, but {where} {shape} has {size} along it. "
                f"Map the axis that belongs to these data."
            )
        if length not in shape:
            return f"axis {dim!r} has {length} values, but no axis of {where} {shape} is that long."
    return f"the axes {dict(lengths)} do not fit {where} {shape} together; pass dims=(...)."


def subset(
    shape: tuple[int, ...], sizes: Mapping[str, int], *, where: str
) -> tuple[str, ...] | None:
    """Return the dimensions, in the order of ``sizes``, whose lengths are ``shape``; None if none.

    >>> subset((7, 101), {"angle": 52, "z": 7, "translation": 101}, where="flat")
    ('z', 'translation')
    """
    found = [
        order
        for order in _ordered_choices(tuple(sizes), len(shape))
        if tuple(sizes[dim] for dim in order) == shape
    ]
    if len(found) > 1:
        raise SchemaError(
            f"{where} {shape} may lie along {found[0]} or {found[1]} of the data {dict(sizes)}; "
            f"leave it out and assign it with its dimensions."
        )
    return found[0] if found else None


def _ordered_choices(dims: tuple[str, ...], count: int) -> list[tuple[str, ...]]:
    if count == 0:
        return [()]
    return [
        (dim, *rest)
        for place, dim in enumerate(dims)
        for rest in _ordered_choices(dims[place + 1 :], count - 1)
    ]


def refuse_constant(name: str, values: np.ndarray, *, where: str) -> None:
    """Refuse an axis that has one value only; projection angles may repeat."""
    if name != ANGLE and values.size > 1 and np.ptp(values) == 0:
        raise SchemaError(
            f"{where} has the one value {values[0]:g}, {values.size} times, so it does not say "
            f"where the data lie. Map another dataset, or leave it out."
        )


def line_of(values: np.ndarray, *, where: str) -> np.ndarray:
    """Reduce positions given for every point to the one axis along which they vary.

    A (7, 101) array of x that is the same in each row becomes its 101 values; a hundredth of a step
    is passed over as motor jitter.
    """
    if values.ndim < 2:
        return np.atleast_1d(values)
    lines = []
    for axis in range(values.ndim):
        first = [slice(0, 1)] * values.ndim
        first[axis] = slice(None)
        line = values[tuple(first)]
        step = np.median(np.abs(np.diff(line.ravel()))) if line.size > 1 else 0.0
        if np.allclose(values, line, rtol=0, atol=0.01 * step):
            lines.append(line.ravel())
    if not lines:
        raise SchemaError(
            f"{where} {values.shape} varies along more than one axis, and a coordinate is a "
            f"list of positions. Regrid the data, or leave this axis out of the map."
        )
    return max(lines, key=len)
