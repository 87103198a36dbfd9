"""A fit as arrays: parameters in units of t, their bounds and starts, the linear map of ties."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.peak_model import PeakModel, background_rows, check_names
from ndtomo_dask.kernels.fitting.peaks import SHAPES, Float64, scale_axis
from ndtomo_dask.kernels.fitting.starts import Templates, build_templates

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Bounds = tuple[ArrayLike, ArrayLike]


class Problem(NamedTuple):
    """What all spectra of a window share. Parameters are those of the model, in its order.

    A parameter in axis units is origin + unit·value, times the spectrum's scale where it is of the
    data. Free ones are numbered apart: parameter = offset + Σ coefficient·free.
    """

    t: Float64
    """Ascending, from -1 to 1."""
    descending: bool
    """Whether channels run against t."""
    codes: Integers
    """Shape of every peak."""
    first: Integers
    """Where the parameters of every peak begin, and those of the background."""
    background: Float64
    """(term, channel)"""
    origin: Float64
    unit: Float64
    of_data: Booleans
    least: Float64
    """Parameters must lie above."""
    offset: Float64
    single: Booleans
    """Whether a parameter depends on one free one only."""
    source: Integers
    """The (first) free one that a parameter depends on; -1 where it is fixed."""
    tie: Integers
    """Where the parameters that depend on each free one begin in the two below."""
    tied: Integers
    coefficient: Float64
    rows: Integers
    """Row of derivatives by each free one, then that of the residual."""
    areas: Booleans
    """Which of the free ones are areas."""
    sought: Booleans
    """Peaks whose area is not tied to another's."""
    alike: Integers
    """The first peak of the same shape, bounds and start: such peaks are numbered by position."""
    alone: Booleans
    """Peaks that are like no other."""
    low: Float64
    """Lowest values in axis units. (pixel or 1, parameter)"""
    high: Float64
    start: Float64
    """Where to begin, in axis units; NaN where that is to be found. (pixel or 1, parameter)"""
    guess: Float64
    """Where parameters begin that no template tells, in units of t."""
    templates: Templates
    kind: int
    """One of `likelihoods.LIKELIHOODS`."""
    counts: bool
    """Whether the noise of an unweighted fit is that of counts."""
    given: bool
    """Whether variances are given."""
    rounding: float
    """Rounding errors to expect in data scaled to 1."""
    significance: float
    iterations: int
    tolerance: float


class Layout(NamedTuple):
    """Names, units and kinds of all parameters."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    """The part of the name behind the peak; the kind of what it is tied to for an unknown."""
    first: Integers


DATA = ("area", "amplitude", "background")


def lay_out(model: PeakModel, terms: int) -> Layout:
    """Name all parameters: those of the peaks, the background's, and unknowns of ties."""
    names = [*model.peak_parameters, *(f"background.{k}" for k in range(terms)), *model.unknowns]
    kinds = [name.rpartition(".")[2] for name in model.peak_parameters] + terms * ["background"]
    for unknown in model.unknowns:
        user = next(name for name, tie in model.ties.items() if unknown in tie.terms)
        kinds.append(user.rpartition(".")[2])
    counts = [len(SHAPES[shape].parameters) for shape in model.peaks.values()]
    return Layout(tuple(names), tuple(kinds), np.cumsum([0, *counts]).astype(np.int64))


def default_bounds(x: Float64, layout: Layout, model: PeakModel) -> tuple[Float64, Float64]:
    """Area >= 0, position in the window, fwhm from one channel to the window's width."""
    channel, width = float(np.median(np.abs(np.diff(x)))), float(np.ptp(x))
    known = {
        "area": (0.0, math.inf), "position": (float(x.min()), float(x.max())),
        "fwhm": (channel, width), "gaussian_square": (channel**2, width**2),
        "lorentzian_fwhm": (0.0, width), "amplitude": (0.0, math.inf),
        "decay": (-50 / width, 50 / width), "background": (-math.inf, math.inf),
    }  # fmt: skip
    shapes = [shape for shape in model.peaks.values() for _ in SHAPES[shape].parameters]
    pairs = []
    for number, kind in enumerate(layout.kinds):
        if layout.names[number] in model.unknowns:
            pairs.append((-math.inf, math.inf))
        else:
            limits = SHAPES[shapes[number]].limits if number < len(shapes) else {}
            pairs.append(limits[kind] if kind in limits else known[kind])
    low, high = np.array(pairs).T
    return low.copy(), high.copy()


