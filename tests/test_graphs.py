"""Batches: all of the work, nothing twice, and never more than a part of it spelled out."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import graphs
from ndtomo_dask.apply import reduce_kernel
from ndtomo_dask.computing import compute_here
from ndtomo_dask.graphs import block_keys, in_batches

MADE = []


def made(block, block_info=None):
    MADE.append(block_info[0]["chunk-location"])
    return block + 1


@pytest.fixture(autouse=True)
def _in_this_process():
    """What is made is noted in a list, which only this process sees."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def array(rng):
    MADE.clear()
    data = da.from_array(rng.random((12, 6)), chunks=(3, 2), inline_array=True)
    return data.map_blocks(made, dtype=data.dtype) * 2


def groups_of(array, size):
    places = list(np.ndindex(*array.numblocks))
    keys = block_keys(array, places)
    return [keys[first : first + size] for first in range(0, len(keys), size)]


@pytest.mark.parametrize("size", [1, 5, 12])
def test_batches_make_every_block_once_and_right(array, size):
    batches = in_batches(array.dask, groups_of(array, size), wanted=True)
    blocks = [block for results in compute_here(batches, 12, "") for block in results]
    assert sorted(MADE) == list(np.ndindex(4, 3))
    expected = array.compute(scheduler="synchronous")
    for place, block in zip(np.ndindex(4, 3), blocks, strict=True):
        np.testing.assert_array_equal(block, array.blocks[place])
    assert expected.shape == (12, 6)


def test_a_chain_of_blocks_is_one_task_under_the_key_that_is_asked_for(array):
    for batch in in_batches(array.dask, groups_of(array, 5), wanted=True):
        assert set(batch.tasks()) == set(batch.keys)


def test_a_batch_is_cut_out_when_it_is_asked_for(array):
    asked = []

    def groups():
        for group in groups_of(array, 4):
            asked.append(group)
            yield group

    batches = in_batches(array.dask, groups(), wanted=False)
    assert not asked
    first = next(batches)
    assert len(asked) == 1
    assert len(first.tasks()) == 4


def test_batches_whose_tasks_carry_much_are_cut(rng, monkeypatch):
    data = da.zeros((12, 6), chunks=(1, 6))
    carried = rng.random((12, 1))
    total = da.map_blocks(np.add, data, da.from_array(carried, chunks=(1, 1)), dtype=float)
    monkeypatch.setattr(graphs, "CARRIED", 4 * 8)
    batches = list(in_batches(total.dask, groups_of(total, 10), wanted=True))
    assert [len(batch.keys) for batch in batches] == [4, 4, 2, 2]
    blocks = [block for results in compute_here(batches, 12, "") for block in results]
    np.testing.assert_array_equal(np.concatenate(blocks), np.repeat(carried, 6, axis=1))


def test_what_blocks_share_is_made_once_in_a_batch(rng):
    MADE.clear()
    source = da.from_array(rng.random((4, 6)), chunks=(2, 6)).map_blocks(made, dtype=float)
    split = source.rechunk((2, 2)) + 1
    list(compute_here(in_batches(split.dask, groups_of(split, 3), wanted=True), 6, ""))
    assert sorted(MADE) == [(0, 0), (1, 0)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 1023, 1024, 1025, 2500])
def test_a_reduction_in_groups_is_merged_as_one_tree(count, monkeypatch):
    """Whether in one group or many, the same pairs are merged: here they are written as such."""
    array = xr.DataArray(np.arange(float(count)), dims="channel").chunk(channel=1)
    with dask.config.set(scheduler="synchronous"):
        monkeypatch.setattr("ndtomo_dask.apply.GROUP", 4096)
        whole = reduce_kernel(array, written, paired, description="one group")
        monkeypatch.setattr("ndtomo_dask.apply.GROUP", 8)
        assert reduce_kernel(array, written, paired, description="groups of 8") == whole


def test_groups_of_a_reduction_whose_tasks_carry_much_are_smaller(rng, monkeypatch):
    added = da.from_array(rng.random((40, 1)), chunks=(1, 1))
    array = xr.DataArray(da.zeros((40, 6), chunks=(1, 6)) + added, dims=("angle", "channel"))
    monkeypatch.setattr("ndtomo_dask.apply.GROUP", 16)
    assert graphs.blocks_per_batch(array.data, 16) == 16
    whole = reduce_kernel(array, np.sum, np.add, description="groups of 16")
    monkeypatch.setattr(graphs, "CARRIED", 5 * 8)
    assert graphs.blocks_per_batch(array.data, 16) == 4
    assert reduce_kernel(array, np.sum, np.add, description="groups of 4") == whole


def written(block):
    return f"{block[0]:g}"


def paired(left, right):
    return f"({left} {right})"
