"""The words of a cluster file, one meaning each, and what each may hold."""

import re
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any

from ndtomo_dask.byte_sizes import parse_bytes
from ndtomo_dask.errors import OptionError, nearest

MANY = 10**6
"""Jobs, where no maximum is given."""
_UNIT_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def checked_options(
    options: Mapping[str, Any], known: Iterable[str], *, source: str
) -> dict[str, Any]:
    """Return the options that are given, each in its type, or refuse the first that is wrong."""
    known = tuple(known)
    for name in options:
        if name not in known:
            raise OptionError(f"{source} has option {name!r}. {nearest(str(name), known)}")
    given = {name: value for name, value in options.items() if value is not None}
    return {name: OPTIONS[name](name, value) for name, value in given.items()}


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or not int(value):
        raise OptionError(f"{name}={value!r} is not a number of 1 or more.")
    return int(value)


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise OptionError(f"{name}={value!r} is not a size in bytes. Write it as '16GB'.")
    return parse_bytes(value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise OptionError(f"{name}={value!r} is not a word. Write it in quotes.")
    return str(value)


def _lines(name: str, value: Any) -> list[str]:
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise OptionError(f"{name}={value!r} is not a list of lines. Begin each with '- '.")
    return list(lines)


def _duration(name: str, value: Any) -> int:
    """Read seconds from "2h", "1-12:00:00", "02:00:00" or "02:00"; YAML gives 10:00:00 as them."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", str(value).strip())
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    words = re.fullmatch(r"(\d+) ?(s|min|h|d)", str(value).strip())
    if words is None:
        raise OptionError(f"{name}={value!r} is not a time. Write it as '02:00:00' or '2h'.")
    return int(words[1]) * _UNIT_SECONDS[words[2]]


def _range(name: str, value: Any) -> dict[str, int]:
    bounds = {"minimum": 0, "maximum": inf} | dict(value if isinstance(value, Mapping) else {"": 0})
    whole = all(isinstance(bound, int) and bound >= 0 for bound in bounds.values())
    if set(bounds) != {"minimum", "maximum"} or not whole or bounds["maximum"] < 1:
        raise OptionError(f"{name}={value!r} must be such as {{minimum: 1, maximum: 20}}.")
    if bounds["minimum"] > bounds["maximum"]:
        raise OptionError(f"{name}={value!r} has a minimum above its maximum.")
    return {name: int(bound) if bound < inf else MANY for name, bound in bounds.items()}


OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    "account": _text,
    "adaptive": _range,
    "cores": _count,
    "dashboard": _text,
    "directives": _lines,
    "interface": _text,
    "jobs": _count,
    "logs": _text,
    "manifest": _text,
    "memory": _size,
    "namespace": _text,
    "prologue": _lines,
    "python": _text,
    "queue": _text,
    "resources": _text,
    "scratch": _text,
    "threads": _count,
    "walltime": _duration,
    "workers": _count,
}
"""What each option may hold; which kind of cluster knows which is said by `cluster.KINDS`."""