def spread(
    values: Mapping[str, ArrayLike], layout: Layout, base: Float64, pixels: int, option: str
) -> Float64:
    """Write numbers and maps over ``base``: those of a peak after those of all peaks.

    # (parameter,) -> (pixel or 1, parameter)
    """
    arrays = {name: np.asarray(value, dtype=np.float64).ravel() for name, value in values.items()}
    for name, array in arrays.items():
        if array.size not in (1, pixels):
            raise SchemaError(
                f"{option}[{name!r}] has {array.size} values; expected one, or one for each of "
                f"{pixels} pixels."
            )
    maps = any(array.size > 1 for array in arrays.values())
    table = np.repeat(base[np.newaxis], pixels if maps else 1, axis=0)
    for name in sorted(arrays, key=lambda name: name in layout.names):
        for number, (full, kind) in enumerate(zip(layout.names, layout.kinds, strict=True)):
            if name in (full, kind):
                table[:, number] = arrays[name]
    return table


def build_bounds(
    x: Float64, model: PeakModel, layout: Layout, bounds: Mapping[str, Bounds], pixels: int
) -> tuple[Float64, Float64]:
    """Put the bounds that were given over the default ones, and refuse what cannot be."""
    check_names(list(bounds), model, "bounds")
    for name, pair in bounds.items():
        if not hasattr(pair, "__len__") or len(pair) != 2:
            raise OptionError(f"bounds[{name!r}]={pair!r} must be (lowest, highest).")
    least, most = default_bounds(x, layout, model)
    low = spread({n: pair[0] for n, pair in bounds.items()}, layout, least, pixels, "bounds")
    high = spread({n: pair[1] for n, pair in bounds.items()}, layout, most, pixels, "bounds")
    channel, width = float(np.median(np.abs(np.diff(x)))), float(np.ptp(x))
    widths = [kind == "fwhm" for kind in layout.kinds]
    least[widths], most[widths] = 1e-3 * channel, 1e3 * width
    for number, name in enumerate(layout.names):
        lowest, highest = low[:, number], high[:, number]
        right = (lowest >= least[number]) & (highest <= most[number])
        if not (right[: len(right)].all() and _ordered(lowest, highest)):
            given = bounds.get(name, bounds.get(layout.kinds[number]))
            short = name if name in bounds else layout.kinds[number]
            raise OptionError(
                f"bounds[{short!r}]={given!r} must be (lowest, highest) "
                f"within {least[number]:.6g} to {most[number]:.6g}."
            )
    return low, high


def _ordered(low: Float64, high: Float64) -> bool:
    return bool((low <= high).all())


class Ties(NamedTuple):
    """The linear map from free parameters to all, in axis units, column by column."""

    leader: Integers
    """The parameter that gives each free one its unit."""
    tie: Integers
    tied: Integers
    coefficient: Float64
    offset: Float64
    depends: Integers
    """On how many free ones each parameter depends."""


def build_ties(
    model: PeakModel, layout: Layout, low: Float64, high: Float64, mapped: Booleans
) -> Ties:
    """Give a number to each free parameter, and list what depends on it."""
    place = {name: number for number, name in enumerate(layout.names)}
    fixed = (low[0] == high[0]) & ~mapped
    _check_ties(model, place)
    offset = np.where(fixed, low[0], 0.0)
    entries: dict[int, list[tuple[int, float]]] = {}
    for number, name in enumerate(layout.names):
        tie = model.ties.get(name)
        if tie is None:
            terms = {} if fixed[number] else {name: 1.0}
        else:
            terms, offset[number] = dict(tie.terms), tie.offset
        for source, coefficient in terms.items():
            if fixed[place[source]]:
                offset[number] += coefficient * low[0, place[source]]
            else:
                entries.setdefault(place[source], []).append((number, float(coefficient)))
    columns = [_own_first(entries[source], source) for source in sorted(entries)]
    flat = [entry for column in columns for entry in column]
    tied = np.array([number for number, _ in flat], dtype=np.int64)
    return Ties(
        np.array(sorted(entries), dtype=np.int64),
        np.cumsum([0, *(len(column) for column in columns)]).astype(np.int64),
        tied, np.array([coefficient for _, coefficient in flat]), offset,
        np.bincount(tied, minlength=len(layout.names)),
    )  # fmt: skip


