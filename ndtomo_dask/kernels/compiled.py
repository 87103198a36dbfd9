"""How loops are compiled: without the GIL, kept on disk, and without counting references."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*fastmath: str, inline: bool = False) -> Callable[[Function], Function]:
    """Compile a function that works in arrays it is given and allocates none.

    numba counts a reference to each array of a named tuple at every call, which takes longer than
    a small fit. Its option ``_nrt=False`` leaves that out; a function so compiled may take views of
    arrays but not make any: what allocates (methods of arrays, assignments of slices to slices)
    is refused by the compiler. ``fastmath`` names what the arithmetic may do; ``"reassoc"`` only
    where no rounding trick could be undone. A function that takes such a tuple is best compiled
    ``inline``: a call copies every array of it, which may take longer than what is called.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "cache": True,
        "error_model": "numpy",
        "fastmath": set(fastmath) or False,
        "_nrt": False,
        "forceinline": inline,
    }

    def decorate(function: Function) -> Function:
        made: Function = njit(**options)(function)
        return made

    return decorate
