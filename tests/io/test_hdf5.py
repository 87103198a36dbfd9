import pickle
from math import prod

import dask
import h5py
import hdf5plugin
import numpy as np
import pytest
from dask.base import tokenize

from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.hdf5 import HDF5Array, block_shape, describe, lazy, open_file

VALUES = np.arange(6 * 8 * 10, dtype=np.int32).reshape(6, 8, 10)


def write(path, values=VALUES, name="entry/data/data", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=values, **options)
    return path


def opened(path, name="entry/data/data"):
    with open_file(path) as file:
        return describe(file, name)


def test_values_read_lazily_are_those_of_the_file(tmp_path):
    array = opened(write(tmp_path / "scan.h5", chunks=(2, 3, 10), compression="gzip"))
    np.testing.assert_array_equal(lazy(array, block_bytes=500).compute(), VALUES)


def test_making_the_lazy_array_reads_nothing(tmp_path, monkeypatch):
    array = opened(write(tmp_path / "scan.h5"))
    reads = []
    original = HDF5Array.__getitem__
    monkeypatch.setattr(
        HDF5Array, "__getitem__", lambda self, key: reads.append(key) or original(self, key)
    )
    graph = lazy(array, block_bytes=400)[:, :4]
    assert reads == []
    graph.compute(scheduler="synchronous")
    assert reads


def test_an_array_travels_to_another_process(tmp_path):
    array = pickle.loads(pickle.dumps(opened(write(tmp_path / "scan.h5"))))
    np.testing.assert_array_equal(array[1:3, 2], VALUES[1:3, 2])
    assert array.ndim == 3


def test_the_name_of_the_graph_follows_the_content(tmp_path):
    path = write(tmp_path / "scan.h5")
    before = tokenize(opened(path))
    assert tokenize(opened(path)) == before
    write(path, VALUES + 1)
    assert tokenize(opened(path)) != before


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((100, 60, 200), (1, 60, 200)),
        ((100, 60, 200), (7, 11, 13)),
        ((100, 60, 200), (100, 1, 1)),
        ((100, 60, 200), None),
        ((5, 5, 100_000), None),
    ],
)
@pytest.mark.parametrize("block_bytes", [40_000, 400_000])
def test_blocks_are_whole_chunks_of_the_file_and_not_too_large(shape, chunks, block_bytes):
    block = block_shape(shape, 4, chunks, block_bytes)
    unit = chunks or (1, 1, 1)
    for size, chunk, extent in zip(block, unit, shape, strict=True):
        assert size == extent or size % chunk == 0
        assert chunk < extent or size == extent
    assert 4 * prod(block) <= max(block_bytes, 4 * prod(unit))
    assert 4 * prod(block) > block_bytes / 20


def test_a_small_array_is_one_block():
    assert block_shape((52, 7, 101), 4, (4, 7, 13), 2**20) == (52, 7, 101)


def test_small_integers_are_counted_as_the_floats_they_become(tmp_path):
    array = opened(write(tmp_path / "scan.h5", VALUES.astype(np.uint8)))
    assert lazy(array, block_bytes=VALUES.size).chunksize == (1, 8, 10)


def test_an_unknown_compression_is_named_as_the_cause(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((10,))
        properties.set_filter(60_000, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((10,))
        dataset = h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_INT32, space, properties)
        dataset.write_direct_chunk((0,), bytes(40))
    with pytest.raises(StoreError, match="compression is one that hdf5plugin does not have"):
        lazy(opened(path, "data")).compute()


def test_a_chunk_larger_than_a_block_is_the_block():
    assert block_shape((10, 1000, 1000), 4, (1, 1000, 1000), 1000) == (1, 1000, 1000)


def test_contiguous_data_are_cut_along_the_first_axis():
    assert block_shape((100, 60, 200), 4, None, 480_000) == (10, 60, 200)


def test_bitshuffle_is_decoded(tmp_path):
    path = write(tmp_path / "eiger.h5", chunks=(1, 8, 10), **hdf5plugin.Bitshuffle(cname="lz4"))
    np.testing.assert_array_equal(lazy(opened(path)).compute(), VALUES)


def test_every_chunk_is_read_once(tmp_path):
    array = opened(write(tmp_path / "scan.h5", chunks=(2, 4, 5)))
    blocks = lazy(array, block_bytes=500)
    starts = [np.cumsum((0, *sizes[:-1])) for sizes in blocks.chunks]
    assert blocks.npartitions > 1
    for edges, chunk in zip(starts, (2, 4, 5), strict=True):
        assert (edges % chunk == 0).all()


def test_missing_file_is_named_with_its_neighbor(tmp_path):
    write(tmp_path / "scan_0001.h5")
    with pytest.raises(StoreError, match=r"scan_001\.h5 does not exist\. Did you mean .*scan_0001"):
        opened(tmp_path / "scan_001.h5")
    with pytest.raises(StoreError, match=r"Nor does its folder"):
        opened(tmp_path / "none" / "scan.h5")


def test_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is a folder, not an HDF5 file"):
        opened(tmp_path)


def test_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "scan.h5", np.zeros(10_000))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="is truncated at 5000 bytes"):
        opened(path)