def _own_first(entries: list[tuple[int, float]], source: int) -> list[tuple[int, float]]:
    """Begin with what a free parameter is named after, so that it gives the unit."""
    return sorted(entries, key=lambda entry: entry[0] != source)


def _check_ties(model: PeakModel, place: Mapping[str, int]) -> None:
    check_names(list(model.ties), model, "ties")
    data = {name: name.rpartition(".")[2] in DATA for name in model.peak_parameters}
    for name, tie in model.ties.items():
        if name not in place:
            raise OptionError(f"ties={name!r} must name one peak's parameter, such as 'a.fwhm'.")
        for source in tie.terms:
            if source in model.ties:
                raise OptionError(
                    f"ties[{name!r}] leads to {source!r}, which is tied itself; tie both to the "
                    "same free parameter."
                )
            if data.get(source, data[name]) != data[name]:
                raise OptionError(
                    f"ties[{name!r}] mixes an area with {source!r}; tie areas to areas only."
                )


def build_problem(
    x: Float64, model: PeakModel, *, bounds: Mapping[str, Bounds], start: Mapping[str, ArrayLike],
    pixels: int, kind: int, counts: bool, given: bool, rounding: float, significance: float,
    iterations: int, tolerance: float,
) -> tuple[Problem, Layout]:  # fmt: skip
    """Work out everything that the spectra of a window share."""
    descending = bool(x[0] > x[-1])
    t, center, half_range = scale_axis(np.ascontiguousarray(x[::-1]) if descending else x)
    background = background_rows(model.background, x)
    background = np.ascontiguousarray(background[:, ::-1] if descending else background)
    layout = lay_out(model, len(background))
    low, high = build_bounds(x, model, layout, bounds, pixels)
    mapped = _mapped(layout, {name: max(map(np.ndim, pair)) for name, pair in bounds.items()})
    ties = build_ties(model, layout, low, high, mapped)
    if x.size < ties.leader.size + 2:
        raise SchemaError(
            f"a window of {x.size} channels cannot determine {ties.leader.size} parameters: it "
            f"needs {ties.leader.size + 2}. Widen the window, or lower the degree of background."
        )
    check_names(list(start), model, "start")
    begin = spread(start, layout, np.full(len(layout.names), np.nan), pixels, "start")

    unit, origin = _units(layout, center, half_range)
    least, most = default_bounds(x, layout, model)
    widest_low, widest_high = np.where(mapped, least, low[0]), np.where(mapped, most, high[0])
    single, source, coefficient, offset = _scaled(ties, unit, origin)
    sought, positions, widths = _what_to_seek(model, layout, widest_low, widest_high, unit, origin)
    templates = build_templates(t, _behind(model, background, t), positions, widths)
    shapes = [SHAPES[shape] for shape in model.peaks.values()]
    guess = [value for shape in shapes for value in _guess(shape.parameters, shape.start)]
    guess += [0.0] * (len(layout.names) - len(guess))
    of_data = np.array([kind in DATA for kind in layout.kinds])
    above = np.array([0.0 if kind in ("fwhm", "gaussian_square") else -np.inf
                      for kind in layout.kinds])  # fmt: skip
    above[[name in model.unknowns for name in layout.names]] = -np.inf
    rows = _rows(ties, coefficient, len(layout.names))
    mapped |= _mapped(layout, {name: np.ndim(value) for name, value in start.items()})
    alike = _alike(model, layout, (low[:1], high[:1], begin[:1]))
    alike = np.where([mapped[a:b].any() for a, b in pairwise(layout.first)],
                     np.arange(alike.size), alike)  # fmt: skip
    return Problem(
        t, descending, np.array([shape.code for shape in shapes]), layout.first, background,
        origin, unit, of_data, above, offset, single, source, ties.tie, ties.tied, coefficient,
        rows, np.array([layout.kinds[k] in DATA[:2] for k in ties.leader]), sought,
        alike, np.bincount(alike, minlength=len(alike))[alike] == 1, low, high, begin,
        np.array(guess), templates, kind, counts, given, rounding, float(significance),
        int(iterations), float(tolerance),
    ), layout  # fmt: skip


