"""Where the work runs: connect to a cluster, and compute with progress and retries."""

from ndtomo_dask.runtime.cluster import check_cluster, connect, describe
from ndtomo_dask.runtime.environment import shell_exports
from ndtomo_dask.runtime.flight import RETRIES
from ndtomo_dask.runtime.progress import progress
from ndtomo_dask.runtime.stopping import EXIT_STOPPED, stoppable
from ndtomo_dask.runtime.waiting import WaitingLine

__all__ = [
    "EXIT_STOPPED",
    "RETRIES",
    "WaitingLine",
    "check_cluster",
    "connect",
    "describe",
    "progress",
    "shell_exports",
    "stoppable",
]
