"""Backgrounds of spectra: what is broad under what is narrow.

SNIP is compiled here, for many spectra at once; the others are those of pybaselines (Erb, 2022),
spectrum by spectrum. Rows are spectra and do not know of one another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice, missing_extra
from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.corrections.interpolation import fill_along
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Options = Mapping[str, Any]

SLAB = 256
"""Spectra that a thread takes at a time."""


@dataclass(frozen=True)
class Background:
    """A method: its options and their usual values, and pybaselines' names; None must be given."""

    options: Mapping[str, float | None]
    name: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)


METHODS = {
    "snip": Background({"width": None, "smooth": 0}),
    "asls": Background(
        {"smoothness": 1e6, "asymmetry": 0.01}, "asls", {"smoothness": "lam", "asymmetry": "p"}
    ),
    "arpls": Background({"smoothness": 1e5}, "arpls", {"smoothness": "lam"}),
    "polynomial": Background({"order": 3}, "imodpoly", {"order": "poly_order"}),
}
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "width": (lambda value: value >= 1, "a number of channels, 1 or more"),
    "smooth": (lambda value: value >= 0, "a number of channels, 0 or more"),
    "smoothness": (lambda value: value > 0, "more than 0"),
    "asymmetry": (lambda value: 0 < value < 1, "between 0 and 1"),
    "order": (lambda value: value >= 0, "0 or more"),
}


def given_options(method: str, options: Options, channels: int) -> dict[str, Any]:
    """Options of a method, with the usual ones; or the reason why not.

    >>> given_options("arpls", {"smoothness": None, "width": None}, 100)
    {'smoothness': 100000.0}
    """
    check_choice("method", method, METHODS)
    known = METHODS[method].options
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in known:
            others = [other for other, made in METHODS.items() if name in made.options]
            raise OptionError(
                f"{name}={value!r} is for method={' or '.join(map(repr, others))}, "
                f"not for {method!r}."
            )
        if not _RANGES[name][0](value):
            raise OptionError(f"{name}={value} must be {_RANGES[name][1]}.")
    made = {**known, **given}
    if method == "snip" and not 0 < 2 * (made["width"] or 0) < channels:
        raise OptionError(
            f"method='snip' needs width, the channels from the top of the broadest peak to its "
            f"foot: 1 to {(channels - 1) // 2} of {channels} channels, not {made['width']}."
        )
    return made


def load_pybaselines() -> Any:
    """Import pybaselines."""
    try:
        import pybaselines
    except ImportError as error:
        raise missing_extra("subtract_background", "pybaselines", "corrections") from error
    return pybaselines


def subtract_background(block: Float, kept: Bool, *, method: str, options: Options) -> Float:
    """Subtract from each spectrum its background, (..., channel) -> the same.

    What is not ``kept`` is bridged to find the background, which is subtracted there as well; NaN
    stays NaN.
    """
    spectra = block.reshape(-1, block.shape[-1])
    known, made = kept.reshape(spectra.shape), np.empty_like(spectra)
    find = _snip if method == "snip" else _baselines(method, options, spectra.shape[1])

    def one(first: int) -> None:
        rows = slice(first, first + SLAB)
        bridged = fill_along(spectra[rows], known[rows], axis=1).astype(np.float64)
        whole = np.isfinite(bridged).all(axis=1) & (np.ptp(bridged, axis=1) > 0)
        # Of a spectrum in which nothing varies, all is background.
        found = bridged.copy()
        found[whole] = find(bridged[whole], **options)
        made[rows] = spectra[rows] - found

    run_threaded(one, range(0, len(spectra), SLAB))
    return made.reshape(block.shape)


def _snip(spectra: Float64, *, width: int, smooth: int = 0) -> Float64:
    smoothed = _moving_mean(spectra, smooth) if smooth else spectra.copy()
    clip_peaks(smoothed, int(width), np.empty(spectra.shape[1]))
    return smoothed


def _moving_mean(spectra: Float64, half: int) -> Float64:
    """Mean over ``half`` channels on either side; fewer at the ends."""
    size = spectra.shape[1]
    sums = np.cumsum(np.pad(spectra, ((0, 0), (1, 0))), axis=1)
    place = np.arange(size)
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, size)
    return np.asarray((sums[:, high] - sums[:, low]) / (high - low))


@compiled()
def clip_peaks(spectra: Float64, width: int, work: Float64) -> None:
    """Clip the peaks of each spectrum, (spectrum, channel), in place, by SNIP.

    From the widest window to the narrowest, a channel becomes the mean of those ``p`` channels
    aside where it exceeds it: Ryan et al., Nucl. Instrum. Methods B 34, 396 (1988), in the order of
    Morháč, Nucl. Instrum. Methods A 600, 478 (2009). A channel nearer to an end than ``p`` waits
    for a narrower window. ``work`` holds one spectrum.
    """
    size = spectra.shape[1]
    for row in range(spectra.shape[0]):
        for aside in range(width, 0, -1):
            for place in range(aside, size - aside):
                middle = 0.5 * (spectra[row, place - aside] + spectra[row, place + aside])
                work[place] = min(spectra[row, place], middle)
            for place in range(aside, size - aside):
                spectra[row, place] = work[place]


def _baselines(method: str, options: Options, channels: int) -> Callable[..., Float64]:
    known = METHODS[method]
    renamed = {known.renamed[name]: value for name, value in options.items()}
    library = load_pybaselines()

    def find(spectra: Float64, **_: Any) -> Float64:
        fitter = library.Baseline(np.arange(channels, dtype=float), check_finite=False)
        function = getattr(fitter, known.name)
        found = [function(spectrum, **renamed)[0] for spectrum in spectra]
        return np.asarray(found).reshape(spectra.shape)

    return find
