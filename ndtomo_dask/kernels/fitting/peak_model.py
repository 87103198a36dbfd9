"""Models of a window: any number of peaks, a background, and linear ties between parameters.

Parameters are named ``"peak.parameter"``, such as ``"Ni 111.fwhm"``; those of the background
``"background.0"`` and on. A tie writes a parameter as a linear map of others, or of new unknowns
that are named by it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import OptionError, SchemaError, check_choice, nearest
from ndtomo_dask.kernels.fitting.peaks import SHAPES, evaluate_shape, scale_axis

Float64 = NDArray[np.float64]
Background = int | str | NDArray[np.floating] | Sequence["Background"]
EXPONENTIAL = "exponential"
DECAY = "background"
"""Name of the decay that a background has, among the peaks of a model."""
MOST_TERMS = 20
"""Terms of a polynomial: powers of t are hardly independent beyond."""
KA_COPPER = (1.540593, 1.544427)
"""Wavelengths of Cu Kα1 and Kα2, in Å (Hölzer et al., Phys. Rev. A 56 (1997) 4554)."""


@dataclass(frozen=True)
class Tie:
    """A parameter as Σ coefficient·source + offset, in axis units.

    >>> Tie({"a.position": 1.0}, offset=0.02)
    Tie(terms={'a.position': 1.0}, offset=0.02)
    """

    terms: Mapping[str, float]
    offset: float = 0.0


@dataclass(frozen=True)
class PeakModel:
    """The shape of each peak by its name, the background, and the ties by parameter."""

    peaks: Mapping[str, str]
    background: Background = 1
    """A degree, ``"none"`` (or -1), ``"chebyshev:n"``, spectra that are scaled, or a list.

    ``"exponential"`` has no term here: it is a peak of that shape, not linear in its parameters.
    """
    ties: Mapping[str, Tie] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.peaks:
            raise OptionError("a model needs at least one peak, such as {'Ni 111': 'gaussian'}.")
        for name, shape in self.peaks.items():
            check_choice(f"shape of peak {name!r}", shape, SHAPES)

    @property
    def peak_parameters(self) -> tuple[str, ...]:
        """Names of all parameters of peaks, in the order of parameter vectors."""
        return tuple(
            f"{peak}.{name}"
            for peak, shape in self.peaks.items()
            for name in SHAPES[shape].parameters
        )

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Names that only ties speak of, such as Caglioti's U, V and W."""
        known = set(self.peak_parameters)
        return tuple(
            dict.fromkeys(
                source for tie in self.ties.values() for source in tie.terms if source not in known
            )
        )


def background_rows(
    background: Background, axis: ArrayLike, span: tuple[float, float] | None = None
) -> Float64:
    """Tabulate a background's terms over an axis, or over a part of it.

    ``span`` has the ends of the axis that was fitted, where ``axis`` is only a part of it.

    # (channel,) -> (term, channel)

    >>> background_rows("chebyshev:2", [0.0, 1.0, 2.0])[2]
    array([ 1., -1.,  1.])
    """
    x = np.asarray(axis, dtype=np.float64)
    _, center, half_range = scale_axis(x if span is None else span)
    t = (x - center) / half_range
    if isinstance(background, int):
        if not -1 <= background < MOST_TERMS:
            raise OptionError(
                f"background={background!r} is not a degree of polynomial: "
                f"expected -1 (none), 0 (constant), 1 (line) to {MOST_TERMS - 1}."
            )
        return np.asarray(t ** np.arange(background + 1)[:, np.newaxis], dtype=np.float64)
    if isinstance(background, str):
        if background in ("none", EXPONENTIAL):
            return np.zeros((0, t.size))
        kind, _, degree = background.partition(":")
        if kind != "chebyshev" or not degree.isdecimal():
            raise OptionError(
                f"background={background!r} is not known: "
                "expected a degree such as 1, 'chebyshev:5', 'exponential', or a spectrum."
            )
        return np.asarray(np.polynomial.chebyshev.chebvander(t, int(degree)).T, dtype=np.float64)
    if isinstance(background, np.ndarray):
        return _spectra(background, t)
    rows = (background_rows(one, axis, span) for one in background)
    return np.concatenate([np.zeros((0, t.size)), *rows])


def decays(background: Background) -> bool:
    """Tell whether a background has an exponential decay.

    >>> decays([0, "exponential"]), decays("chebyshev:2")
    (True, False)
    """
    if isinstance(background, int | str | np.ndarray):
        return isinstance(background, str) and background == EXPONENTIAL
    return any(decays(one) for one in background)


