"""Locks, held by real processes that live, die, stop, and pretend to be elsewhere."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ndtomo_dask.errors import OptionError, StoreError
from ndtomo_dask.io import heartbeat, lock
from ndtomo_dask.io.lock import locked

PATIENCE = 60
"""Seconds until something that should have happened is given up."""
PROCESS = (
    "import os, sys, time\n"
    "from importlib.machinery import ModuleSpec\n"
    "from importlib.util import module_from_spec\n"
    "from pathlib import Path\n"
    # The package is not imported as a whole, which would take seconds in each process.
    "for name in ('ndtomo_dask', 'ndtomo_dask.io'):\n"
    "    package = module_from_spec(ModuleSpec(name, None, is_package=True))\n"
    "    package.__path__ = [name.replace('.', '/')]\n"
    "    sys.modules[name] = package\n"
    "from ndtomo_dask.io import heartbeat, lock\n"
    "heartbeat.BEAT, lock.WATCH, lock.POLL = 0.1, 1.0, 0.05\n"
    "if {elsewhere!r}: heartbeat._machine = lambda: {elsewhere!r}\n"
    "store = Path({store!r})\n"
    "{body}\n"
)
HOLD = "with lock.locked(store, {share!r}):\n    print('held', flush=True)\n    sys.stdin.read()"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)
    monkeypatch.setattr(lock, "WATCH", 1.0)
    monkeypatch.setattr(lock, "POLL", 0.05)
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("beat of")]


@pytest.fixture
def store(tmp_path):
    return tmp_path / "result.zarr"


@contextmanager
def process(store, body, elsewhere=""):
    """Python code in a process of its own, which believes itself on another machine if so told."""
    code = PROCESS.format(store=str(store), body=body, elsewhere=elsewhere)
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGCONT)
        started.kill()
        started.communicate()


@contextmanager
def holder(store, share=None, elsewhere=""):
    with process(store, HOLD.format(share=share), elsewhere) as started:
        assert started.stdout.readline() == "held\n"
        yield started


def until(reached):
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def held(store, share=None):
    """Tell whether the lock can be had."""
    try:
        with locked(store, share):
            return True
    except StoreError:
        return False


def test_a_second_run_is_refused_and_a_later_one_is_not(store):
    with (
        locked(store),
        pytest.raises(StoreError, match=rf"written by process {os.getpid()} on .*\.lock"),
    ):
        locked(store).__enter__()
    with locked(store):
        pass
    assert not [*store.parent.iterdir()]


def test_a_run_that_fails_gives_its_lock_back(store):
    with pytest.raises(RuntimeError, match="on the way"), locked(store):
        raise RuntimeError("on the way")
    assert not [*store.parent.iterdir()]


def test_a_living_process_of_this_machine_is_respected_even_if_it_is_stopped(store):
    with holder(store) as other:
        os.kill(other.pid, signal.SIGSTOP)
        with pytest.raises(StoreError, match=f"written by process {other.pid} on "), locked(store):
            pass
        os.kill(other.pid, signal.SIGCONT)
        other.communicate("")
        assert other.returncode == 0
    with locked(store):
        pass
    assert not [*store.parent.iterdir()]


def test_the_lock_of_a_killed_process_is_taken_over_at_once(store, monkeypatch, caplog):
    monkeypatch.setattr(lock, "WATCH", PATIENCE * 100.0)
    with holder(store) as other:
        other.kill()  # not waited for: a zombie is as dead
        until(lambda: heartbeat._started(other.pid) is None)
        with caplog.at_level(logging.WARNING, "ndtomo_dask"), locked(store):
            assert f'"process": {os.getpid()},' in store.with_name("result.zarr.lock").read_text()
    assert f"is taken over from process {other.pid} on" in caplog.text
    assert not [*store.parent.iterdir()]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"host": "node17", "process": 5}'])
def test_a_lock_that_says_little_is_taken_over_when_nothing_moves(store, content):
    store.with_name("result.zarr.lock").write_text(content)
    with locked(store):
        pass
    assert not [*store.parent.iterdir()]


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(store, monkeypatch):
    monkeypatch.setattr(lock, "WATCH", PATIENCE * 100.0)
    content = {"host": socket.gethostname(), "process": os.getpid(), "started": 1}
    store.with_name("result.zarr.lock").write_text(json.dumps(content))
    with locked(store):
        pass


def test_a_holder_elsewhere_is_respected_while_its_counter_moves(store):
    with holder(store, elsewhere="node17") as other:
        for _ in range(2):
            with pytest.raises(StoreError, match=f"by process {other.pid} "), locked(store):
                pass
        other.communicate("")
        assert other.returncode == 0
    with locked(store):
        pass


def test_a_holder_elsewhere_that_beats_no_more_is_taken_over(store, caplog):
    with holder(store, elsewhere="node17") as other:
        os.kill(other.pid, signal.SIGSTOP)
        with caplog.at_level(logging.WARNING, "ndtomo_dask"), locked(store):
            assert "Watching" in caplog.text
            # It comes back, finds its lock taken, and leaves ours alone.
            os.kill(other.pid, signal.SIGCONT)
            other.communicate("")
            assert other.returncode == 0
            assert f'"process": {os.getpid()},' in store.with_name("result.zarr.lock").read_text()
            with pytest.raises(StoreError, match=f"by process {os.getpid()}"), locked(store):
                pass
    assert not [*store.parent.iterdir()]


def test_a_holder_that_lost_its_lock_stops_beating(store, caplog):
    path = store.with_name("result.zarr.lock")
    with caplog.at_level(logging.WARNING, "ndtomo_dask"), locked(store):
        path.unlink()
        path.write_text("another's")
        until(lambda: "was taken over by another process" in caplog.text)
        until(lambda: all(not t.name.startswith("beat of") for t in threading.enumerate()))
    assert path.read_text() == "another's"


@pytest.mark.parametrize("elsewhere", ["", "node17"])
def test_of_those_who_take_over_at_once_exactly_one_wins(store, elsewhere):
    with holder(store, elsewhere=elsewhere) as dead:
        dead.kill()
        dead.wait()
    body = (
        "sys.stdin.readline()\n"
        "try:\n"
        "    with lock.locked(store):\n"
        "        print('won', flush=True)\n"
        "        sys.stdin.read()\n"
        "except lock.StoreError:\n"
        "    print('refused', flush=True)\n"
    )
    contexts = [process(store, body) for _ in range(6)]
    runners = [context.__enter__() for context in contexts]
    try:
        for runner in runners:
            runner.stdin.write("go\n")
            runner.stdin.flush()
        said = sorted(runner.stdout.readline() for runner in runners)
        assert said == ["refused\n"] * 5 + ["won\n"]
    finally:
        for context in contexts:
            context.__exit__(None, None, None)


def test_shares_are_held_side_by_side_and_none_twice(store):
    with holder(store, "3/8"), holder(store, "4/8"), locked(store, "8/8"):
        assert not held(store, "3/8")
        assert not held(store, "8/8")
        assert not held(store)
        assert not held(store, "1/4"), "another division shares the blocks out in another way"
        assert held(store, "1/8")
    with locked(store):
        assert not held(store, "1/8")
    assert held(store)


def test_shares_of_the_dead_are_in_nobodys_way(store):
    with holder(store, "1/3") as first, holder(store, "2/3", "node17") as second:
        for dead in (first, second):
            dead.kill()
            dead.wait()
        assert held(store, "1/3")
        assert held(store)
    with holder(store) as whole:
        whole.kill()
        whole.wait()
        assert held(store, "2/3")
    assert not [*store.parent.iterdir()]


@pytest.mark.parametrize("share", ["0/8", "9/8", "3", "3/0", "3 of 8", "../x/8"])
def test_a_share_that_is_none_is_refused(store, share):
    with pytest.raises(OptionError, match=r"is not a share\. Write the third of eight as 3/8"):
        locked(store, share).__enter__()


def test_waiting_takes_turns_and_a_dead_holder_is_not_waited_for(store):
    """Six processes count in one file, one after the other; one dies with the lock in its hand."""
    counter = store.with_name("counter")
    counter.write_text("0")
    body = (
        "with lock.waiting_lock(store):\n"
        "    counter = store.with_name('counter')\n"
        "    count = int(counter.read_text()) + 1\n"
        "    time.sleep(0.05)\n"
        "    counter.write_text(str(count))\n"
        "    if count == 3: os.kill(os.getpid(), 9)\n"
    )
    contexts = [process(store, body) for _ in range(6)]
    runners = [context.__enter__() for context in contexts]
    try:
        codes = sorted(runner.wait(PATIENCE) for runner in runners)
    finally:
        for context in contexts:
            context.__exit__(None, None, None)
    assert codes == [-signal.SIGKILL, 0, 0, 0, 0, 0]
    assert counter.read_text() == "6"
    assert {path.name for path in store.parent.iterdir()} == {"counter"}


def test_a_lock_that_cannot_be_written_says_where(store):
    if os.geteuid() == 0:
        folder = Path("/proc/self")  # where not even root may create a file
    else:
        folder = store.parent / "closed"
        folder.mkdir(mode=0o500)
    with pytest.raises(StoreError, match=r"result\.zarr\.lock cannot be written: "):
        locked(folder / "result.zarr").__enter__()


def test_waiting_ends_when_the_holder_leaves(store):
    body = "with lock.waiting_lock(store):\n    print('mine', flush=True)"
    with holder(store) as other, process(store, body) as waiting:
        assert not held(store)
        assert waiting.poll() is None
        other.communicate("")
        assert waiting.stdout.readline() == "mine\n"
