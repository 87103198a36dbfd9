import dask
import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import plan_mixing
from ndtomo_dask.apply import mix_kernel
from ndtomo_dask.block_sizes import READ_BUFFERS
from ndtomo_dask.byte_sizes import GB, MB
from ndtomo_dask.errors import PlanError
from ndtomo_dask.kernels.components.spectral_rank import mix_channels

SCAN = {"z": 10, "angle": 360, "translation": 512, "channel": 2000}
BLOCK = {**SCAN, "z": 1, "channel": 64}


def test_mixing_holds_a_block_and_its_part_or_three_parts():
    few = plan_mixing.mix("mix", SCAN, BLOCK, 4, over="channel", into=8, allowed_mem=GB)
    image = 360 * 512 * 4
    assert few.projected_mem == READ_BUFFERS + image * (64 + 8)
    many = plan_mixing.mix("mix", SCAN, BLOCK, 4, over="channel", into=100, allowed_mem=GB)
    assert many.projected_mem == READ_BUFFERS + image * 300
    assert few.tasks == many.tasks == 10 * 32
    assert few.read_bytes == image * 2000 * 10


def test_the_search_takes_as_many_windows_as_fit():
    given = {"sizes": SCAN, "block": BLOCK, "itemsize": 4, "sample": 4096}
    for allowed in (400 * MB, 700 * MB, 2 * GB):
        made, windows = plan_mixing.find_spectral_basis(**given, allowed_mem=allowed)
        assert 1 <= windows <= plan_mixing.WINDOWS
        assert made.projected_mem <= allowed
    assert windows == plan_mixing.WINDOWS
    given |= {"sizes": {**SCAN, "angle": 1800, "translation": 2048}}
    assert plan_mixing.find_spectral_basis(**given, allowed_mem=GB)[1] < windows


def test_what_does_not_fit_is_refused():
    with pytest.raises(PlanError, match=r"find_spectral_basis would hold .* allowed_mem is 10 MB"):
        plan_mixing.find_spectral_basis(SCAN, BLOCK, 4, sample=4096, allowed_mem=10 * MB)
    with pytest.raises(PlanError, match=r"mix would hold .* allowed_mem is 50 MB"):
        plan_mixing.mix("mix", SCAN, BLOCK, 4, over="channel", into=8, allowed_mem=50 * MB)


def test_arrays_of_a_task_are_those_of_the_plan():
    """Count the bytes that tasks are given and return, one task at a time."""
    sizes = {"angle": 20, "translation": 30, "channel": 96}
    block = {**sizes, "channel": 32}
    array = xr.DataArray(np.ones(tuple(sizes.values()), "f4"), dims=tuple(sizes)).chunk(channel=32)
    matrix = xr.DataArray(np.ones((96, 5), dtype="f4"), dims=("channel", "component"))
    seen = []

    def watched(block, rows):
        made = mix_channels(block, rows)
        seen.append(block.nbytes + made.nbytes)
        return made

    with dask.config.set(scheduler="synchronous"):
        mix_kernel(watched, array, matrix).compute()
    made = plan_mixing.mix("mix", sizes, block, 4, over="channel", into=5, allowed_mem=GB)
    assert max(seen) == made.projected_mem - READ_BUFFERS
