"""Workers in jobs of a real SLURM: the bits of a local run, also when one of the jobs is ended."""

import subprocess

import pytest
import yaml

from tests.slurm.conftest import PATIENCE, Work
from tests.slurm.test_scripts import SCRIPTS, assert_completes
from tests.slurm.virtual_cluster import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

JOB = {"kind": "slurm", "cores": 1, "memory": "2GB", "walltime": "00:20:00", "interface": "lo"}


def driver(work: Work, **options: object) -> list[str]:
    """Write a cluster file, and say which command drives jobs by it."""
    (work.folder / "cluster").mkdir()
    (work.folder / "cluster" / "slurm.yaml").write_text(yaml.safe_dump(JOB | options))
    return [str(SCRIPTS / "login-node.sh"), work.recipe]


def test_a_run_survives_that_one_of_its_jobs_is_canceled(slurm, work):
    with (work.folder / "driver.out").open("wb") as output:
        process = subprocess.Popen(
            ["bash", *driver(work, jobs=2)],
            cwd=work.folder, env=slurm.environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        work.wait_until_some_is_stored(lambda: process.poll() is None)
        jobs = slurm.jobs("--states=running")
        assert len(jobs) == 2, (jobs, work.log())
        slurm.ask("scancel", next(iter(jobs)))
        assert process.wait(PATIENCE) == 0, work.log()
    finally:
        process.kill()
        process.wait()
    work.assert_done()
    slurm.wait_until_free()


def test_an_adaptive_cluster_is_driven_from_a_small_job(slurm, long_work, monkeypatch):
    # More jobs, though the work is done in seconds, which Dask by itself would not think worth it.
    monkeypatch.setitem(slurm.environment, "DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION", "1s")
    command = driver(long_work, adaptive={"minimum": 1, "maximum": 3})
    job = slurm.submit("--cpus-per-task=1", "--mem=1500M", *command, cwd=long_work.folder)
    wait_until(lambda: len(slurm.jobs("--states=running")) > 2 or not slurm.jobs("--jobs", job),
               "there are more jobs than the small one and the minimum", PATIENCE)  # fmt: skip
    assert slurm.jobs("--jobs", job), long_work.log()
    assert_completes(slurm, job, long_work)
    slurm.wait_until_free()
