import operator

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask._task_spec import convert_legacy_graph
from hypothesis import given
from hypothesis import strategies as st

from ndtomo_dask import computing
from ndtomo_dask.apply import (
    allowed_memory,
    apply_kernel,
    block_of,
    detached,
    first_block,
    is_lazy,
    mix_kernel,
    reduce_kernel,
    split_blocks,
)
from ndtomo_dask.computing import compute_arrays, compute_here, computing_with
from ndtomo_dask.graphs import block_keys, in_batches
from tests.strategies import chunkings

READS = []


def total_block(block, scale, *, power):
    return (block.sum(axis=0) * scale) ** power


def list_block(block):
    return [float(block.ravel()[0])]


def reading(block):
    READS.append(block.shape)
    return block


@pytest.fixture
def array(rng):
    values = rng.standard_normal((2, 6, 8, 10))
    return xr.DataArray(values, dims=("z", "angle", "translation", "channel"), name="sinogram")


@pytest.mark.parametrize("chunks", [{}, {"z": 1, "channel": 3}, {"translation": 3, "channel": 7}])
def test_a_kernel_makes_the_same_of_blocks_as_of_memory(array, chunks):
    scale = xr.DataArray(np.arange(8.0), dims="translation").broadcast_like(array.isel(angle=0))
    scale = scale.transpose("z", "translation", "channel")
    options = {"core": ["angle"], "out": {}, "power": 2}
    expected = apply_kernel(total_block, array, scale, **options)
    actual = apply_kernel(total_block, array.chunk(chunks), scale, **options)
    assert is_lazy(actual)
    assert not is_lazy(expected)
    xr.testing.assert_identical(actual.compute(), expected)
    np.testing.assert_allclose(expected, (array.sum("angle") * scale) ** 2)


@pytest.mark.parametrize("lead", [("z",), ("time",), ("time", "z"), ()])
def test_smaller_arrays_meet_the_slice_they_belong_to(rng, lead):
    sizes = {"time": 2, "z": 3, "angle": 4, "channel": 5}
    array = xr.DataArray(rng.standard_normal(tuple(sizes.values())), dims=tuple(sizes))
    beside = xr.DataArray(
        rng.standard_normal([sizes[dim] for dim in (*lead, "channel")]), dims=(*lead, "channel")
    )
    expected = (array.sum("angle") * beside).transpose("time", "z", "channel")
    for given_array in (array, array.chunk(time=1, z=2, channel=2)):
        made = apply_kernel(total_block, given_array, beside, core=["angle"], out={}, power=1)
        np.testing.assert_allclose(made, expected)
        turned = beside.transpose(*reversed(beside.dims))
        other = apply_kernel(total_block, given_array, turned, core=["angle"], out={}, power=1)
        np.testing.assert_array_equal(other, made)


def test_the_kernels_name_is_in_the_graph(array):
    made = apply_kernel(reading, array.chunk(channel=5))
    assert any("reading" in str(key) for key in made.data.dask)


def test_the_graph_computes_nothing_until_asked(array, no_compute):
    assert is_lazy(apply_kernel(reading, array.chunk(channel=5)))


def test_new_dimensions_have_no_coordinates_and_others_keep_theirs(array):
    coords = {"channel": np.arange(10), "q": ("channel", np.arange(10.0)), "wavelength": 0.2}
    lost = {"angle": np.arange(6.0), "pair": (("angle", "channel"), np.ones((6, 10)))}
    array = array.assign_coords(coords | lost)
    made = apply_kernel(total_block, array, xr.DataArray(1.0), core=["angle"], out={}, power=1)
    assert set(made.coords) == {"channel", "q", "wavelength"}


@given(chunks=chunkings(60), largest=st.integers(1, 70))
def test_blocks_are_cut_and_never_merged(chunks, largest):
    array = xr.DataArray(da.zeros((60,), chunks=(chunks,)), dims="channel")
    cut = split_blocks(array, {"channel": largest})
    assert max(cut.chunks[0]) <= largest
    assert set(np.cumsum(chunks)) <= set(np.cumsum(cut.chunks[0]))
    if max(chunks) <= largest:
        assert cut.chunks == array.chunks


@pytest.mark.parametrize(("chunks", "largest"), [((50, 50, 30), 25), ((64, 64, 9), 16)])
def test_equal_blocks_are_cut_into_equal_blocks(chunks, largest):
    array = xr.DataArray(da.zeros((sum(chunks),), chunks=(chunks,)), dims="channel")
    pieces = split_blocks(array, {"channel": largest}).chunks[0]
    assert set(pieces[:-1]) == {largest}


