"""One SLURM for all tests of this folder, and one undisturbed run to which theirs are compared."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.recipe_cases import STEPS, hashes, write_recipe, write_scan
from tests.slurm.virtual_cluster import (
    VirtualCluster,
    missing_programs,
    virtual_cluster,
    wait_until,
)

SIZES = {"size": 40, "angles": 48, "channels": 256, "slices": 8}
"""Eight slices, so eight blocks of each stage."""
ITERATIONS, MANY_ITERATIONS = 60, 800
"""Of SIRT: so that a job can be ended while it works, and that more jobs have time to start."""
PATIENCE = 240
"""Seconds until a run that should have come to some point is given up."""


@pytest.fixture(scope="session")
def _slurm() -> Iterator[VirtualCluster]:
    if absent := missing_programs():
        reason = f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
        required = "slurm" in os.environ.get("NDTOMO_REQUIRE", "").split(",")
        (pytest.fail if required else pytest.skip)(reason)
    with virtual_cluster() as cluster:
        programs = Path(sys.executable).parent  # of Python, which need not be activated
        cluster.environment["PATH"] = f"{programs}{os.pathsep}{cluster.environment['PATH']}"
        cluster.environment["INTERFACE"] = "lo"
        yield cluster


@pytest.fixture
def slurm(_slurm: VirtualCluster) -> Iterator[VirtualCluster]:
    """A SLURM of three nodes of two cores, on which no job is left from another test."""
    yield _slurm
    _slurm.cancel_all()


@dataclass(frozen=True)
class Work:
    """What to do in a folder, and what comes out where nothing goes wrong."""

    scan: Path
    folder: Path
    expected: dict[str, str]
    iterations: int = ITERATIONS

    @property
    def recipe(self) -> str:
        """Path of the recipe."""
        slow = {"reconstruct": {"method": "sirt", "iterations": self.iterations}}
        steps = [slow if "reconstruct" in step else step for step in STEPS]
        path = self.folder / "recipe.yaml"
        return str(write_recipe(path, self.scan, self.store, steps=steps))

    @property
    def store(self) -> Path:
        return self.folder / "out.zarr"

    def shards(self) -> int:
        """How many of the eight blocks of the volume are stored."""
        return sum(path.is_file() for path in (self.store / "volume" / "c").rglob("*"))

    def log(self) -> str:
        """What jobs have printed, for the message of a test that fails."""
        logs = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"--- {path.name}\n{path.read_text()[-4000:]}" for path in sorted(logs))

    def wait_until_some_is_stored(self, lives: object) -> None:
        """Wait until some of the volume is stored; then there must be work left."""
        wait_until(lambda: self.shards() or not lives(), "some of the volume is stored", PATIENCE)
        assert lives(), self.log()
        assert 0 < self.shards() < SIZES["slices"]

    def assert_done(self) -> None:
        assert hashes(self.store) == self.expected


def run_here(folder: Path, iterations: int) -> Work:
    """Run a recipe by workers on this machine."""
    work = Work(write_scan(folder / "scan.nxs", **SIZES), folder, {}, iterations)
    cluster = folder / "local.yaml"
    cluster.write_text("{kind: local, workers: 2, threads: 1, memory: 2GB}")
    command = ["-m", "ndtomo_dask.cli", "run", work.recipe, "--cluster", str(cluster)]
    subprocess.run([sys.executable, *command], check=True)
    return replace(work, expected=hashes(work.store))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """What comes out where nothing is disturbed."""
    return run_here(tmp_path_factory.mktemp("local"), ITERATIONS)


@pytest.fixture
def work(undisturbed: Work, tmp_path: Path) -> Work:
    """The same recipe, to be run in another folder."""
    return replace(undisturbed, folder=tmp_path)


@pytest.fixture
def long_work(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Work:
    """A recipe that takes longer than it takes a job to start, to be run in another folder."""
    return replace(run_here(tmp_path_factory.mktemp("long"), MANY_ITERATIONS), folder=tmp_path)
