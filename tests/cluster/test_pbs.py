"""The job scripts of `cluster/pbs` on one machine: PBS itself is not here.

What PBS would do is done by hand: its variables are set, and a loop starts the workers, one for
each line of the file of nodes. All else is as on a cluster: the script, the Dask scheduler, the
workers and the command are real processes.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ndtomo_dask.runtime.stopping import EXIT_STOPPED
from tests.recipe_cases import hashes, write_recipe, write_scan
from tests.slurm.virtual_cluster import wait_until

SCRIPTS = Path(__file__).parents[2] / "cluster/pbs"
PATIENCE = 180
"""Seconds until a script that has not ended is given up."""
PBSDSH = """#!/bin/bash
mapfile -t machine < <(env | grep -E '^(OPENBLAS_CORETYPE|PYTHONPATH)=')
while read -r _; do
  env -i PATH=/usr/bin:/bin TMPDIR="$TMPDIR" "${machine[@]}" "$@" &
done <"$PBS_NODEFILE"
wait
"""
"""Like the one of PBS: a copy for each line, in a bare environment, and it ends with the last.

What tells BLAS which processor this is stays: it belongs to the machine, and the bits hang on it.
"""


def text(name):
    return (SCRIPTS / name).read_text()


def found(pattern, name):
    return re.search(pattern, text(name), re.MULTILINE).groups()


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_sound(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_as_many_jobs_are_asked_for_as_share_the_blocks():
    jobs = found(r"^JOBS=\$\{JOBS:-(\d+)\}", "array.sh")
    assert found(r"^#PBS -J 1-(\d+)$", "array.sh") == jobs
    assert found(r"^#\$ -t 1-(\d+)$", "array.sh") == jobs


@pytest.mark.parametrize("name", ["array.sh", "login-node.sh", "scheduler-in-job.sh"])
def test_a_run_stops_before_its_job_is_killed(name):
    hours, minutes = found(r"^#PBS -l walltime=(\d+):(\d+):00$", name)
    stop, unit = found(r"^STOP_AFTER=\$\{STOP_AFTER:-(\d+)([mh])\}", name)
    walltime = int(hours) * 60 + int(minutes)
    assert walltime - 60 <= int(stop) * (60 if unit == "h" else 1) <= walltime - 10


def test_the_workers_of_a_node_fit_its_memory():
    workers, granted = found(r"mpiprocs=(\d+).*mem=(\d+)gb", "scheduler-in-job.sh")
    (each,) = found(r"WORKER_MEMORY:-(\d+)GB", "scheduler-in-job.sh")
    assert int(workers) * int(each) <= 0.9 * int(granted)


@pytest.fixture
def job(tmp_path):
    """Environment of a job of two workers, as PBS would give it, and the folder of its submission.

    The folder of the job is its own; what is left of it at the end is ended.
    """
    start, nodes = tmp_path / "pbsdsh", tmp_path / "nodes"
    start.write_text(PBSDSH)
    start.chmod(0o755)
    nodes.write_text("node1\nnode1\n")
    (tmp_path / "home").mkdir()
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}"
        f"{os.environ['PATH']}",
        "PBS_NODEFILE": str(nodes), "PBS_JOBID": "17.server", "PBS_O_WORKDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1", "INTERFACE": "lo", "WORKER_MEMORY": "1GB", "TMPDIR": str(tmp_path),
    }  # fmt: skip
    yield environment
    left = [process for process in psutil.process_iter() if belongs_to(process, tmp_path)]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=PATIENCE)


def belongs_to(process, folder):
    try:
        return process.environ().get("TMPDIR") == str(folder)
    except psutil.Error:
        return False


@contextmanager
def submitted(script, environment, folder):
    """Run a script as PBS does: its copy, from the home folder, without arguments."""
    copy = shutil.copy(SCRIPTS / script, folder / "17.server.SC")
    with (folder / "log").open("ab") as log:
        yield subprocess.Popen(
            ["bash", copy], env=environment, cwd=folder / "home", stdout=log, stderr=log
        )


def finished(process, folder):
    wait_until(lambda: process.poll() is not None, "the job has ended", PATIENCE)
    return process.returncode, (folder / "log").read_text()


@pytest.mark.slow
def test_the_scheduler_runs_inside_the_job(job, tmp_path):
    scan = write_scan(tmp_path / "scan.nxs", slices=4)
    write_recipe(tmp_path / "recipe.yaml", scan, tmp_path / "out.zarr")
    with submitted("scheduler-in-job.sh", job | {"RECIPE": "recipe.yaml"}, tmp_path) as script:
        code, log = finished(script, tmp_path)
    assert code == 0, log
    assert hashes(tmp_path / "out.zarr") == expected(tmp_path)
    assert not list(tmp_path.glob("scheduler-*"))
    wait_until(lambda: not alive(tmp_path), "scheduler and workers have ended", PATIENCE)


def expected(folder):
    """What workers of the same memory make on this machine, without any script."""
    (folder / "local.yaml").write_text("{kind: local, workers: 1, threads: 1, memory: 1GB}")
    run = [sys.executable, "-m", "ndtomo_dask.cli", "run", "recipe.yaml", "--output", "local.zarr"]
    subprocess.run([*run, "--cluster", "local.yaml"], cwd=folder, check=True)
    return hashes(folder / "local.zarr")


def alive(folder):
    return [process for process in psutil.process_iter() if belongs_to(process, folder)]


def test_a_script_says_how_to_name_a_recipe(job, tmp_path):
    for script in ("array.sh", "login-node.sh", "scheduler-in-job.sh"):
        with submitted(script, job, tmp_path) as process:
            code, log = finished(process, tmp_path)
        assert code != 0
        assert "name a recipe" in log
        (tmp_path / "log").unlink()


@pytest.mark.slow
def test_a_job_that_is_over_its_time_ends_in_good_order(job, tmp_path):
    scan = write_scan(tmp_path / "scan.nxs", slices=40)
    write_recipe(tmp_path / "recipe.yaml", scan, tmp_path / "out.zarr")
    short = job | {"RECIPE": "recipe.yaml", "STOP_AFTER": "8s"}
    with submitted("scheduler-in-job.sh", short, tmp_path) as script:
        code, log = finished(script, tmp_path)
    assert code == EXIT_STOPPED, log
    wait_until(lambda: not alive(tmp_path), "scheduler and workers have ended", PATIENCE)
    with submitted("scheduler-in-job.sh", job | {"RECIPE": "recipe.yaml"}, tmp_path) as script:
        code, log = finished(script, tmp_path)
    assert code == 0, log
    assert hashes(tmp_path / "out.zarr") == expected(tmp_path)
