"""Workers in jobs of a batch system: SLURM, PBS, LSF, SGE, by dask-jobqueue."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
from dask.utils import parse_timedelta

from ndtomo_dask import machine
from ndtomo_dask.byte_sizes import parse_bytes
from ndtomo_dask.errors import BackendError, OptionError
from ndtomo_dask.runtime.environment import export_lines
from ndtomo_dask.runtime.libraries import imported
from ndtomo_dask.runtime.local import ANY_PORT
from ndtomo_dask.runtime.options import OPTIONS as READERS

OPTIONS = (
    "queue", "account", "cores", "memory", "workers", "threads", "walltime", "jobs", "adaptive",
    "scratch", "interface", "prologue", "directives", "python", "logs", "dashboard",
)  # fmt: skip
_LOOK, _IDLE_LOOKS = "5s", 60
"""How often an adaptive cluster looks for work, and after how many looks in vain a job ends: five
minutes, since the next step of a recipe may need the jobs that this one left idle."""
_MARGIN, _SHARE_OF_WALLTIME = 300, 10
"""A worker ends itself that many seconds, or that part of its walltime, before it is killed."""


@dataclass(frozen=True)
class BatchSystem:
    """What dask-jobqueue calls things for one batch system."""

    cluster: str
    submits: str
    """The command that submits a job."""
    account: str
    hours_only: bool = False
    """Whether a walltime has no seconds."""
    own_options: tuple[str, ...] = ()

    def grants(self, cores: int, memory: int, resources: str | None) -> dict[str, Any]:
        """Name the cores of a job, which are more than its workers if kernels have threads."""
        if self.cluster == "PBSCluster":
            select = f"select=1:ncpus={cores}:mem={memory // 2**20}mb"
            return {"resource_spec": resources or select}
        if self.cluster == "SGECluster":
            return {} if resources is None else {"resource_spec": resources}
        return {"job_cpu": cores} if self.cluster == "SLURMCluster" else {"ncpus": cores}


BATCH_SYSTEMS = {
    "slurm": BatchSystem("SLURMCluster", "sbatch", "account"),
    "pbs": BatchSystem("PBSCluster", "qsub", "account", own_options=("resources",)),
    "lsf": BatchSystem("LSFCluster", "bsub", "project", hours_only=True),
    "sge": BatchSystem("SGECluster", "qsub", "project", own_options=("resources",)),
}


@contextmanager
def start(kind: str, given: Mapping[str, Any], least_memory: int | None) -> Iterator[Any]:
    """Submit jobs of workers, which a scheduler in this process drives; they end with the block."""
    command = BATCH_SYSTEMS[kind].submits
    if "jobs" in given and "adaptive" in given:
        raise OptionError("jobs and adaptive were both given. Leave one out.")
    make, options = cluster_class(kind), cluster_options(kind, given, least_memory)
    if shutil.which(command) is None:
        raise BackendError(
            f"cluster {kind!r} needs the command {command}, which is not on this machine. Start "
            f"where jobs are submitted, such as the login node."
        )
    with make(**options) as cluster:
        _submit(cluster, given, command)
        yield cluster


def _submit(cluster: Any, given: Mapping[str, Any], command: str) -> None:
    """Ask for the first jobs, so that a refusal is seen, and for others as they are needed."""
    jobs = given.get("jobs", 1)
    bounds = given.get("adaptive", {"minimum": jobs, "maximum": jobs})
    try:
        cluster.sync(cluster.submit, max(1, bounds["minimum"]))
    except RuntimeError as error:
        said = str(error).partition("stderr:\n")[2].strip().splitlines() or ["it says nothing"]
        raise OptionError(
            f"{command} refuses the job: {said[0].rstrip('.')}. Check queue, account, "
            f"cores, memory and directives."
        ) from error
    cluster.adapt(  # of equal bounds it replaces the jobs that are lost
        minimum_jobs=bounds["minimum"], maximum_jobs=bounds["maximum"],
        interval=_LOOK, wait_count=_IDLE_LOOKS,
    )  # fmt: skip


def cluster_class(kind: str) -> Callable[..., Any]:
    """Return dask-jobqueue's class for a batch system, which also replaces jobs of many workers."""
    base = getattr(imported("dask_jobqueue", extra="jobqueue"), BATCH_SYSTEMS[kind].cluster)
    made: Callable[..., Any] = type(base.__name__, (_Jobs, base), {})
    return made


