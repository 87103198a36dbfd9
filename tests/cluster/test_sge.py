"""Jobs on a real Grid Engine: the bits of a local run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.virtual_sge import missing_programs, virtual_sge
from tests.recipe_cases import hashes, write_recipe, write_scan
from tests.slurm.virtual_cluster import wait_until

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "cluster/pbs"
PATIENCE = 180
"""Seconds until a job that has not ended is given up."""


@pytest.fixture(scope="module")
def sge():
    if absent := missing_programs():
        pytest.skip(
            f"{', '.join(absent)} not found: apt-get install gridengine-master gridengine-exec "
            f"gridengine-client"
        )
    with virtual_sge() as cluster:
        programs = Path(sys.executable).parent  # of Python, which need not be activated
        cluster.environment["PATH"] = f"{programs}{os.pathsep}{cluster.environment['PATH']}"
        yield cluster


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A scan, and what comes out of it where nothing is distributed by a batch system."""
    folder = tmp_path_factory.mktemp("local")
    scan = write_scan(folder / "scan.nxs", slices=4)
    recipe = write_recipe(folder / "recipe.yaml", scan, folder / "out.zarr")
    (folder / "local.yaml").write_text("{kind: local, workers: 2, threads: 1, memory: 1GB}")
    run = [sys.executable, "-m", "ndtomo_dask.cli", "run", str(recipe)]
    subprocess.run([*run, "--cluster", str(folder / "local.yaml")], check=True)
    return scan, hashes(folder / "out.zarr")


def log(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.o*")))


def test_workers_in_jobs_that_the_command_asks_for(sge, work, tmp_path):
    scan, expected = work
    recipe = write_recipe(tmp_path / "recipe.yaml", scan, tmp_path / "out.zarr")
    (tmp_path / "sge.yaml").write_text(
        "kind: sge\nqueue: all.q\ncores: 1\nmemory: 1GB\nworkers: 1\njobs: 2\ninterface: lo\n"
        f"walltime: 00:10:00\ndirectives: ['-pe smp 1', '-V']\nlogs: {tmp_path}\n"
    )
    run = [sys.executable, "-m", "ndtomo_dask.cli", "run", str(recipe)]
    sge.ask(*run, "--cluster", str(tmp_path / "sge.yaml"), cwd=tmp_path)
    assert hashes(tmp_path / "out.zarr") == expected
    wait_until(lambda: not sge.queued(), "no job is left", PATIENCE)


def test_an_array_of_jobs_without_a_scheduler(sge, work, tmp_path):
    scan, expected = work
    recipe = write_recipe(tmp_path / "recipe.yaml", scan, tmp_path / "out.zarr")
    variables = f"RECIPE={recipe},JOBS=2,WORKERS=1,WORKER_MEMORY=1GB"
    sge.ask("qsub", "-V", "-t", "1-2", "-pe", "smp", "1", "-v", variables,
            str(SCRIPTS / "array.sh"), cwd=tmp_path)  # fmt: skip
    wait_until(lambda: not sge.queued(), "the array has left the queue", PATIENCE)
    assert hashes(tmp_path / "out.zarr") == expected, log(tmp_path)
    assert len(list(tmp_path.glob("ndtomo.o*"))) == 2
