import hashlib
import shutil
import signal
import subprocess
import sys
import time
from itertools import product

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from ndtomo_dask import find_components, fit_peaks, map_components, reconstruct
from ndtomo_dask.apply import apply_kernel, block_of
from ndtomo_dask.computing import compute_here, computing_with
from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.layout import open_store
from ndtomo_dask.io.shards import ShardFiles
from ndtomo_dask.io.store import digest, save
from ndtomo_dask.schema import record
from tests.laws import assert_round_trip

DONE = []


def counted_block(block, *, factor):
    DONE.append(block.shape)
    return block * factor


def counted(ds, factor=2.0, name="volume"):
    """A verb that counts its blocks."""
    DONE.clear()
    made = apply_kernel(counted_block, ds[name], factor=factor)
    return record(ds[[name]].assign({name: made}), "counted", factor=factor)


def shards_of(path, name):
    return sorted(file for file in (path / name / "c").rglob("*") if file.is_file())


def tree(path):
    """Hash of every file of a store."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


@pytest.fixture
def volume(rng):
    data = rng.standard_normal((2, 20, 24, 40)).astype("float32")
    data[0, 0, 0] = np.nan
    tth = axis_variable("tth", np.linspace(2.0, 9.0, 40))
    ds = xr.Dataset({"volume": (("z", "y", "x", "channel"), data, {"units": "count/mm"})})
    ds = ds.assign_coords({"tth": tth, "wavelength": ((), 0.2, {"units": "angstrom"})})
    ds = ds.assign_coords(
        {dim: axis_variable(dim, np.arange(ds.sizes[dim]) * 0.1) for dim in "zyx"}
    )
    return record(derive_axes(ds), "test").chunk(z=1, channel=16)


@pytest.mark.parametrize("layout", ["images", "spectra"])
def test_both_layouts_read_one_copy_bit_by_bit(volume, tmp_path, layout):
    path = tmp_path / "s.zarr"
    assert_round_trip(lambda ds: save(ds, path), lambda: open_store(path, layout=layout), volume)
    opened = open_store(path, layout=layout)
    whole = ("y", "x") if layout == "images" else ("channel",)
    assert all(len(opened.volume.chunksizes[dim]) == 1 for dim in whole)


def test_a_sinogram_reads_both_ways(scan, tmp_path):
    save(scan[["sinogram"]].chunk(angle=5), tmp_path / "s.zarr")
    assert len(shards_of(tmp_path / "s.zarr", "sinogram")) == 8
    for layout, whole in (("images", ["angle", "translation"]), ("spectra", ["channel"])):
        opened = open_store(tmp_path / "s.zarr", layout=layout)
        assert all(len(opened.sinogram.chunksizes[dim]) == 1 for dim in whole)
        np.testing.assert_array_equal(opened.sinogram, scan.sinogram)


def test_one_block_is_one_task_is_one_shard(volume, tmp_path):
    tasks = []

    def compute(batches, total, description):
        batches = list(batches)
        tasks.extend(key for batch in batches for key in batch.tasks())
        assert total == sum(len(batch.keys) for batch in batches)
        return compute_here(batches, total, description)

    ds = counted(volume)
    with computing_with(compute):
        save(ds, tmp_path / "s.zarr")
    assert len(tasks) == len(DONE) == len(shards_of(tmp_path / "s.zarr", "volume")) == 2 * 3


@pytest.mark.parametrize(
    ("sizes", "chunks"),
    [((9, 16, 303), (9, 16, 101)), ((500, 7, 3), (250, 7, 3)), ((30, 40, 22), (7, 11, 3))],
)
@pytest.mark.parametrize("dims", [("angle", "translation", "channel"), ("y", "x", "channel")])
def test_no_two_blocks_share_a_shard(dims, sizes, chunks, tmp_path, rng, monkeypatch):
    monkeypatch.setattr("ndtomo_dask.block_sizes.INNER_CHUNK", 20_000)
    data = rng.standard_normal(sizes)
    name = "volume" if "y" in dims else "sinogram"
    ds = xr.Dataset({name: (dims, da.from_array(data, chunks=chunks))})
    save(ds, tmp_path / "s.zarr")
    stored = zarr.open_array(tmp_path / "s.zarr" / name)
    for size, chunk, shard in zip(sizes, chunks, stored.shards, strict=True):
        assert shard == chunk or (chunk == size and shard >= size)
    assert len(shards_of(tmp_path / "s.zarr", name)) == ds[name].data.npartitions
    np.testing.assert_array_equal(stored[...], data)


def test_uneven_blocks_are_written_whole(rng, tmp_path):
    data = rng.standard_normal((4, 5, 31)).astype("float32")
    chunks = {"channel": (7, 3, 11, 10)}
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data)}).chunk(chunks)
    save(ds, tmp_path / "s.zarr")
    np.testing.assert_array_equal(open_store(tmp_path / "s.zarr").volume, data)


def test_resuming_computes_only_what_is_missing_or_damaged(volume, tmp_path):
    path = tmp_path / "s.zarr"
    save(counted(volume), path)
    finished = tree(path)
    first, second, third, fourth, *_ = shards_of(path, "volume")
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    damaged = bytearray(third.read_bytes())
    damaged[-20] ^= 1
    third.write_bytes(damaged)
    fourth.write_bytes(b"")
    leftover = fourth.with_name(f"{fourth.name}.abc.partial")
    leftover.write_bytes(b"half")
    save(counted(volume), path, resume=True)
    assert len(DONE) == 4
    assert not leftover.exists()
    assert tree(path) == finished
    save(counted(volume), path, resume=True)
    assert DONE == []


def test_bytes_lost_inside_a_shard_are_seen_by_its_length(volume, tmp_path):
    path = tmp_path / "s.zarr"
    save(volume, path)
    file = shards_of(path, "volume")[0]
    whole = file.read_bytes()
    shards = ShardFiles(path / "volume")
    index = next(i for i in product(range(2), [0], [0], range(3)) if shards.file(i) == file)
    assert shards.is_complete(index)
    file.write_bytes(whole[:50] + whole[90:])
    assert not shards.is_complete(index)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_blocks_of_nothing_leave_a_shard_too(value, tmp_path):
    ds = xr.Dataset(
        {"volume": (("y", "x", "channel"), da.full((8, 8, 12), value, chunks=(8, 8, 4)))}
    )
    save(ds, tmp_path / "s.zarr")
    assert len(shards_of(tmp_path / "s.zarr", "volume")) == 3
    np.testing.assert_array_equal(open_store(tmp_path / "s.zarr").volume, ds.volume)


def test_resuming_other_steps_or_other_input_is_refused(volume, tmp_path):
    path = tmp_path / "s.zarr"
    save(counted(volume), path)
    message = (
        r"made by other steps or from other input, so it cannot be resumed. Pass overwrite=True"
    )
    with pytest.raises(StoreError, match=message):
        save(counted(volume, factor=3.0), path, resume=True)
    other = volume.assign(volume=volume.volume + 1)
    with pytest.raises(StoreError, match=message):
        save(counted(other), path, resume=True)


def test_resuming_in_other_blocks_is_refused(volume, tmp_path):
    path = tmp_path / "s.zarr"
    volume = volume.assign_attrs(source="scan.h5")
    save(volume, path)
    shards_of(path, "volume")[0].unlink()
    whole = volume.compute().chunk(z=1, channel=10)
    with pytest.raises(StoreError, match=r"blocks of .*16.* but .*10.*allowed_mem"):
        save(whole, path, resume=True)


def test_a_variable_is_not_overwritten_by_chance(volume, tmp_path):
    path = tmp_path / "s.zarr"
    save(volume, path)
    with pytest.raises(StoreError, match=r"already has 'volume'. Pass resume=True to finish"):
        save(volume, path)


@pytest.mark.parametrize("chunk", [16, 10])
def test_overwriting_replaces_everything(volume, tmp_path, chunk):
    path = tmp_path / "s.zarr"
    save(volume, path)
    other = (volume * 3).assign_attrs(volume.attrs).compute().chunk(z=1, channel=chunk)
    save(other, path, overwrite=True)
    np.testing.assert_array_equal(open_store(path).volume, other.volume)
    assert len(shards_of(path, "volume")) == other.volume.data.npartitions


def test_a_store_is_not_overwritten_with_what_is_read_from_it(volume, tmp_path):
    path = tmp_path / "s.zarr"
    save(volume, path)
    opened = open_store(path)
    with pytest.raises(StoreError, match=r"'volume' is read from the very array it would replace"):
        save(opened[["volume"]], path, overwrite=True)
    np.testing.assert_array_equal(open_store(path).volume, volume.volume)


def test_variables_of_other_axes_are_refused(volume, tmp_path):
    path = tmp_path / "s.zarr"
    save(volume, path)
    shifted = volume.rename(volume="other").drop_vars("q").assign_coords(x=volume.x + 1)
    with pytest.raises(StoreError, match=r"has another 'x' axis than these variables.*group"):
        save(shifted, path)
    save(shifted, path, group="shifted")
    np.testing.assert_array_equal(open_store(path, group="shifted").other, volume.volume)
    np.testing.assert_array_equal(open_store(path).volume, volume.volume)


def test_nothing_to_save_and_no_store_are_refused(volume, tmp_path):
    with pytest.raises(StoreError, match=r"save was given no variable. Select some"):
        save(volume[[]], tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=r"is not a Zarr v3 store: it has no zarr.json"):
        open_store(tmp_path / "s.zarr")


def test_what_analysis_makes_survives_the_store(scan, tmp_path):
    path = tmp_path / "s.zarr"
    save(reconstruct(scan)[["volume", "missing_samples"]], path)
    ds = open_store(path, layout="spectra")
    ds = map_components(ds, find_components(ds, components=2, iterations=5))
    ds = fit_peaks(ds, windows={"Al 111": (2.5, 2.9), "Cu": (2.8, 3.2)}, axis="q")
    made = [name for name in ds.data_vars if str(name).startswith(("peak", "component"))]
    save(ds[made], path)
    again = open_store(path)
    assert again.peak.values.tolist() == ["Al 111", "Cu"]
    assert again.peak_area.sel(peak="Al 111").shape == (32, 32)
    assert again.peak_status.attrs["flag_meanings"] == ds.peak_status.attrs["flag_meanings"]
    assert again.attrs["history"] == ds.attrs["history"]
    for name in made:
        np.testing.assert_array_equal(again[name], ds[name])
        assert again[name].dtype == ds[name].dtype


def test_every_axis_has_its_index_after_reopening(volume, tmp_path):
    save(volume, tmp_path / "s.zarr")
    ds = open_store(tmp_path / "s.zarr")
    by_tth, by_q = (
        ds.sel(tth=slice(3, 5)),
        ds.sel(q=slice(*ds.sel(tth=slice(3, 5)).q[[0, -1]].values)),
    )
    assert 0 < by_tth.sizes["channel"] < 40
    xr.testing.assert_identical(by_q, by_tth)
    assert float(ds.sel(q=2.0, method="nearest").q) == pytest.approx(2.0, abs=0.1)


def test_plain_xarray_reads_the_store(volume, tmp_path):
    save(volume, tmp_path / "s.zarr")
    plain = xr.open_zarr(tmp_path / "s.zarr", consolidated=False)
    np.testing.assert_array_equal(plain.volume, volume.volume)
    assert plain.volume.attrs["units"] == "count/mm"


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float64"])
def test_other_types_survive(dtype, rng, tmp_path):
    data = (rng.uniform(0, 3, (6, 5, 12))).astype(dtype)
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data)})
    save(ds, tmp_path / "s.zarr")
    opened = open_store(tmp_path / "s.zarr")
    assert opened.volume.dtype == opened.volume.compute().dtype == dtype
    np.testing.assert_array_equal(opened.volume, data)


def test_a_digest_is_of_values_and_labels_not_of_addresses(volume):
    def named():
        names = np.array([f"peak {number}" for number in range(3)], dtype=object)
        return xr.Dataset({"a": ("peak", da.zeros(3))}, coords={"peak": names})

    assert digest(named().a, named()) == digest(named().a, named())
    renamed = named().assign_coords(peak=np.array(["a", "b", "c"], dtype=object))
    assert digest(named().a, named()) != digest(renamed.a, renamed)
    eager = volume.compute()
    assert digest(eager.volume, eager) != digest((eager + 1).volume, eager)


KILLED = """
import sys, time
import numpy as np, xarray as xr, dask, dask.array as da
from pathlib import Path
from ndtomo_dask.io.store import save
from ndtomo_dask.schema import (record)