def test_detached_is_read_twice_and_holds_the_same_numbers(array):
    READS.clear()
    source = apply_kernel(reading, array.chunk(channel=5, z=1))
    twin = detached(source)
    assert not set(source.data.dask) & set(twin.data.dask)
    assert len(READS) == 0
    with dask.config.set(scheduler="synchronous"):
        a, b = dask.compute(source, twin)
    xr.testing.assert_identical(a, b)
    assert len(READS) == 2 * 4
    assert detached(array) is array


def test_twins_of_one_another_share_no_reading(array):
    READS.clear()
    source = apply_kernel(reading, array.chunk(channel=5, z=1))
    corrected = source - detached(source).mean("channel")
    scaled = corrected - detached(corrected).mean("channel")
    with dask.config.set(scheduler="synchronous"):
        scaled.compute()
    # The source, its twin, and the twins of both: shared, a block is held until a mean is known.
    assert len(READS) == 4 * 4


def image_block(block, *, size):
    return np.zeros((size, size, block.shape[-1]), dtype=block.dtype)


def test_kernels_in_a_row_are_one_layer_even_if_they_change_dimensions():
    zeros = da.zeros((2, 6, 8, 10), chunks=(1, 6, 8, 5))
    source = xr.DataArray(zeros, dims=("z", "angle", "translation", "channel"))
    made = apply_kernel(
        image_block, source, core=["angle", "translation"], out={"y": 7, "x": 7}, size=7
    )
    last = apply_kernel(reading, made)
    keys = block_keys(last.data, [(0, 0, 0, 1)])
    (batch,) = in_batches(last.data.dask, [keys], wanted=True)
    assert len(batch.layers.layers) == 1
    assert last.compute().shape == last.shape == (2, 7, 7, 10)


def shifted_block(block, block_id=(0,)):
    return block + sum(block_id)


@pytest.mark.parametrize(
    "steps",
    [
        lambda data: data.rechunk((2, 6, 8, 3)),
        lambda data: data.rechunk((1, 4, 8, 10)).map_blocks(shifted_block),
        lambda data: data[:, 1:5] + da.concatenate([data, data], axis=1)[:, 3:7],
        lambda data: data - data.rechunk(-1).mean(axis=(1, 2), keepdims=True),
        lambda data: (
            data + da.from_array(np.ones((2, 6, 8, 10)), chunks=3).map_blocks(shifted_block)
        ),
    ],
)
def test_any_graph_can_be_detached_and_detached_again(array, steps):
    made = xr.DataArray(steps(array.chunk(channel=5, z=1).data), dims=array.dims)
    twice = detached(detached(made) + 0 * made)
    assert not set(made.data.dask) & set(twice.data.dask)
    np.testing.assert_array_equal(twice, made)
    np.testing.assert_array_equal((made + detached(made)).sum("angle"), (2 * made).sum("angle"))


def turned_block(block):
    return block.transpose(2, 0, 1)


def test_a_kernel_joins_the_blocks_of_what_it_consumes(array):
    turned = apply_kernel(
        turned_block,
        array.chunk(channel=3, angle=2, translation=5, z=1),
        core=["channel", "angle"],
        out={"row": 10, "column": 6},
    )
    assert turned.data.numblocks == (2, 1, 1, 2)
    assert turned.dims == ("z", "row", "column", "translation")
    expected = array.transpose("z", "channel", "angle", "translation")
    np.testing.assert_array_equal(turned, expected)


def test_what_is_made_of_joined_blocks_is_made_once_and_cut_for_each(array):
    READS.clear()
    lazy = array.chunk(channel=3, angle=2, z=1)
    small = apply_kernel(top_block, lazy, core=["translation"], out={})
    sizes = {"angle": 6, "channel": 10}
    whole = apply_kernel(reading, small, core=list(sizes), out=sizes)
    assert whole.data.numblocks == (2, 1, 1)
    both = apply_kernel(minus_block, lazy, whole)
    assert both.data.numblocks == lazy.data.numblocks
    assert not [layer for layer in both.data.dask.layers if "rechunk" in layer]
    np.testing.assert_array_equal(both, array - array.max("translation"))
    assert READS == [(6, 10), (6, 10)]


def test_a_kernel_that_joins_blocks_takes_nothing_beside(array):
    beside = xr.DataArray(np.ones(10), dims="channel")
    with pytest.raises(ValueError, match="joins blocks"):
        apply_kernel(minus_block, array.chunk(channel=3), beside, core=["channel"], out={})


def top_block(block):
    return block.max(axis=1)


def minus_block(block, other):
    return block - other[:, None]


