"""Stripes of a sinogram, which become rings: Algotom's filters, one channel after the other.

Algotom (Vo, Atwood & Drakopoulos, Optics Express 26, 28396 (2018), and the sources it names) knows
single images without gaps. Here each channel is an image of its own; projections without a sample
are left out, other gaps are bridged, and both come back as they were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice, missing_extra
from ndtomo_dask.kernels.gaps import bridge_gaps
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]
Filter = Callable[[Float], Float]
Options = Mapping[str, Any]

LEAST = 8
"""Translations and angles that a filter needs; detection fits a line to half of them."""


@dataclass(frozen=True)
class Stripes:
    """A filter: Algotom's name of it, and of its options; ``fixed`` are what we always say."""

    name: str
    options: Mapping[str, str]
    fixed: Options = field(default_factory=dict)


METHODS = {
    "sorting": Stripes("remove_stripe_based_sorting", {"size": "size"}),
    "filtering": Stripes("remove_stripe_based_filtering", {"size": "size", "sigma": "sigma"}),
    "wavelet": Stripes(
        "remove_stripe_based_wavelet_fft",
        {"level": "level", "damping": "size", "wavelet": "wavelet_name"},
    ),
    # The logarithm would need positive counts.
    "regularized": Stripes(
        "remove_stripe_based_regularization",
        {"regularization": "alpha"},
        {"apply_log": False},
    ),
    "large": Stripes("remove_large_stripe", {"size": "size", "snr": "snr"}),
    "dead": Stripes("remove_dead_stripe", {"size": "size", "snr": "snr"}),
    "all": Stripes("remove_all_stripe", {"size": "sm_size", "large_size": "la_size", "snr": "snr"}),
}
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "size": (lambda value: value >= 1, "a number of translations, 1 or more"),
    "large_size": (lambda value: value >= 1, "a number of translations, 1 or more"),
    "sigma": (lambda value: value > 0, "more than 0"),
    "level": (lambda value: value >= 1, "a number of levels, 1 or more"),
    "damping": (lambda value: value > 0, "more than 0"),
    "regularization": (lambda value: value > 0, "more than 0"),
    "snr": (lambda value: value > 1, "more than 1"),
}
WAVELET, LEVEL = "db9", 5
_SIZES = {"size": {"large": (51, 6), "dead": (51, 6)}, "large_size": {"all": (51, 6)}}
"""Translations of a window unless given, and the part of a sinogram that it is at most."""


def given_options(method: str, options: Options) -> dict[str, Any]:
    """Options that are given, if the method has them, or the reason why not.

    >>> given_options("sorting", {"size": 31, "snr": None})
    {'size': 31}
    """
    check_choice("method", method, METHODS)
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in METHODS[method].options:
            others = [other for other, made in METHODS.items() if name in made.options]
            raise OptionError(
                f"{name}={value!r} is for method={' or '.join(map(repr, others))}, "
                f"not for {method!r}."
            )
        if name in _RANGES and not _RANGES[name][0](value):
            raise OptionError(f"{name}={value} must be {_RANGES[name][1]}.")
    return given


def with_sizes(method: str, options: Options, translations: int) -> dict[str, Any]:
    """Add the sizes that were not given: Algotom's, but no more than a part of the sinogram.

    >>> with_sizes("all", {}, 64), with_sizes("sorting", {}, 1000)
    ({'size': 5, 'large_size': 10}, {'size': 21})
    """
    sized = dict(options)
    for name in ("size", "large_size"):
        if name in METHODS[method].options and name not in options:
            usual, part = _SIZES[name].get(method, (21, 12))
            sized[name] = max(3, min(usual, translations // part))
    return sized


def load_algotom() -> Any:
    """Import Algotom's filters; what they need is imported with them."""
    try:
        import algotom.prep.removal
    except ImportError as error:
        raise missing_extra("remove_rings", "algotom", "corrections") from error
    return algotom.prep.removal


def check_shape(shape: tuple[int, int], method: str, options: Options) -> None:
    """Raise `OptionError` where a sinogram, (angle, translation), is too small for a filter."""
    angles, translations = shape
    if min(angles, translations) < LEAST:
        raise OptionError(
            f"remove_rings needs {LEAST} angles and translations or more, but the sinogram has "
            f"{angles} and {translations}."
        )
    if method == "wavelet":
        wavelet = options.get("wavelet", WAVELET)
        most = largest_level(shape, wavelet)
        if most < 1:
            raise OptionError(
                f"wavelet={wavelet!r} cannot decompose {angles} angles and {translations} "
                f"translations, which are too few: choose another method, such as 'sorting'."
            )
        if options.get("level", 1) > most:
            raise OptionError(
                f"level={options['level']} of the wavelet filter is too high for {angles} angles "
                f"and {translations} translations: give 1 to {most}."
            )


def largest_level(shape: tuple[int, ...], wavelet: str) -> int:
    """Levels into which a sinogram can be decomposed, once Algotom has padded it."""
    load_algotom()
    import pywt

    check_choice("wavelet", wavelet, pywt.wavelist(kind="discrete"))
    padded = min(shape) + 2 * min(150, min(shape) // 10)
    # Algotom stops where fewer than 16 pixels would be left.
    return min(int(pywt.dwt_max_level(padded, wavelet)), (padded // 16).bit_length() - 1)


def remove_stripes(block: Float, kept: Bool, *, method: str, options: Options) -> Float:
    """Remove stripes along the angle from each channel of (angle, translation, channel).

    ``kept`` is False where a sample is missing: it has no part in any filter and comes back as it
    was. A channel in which nothing varies, or in which a filter detects no noise, stays as it is.
    """
    made, remove = block.copy(), _filter(method, options)

    def one(channel: int) -> None:
        known = kept[:, :, channel]
        rows = np.asarray(known.any(axis=1))
        if rows.sum() < LEAST:
            return
        image = _image(block, known, rows, channel)
        if np.ptp(image) == 0:
            return
        cleaned = remove(image)
        good = known[rows] & np.isfinite(cleaned)
        made[rows, :, channel] = np.where(good, cleaned, block[rows, :, channel])

    run_threaded(one, range(block.shape[2]))
    return made


def _image(block: Float, known: Bool, rows: Bool, channel: int) -> Float:
    some = np.ascontiguousarray(block[rows, :, channel, None])
    return bridge_gaps(some, known[rows, :, None])[:, :, 0]


def _filter(method: str, options: Options) -> Filter:
    known = METHODS[method]
    named = {known.options[name]: value for name, value in options.items()} | dict(known.fixed)
    function = partial(getattr(load_algotom(), known.name), **named)

    def remove(image: Float) -> Float:
        extra: dict[str, Any] = {}
        if method == "wavelet":
            most = largest_level(image.shape, named.get("wavelet_name", WAVELET))
            if most < 1:
                return image
            extra["level"] = min(named.get("level", LEVEL), most)
        try:
            with np.errstate(all="ignore"):
                return np.asarray(function(image.copy(), **extra))
        except ValueError as error:
            if "noise-free" not in str(error):
                raise
            return image

    return remove
