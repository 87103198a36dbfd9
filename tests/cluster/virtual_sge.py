"""A real Grid Engine on this machine: its daemons, one host, and nothing outside a folder.

Debian's packages ask at their installation whether to make a cluster; this one has a root folder
and ports of its own, so the answer does not matter.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemons import end_processes_with, stop_daemons
from tests.slurm.virtual_cluster import wait_until

PROGRAMS = ("qsub", "qstat", "qconf", "sge_qmaster", "sge_execd")
DAEMONS = Path("/usr/lib/gridengine")
SHARED = Path("/usr/share/gridengine")
HOST = "localhost"
SLOTS = 4
START = 60
"""Seconds until a cluster that does not start, or a process that does not end, is given up."""

_PARALLEL = {
    "pe_name": "smp", "slots": 99, "user_lists": "NONE", "xuser_lists": "NONE",
    "start_proc_args": "NONE", "stop_proc_args": "NONE", "allocation_rule": "$pe_slots",
    "control_slaves": "TRUE", "job_is_first_task": "TRUE", "urgency_slots": "min",
    "accounting_summary": "FALSE", "qsort_args": "NONE",
}  # fmt: skip
_QUEUE = {
    "qname": "all.q", "hostlist": HOST, "seq_no": 0, "load_thresholds": "NONE",
    "suspend_thresholds": "NONE", "nsuspend": 1, "suspend_interval": "00:05:00", "priority": 0,
    "min_cpu_interval": "00:05:00", "processors": "UNDEFINED", "qtype": "BATCH INTERACTIVE",
    "ckpt_list": "NONE", "pe_list": "smp", "rerun": "FALSE", "slots": SLOTS, "tmpdir": "/tmp",
    "shell": "/bin/sh", "prolog": "NONE", "epilog": "NONE", "shell_start_mode": "unix_behavior",
    "starter_method": "NONE", "suspend_method": "NONE", "resume_method": "NONE",
    "terminate_method": "NONE", "notify": "00:00:60", "owner_list": "NONE", "user_lists": "NONE",
    "xuser_lists": "NONE", "subordinate_list": "NONE", "complex_values": "NONE",
    "projects": "NONE", "xprojects": "NONE", "calendar": "NONE", "initial_state": "default",
} | {
    f"{side}_{limit}": "INFINITY"
    for side in "sh"
    for limit in ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")
}  # fmt: skip


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


@dataclass
class VirtualSge:
    """A Grid Engine that runs; commands go to it by ``environment``."""

    folder: Path
    environment: dict[str, str]
    daemons: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def ask(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command such as ``qstat`` and return what it prints."""
        done = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def queued(self) -> str:
        """What waits or runs; nothing if all is done."""
        return self.ask("qstat")

    def launch(self, program: str) -> None:
        """Start a daemon of Grid Engine, in the foreground."""
        with (self.folder / f"{program}.out").open("wb") as output:
            environment = self.environment | {"SGE_ND": "1"}
            self.daemons.append(
                subprocess.Popen([DAEMONS / program], env=environment, stdout=output, stderr=output)
            )


@contextmanager
def virtual_sge() -> Iterator[VirtualSge]:
    """Start Grid Engine; at the end stop all that it started, and remove what it wrote."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sge-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder)
        cluster = VirtualSge(folder, _environment(folder))
        _make_cell(cluster)
        stack.callback(_stop, cluster)
        _start(cluster)
        yield cluster


def _environment(folder: Path) -> dict[str, str]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    return os.environ | {
        "SGE_ROOT": str(folder / "root"), "SGE_CELL": "default", "PATH": _search_path(),
        "SGE_QMASTER_PORT": str(ports[0]), "SGE_EXECD_PORT": str(ports[1]),
    }  # fmt: skip


def _make_cell(cluster: VirtualSge) -> None:
    """Write what an administrator's installation would."""
    root, spool = cluster.folder / "root", cluster.folder / "spool"
    common = root / "default/common"
    for made in (common, spool / "qmaster/job_scripts", spool / "db", spool / "execd"):
        made.mkdir(parents=True)
    for name in ("bin", "lib", "util", "utilbin"):
        (root / name).symlink_to(Path("/var/lib/gridengine") / name)
    (common / "bootstrap").write_text(
        "admin_user none\ndefault_domain none\nignore_fqdn true\nspooling_method berkeleydb\n"
        f"spooling_lib libspoolb\nspooling_params {spool}/db\nbinary_path /usr/sbin\n"
        f"qmaster_spool_dir {spool}/qmaster\nsecurity_mode none\nlistener_threads 2\n"
        "worker_threads 2\nscheduler_threads 1\n"
    )
    (common / "act_qmaster").write_text(f"{HOST}\n")
    (common / "host_aliases").write_text(f"{HOST} {socket.gethostname()}\n")
    settings = _global_settings(cluster.folder)
    cluster.ask(f"{DAEMONS}/spoolinit", "berkeleydb", "libspoolb", f"{spool}/db", "init")
    spooled = {"configuration": settings, "complexes": SHARED / "util/resources/centry",
               "usersets": SHARED / "util/resources/usersets", "managers": "root"}  # fmt: skip
    for what, source in spooled.items():
        cluster.ask(f"{DAEMONS}/spooldefaults", what, str(source))


def _global_settings(folder: Path) -> Path:
    changes = {"execd_spool_dir": folder / "spool/execd", "min_uid": 0, "min_gid": 0,
               "load_report_time": "00:00:05", "mailer": "/bin/true"}  # fmt: skip
    lines = (SHARED / "default-configuration").read_text().splitlines()
    kept = [line for line in lines if line.split()[:1] and line.split()[0] not in changes]
    return _write(folder / "configuration", kept + [f"{key} {changes[key]}" for key in changes])


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def _start(cluster: VirtualSge) -> None:
    cluster.launch("sge_qmaster")
    wait_until(lambda: _answers(cluster, "qconf", "-sconf"), "the master answers", START)
    cluster.ask("qconf", "-as", HOST)
    for option, settings in (("-Ap", _PARALLEL), ("-Aq", _QUEUE)):
        lines = [f"{key} {value}" for key, value in settings.items()]
        cluster.ask("qconf", option, str(_write(cluster.folder / f"new{option}", lines)))
    cluster.launch("sge_execd")
    wait_until(lambda: "lx-" in cluster.ask("qhost", "-h", HOST), "the host is there", START)
    cluster.ask("qconf", "-mattr", "queue", "slots", str(SLOTS), "all.q")


def _answers(cluster: VirtualSge, *command: str) -> bool:
    return subprocess.run(
        command, env=cluster.environment, capture_output=True, check=False
    ).returncode == 0  # fmt: skip


def _stop(cluster: VirtualSge) -> None:
    """End jobs, daemons, and whatever else knows only this cluster's folder."""
    with suppress(AssertionError):
        cluster.ask("qdel", "-f", "-u", "*")
    stop_daemons(cluster.daemons)
    end_processes_with("SGE_ROOT", cluster.environment["SGE_ROOT"])