def test_arrays_are_fetched_by_their_blocks_even_if_one_is_made_from_another(array, monkeypatch):
    monkeypatch.setattr(computing, "GROUP", 3)
    blocks = []

    def counting(batches, total, description):
        for batch in batches:
            blocks.extend(batch.keys)
            yield from compute_here([batch], total, description)

    first = apply_kernel(reading, array.chunk(channel=4, angle=3, z=1))
    second = first + 1
    with computing_with(counting):
        loaded = compute_arrays([first, array, second], "both")
    assert len(blocks) == 2 * 2 * 3 * 2
    for found, expected in zip(loaded, [array, array, array + 1], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_batch_of_arrays_brings_no_more_than_workers_may_hold(array, monkeypatch):
    monkeypatch.setattr(computing, "RESULTS", 2500)  # a block of 6 × 8 × 5 takes 1920 bytes
    sizes = []

    def counting(batches, total, description):
        for batch in batches:
            sizes.append(len(batch.keys))
            yield from compute_here([batch], total, description)

    lazy = array.chunk(z=1, channel=5)
    with computing_with(counting):
        compute_arrays([lazy], "few")
        monkeypatch.setattr(computing, "RESULTS", 4000)
        compute_arrays([lazy], "two")
    assert sizes == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("chunks", [1, 3, 60])
def test_partials_are_merged_in_the_order_of_the_blocks(chunks):
    array = xr.DataArray(np.arange(60.0), dims="channel").chunk(channel=chunks)
    firsts = reduce_kernel(array, list_block, operator.add, description="order")
    assert firsts == [float(first) for first in range(0, 60, chunks)]


def test_a_reduction_in_memory_is_one_partial(array):
    assert reduce_kernel(array, np.sum, operator.add, description="sum") == array.values.sum()


def test_what_computes_is_told_what_for(array):
    seen = []

    def compute(batches, total, description):
        seen.append(description)
        return compute_here(batches, total, description)

    with computing_with(compute):
        reduce_kernel(array.chunk(z=1), np.sum, operator.add, description="total")
    reduce_kernel(array.chunk(z=1), np.sum, operator.add, description="outside")
    assert seen == ["total"]


def test_the_first_block_and_its_size(array):
    blocked = array.chunk(channel=4)
    assert block_of(blocked)["channel"] == 4
    assert block_of(array)["channel"] == 10
    np.testing.assert_array_equal(first_block(blocked), array[..., :4])


def test_allowed_memory_comes_from_the_option_then_the_configuration():
    with dask.config.set({"ndtomo_dask.allowed_mem": "3GB"}):
        assert allowed_memory(None) == 3 * 10**9
        assert allowed_memory("1GB") == 10**9
    assert allowed_memory(None) == 10**9


def product_block(block, rows):
    return block @ rows


@pytest.fixture
def mixed(rng):
    """An array of float64, a matrix for its channels, and their product."""
    data = rng.standard_normal((3, 6, 8, 20))
    array = xr.DataArray(data, dims=("z", "angle", "translation", "channel"), name="sinogram")
    array = array.assign_coords(z=[1.0, 2.0, 4.0], channel=np.arange(20))
    table = xr.DataArray(rng.standard_normal((20, 7)), dims=("channel", "component"))
    return array, table, data @ table.values


@pytest.mark.parametrize(
    "chunks", [{}, {"channel": 3}, {"z": 1, "angle": 4}, {"z": 2, "channel": 1}]
)
@pytest.mark.parametrize("cut", [None, (3, 4)])
def test_mixing_blocks_gives_the_product(chunks, cut, mixed):
    array, table, expected = mixed
    made = mix_kernel(product_block, array.chunk(chunks), table, chunks=cut)
    assert made.dims == ("z", "angle", "translation", "component")
    assert made.chunksizes["component"] == (cut or (7,))
    assert "channel" not in made.coords
    np.testing.assert_array_equal(made.z, array.z)
    np.testing.assert_allclose(made.compute(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(mix_kernel(product_block, array, table), expected)


def test_mixing_adds_two_parts_at_a_time_and_never_sees_all_blocks(mixed):
    array, table, _ = mixed
    lazy = mix_kernel(product_block, array.chunk(channel=1), table)
    tasks = convert_legacy_graph(dict(lazy.data.dask))
    summed = {str(key) for key in tasks if str(key[0]).startswith("sum")}
    assert summed
    assert max(len(tasks[key].dependencies) for key in tasks if str(key) in summed) <= 2
    assert not np.isnan(lazy.compute()).any()


def test_what_is_mixed_into_several_blocks_is_made_once(mixed):
    array, table, _ = mixed
    READS.clear()
    once = array.chunk(z=1)
    lazy = apply_kernel(counted_block, once, core=["translation"], out={"translation": 8})
    made = mix_kernel(product_block, lazy, table, chunks=(1,) * 7)
    compute_arrays([made], "mix")
    assert len(READS) == 3


def counted_block(block):
    READS.append(1)
    return block + 1
