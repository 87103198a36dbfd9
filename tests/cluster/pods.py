"""Containers of the Kubernetes manifests as processes of this machine, at its own addresses."""

import contextlib
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dask.utils import parse_bytes

MANIFESTS = Path(__file__).parents[2] / "cluster/kubernetes"
END = 60
"""Seconds that a process has to end when it is told to."""
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def manifest(name: str) -> dict[str, Any]:
    """Read ``cluster/kubernetes/NAME.yaml``."""
    content: dict[str, Any] = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
    return content


def quantity(text: str) -> float:
    """Read a quantity of Kubernetes, such as ``8Gi`` or ``100m``.

    >>> quantity("8Gi") == 8 * 2**30, quantity("100m")
    (True, 0.1)
    """
    number, unit = re.findall(r"^([\d.]+)(\w*)$", text)[0]
    if unit == "m":
        return float(number) / 1000
    return float(number) * (_UNITS[unit] if unit in _UNITS else parse_bytes(f"1{unit or 'B'}"))


@dataclass(frozen=True)
class Node:
    """This machine, in the place of a node: where its volumes are, and what is listened to."""

    folder: Path
    scheduler_port: int
    dashboard_port: int

    @property
    def scheduler(self) -> str:
        """Address that stands for the service of the scheduler."""
        return f"tcp://127.0.0.1:{self.scheduler_port}"

    def here(self, text: str) -> str:
        """Put this machine's addresses and folders for those of the cluster."""
        for there, here in {
            "tcp://ndtomo-scheduler:8786": self.scheduler,
            "--host 0.0.0.0": "--host 127.0.0.1",
            "--port 8786": f"--port {self.scheduler_port}",
            ":8787": f"127.0.0.1:{self.dashboard_port}",
            "/scratch": str(self.folder / "scratch"),
            "/data": str(self.folder / "data"),
        }.items():
            text = text.replace(there, here)
        return text

    @contextlib.contextmanager
    def running(
        self, container: Mapping[str, Any], **variables: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a container's command, with the environment that it would be given."""
        command = [self.here(word) for word in container["command"] + container["args"]]
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": programs} | environment_of(container) | variables
        folder = self.here(container.get("workingDir", "/data"))
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
            try:
                yield process
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END)
                process.kill()
                process.wait()


def environment_of(container: Mapping[str, Any]) -> dict[str, str]:
    """Fill in the variables that Kubernetes takes from a container's limits."""
    limits, values = container["resources"]["limits"], {}
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {}).get("resourceFieldRef", {}).get("resource")
        limit = source and quantity(limits[source.removeprefix("limits.")])
        values[variable["name"]] = str(math.ceil(limit)) if source else variable["value"]
    return values


def new_node(folder: Path) -> Node:
    """Make the volumes and choose free ports."""
    (folder / "data").mkdir()
    (folder / "scratch").mkdir()
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return Node(folder, first.getsockname()[1], second.getsockname()[1])
