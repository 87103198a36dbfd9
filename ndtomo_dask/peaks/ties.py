"""Ties between the parameters of peaks, from the short forms in which users write them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ndtomo_dask.errors import OptionError, nearest
from ndtomo_dask.kernels.fitting import peak_model
from ndtomo_dask.kernels.fitting.peak_model import KA_COPPER, Tie, same
from ndtomo_dask.kernels.fitting.peaks import SHAPES
from ndtomo_dask.peaks.windows import PeakWindow

Ties = dict[str, Tie]
Named = tuple[PeakWindow, list[str]]
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


def ties_of(given: Mapping[str, Any], windows: Sequence[PeakWindow], axis: str) -> dict[str, Ties]:
    """Write ties as linear maps, by the window to whose peaks they belong.

    A key is a parameter, tied ``"equal"`` or among the peaks of a list; one peak's parameter such
    as ``"b.area"``, with what it is equal to; ``"ka_doublet"`` or ``"caglioti"`` with peaks.

    Raises
    ------
    OptionError
        A name or form that is not known, or peaks that are not fitted together.
    """
    made: dict[str, Ties] = {window.name: {} for window in windows}
    for key, value in given.items():
        if key in _NAMED:
            for window, names in _groups(key, value, windows):
                made[window.name] |= _NAMED[key](window, names, value, axis)
        elif _owner(key, windows) is not None:
            window, ties = _one(key, value, windows)
            made[window.name] |= ties
        else:
            for window, ties in _alike(key, value, windows):
                made[window.name] |= ties
    return made


def _one(key: str, value: Any, windows: Sequence[PeakWindow]) -> tuple[PeakWindow, Ties]:
    """Read one parameter's tie: a sum of others times numbers."""
    owner = _owner(key, windows)
    assert owner is not None
    if isinstance(value, Tie):
        return owner, {key: value}
    if not isinstance(value, str):
        raise OptionError(f"ties[{key!r}]={value!r} must be written like '0.5 * a.area'.")
    return owner, {key: _sum(key, value, owner, windows)}


def _sum(key: str, text: str, owner: PeakWindow, windows: Sequence[PeakWindow]) -> Tie:
    known = _parameters(owner)
    names = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    term = re.compile(
        rf"\s*(?P<sign>[+-]?)\s*(?:(?:(?P<times>{_NUMBER})\s*\*\s*)?(?P<name>{names})"
        rf"(?:\s*(?P<how>[*/])\s*(?P<by>{_NUMBER}))?|(?P<number>{_NUMBER}))\s*(?=[+-]|$)"
    )
    terms: dict[str, float] = {}
    offset, place = 0.0, 0
    while place < len(text):
        found = term.match(text, place)
        if found is None or (place and not found["sign"]):
            raise OptionError(_not_read(key, text, owner, windows))
        sign, place = -1.0 if found["sign"] == "-" else 1.0, found.end()
        if found["name"] is None:
            offset += sign * float(found["number"])
            continue
        factor = sign * float(found["times"] or 1) * _factor(found["how"], found["by"])
        terms[found["name"]] = terms.get(found["name"], 0.0) + factor
    if not terms:
        raise OptionError(
            f"ties[{key!r}]={text!r} names no parameter; to fix one, give bounds={{{key!r}: "
            f"(value, value)}}."
        )
    return Tie(terms, offset)


def _factor(how: str | None, by: str | None) -> float:
    if by is None:
        return 1.0
    return float(by) if how == "*" else 1 / float(by)


def _not_read(key: str, text: str, owner: PeakWindow, windows: Sequence[PeakWindow]) -> str:
    for other in windows:
        if other is not owner and any(name in text for name in _parameters(other)):
            return (
                f"ties[{key!r}]={text!r} speaks of a peak of window {other.name!r}, but only peaks "
                f"of one window are fitted together."
            )
    return (
        f"ties[{key!r}]={text!r} is no sum of parameters such as '0.5 * a.area' or 'a.position + "
        f"0.02'. Known are: {', '.join(_parameters(owner))}."
    )


