"""The settings of `settings.py` as environment variables, for workers that other programs start."""

import shlex

from ndtomo_dask.errors import OptionError
from ndtomo_dask.runtime.settings import DASK_SETTINGS, worker_environment


def remote_environment(threads: int) -> dict[str, str]:
    """Environment variables of a scheduler, and of workers whose kernels use ``threads`` threads.

    Threads of the kernels, the allocator, and Dask's patience.

    >>> remote_environment(2)["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"]
    '10 minutes'
    """
    settings = {_variable(key): str(value) for key, value in DASK_SETTINGS.items()}
    return worker_environment(threads) | settings


def export_lines(threads: int) -> list[str]:
    """Write the environment of a worker as lines of a shell."""
    variables = remote_environment(threads)
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def shell_exports(threads: int) -> str:
    """Write the environment of a scheduler and of workers as lines that a shell evaluates.

    It is what `connect` gives to the clusters it starts. In a job script,
    ``eval "$(ndtomo-dask environment --threads 4)"`` gives the same to ``dask scheduler`` and
    ``dask worker``.

    >>> print(shell_exports(4).splitlines()[0])
    export OMP_NUM_THREADS=4
    """
    if threads < 1:
        raise OptionError(f"--threads {threads} is not a number of 1 or more.")
    return "\n".join(export_lines(threads))


def _variable(key: str) -> str:
    """Name the environment variable from which Dask reads a setting."""
    return "DASK_" + key.replace(".", "__").replace("-", "_").upper()