@pytest.mark.parametrize("content", [b"", b"2.0 3.0\n" * 100])
def test_other_content_is_refused(tmp_path, content):
    path = tmp_path / "scan.h5"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is not an HDF5 file"):
        opened(path)


def test_damaged_chunk_is_reported_with_its_place(tmp_path):
    path = write(tmp_path / "scan.h5", chunks=(6, 8, 10), compression="gzip")
    with h5py.File(path) as file:
        place = file["entry/data/data"].id.get_chunk_info(0)
    damaged = bytearray(path.read_bytes())
    damaged[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="cannot be read at"):
        lazy(opened(path)).compute()


def test_missing_dataset_names_the_nearest(tmp_path):
    path = write(tmp_path / "scan.h5")
    with pytest.raises(
        StoreError, match=r"no dataset 'entry/data/date'\. Did you mean 'entry/data/d"
    ):
        opened(path, "entry/data/date")
    with pytest.raises(StoreError, match="It has: entry/data/data"):
        opened(path, "zzz")
    with pytest.raises(StoreError, match="is a group, not a dataset"):
        opened(path, "entry/data")


def test_a_file_without_datasets_says_so(tmp_path):
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(StoreError, match="holds no dataset at all"):
        opened(tmp_path / "empty.h5")


def test_link_to_an_absent_file_is_named(tmp_path):
    path = tmp_path / "master.h5"
    with h5py.File(path, "w") as file:
        file["entry/data"] = h5py.ExternalLink("raw_000001.h5", "data")
    with pytest.raises(StoreError, match=r"points into the file 'raw_000001\.h5', which does not"):
        opened(path, "entry/data")
    with pytest.raises(StoreError, match=r"points into the file 'raw_000001\.h5', which does not"):
        opened(path, "entry/data/deeper")


def test_link_to_a_present_file_is_followed(tmp_path):
    write(tmp_path / "raw.h5", name="data")
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/data"] = h5py.ExternalLink("raw.h5", "data")
    array = opened(tmp_path / "master.h5", "entry/data")
    np.testing.assert_array_equal(lazy(array).compute(), VALUES)


def test_virtual_dataset_with_an_absent_part_is_refused(tmp_path):
    write(tmp_path / "raw.h5", name="data")
    layout = h5py.VirtualLayout(shape=VALUES.shape, dtype=VALUES.dtype)
    layout[...] = h5py.VirtualSource("raw.h5", "data", shape=VALUES.shape)
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    np.testing.assert_array_equal(lazy(opened(tmp_path / "master.h5", "data")).compute(), VALUES)
    (tmp_path / "raw.h5").unlink()
    with pytest.raises(StoreError, match=r"points into the file 'raw\.h5'"):
        opened(tmp_path / "master.h5", "data")


def test_source_says_where_the_numbers_come_from(tmp_path):
    path = write(tmp_path / "scan.h5")
    size = path.stat().st_size
    assert opened(path).source.startswith(f"scan.h5:/entry/data/data {size} bytes mtime_ns=")


def test_threads_read_the_same_file(tmp_path):
    array = lazy(opened(write(tmp_path / "scan.h5", chunks=(1, 8, 10))), block_bytes=320)
    with dask.config.set(scheduler="threads", num_workers=4):
        np.testing.assert_array_equal(array.compute(), VALUES)
