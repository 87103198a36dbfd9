import json
import os
import socket
import subprocess
import sys

import pytest

from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.lock import locked


def test_a_second_run_is_refused_and_a_later_one_is_not(tmp_path):
    store = tmp_path / "result.zarr"
    with locked(store), pytest.raises(StoreError, match=rf"process {os.getpid()} on .*\.lock"):
        locked(store).__enter__()
    with locked(store):
        pass
    assert not [*tmp_path.iterdir()]


def test_a_run_that_fails_gives_its_lock_back(tmp_path):
    with pytest.raises(RuntimeError, match="on the way"), locked(tmp_path / "result.zarr"):
        raise RuntimeError("on the way")
    assert not [*tmp_path.iterdir()]


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = tmp_path / "result.zarr.lock"
    lock.write_text(json.dumps({"host": socket.gethostname(), "process": dead.pid}))
    with locked(tmp_path / "result.zarr"):
        assert json.loads(lock.read_text())["process"] == os.getpid()


def test_the_lock_of_another_machine_is_respected(tmp_path):
    lock = tmp_path / "result.zarr.lock"
    lock.write_text(json.dumps({"host": "node17", "process": os.getpid()}))
    with pytest.raises(StoreError, match="on node17"), locked(tmp_path / "result.zarr"):
        pass
    assert lock.exists()
