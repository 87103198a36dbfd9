"""What the tests share: measured scans where they are at hand, and one seeded source of noise."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import settings

from ndtomo_dask.plan import DEFAULT_ALLOWED_MEM
from ndtomo_dask.runtime import connect
from ndtomo_dask.synthetic import simulate_scan

if TYPE_CHECKING:
    from distributed import Client

settings.register_profile("no clocks", deadline=None)
settings.load_profile("no clocks")


DAEMONS = ("cluster", "network", "runtime", "slurm")
"""Folders of tests that start schedulers, batch systems and networks."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try tests of daemons twice, whose clocks are not ours; the summary names them (RERUN)."""
    folders = [Path(__file__).parent / name for name in DAEMONS]
    for item in items:
        if any(folder in item.path.parents for folder in folders):
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=[".*"]))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20140722)


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a measured scan, from $NDTOMO_DATA or the folder beside the checkout; or skip."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NDTOMO_DATA", beside))

    def path_of(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"measured scan {name} is not in {folder}; set NDTOMO_DATA to its folder")
        return folder / name

    return path_of


def _refuse_to_compute(*args: object, **options: object) -> None:
    raise AssertionError("something was computed that should be lazy")


@pytest.fixture
def no_compute() -> Iterator[None]:
    """Any Dask computation inside the test fails it."""
    with dask.config.set(scheduler=_refuse_to_compute):
        yield


@pytest.fixture(scope="session")
def _small_scans() -> tuple[xr.Dataset, xr.Dataset]:
    options = {"size": 32, "angles": 40, "channels": 60, "grains": 12, "seed": 7}
    return simulate_scan(**options).load(), simulate_scan(**options, noise="none").load()


@pytest.fixture
def scan(_small_scans: tuple[xr.Dataset, xr.Dataset]) -> xr.Dataset:
    """A small simulated scan with Poisson noise, in memory."""
    return _small_scans[0].copy(deep=True)


@pytest.fixture
def clean_scan(_small_scans: tuple[xr.Dataset, xr.Dataset]) -> xr.Dataset:
    """The same scan without noise."""
    return _small_scans[1].copy(deep=True)


@pytest.fixture(scope="session")
def _scheduler() -> Iterator[str]:
    """Two worker processes, started once for all tests that need real ones; their address."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit="2GB", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def client(_scheduler: str) -> Iterator["Client"]:
    """Two worker processes, for this test only: others compute as they would without."""
    memory = dask.config.get("ndtomo_dask.allowed_mem", DEFAULT_ALLOWED_MEM)
    with dask.config.set({"ndtomo_dask.allowed_mem": memory}), connect(_scheduler) as client:
        yield client
