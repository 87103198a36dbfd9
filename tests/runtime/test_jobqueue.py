"""Batch systems: what is asked of them, in which words, and what their refusals look like here."""

import stat
import subprocess
import sys
from importlib.util import find_spec

import dask
import pytest

from ndtomo_dask import machine
from ndtomo_dask.errors import BackendError, OptionError
from ndtomo_dask.runtime import connect
from ndtomo_dask.runtime.jobqueue import BATCH_SYSTEMS, cluster_class, cluster_options
from ndtomo_dask.runtime.options import checked_options
from ndtomo_dask.runtime.settings import DASK_SETTINGS

GIVEN = {
    "cores": 8, "memory": "16GB", "queue": "regular", "account": "xrd", "walltime": "02:00:00",
    "prologue": ["module load gcc"], "directives": ["--extra"], "scratch": "/scratch",
    "python": "/opt/bin/python",
}  # fmt: skip
GB = 10**9


def script(kind, least_memory=None, **given):
    options = checked_options(given, {*GIVEN, *given}, source="test")
    with cluster_class(kind)(**cluster_options(kind, options, least_memory)) as cluster:
        return cluster.job_script()


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("slurm", ["-p regular", "-A xrd", "--cpus-per-task=8", "--mem=15G", "-t 02:00:00"]),
        ("pbs", ["-q regular", "-A xrd", "-l select=1:ncpus=8:mem=15258mb",
                 "-l walltime=02:00:00"]),
        ("lsf", ["-q regular", '-P "xrd"', "-n 8", "-W 02:00", "-M "]),
        ("sge", ["-q regular", "-P xrd", "-l h_rt=02:00:00"]),
    ],
)  # fmt: skip
def test_a_job_asks_for_what_is_given(kind, lines):
    text = script(kind, **GIVEN)
    sign = {"slurm": "#SBATCH ", "pbs": "#PBS ", "lsf": "#BSUB ", "sge": "#$ "}[kind]
    for line in [*lines, "--extra"]:
        assert f"\n{sign}{line}" in text
    assert "\nmodule load gcc\n" in text
    assert "/opt/bin/python -m distributed.cli.dask_worker" in text
    assert "--local-directory /scratch" in text


@pytest.mark.parametrize("kind", BATCH_SYSTEMS)
def test_one_task_at_a_time_and_the_cores_go_to_kernels(kind):
    text = script(kind, **GIVEN, workers=2)
    assert "--nworkers 2" in text
    assert "--nthreads 1" in text
    assert "--memory-limit 7.45GiB" in text
    assert "export OMP_NUM_THREADS=4\n" in text
    assert "export MALLOC_ARENA_MAX=2\n" in text


def test_a_plan_that_needs_memory_takes_fewer_and_larger_workers():
    assert "--nworkers 8" in script("slurm", **GIVEN)
    text = script("slurm", 3 * GB, **GIVEN)
    assert "--nworkers 2" in text
    assert "export OMP_NUM_THREADS=4\n" in text
    assert machine.task_mem(16 * GB // 2) >= 3 * GB > machine.task_mem(16 * GB // 3)


def test_workers_have_the_patience_of_their_scheduler():
    text = script("slurm", **GIVEN)
    assert text.count("export DASK_") == len(DASK_SETTINGS)
    assert "export DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL='10 minutes'\n" in text


def test_workers_end_themselves_before_the_walltime():
    assert "--lifetime 6600s --lifetime-stagger 300s" in script("slurm", **GIVEN)
    short = script("slurm", **GIVEN | {"walltime": "10min"})
    assert "--lifetime 480s --lifetime-stagger 60s" in short


def test_what_the_site_wrote_for_dask_is_honored():
    site = {"cores": 4, "memory": "8GB", "queue": "site", "job-script-prologue": ["module load x"]}
    cluster_class("slurm")
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in site.items()}):
        text = script("slurm")
    for line in ("#SBATCH -p site", "#SBATCH --cpus-per-task=4", "module load x", "OMP_NUM"):
        assert line in text


def test_torque_and_grid_engine_have_words_of_their_own():
    text = script("pbs", **GIVEN, resources="nodes=1:ppn=8")
    assert "#PBS -l nodes=1:ppn=8\n" in text
    assert "select" not in text
    assert "#$ -l h_vmem=2G\n" in script("sge", **GIVEN, resources="h_vmem=2G")


def test_a_machine_without_the_batch_system_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match=r"'slurm' needs the command sbatch, which is not on"):
        connect("slurm", cores=2, memory="4GB")


def test_a_refused_job_is_one_sentence(monkeypatch, tmp_path):
    refuses = tmp_path / "bsub"
    refuses.write_text("#!/bin/sh\nexit 1\n")
    refuses.chmod(refuses.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(OptionError, match=r"bsub refuses the job: .*\. Check queue") as refused:
        connect("lsf", cores=2, memory="4GB")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": "4GB"}, r"cluster 'slurm' needs cores and memory"),
        ({"cores": 2, "memory": "4GB", "queues": "x"}, r"option 'queues'\. Did you mean 'queue'\?"),
        ({"cores": "two"}, r"cores='two' is not a number of 1 or more"),
        ({"memory": [1]}, r"memory=\[1\] is not a size in bytes"),
        ({"walltime": "soon"}, r"walltime='soon' is not a time\. Write it as '02:00:00' or '2h'"),
        ({"queue": ["a"]}, r"queue=\['a'\] is not a word"),
        ({"prologue": 3}, r"prologue=3 is not a list of lines"),
        ({"adaptive": 3}, r"adaptive=3 must be such as \{minimum: 1, maximum: 20\}"),
        ({"adaptive": {"minimum": 3, "maximum": 2}}, r"has a minimum above its maximum"),
        ({"jobs": 2, "adaptive": {"maximum": 2}}, r"jobs and adaptive were both given"),
    ],
)
def test_wrong_options_are_refused_in_words(options, words):
    with pytest.raises(OptionError, match=words) as refused:
        connect("slurm", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("02:00:00", 7200), ("2h", 7200), ("90 min", 5400), ("1-00:00:00", 86400), (36000, 36000),
     ("00:30", 1800)],
)  # fmt: skip
def test_a_walltime_is_written_in_any_usual_way(written, seconds):
    assert checked_options({"walltime": written}, ["walltime"], source="x") == {"walltime": seconds}


KEPT = """
import signal
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
from ndtomo_dask.runtime.libraries import imported
imported("dask_jobqueue", extra="jobqueue")
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
"""


def test_an_interrupt_means_what_it_did_before_a_cluster_was_asked_for():
    """In a process of its own, since importing dask-jobqueue is what would change it."""
    if find_spec("dask_jobqueue") is None:
        pytest.skip("dask-jobqueue is not installed")
    subprocess.run([sys.executable, "-c", KEPT], check=True)
