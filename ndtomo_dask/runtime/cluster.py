"""Connecting to a cluster: start one, or join a scheduler that runs."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import yaml

from ndtomo_dask.byte_sizes import parse_bytes
from ndtomo_dask.errors import OptionError, nearest
from ndtomo_dask.runtime import cuda, jobqueue, kubernetes, local, mpi
from ndtomo_dask.runtime.options import checked_options
from ndtomo_dask.runtime.progress import compute_anywhere
from ndtomo_dask.runtime.settings import DASK_SETTINGS
from ndtomo_dask.runtime.workers import admit

if TYPE_CHECKING:
    from distributed import Client

Starter = Callable[[Mapping[str, Any], int | None], AbstractContextManager[Any]]
_ANSWER = "30s"


@dataclass(frozen=True)
class Kind:
    """A kind of cluster: the options it knows, and what starts it."""

    options: tuple[str, ...]
    start: Starter
    queued: bool = False
    """Whether workers may have to wait in a queue."""


KINDS: dict[str, Kind] = {
    "local": Kind(local.OPTIONS, local.start),
    **{
        name: Kind(jobqueue.OPTIONS + batch.own_options, partial(jobqueue.start, name), queued=True)
        for name, batch in jobqueue.BATCH_SYSTEMS.items()
    },
    "mpi": Kind(mpi.OPTIONS, mpi.start),
    "cuda": Kind(cuda.OPTIONS, cuda.start),
    "kubernetes": Kind(kubernetes.OPTIONS, kubernetes.start, queued=True),
}


def connect(
    where: str | Path = "local", *, least_memory: int | str | None = None, **options: Any
) -> "Client":
    """Connect to a Dask cluster: start one, or join a scheduler that runs.

    One process per worker, one task at a time in it; the kernels use ``threads`` threads each. What
    a task may hold is taken from the workers' memory, so that plans fit the cluster. Workers that
    have another environment than this process are refused, now and when they join later.

    Parameters
    ----------
    where
        A kind of cluster, such as ``"local"`` or ``"slurm"``; the address of a scheduler
        (``"tcp://host:8786"``), or the file that it wrote (``dask scheduler --scheduler-file
        scheduler.json``); or a YAML file such as ``cluster/slurm.yaml``, which names the kind and
        its options.
    least_memory
        Bytes that one task must be able to hold: with one worker per core they might not fit, then
        there are fewer and larger ones.
    options
        Options of this kind, as in its file in ``cluster/``; they outrank those of a file.

    Returns
    -------
        A `distributed.Client`; close it, or use it in a ``with`` statement. What was started for it
        ends with it.

    Raises
    ------
    OptionError
        ``where`` is none of these, or an option is unknown or wrong; no scheduler answers; the
        batch system refuses the jobs; a worker's environment differs.
    BackendError
        This kind of cluster needs a library or a program that is not installed.
    PlanError
        The workers are too small for ``least_memory``.
    """
    name, source = str(where), "connect"
    if Path(name).suffix in (".yaml", ".yml"):
        source, content = name, read_cluster_file(Path(name))
        name = str(content.pop("kind", "local"))
        options = content | options
    elif Path(name).suffix == ".json":
        name = _address_in(Path(name))
    kind = _kind(name)
    given = checked_options(options, kind.options, source=source)
    least = None if least_memory is None else parse_bytes(least_memory)
    with ExitStack() as undo:
        undo.enter_context(_patience())
        started = undo.enter_context(kind.start(given, least))
        client = _client(started)
        try:
            admit(client, undo, least_memory=least, joined="://" in name, queued=kind.queued)
            undo.enter_context(dask.config.set({"ndtomo_dask.compute": compute_anywhere}))
        except BaseException:
            client.close()
            raise
        client.undo = undo.pop_all()
    return client


def read_cluster_file(path: Path) -> dict[str, Any]:
    """Read a cluster file; its options are checked when it is used."""
    if not path.is_file():
        raise OptionError(f"cluster file {path} does not exist.")
    try:
        options = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise OptionError(f"{path} is not valid YAML. Check its indentation.") from error
    if not isinstance(options, dict):
        raise OptionError(f"{path} must hold options with their values, such as 'workers: 4'.")
    if isinstance(options.get("manifest"), str):
        options["manifest"] = str(path.parent / options["manifest"])
    return {str(name): value for name, value in options.items()}


def _address_in(path: Path) -> str:
    """Read the address of a scheduler from the file that it wrote."""
    try:
        return str(json.loads(path.read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path} is not there, or not the file of a scheduler. Start one: dask scheduler "
            f"--scheduler-file {path}"
        ) from error


def check_cluster(content: Mapping[str, Any], *, source: str) -> None:
    """Refuse the content of a cluster file if a word in it is wrong."""
    options = dict(content)
    kind = _kind(str(options.pop("kind", "local")))
    checked_options(options, kind.options, source=source)


def _kind(name: str) -> Kind:
    if "://" in name:
        return Kind((), partial(_join, name))
    if name not in KINDS:
        raise OptionError(
            f"cluster {name!r} is not known. {nearest(name, KINDS)} Or give the address of a "
            f"scheduler, such as 'tcp://host:8786', or a YAML file."
        )
    return KINDS[name]


def _patience() -> AbstractContextManager[Any]:
    """Set Dask up; what it read itself before stays when this is undone."""
    import distributed.config  # noqa: F401 - its defaults must be there before

    patience: AbstractContextManager[Any] = dask.config.set(DASK_SETTINGS)
    return patience


@contextmanager
def _join(address: str, _given: Mapping[str, Any], _least_memory: int | None) -> Iterator[str]:
    yield address


def _client(started: Any) -> Any:
    from ndtomo_dask.runtime.client import ConnectedClient

    try:
        return ConnectedClient(started, timeout=_ANSWER)
    except (OSError, ValueError) as error:
        raise OptionError(f"no scheduler answers at {started}. Is it running there?") from error


def describe(client: "Client") -> Mapping[str, Any]:
    """Say what a cluster is made of: workers, threads of each, and memory of each in bytes."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    return {
        "workers": len(workers),
        "threads": workers[0]["nthreads"] if workers else 0,
        "memory": min((worker["memory_limit"] for worker in workers), default=0),
    }
