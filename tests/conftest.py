"""What the tests share: measured scans where they are at hand, and one seeded source of noise."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


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
