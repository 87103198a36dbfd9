"""How loops are compiled: without the GIL, kept on disk where there is room."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(
    *fastmath: str, inline: bool = False, allocates: bool = False
) -> Callable[[Function], Function]:
    """Compile a function that works in arrays it is given, and makes some if it ``allocates``.

    numba counts a reference to each array of a named tuple at every call, which takes longer than
    a small fit. Its option ``_nrt=False`` leaves that out; a function so compiled may take views of
    arrays but not make any (nor call methods of arrays, or assign slices to slices, which do).
    ``fastmath`` names what the arithmetic may do: ``"contract"`` rounds a·b + c once and keeps NaN
    and the order of sums; ``"reassoc"`` only where no rounding trick could be undone. A function
    that takes such a tuple is best compiled ``inline``: a call copies every array of it, which may
    take longer than what is called.

    Code is kept in ``NUMBA_CACHE_DIR``, beside the module, or in the user's cache folder. Where
    none of them can be written to, every process compiles for itself.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": set(fastmath) or False,
        "forceinline": inline,
    }
    options |= {} if allocates else {"_nrt": False}

    def decorate(function: Function) -> Function:
        made: Function
        try:
            made = njit(cache=True, **options)(function)
        except RuntimeError as error:  # numba has found no folder to write to
            if "cannot cache" not in str(error):
                raise
            made = njit(**options)(function)
        return made

    return decorate