def _mapped(layout: Layout, dimensions: Mapping[str, int]) -> Booleans:
    """Tell which parameters have a value per pixel: nothing else may depend on those of a block."""
    marks = {name: float(count > 0) for name, count in dimensions.items()}
    return np.asarray(spread(marks, layout, np.zeros(len(layout.names)), 1, "bounds")[0] > 0)


def _alike(model: PeakModel, layout: Layout, tables: tuple[Float64, ...]) -> Integers:
    tied = {name for tie in model.ties.values() for name in tie.terms} | set(model.ties)
    shapes, alike = tuple(model.peaks.values()), list(range(len(model.peaks)))
    spans = [slice(*pair) for pair in zip(layout.first, layout.first[1:], strict=False)]
    for k, span in enumerate(spans):
        for j in range(k):
            same = shapes[j] == shapes[k] and tied.isdisjoint(layout.names[span])
            same = same and tied.isdisjoint(layout.names[spans[j]])
            if same and all(
                np.array_equal(table[:, spans[j]], table[:, span], equal_nan=True)
                for table in tables
            ):
                alike[k] = alike[j]
    return np.array(alike, dtype=np.int64)


def _units(layout: Layout, center: float, half_range: float) -> tuple[Float64, Float64]:
    lengths = {
        "decay": -1,
        "amplitude": 0,
        "fraction": 0,
        "asymmetry": 0,
        "background": 0,
        "gaussian_square": 2,
    }
    unit = np.array([half_range ** lengths.get(kind, 1) for kind in layout.kinds])
    return unit, np.array([center if kind == "position" else 0.0 for kind in layout.kinds])


def _scaled(
    ties: Ties, unit: Float64, origin: Float64
) -> tuple[Booleans, Integers, Float64, Float64]:
    coefficient, offset = ties.coefficient.copy(), (ties.offset - origin) / unit
    source = np.full(unit.size, -1, dtype=np.int64)
    for free, leader in enumerate(ties.leader):
        for entry in range(ties.tie[free], ties.tie[free + 1]):
            number = ties.tied[entry]
            offset[number] += coefficient[entry] * origin[leader] / unit[number]
            coefficient[entry] *= unit[leader] / unit[number]
            source[number] = free if source[number] < 0 else source[number]
    return ties.depends == 1, source, coefficient, offset


def _behind(model: PeakModel, background: Float64, t: Float64) -> Float64:
    """Return what templates are compared on: with a decay also a cubic, which comes near to it."""
    if "exponential" not in model.peaks.values():
        return background
    rows = np.concatenate([background, np.vander(t, 4).T])
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(directions[sizes > 1e-6 * sizes[0]])


def _rows(ties: Ties, coefficient: Float64, parameters: int) -> Integers:
    rows, spare = [], parameters + 2
    for free in range(ties.leader.size):
        one = ties.tie[free + 1] - ties.tie[free] == 1 and coefficient[ties.tie[free]] == 1.0
        rows.append(int(ties.tied[ties.tie[free]]) if one else spare)
        spare += 0 if one else 1
    return np.array([*rows, parameters], dtype=np.int64)


def _guess(parameters: tuple[str, ...], start: Mapping[str, float]) -> list[float]:
    return [start.get(name, 0.0) for name in parameters]


def _what_to_seek(
    model: PeakModel, layout: Layout, low: Float64, high: Float64, unit: Float64, origin: Float64
) -> tuple[Booleans, list[tuple[float, float]], list[tuple[float, float]]]:  # fmt: skip
    """Return which peaks have templates, and over which positions and widths, in units of t."""
    none, sought, positions, widths = (1.0, 0.0), [], [], []
    for peak, shape in enumerate(model.peaks.values()):
        begin = int(layout.first[peak])
        area = layout.names[begin]
        sought.append(area not in model.ties and shape != "exponential")
        if shape == "exponential":
            positions.append(none)
            widths.append(none)
            continue
        place = begin + 1
        span = ((low[place] - origin[place]) / unit[place],
                (high[place] - origin[place]) / unit[place])  # fmt: skip
        positions.append(span if sought[-1] else none)
        lowest, highest = low[begin + 2], high[begin + 2]
        wide = np.array([lowest, highest]) / unit[begin + 2]
        wide = np.sqrt(wide) if "gaussian_square" in SHAPES[shape].parameters else wide
        widths.append((float(wide[0]), float(wide[1])))
    return np.array(sought), positions, widths
