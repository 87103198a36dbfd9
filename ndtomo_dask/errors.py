"""The errors a user of ndtomo_dask can meet; each message says what, where, and what to type."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class NdtomoError(Exception):
    """Base of every error raised on purpose by ndtomo_dask."""


class SchemaError(NdtomoError, ValueError):
    """A dataset does not have the variables, dimensions, units or values that a verb needs."""


class OptionError(NdtomoError, ValueError):
    """An option has a value outside its choices or its range."""


class PlanError(NdtomoError, MemoryError):
    """A block cannot be made small enough for the memory that is allowed."""


class BackendError(NdtomoError, ImportError):
    """A backend or an optional library is asked for where it is not installed."""


class StoreError(NdtomoError, OSError):
    """A file or store is missing, damaged, or holds something else than expected."""


class BlockError(NdtomoError, RuntimeError):
    """Some blocks failed for a reason in their data; the others are done."""

    def __init__(self, message: str, positions: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.positions = tuple(positions)
        """Which of the blocks that were computed failed."""


class ClusterError(NdtomoError, ConnectionError):
    """The cluster was lost while it worked; what was stored is stored."""


class Stopped(NdtomoError):
    """The run was told to stop, by a signal or by the user, or gave up waiting for its input."""


class RecipeError(NdtomoError, ValueError):
    """A recipe names a verb, an option or a variable that does not exist."""


def missing_extra(what: str, library: str, extra: str) -> BackendError:
    """Say that a library that something needs is not here, and which extra has it."""
    return BackendError(
        f"{what} needs {library!r}, which is not installed here: "
        f"pip install 'ndtomo-dask[{extra}]'."
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list them all.

    >>> nearest("sirtt", ["fbp", "sirt"])
    "Did you mean 'sirt'?"
    >>> nearest("xyz", ["fbp", "sirt"])
    'Known are: fbp, sirt.'
    """
    choices = sorted(known)
    close = get_close_matches(word, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(choices)}."


def check_choice(option: str, value: str, choices: Iterable[str]) -> None:
    """Raise `OptionError` unless ``value`` is one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise OptionError(f"{option}={value!r} is not known. {nearest(str(value), choices)}")
