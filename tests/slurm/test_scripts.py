"""The job scripts of `cluster/slurm` on a real SLURM: the bits of a local run, whatever happens."""

from pathlib import Path

import pytest

from tests.recipe_cases import hashes
from tests.slurm.conftest import PATIENCE, Work
from tests.slurm.virtual_cluster import VirtualCluster, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SCRIPTS = Path(__file__).parents[2] / "cluster/slurm"
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem-per-cpu=2000M")


def submit_scheduler_in_job(slurm: VirtualCluster, work: Work) -> str:
    script = str(SCRIPTS / "scheduler-in-job.sh")
    return slurm.submit(*TWO_NODES, script, work.recipe, cwd=work.folder)


def assert_completes(slurm: VirtualCluster, job: str, work: Work) -> None:
    slurm.wait_for_end(job, PATIENCE)
    assert slurm.state(job) == "COMPLETED", work.log()
    work.assert_done()


def test_a_job_whose_time_is_nearly_over_queues_itself_again(slurm, work):
    job = submit_scheduler_in_job(slurm, work)
    work.wait_until_some_is_stored(lambda: slurm.jobs("--jobs", job))
    slurm.ask("scancel", "--batch", "--signal=USR1", job)  # as SLURM does before the time limit
    wait_until(lambda: slurm.restarts(job) or not slurm.jobs("--jobs", job), "it stops", PATIENCE)
    assert slurm.restarts(job) == 1, work.log()
    assert hashes(work.store) != work.expected
    assert_completes(slurm, job, work)
    assert not list(work.folder.glob("scheduler-*.json"))


def test_a_canceled_job_stays_away_and_the_next_ends_with_the_same_bits(slurm, work):
    job = submit_scheduler_in_job(slurm, work)
    work.wait_until_some_is_stored(lambda: slurm.jobs("--jobs", job))
    slurm.ask("scancel", job)
    slurm.wait_for_end(job, PATIENCE)
    assert slurm.state(job) == "CANCELLED"
    assert hashes(work.store) != work.expected
    assert_completes(slurm, submit_scheduler_in_job(slurm, work), work)


def test_jobs_of_an_array_share_the_work_and_do_that_of_one_that_is_canceled(slurm, work):
    options = ("--array=1-3%2", "--cpus-per-task=1", "--mem-per-cpu=2000M")  # the third starts late
    array = slurm.submit(*options, str(SCRIPTS / "array.sh"), work.recipe, cwd=work.folder)
    work.wait_until_some_is_stored(lambda: slurm.jobs("--jobs", array))
    slurm.ask("scancel", f"{array}_1")
    slurm.wait_for_end(array, PATIENCE)
    ends = {number: slurm.state(f"{array}_{number}") for number in (1, 2, 3)}
    assert ends == {1: "CANCELLED", 2: "COMPLETED", 3: "COMPLETED"}, work.log()
    work.assert_done()
