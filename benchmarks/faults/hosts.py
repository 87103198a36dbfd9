"""Hosts of their own on one machine: network namespaces behind a bridge."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

from benchmarks.faults.runs import RowSkipped

NETWORK = "10.77.0"
_ROOMS = count(1)


@dataclass(frozen=True)
class Host:
    """A network namespace with an address of its own."""

    name: str
    address: str
    switch: str
    """Namespace of the bridge to which its cable leads."""
    cable: str

    @property
    def inside(self) -> tuple[str, ...]:
        """Words that stand before a command to run it here."""
        return ("ip", "netns", "exec", self.name)

    def cut_off(self) -> None:
        """Take its cable out."""
        _ip("-n", self.switch, "link", "set", self.cable, "down")

    def connect(self) -> None:
        """Put its cable in."""
        _ip("-n", self.switch, "link", "set", self.cable, "up")


@contextmanager
def hosts(number: int) -> Iterator[list[Host]]:
    """Make hosts on a network of their own; they go with the ``with`` block.

    The bridge stands in a namespace too, so nothing of it is seen outside.
    """
    if shutil.which("ip") is None:
        raise RowSkipped("ip not found: apt-get install iproute2")
    room = f"ndtomo-{os.getpid()}-{next(_ROOMS)}"
    made = [
        Host(f"{room}-{index}", f"{NETWORK}.{index}", room, f"cable{index}")
        for index in range(1, number + 1)
    ]
    try:
        _ip("netns", "add", room)
        _ip("-n", room, "link", "add", "bridge", "type", "bridge")
        _ip("-n", room, "link", "set", "bridge", "up")
        for host in made:
            _plug(host)
        yield made
    finally:
        for name in (*(host.name for host in made), room):
            with suppress(RowSkipped):
                _ip("netns", "delete", name)


def _plug(host: Host) -> None:
    _ip("netns", "add", host.name)
    ends = ("eth0", "netns", host.name, "type", "veth", "peer", "name", host.cable)
    _ip("-n", host.switch, "link", "add", *ends, "netns", host.switch)
    _ip("-n", host.switch, "link", "set", host.cable, "master", "bridge", "up")
    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.name, "link", "set", "eth0", "up")
    _ip("-n", host.name, "link", "set", "lo", "up")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RowSkipped(f"ip {' '.join(words)}: {done.stderr.strip()}")
