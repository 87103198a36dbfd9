"""Laws of how loops are compiled: code is kept where there is room, and not needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ndtomo_dask

RUN = """
import numpy as np
import ndtomo_dask
from ndtomo_dask.kernels.components.normal_equations import sum_in_order

print(ndtomo_dask.__file__, sum_in_order(np.arange(5.0)))
"""


@pytest.fixture
def package(tmp_path):
    """Copy the package, without compiled code, to where nobody may write."""
    copied = tmp_path / "ndtomo_dask"
    source = Path(ndtomo_dask.__file__).parent
    shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
    folders = [copied, *(path for path in copied.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield copied
    for folder in folders:
        folder.chmod(0o755)


def run(package, **more):
    """Run without the right to write where modes forbid it, which root has everywhere."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    env = keep | {"PYTHONPATH": str(package.parent), "HOME": str(package),
                  "PYTHONDONTWRITEBYTECODE": "1"} | more  # fmt: skip
    plain = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    return subprocess.run([*plain, sys.executable, "-c", RUN], env=env, cwd="/", text=True,
                          capture_output=True, timeout=200, check=False)  # fmt: skip


def test_without_a_folder_to_write_to_loops_are_compiled_all_the_same(package):
    done = run(package)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(package / "__init__.py"), "10.0"]
    assert not list(package.rglob("*.nbi"))


def test_code_is_kept_in_the_folder_that_is_named(package, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    done = run(package, NUMBA_CACHE_DIR=str(kept))
    assert done.returncode == 0, done.stderr
    assert list(kept.rglob("normal_equations.sum_in_order*.nbi"))