def slow_block(block, block_id):
    if len(sys.argv) > 2:
        time.sleep(0.1)
    return block + np.random.default_rng(block_id).standard_normal(block.shape)

data = da.zeros((2, 60, 60, 160), chunks=(1, 60, 60, 8)).map_blocks(slow_block, dtype=float)
ds = record(xr.Dataset({"volume": (("z", "y", "x", "channel"), data)}), "killed")
save(ds, sys.argv[1], resume=True)
"""


def run_save(path, *slow):
    return subprocess.Popen([sys.executable, "-c", KILLED, str(path), *slow])


def test_a_killed_save_goes_on_to_the_very_same_store(tmp_path):
    killed, whole = tmp_path / "killed.zarr", tmp_path / "whole.zarr"
    process = run_save(killed, "slow")
    while not (killed / "volume" / "c").exists() or len(shards_of(killed, "volume")) < 5:
        assert process.poll() is None, "the save ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(shards_of(killed, "volume")) < 40
    ends = [run_save(killed), run_save(whole)]
    assert [process.wait() for process in ends] == [0, 0]
    assert tree(killed) == tree(whole)


def test_a_save_killed_before_its_metadata_were_whole_starts_again(volume, tmp_path):
    path, other = tmp_path / "s.zarr", tmp_path / "t.zarr"
    save(volume, path)
    save(volume, other)
    shutil.rmtree(other / "volume")
    (other / "x" / "c" / "0").unlink()
    save(volume, other, resume=True)
    assert tree(other) == tree(path)


def test_a_full_disk_is_told_and_mended_by_resuming(volume, tmp_path, monkeypatch):
    path = tmp_path / "s.zarr"
    space = iter([*[False] * 3, *[True] * 100])

    def full(block, *, factor):
        if next(space):
            raise OSError(28, "No space left on device")
        return block

    made = apply_kernel(full, volume.volume, factor=1)
    ds = record(volume.assign(volume=made), "full").assign_attrs(source="scan.h5")
    with pytest.raises(OSError, match="No space left"), dask.config.set(scheduler="synchronous"):
        save(ds, path)
    before = len(shards_of(path, "volume"))
    DONE.clear()
    again = apply_kernel(counted_block, volume.volume, factor=1)
    save(ds.assign(volume=again), path, resume=True)
    assert len(DONE) == 6 - before == 3
    np.testing.assert_array_equal(open_store(path).volume, volume.volume)


def test_blocks_are_those_of_the_data(volume, tmp_path):
    save(volume, tmp_path / "s.zarr")
    stored = zarr.open_array(tmp_path / "s.zarr" / "volume")
    assert stored.shards == tuple(block_of(volume.volume).values())
