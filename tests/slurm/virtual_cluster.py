"""A real SLURM on this machine: its daemons, several virtual nodes, and nothing outside a folder.

Each node is a `slurmd -N` on a port of its own; all addresses are loopback ones. Jobs are granted
cores and memory as on a cluster, though nothing keeps them to it.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemons import end_processes_with, stop_daemons

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
NODES, CORES, MEMORY = 3, 2, 4000
START, STOP = 60, 30
"""Seconds until a cluster that does not start, or a process that does not end, is given up."""
KILL_WAIT = 5
"""Seconds between SIGTERM and SIGKILL; thirty on most clusters."""
_POLL = 0.1


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def wait_until(condition: Callable[[], object], what: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience} s in vain until {what}"
        time.sleep(_POLL)


@dataclass
class VirtualCluster:
    """A SLURM that runs; commands go to it by ``environment``."""

    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def ask(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command such as ``squeue`` and return what it prints."""
        done = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def submit(self, *words: str, cwd: Path) -> str:
        """Submit a job by ``sbatch``; return its number."""
        return self.ask("sbatch", "--parsable", *words, cwd=cwd).split(";")[0]

    def jobs(self, *options: str) -> dict[str, str]:
        """Job numbers that the queue holds (all, or those chosen), and their states."""
        lines = self.ask("squeue", "--noheader", "--format=%i %T", *options).splitlines()
        return dict(line.split() for line in lines)

    def state(self, job: str) -> str:
        """How a job is, or ended, such as RUNNING, COMPLETED, FAILED or CANCELLED."""
        return self.told(job, "JobState")

    def restarts(self, job: str) -> int:
        return int(self.told(job, "Restarts"))

    def told(self, job: str, key: str) -> str:
        shown = self.ask("scontrol", "show", "job", job)
        return re.findall(rf"\b{key}=(\S+)", shown)[0]

    def wait_for_end(self, job: str, patience: float) -> None:
        wait_until(lambda: not self.jobs("--jobs", job), f"job {job} has left the queue", patience)

    def cancel_all(self) -> None:
        """Cancel whatever is queued or runs, and wait until the nodes are free."""
        if queued := list(self.jobs()):
            self.ask("scancel", "--quiet", *queued)
        self.wait_until_free()

    def wait_until_free(self) -> None:
        wait_until(lambda: not self.jobs(), "no job is left", STOP)


@contextmanager
def virtual_cluster() -> Iterator[VirtualCluster]:
    """Start SLURM; at the end stop all that it started, and remove what it wrote."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets need short names
        stack.callback(shutil.rmtree, folder)
        configuration = _configure(folder)
        environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": _search_path()}
        cluster = VirtualCluster(folder, environment)
        stack.callback(_stop, cluster)
        _start(cluster)
        yield cluster


def _start(cluster: VirtualCluster) -> None:
    folder = cluster.folder
    socket_ = folder / "munge.socket"
    _launch(cluster, "munged", "--foreground", "--force", "--num-threads=2",
            f"--socket={socket_}", f"--key-file={folder / 'munge.key'}",
            f"--pid-file={folder / 'munge.pid'}", f"--seed-file={folder / 'munge.seed'}",
            f"--log-file={folder / 'log/munged.log'}")  # fmt: skip
    _wait_for_daemons(cluster, socket_.exists, "munge answers")
    _launch(cluster, "slurmctld", "-D", "-c")
    for number in range(1, NODES + 1):
        _launch(cluster, "slurmd", "-D", "-N", f"node{number}")
    _wait_for_daemons(cluster, lambda: _idle_nodes(cluster) == NODES, "all nodes are idle")


def _launch(cluster: VirtualCluster, *command: str) -> None:
    with (cluster.folder / "log" / f"daemon-{len(cluster.daemons)}.out").open("wb") as output:
        cluster.daemons.append(
            subprocess.Popen(command, env=cluster.environment, stdout=output, stderr=output)
        )


def _idle_nodes(cluster: VirtualCluster) -> int:
    command = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    shown = subprocess.run(
        command, env=cluster.environment, capture_output=True, text=True, check=False
    )
    return len(shown.stdout.split())


def _wait_for_daemons(cluster: VirtualCluster, ready: Callable[[], object], what: str) -> None:
    def ready_or_dead() -> object:
        return ready() or any(daemon.poll() is not None for daemon in cluster.daemons)

    wait_until(ready_or_dead, what, START)
    if not ready():
        logs = [log.read_text()[-2000:] for log in sorted((cluster.folder / "log").iterdir())]
        raise RuntimeError("a daemon of SLURM ended early:\n" + "\n".join(logs))


def _stop(cluster: VirtualCluster) -> None:
    """End jobs, daemons, and whatever else knows only this cluster's configuration."""
    with suppress(AssertionError):
        cluster.cancel_all()
    stop_daemons(cluster.daemons)
    end_processes_with("SLURM_CONF", cluster.environment["SLURM_CONF"])


def _configure(folder: Path) -> Path:
    for name in ("state", "spool", "log"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    (folder / "plugstack.conf").touch()
    path = folder / "slurm.conf"
    controller, *nodes = _free_ports(NODES + 1)
    path.write_text("\n".join(_settings(folder, controller, nodes)) + "\n")
    return path


def _settings(folder: Path, controller: int, nodes: Sequence[int]) -> list[str]:
    host, user = socket.gethostname().split(".")[0], pwd.getpwuid(os.getuid()).pw_name
    return [
        "ClusterName=virtual",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        f"SlurmctldPort={controller}",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/%n.pid",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/%n.log",
        f"PlugStackConfig={folder}/plugstack.conf",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        # A requeued job waits until its credential has expired: seconds here, not two minutes.
        f"AuthInfo=socket={folder}/munge.socket,cred_expire={KILL_WAIT}",
        *_listen_on_loopback(),
        "MpiDefault=none",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "SchedulerParameters=sched_interval=2,bf_interval=2",
        f"KillWait={KILL_WAIT}",
        *(
            f"NodeName=node{number} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={CORES} RealMemory={MEMORY}"
            for number, port in enumerate(nodes, start=1)
        ),
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
    ]


def _listen_on_loopback() -> list[str]:
    """Daemons can be bound to the address of the host's name only: where that is loopback."""
    try:
        local = socket.gethostbyname(socket.gethostname()) == "127.0.0.1"
    except OSError:
        local = False
    return ["CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"] if local else []


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
