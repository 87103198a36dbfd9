"""What the tests share: measured scans where they are at hand, and one seeded source of noise."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from ndtomo_dask.synthetic import simulate_scan


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