def _alike(
    key: str, value: Any, windows: Sequence[PeakWindow]
) -> Iterable[tuple[PeakWindow, Ties]]:
    """Tie a parameter of several peaks, those of every window or those of a list."""
    known = {name.rpartition(".")[2] for window in windows for name in _parameters(window)}
    if key not in known:
        every = [name for window in windows for name in _parameters(window)]
        known |= {*_NAMED, *every}
        raise OptionError(f"ties={key!r} is not a parameter. {nearest(str(key), known)}")
    every_window = value == "equal"
    for window, names in _groups(key, value, windows, "equal"):
        having = [name for name in names if key in SHAPES[window.shapes[name]].parameters]
        if len(having) < len(names) and not every_window:
            raise OptionError(f"ties[{key!r}] names a peak whose shape has no {key!r}.")
        if len(having) > 1:
            yield window, same(key, *having)


def _groups(
    key: str, value: Any, windows: Sequence[PeakWindow], everything: str = "all"
) -> list[Named]:
    """Peaks that a tie names, each list of them with its window."""
    if isinstance(value, Mapping):
        value = value.get("peaks")
    if value == everything:
        several = [(window, list(window.shapes)) for window in windows if len(window.shapes) > 1]
        if not several:
            raise OptionError(
                f"ties[{key!r}]={value!r} ties nothing: no window has several peaks. Give a table "
                f"of peaks, or peaks={{window: {{peak: position}}}}."
            )
        return several
    if not isinstance(value, list | tuple) or not value:
        raise OptionError(
            f"ties[{key!r}]={value!r} must be {everything!r} or a list of peaks that are fitted "
            f"together, such as ['a', 'b']."
        )
    lists = value if isinstance(value[0], list | tuple) else [value]
    return [_together(key, [str(name) for name in names], windows) for names in lists]


def _together(key: str, names: list[str], windows: Sequence[PeakWindow]) -> Named:
    known = {name: window for window in windows for name in window.shapes}
    for name in names:
        if name not in known:
            raise OptionError(f"ties[{key!r}] names peak {name!r}. {nearest(name, known)}")
    if len(set(names)) < 2 or len({known[name].name for name in names}) > 1:
        raise OptionError(
            f"ties[{key!r}]={names!r} must name several peaks of one window: only those are "
            f"fitted together."
        )
    return known[names[0]], names


def _ka_doublet(window: PeakWindow, names: list[str], value: Any, axis: str) -> Ties:
    if len(names) != 2 or len({window.shapes[name] for name in names}) > 1:
        raise OptionError(
            f"ties['ka_doublet']={names!r} must name the peaks of Kα1 and Kα2, of one shape."
        )
    given = value if isinstance(value, Mapping) else {}
    ratio, wavelengths = given.get("ratio", 0.5), given.get("wavelengths", KA_COPPER)
    one, two = (float(each) for each in wavelengths)
    first, second = names
    expected = window.positions[first]
    made = peak_model.ka_doublet(
        first, second, ratio=float(ratio), wavelengths=(one, two),
        tth=expected if axis == "tth" else None,
    )  # fmt: skip
    if axis in ("d", "energy"):
        made[f"{second}.position"] = Tie({f"{first}.position": one / two})
    own = SHAPES[window.shapes[first]].parameters
    shared = [name for name in own if name not in ("area", "position")]
    made = {key: tie for key, tie in made.items() if key.rpartition(".")[2] in own[:2]}
    return {key: tie for name in shared for key, tie in same(name, *names).items()} | made


def _caglioti(window: PeakWindow, names: list[str], _value: Any, axis: str) -> Ties:
    wrong = [name for name in names if window.shapes[name] != "thompson_cox_hastings"]
    if wrong or axis != "tth":
        raise OptionError(
            "ties['caglioti'] is for peaks of shape 'thompson_cox_hastings' on axis 'tth'"
            + (f", but {wrong[0]!r} is a {window.shapes[wrong[0]]}." if wrong else f", not {axis}.")
        )
    return peak_model.caglioti({name: window.positions[name] for name in names})


_NAMED: dict[str, Callable[[PeakWindow, list[str], Any, str], Ties]] = {
    "ka_doublet": _ka_doublet,
    "caglioti": _caglioti,
}


def _owner(key: str, windows: Sequence[PeakWindow]) -> PeakWindow | None:
    return next((window for window in windows if key in _parameters(window)), None)


def _parameters(window: PeakWindow) -> list[str]:
    return [
        f"{peak}.{name}" for peak, shape in window.shapes.items()
        for name in SHAPES[shape].parameters
    ]  # fmt: skip