class _Jobs:
    """What a cluster needs besides: to hear of a refusal, and to replace jobs of many workers."""

    async def submit(self: Any, jobs: int) -> None:
        """Submit the first jobs; `scale` would do it in the background, where errors are lost."""
        for _ in range(jobs):
            self.worker_spec.update(self.new_worker_spec())
        from distributed.core import Status

        try:
            await self._correct_state()
        except RuntimeError:
            for job in self.workers.values():  # Dask cannot close one that never was
                if job.status == Status.created:
                    job.status = Status.failed
            raise

    def _update_worker_status(self: Any, op: str, message: Any) -> None:
        if op == "remove":
            worker = str(self.scheduler_info["workers"][message]["name"])
            job = next((job for job in self.workers if worker.startswith(f"{job}-")), None)
            patience = dask.config.get("distributed.deploy.lost-worker-timeout")
            asyncio.get_running_loop().call_later(parse_timedelta(patience), self._forget, job)
        super()._update_worker_status(op, message)  # type: ignore[misc] # Dask's, by mixing in

    def _forget(self: Any, job: str | None) -> None:
        """Forget a job without workers, so that another is submitted; Dask forgets small ones."""
        there = self.scheduler_info["workers"].values()
        if job in self.workers and not any(str(w["name"]).startswith(f"{job}-") for w in there):
            self._futures.add(asyncio.ensure_future(self.workers.pop(job).close()))


def cluster_options(
    kind: str, given: Mapping[str, Any], least_memory: int | None
) -> dict[str, Any]:
    """Say in dask-jobqueue's words what is given, what its own file says, and what follows."""
    batch = BATCH_SYSTEMS[kind]
    cores, memory, workers = _job(kind, given)
    layout = machine.worker_layout(cores, memory, workers=workers, least=least_memory)
    prologue = given.get("prologue", _configured(kind, "job-script-prologue") or [])
    seconds = given.get("walltime") or _walltime(kind)
    resources = given.get("resources", _configured(kind, "resource-spec"))
    words = {
        "cores": layout.workers,  # Dask's word for tasks at a time
        "processes": layout.workers,
        "memory": f"{memory}B",
        **batch.grants(cores, memory, resources),
        "queue": given.get("queue"),
        batch.account: given.get("account"),
        "walltime": _clock(given["walltime"], batch) if "walltime" in given else None,
        "local_directory": given.get("scratch"),
        "interface": given.get("interface"),
        "python": given.get("python"),
        "log_directory": given.get("logs"),
        "job_script_prologue": [*prologue, *export_lines(given.get("threads", layout.threads))],
        "job_extra_directives": given.get("directives"),
        "worker_extra_args": [*(_configured(kind, "worker-extra-args") or []), *_lifetime(seconds)],
        "scheduler_options": {
            "dashboard_address": given.get("dashboard", ANY_PORT),
            **(_configured(kind, "scheduler-options") or {}),
        },
    }
    return {word: value for word, value in words.items() if value is not None}


def _configured(kind: str, key: str) -> Any:
    """Look up what dask-jobqueue's own file says, usually ``~/.config/dask/jobqueue.yaml``."""
    return dask.config.get(f"jobqueue.{kind}.{key}", None)


def _job(kind: str, given: Mapping[str, Any]) -> tuple[int, int, int | None]:
    cores = given.get("cores") or _configured(kind, "cores")
    memory = given.get("memory") or _configured(kind, "memory")
    if cores is None or memory is None:
        raise OptionError(
            f"cluster {kind!r} needs cores and memory, those of one job. Write them into the "
            f"cluster file, such as 'cores: 32' and 'memory: 128GB'."
        )
    return int(cores), parse_bytes(memory), given.get("workers") or _configured(kind, "processes")


def _walltime(kind: str) -> int | None:
    configured = _configured(kind, "walltime")
    return None if configured is None else READERS["walltime"]("walltime", configured)


def _clock(seconds: int, batch: BatchSystem) -> str:
    minutes, rest = divmod(seconds, 60)
    clock = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return clock if batch.hours_only else f"{clock}:{rest:02d}"


def _lifetime(walltime: int | None) -> list[str]:
    """Let workers end themselves before they are killed, not all at once, when their block is done.

    Their blocks then go to others at once, and no death is held against a block.
    """
    if walltime is None:
        return []
    margin = min(_MARGIN, walltime // _SHARE_OF_WALLTIME)
    return ["--lifetime", f"{walltime - 2 * margin}s", "--lifetime-stagger", f"{margin}s"]
