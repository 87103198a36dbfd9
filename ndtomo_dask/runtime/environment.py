"""The settings of `settings.py` as lines for a shell, for jobs that start Dask's own programs."""

import shlex

from ndtomo_dask.errors import OptionError
from ndtomo_dask.runtime.settings import DASK_SETTINGS, worker_environment


def shell_exports(threads: int) -> str:
    """Write the environment of a scheduler and of workers as lines that a shell evaluates.

    Threads of the kernels, the allocator, and Dask's patience: what `connect` gives to the
    clusters it starts. ``eval "$(ndtomo-dask settings --threads 4)"`` in a job script gives
    the same to ``dask scheduler`` and ``dask worker``.

    >>> print(shell_exports(4).splitlines()[0])
    export OMP_NUM_THREADS=4
    """
    if threads < 1:
        raise OptionError(f"--threads {threads} is not a number of 1 or more.")
    variables = worker_environment(threads) | {
        _variable(key): str(value) for key, value in DASK_SETTINGS.items()
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _variable(key: str) -> str:
    """Name the environment variable from which Dask reads a setting."""
    return "DASK_" + key.replace(".", "__").replace("-", "_").upper()
