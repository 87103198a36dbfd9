"""Hosts of their own: what a run does when one is cut off from the network."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from benchmarks.faults import network
from benchmarks.faults.hosts import Host, hosts
from benchmarks.faults.runs import Bench, RowSkipped

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def permitted() -> None:
    """Skip where no network namespace can be made; fail where one must be."""
    try:
        with hosts(1):
            pass
    except RowSkipped as reason:
        required = "netns" in os.environ.get("NDTOMO_REQUIRE", "").split(",")
        (pytest.fail if required else pytest.skip)(str(reason))


@pytest.fixture
def two() -> Iterator[list[Host]]:
    with hosts(2) as made:
        yield made


ASK = "import socket, sys; socket.create_connection((sys.argv[1], 9), timeout=2)"


def answer(asking: Host, asked: Host) -> str:
    """What a host says that is asked for a connection on a port where nobody listens."""
    command = [*asking.inside, "python3", "-c", ASK, asked.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.splitlines()[-1].split(":")[0]


def test_hosts_reach_each_other_until_one_is_cut_off(two: list[Host]) -> None:
    first, second = two
    assert answer(first, second) == "ConnectionRefusedError"
    second.cut_off()
    assert answer(first, second) in ("TimeoutError", "OSError")
    second.connect()
    assert answer(first, second) == "ConnectionRefusedError"


def test_hosts_are_gone_afterwards_also_after_a_failure() -> None:
    with pytest.raises(RuntimeError, match="in between"), hosts(2) as made:
        raise RuntimeError("in between")
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not [host.name for host in made if host.name in listed.stdout]
    assert made[0].switch not in listed.stdout


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("hosts"))


@pytest.mark.slow
def test_a_worker_that_was_cut_off_comes_back_and_the_bits_are_the_same(bench: Bench) -> None:
    assert network.worker_cut_off(bench).same


@pytest.mark.slow
def test_a_run_does_without_a_worker_that_is_cut_off_for_good(bench: Bench) -> None:
    assert network.worker_lost(bench).same