def count_terms(background: Background, axis: ArrayLike) -> int:
    """Count the coefficients of a background: of its terms, and amplitude and decay."""
    return len(background_rows(background, axis)) + 2 * decays(background)


def _spectra(background: NDArray[np.floating], t: Float64) -> Float64:
    rows = np.atleast_2d(np.asarray(background, dtype=np.float64))
    if rows.shape[1] != t.size or not np.isfinite(rows).all():
        raise SchemaError(
            f"a background spectrum needs a finite value for each of {t.size} channels; "
            f"its shape is {np.shape(background)}."
        )
    return rows


def same(parameter: str, first: str, *others: str) -> dict[str, Tie]:
    """Tie a parameter of other peaks to that of the first.

    >>> same("fwhm", "a", "b")
    {'b.fwhm': Tie(terms={'a.fwhm': 1.0}, offset=0.0)}
    """
    return {f"{name}.{parameter}": Tie({f"{first}.{parameter}": 1.0}) for name in others}


def ka_doublet(
    first: str,
    second: str,
    *,
    ratio: float = 0.5,
    wavelengths: tuple[float, float] = KA_COPPER,
    tth: float | None = None,
) -> dict[str, Tie]:
    """Tie the peak of Kα2 to that of Kα1: area, position, fwhm and fraction.

    On an axis of q (worked out with the wavelength of Kα1) the second position is exactly the first
    times the ratio of wavelengths. On an axis of 2θ it lies Δλ/λ·2 tan θ further, which is taken at
    ``tth``, the position in degrees to be expected: over a shift of 0.1° it is right to 1e-5°.

    >>> ka_doublet("Ka1", "Ka2")["Ka2.position"].terms["Ka1.position"]
    1.0024887
    """
    one, two = wavelengths
    ties = same("fwhm", first, second) | same("fraction", first, second)
    ties[f"{second}.area"] = Tie({f"{first}.area": ratio})
    if tth is None:
        ties[f"{second}.position"] = Tie({f"{first}.position": two / one})
    else:
        sine = two / one * math.sin(math.radians(tth) / 2)
        shift = 2 * math.degrees(math.asin(sine)) - tth
        ties[f"{second}.position"] = Tie({f"{first}.position": 1.0}, shift)
    return ties


def caglioti(tth: Mapping[str, float]) -> dict[str, Tie]:
    """Tie the widths of Thompson-Cox-Hastings peaks at 2θ (degrees) to U, V, W, X and Y.

    gaussian_square = U tan²θ + V tan θ + W and lorentzian_fwhm = X tan θ + Y/cos θ (Caglioti,
    Paoletti & Ricci, Nucl. Instrum. 3 (1958) 223; Thompson, Cox & Hastings 1987), taken at the
    position to be expected. With one peak of a kind, U, V and W cannot be told apart.

    >>> caglioti({"a": 90.0})["a.lorentzian_fwhm"].terms["Y"]
    1.4142135
    """
    ties = {}
    for name, angle in tth.items():
        tangent, cosine = math.tan(math.radians(angle) / 2), math.cos(math.radians(angle) / 2)
        ties[f"{name}.gaussian_square"] = Tie({"W": 1.0, "V": tangent, "U": tangent**2})
        ties[f"{name}.lorentzian_fwhm"] = Tie({"Y": 1 / cosine, "X": tangent})
    return ties


def evaluate_model(model: PeakModel, axis: ArrayLike, values: ArrayLike) -> dict[str, Float64]:
    """Evaluate each peak and the background of fitted parameters; their sum is the model.

    # (channel,), (pixel, parameter) -> (pixel, channel) by name

    >>> parts = evaluate_model(PeakModel({"a": "gaussian"}, 0), [0.0, 1.0], [[0.0, 0.5, 1.0, 0, 7]])
    >>> parts["background"]
    array([[7., 7.]])
    """
    rows, parts, first = np.asarray(values, dtype=np.float64), {}, 0
    for name, shape in model.peaks.items():
        count = len(SHAPES[shape].parameters)
        parts[name] = evaluate_shape(shape, axis, rows[..., first : first + count])
        first += count
    terms = background_rows(model.background, axis)
    parts["background"] = rows[..., first : first + len(terms)] @ terms
    return parts


def check_names(names: Sequence[str], model: PeakModel, option: str) -> None:
    """Raise `OptionError` for a name that is no parameter, of one peak or of all."""
    everywhere = [name for shape in model.peaks.values() for name in SHAPES[shape].parameters]
    known = (*model.peak_parameters, *model.unknowns, *everywhere)
    for name in names:
        if name not in known and not str(name).startswith("background."):
            raise OptionError(f"{option}={name!r} is not a parameter. {nearest(str(name), known)}")
