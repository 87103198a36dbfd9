"""Workers that join: those with another environment are named, and never compute anything."""

import logging
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

import ndtomo_dask
from ndtomo_dask.apply import allowed_memory
from ndtomo_dask.errors import OptionError, PlanError
from ndtomo_dask.kernels.threads import blas_kernels
from ndtomo_dask.machine import task_mem
from ndtomo_dask.runtime import connect, describe
from ndtomo_dask.schema import package_version

HERE = str(Path(ndtomo_dask.__file__).parents[1])
FORGET_PACKAGE = f"import sys\nsys.path[:] = [p for p in sys.path if p != {HERE!r}]\n"
FORGET_ZARRS = """
import importlib.metadata as metadata
found = metadata.version
def version(name):
    if name == "zarrs":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.version = version
"""


@pytest.fixture
def scheduler():
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


def other_version(folder):
    """Make a folder which, on the path, says that the package has another version."""
    about = folder / "ndtomo_dask-0.0.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ndtomo-dask\nVersion: 0.0.9\n")


def at_start(folder, code):
    (folder / "sitecustomize.py").write_text(code)


def as_it_is(folder):
    pass


@contextmanager
def worker(scheduler, folder, memory="2GB"):
    """Start a worker process whose Python looks into a folder first."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1",
               "--memory-limit", memory, "--no-dashboard"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until(condition, what, patience=60):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience} s in vain until {what}"
        time.sleep(0.05)


def test_a_worker_of_another_version_is_refused_and_left_alone(scheduler, tmp_path):
    other_version(tmp_path)
    wanted = package_version()
    words = rf"worker tcp://\S+ has ndtomo-dask 0\.0\.9, but ndtomo-dask {wanted} is expected: run"
    before = dask.config.get("ndtomo_dask.allowed_mem", None)
    with worker(scheduler, tmp_path) as process:
        with pytest.raises(OptionError, match=words) as refused:
            connect(scheduler)
        assert process.poll() is None
    assert "\n" not in str(refused.value)
    assert dask.config.get("ndtomo_dask.allowed_mem", None) == before


def test_a_worker_without_the_package_is_refused(scheduler, tmp_path):
    at_start(tmp_path, FORGET_PACKAGE)
    words = r"worker tcp://\S+ has no ndtomo-dask, but ndtomo-dask \S+ is expected: run pip install"
    with worker(scheduler, tmp_path), pytest.raises(OptionError, match=words):
        connect(scheduler)


def test_slower_reading_is_only_mentioned(scheduler, tmp_path, caplog):
    pytest.importorskip("zarrs")
    at_start(tmp_path, FORGET_ZARRS)
    with worker(scheduler, tmp_path), connect(scheduler) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    assert "has no zarrs, so it reads slower" in caplog.text


def test_a_worker_that_rounds_otherwise_is_mentioned(scheduler, tmp_path, caplog, monkeypatch):
    other = "Nehalem" if "Haswell" in blas_kernels() else "Haswell"
    monkeypatch.setenv("OPENBLAS_CORETYPE", other)
    with worker(scheduler, tmp_path), connect(scheduler) as client:
        if client.submit(blas_kernels).result() == blas_kernels():
            pytest.skip("this BLAS has one kind of kernels only")
    assert f"multiplies matrices as on {other}" in caplog.text


def test_workers_too_small_for_the_plan_are_refused(scheduler, tmp_path):
    words = r"a task of this recipe holds 2 GB, but on these workers it may hold 850 MB\. Give each"
    with worker(scheduler, tmp_path), pytest.raises(PlanError, match=words):
        connect(scheduler, least_memory="2GB")


def where(_):
    return os.getpid()


def all_work(client, workers):
    return len(set(client.gather(client.map(where, range(40), pure=False)))) == workers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "memory", "said"),
    [
        (other_version, "2GB", r"has ndtomo-dask 0.0.9"),
        (lambda folder: at_start(folder, FORGET_PACKAGE), "2GB", "has no ndtomo-dask"),
        (as_it_is, "1GB", "lets a task hold 250 MB, but the plan was made for 850 MB"),
    ],
    ids=["version", "missing", "memory"],
)
def test_a_worker_that_joins_later_and_does_not_fit_computes_nothing(
    scheduler, tmp_path, caplog, wrong, memory, said
):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir(), bad.mkdir()
    wrong(bad)
    with worker(scheduler, good), connect(scheduler) as client:
        pid = client.submit(where, 0).result()
        with worker(scheduler, bad, memory) as process, caplog.at_level(logging.WARNING):
            ran = set()

            def keep_busy():
                more = client.map(where, range(20), pure=False)
                ran.update(client.gather(more))
                return process.poll() is not None and said in caplog.text

            wait_until(keep_busy, "it has left")
        assert describe(client)["workers"] == 1
        assert ran == {pid}


@pytest.mark.slow
def test_a_worker_that_joins_later_and_fits_works_and_is_free_afterwards(scheduler, tmp_path):
    good, small = tmp_path / "good", tmp_path / "small"
    good.mkdir(), small.mkdir()
    with worker(scheduler, good):
        with connect(scheduler) as client:
            assert allowed_memory(None) == task_mem(2 * 10**9)
            with worker(scheduler, small):
                wait_until(lambda: all_work(client, 2), "both work")
        with worker(scheduler, small, "500MB"), Client(scheduler) as others:
            wait_until(lambda: all_work(others, 2), "a smaller one works for others")
