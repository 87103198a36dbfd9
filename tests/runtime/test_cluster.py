"""Clusters: what they are made of, what is adopted from them, and what they survive."""

import io
import os
import signal
import threading
import time

import dask
import dask.array as da
import numpy as np
import psutil
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask import machine, plan
from ndtomo_dask.apply import allowed_memory
from ndtomo_dask.errors import BlockError, OptionError
from ndtomo_dask.io.shards import ShardFiles
from ndtomo_dask.runtime import connect, describe, progress
from tests.recipe_cases import hashes

MB = 10**6


def environment():
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "MALLOC_ARENA_MAX")
    return {name: os.environ.get(name) for name in names} | {"pid": os.getpid()}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """What a local cluster described by a file was like while it ran."""
    path = tmp_path_factory.mktemp("cluster") / "cluster.yaml"
    path.write_text("kind: local\nworkers: 2\nthreads: 1\nmemory: 1.5GB\n")
    with dask.config.set({"ndtomo_dask.allowed_mem": plan.DEFAULT_ALLOWED_MEM}):
        patience = dask.config.get("distributed.comm.timeouts")
        with connect(path) as client:
            seen = {
                "described": describe(client),
                "environment": [*client.run(environment).values()],
                "allowed": allowed_memory(None),
            }
        seen["after"] = allowed_memory(None)
        seen["patience"] = patience == dask.config.get("distributed.comm.timeouts")
        time.sleep(0.5)
        seen["alive"] = [e["pid"] for e in seen["environment"] if psutil.pid_exists(e["pid"])]
    return seen


def test_a_cluster_file_says_how_many_workers_and_how_much_memory(local):
    assert local["described"] == {"workers": 2, "threads": 1, "memory": 1500 * MB}


def test_plans_fit_the_memory_of_the_workers(local):
    assert local["allowed"] == machine.task_mem(1500 * MB)


def test_workers_do_not_start_more_threads_than_their_share(local):
    for seen in local["environment"]:
        assert seen["OMP_NUM_THREADS"] == seen["OPENBLAS_NUM_THREADS"] == "1"
        assert seen["NUMBA_NUM_THREADS"] == "1"
        assert seen["MALLOC_ARENA_MAX"] == "2"


def test_a_local_cluster_ends_with_its_client(local):
    assert local["alive"] == []


def test_what_connect_set_is_put_back_when_the_client_is_closed(local):
    assert local["after"] == plan.DEFAULT_ALLOWED_MEM
    assert local["patience"]


def test_a_running_scheduler_is_joined_and_left_running(client):
    allowed = dask.config.set({"ndtomo_dask.allowed_mem": 1})
    with allowed, connect(client.scheduler.address) as second:
        assert describe(second) == {"workers": 2, "threads": 1, "memory": 2000 * MB}
        assert allowed_memory(None) == machine.task_mem(2000 * MB)
    assert client.submit(sum, [1, 2]).result() == 3


def test_unknown_clusters_are_refused_in_words(tmp_path):
    with pytest.raises(
        OptionError,
        match=r"cluster 'slrum' is not known\. Did you mean 'slurm'\? Or give the address",
    ):
        connect("slrum")
    with pytest.raises(OptionError, match=r"cluster file .*none\.yaml does not exist"):
        connect(tmp_path / "none.yaml")
    with pytest.raises(OptionError, match=r"'much' is not a size in bytes"):
        connect("local", memory="much")
    path = tmp_path / "cluster.yaml"
    for text, words in (
        (
            "kind: local\nworker: 2\n",
            r"cluster\.yaml has option 'worker'\. Did you mean 'workers'\?",
        ),
        ("- local\n", r"cluster\.yaml must hold options with their values, such as 'workers: 4'"),
        ("workers: [2\n", r"cluster\.yaml is not valid YAML"),
        ("workers: two\n", r"workers='two' is not a number of 1 or more"),
        ("workers: 0\n", r"workers=0 is not a number of 1 or more"),
    ):
        path.write_text(text)
        with pytest.raises(OptionError, match=words) as refused:
            connect(path)
        assert "\n" not in str(refused.value)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("ndtomo_dask.runtime.cluster._ANSWER", "1s")
    with pytest.raises(OptionError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        connect("tcp://127.0.0.1:9")


def slow_copy(block):
    time.sleep(0.3)
    return block


def volume(seed=3):
    values = np.random.default_rng(seed).random((16, 16, 160), dtype=np.float32)
    data = da.from_array(values, chunks=(16, 16, 16)).map_blocks(slow_copy, dtype=np.float32)
    coords = {"q": ("channel", np.linspace(1, 2, 160))}
    return xr.Dataset({"volume": (("y", "x", "channel"), data)}, coords=coords)


def kill_one(client, store, killed):
    while not (store / "volume" / "c" / "0" / "0" / "1").is_file():
        time.sleep(0.01)
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)
    killed.append(pid)


@pytest.mark.slow
def test_a_save_survives_the_death_of_a_worker(client, tmp_path):
    whole, hurt, killed = tmp_path / "whole.zarr", tmp_path / "hurt.zarr", []
    with dask.config.set(scheduler="threads"):
        nd.save(volume(), whole)
    killer = threading.Thread(target=kill_one, args=(client, hurt, killed))
    killer.start()
    with progress(io.StringIO()):
        nd.save(volume(), hurt)
    killer.join()
    assert killed
    assert hashes(hurt) == hashes(whole)
    client.wait_for_workers(2, timeout=60)


def test_progress_is_shown_on_its_stream(tmp_path):
    shown = io.StringIO()
    with progress(shown):
        nd.save(volume(), tmp_path / "volume.zarr")
    lines = shown.getvalue().splitlines()
    assert len(lines) == 1
    assert "save volume" in lines[0]
    assert "10/10" in lines[0]


def fail(block, *, block_info=None):
    if block_info[0]["chunk-location"][-1] == 4:
        raise ValueError("this block is broken")
    return block


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ("threads", ValueError, "this block is broken"),
        ("workers", BlockError, r"\(volume, channel 64 to 79\): this block is broken"),
    ],
)
def test_a_block_that_fails_leaves_no_shard(where, error, words, request, tmp_path):
    if where == "workers":
        request.getfixturevalue("client")
    ds = volume()
    broken = ds.assign(volume=ds.volume.copy(data=ds.volume.data.map_blocks(fail, dtype="float32")))
    with progress(io.StringIO()), pytest.raises(error, match=words):
        nd.save(broken, tmp_path / "volume.zarr")
    assert not (tmp_path / "volume.zarr" / "volume" / "c" / "0" / "0" / "4").exists()


def test_a_block_that_fails_is_named_and_the_others_are_done(client, tmp_path):
    scan = nd.simulate_scan(size=32, angles=40, channels=64, slices=2)
    nd.save(scan[["sinogram"]], tmp_path / "raw.zarr")
    ds = nd.reconstruct(nd.open_scan(tmp_path / "raw.zarr"))[["volume"]]
    shard = damage_a_chunk(tmp_path / "raw.zarr" / "sinogram")

    words = r"1 of 2 blocks failed \(volume, z 0.02 mm\): the checksum is invalid.*resume=True"
    with progress(io.StringIO()), pytest.raises(BlockError, match=words):
        nd.save(ds, tmp_path / "result.zarr")
    files = ShardFiles(tmp_path / "result.zarr" / "volume")
    done = [files.is_complete(index) for index in np.ndindex(ds.volume.data.numblocks)]
    assert done.count(False) == 1

    shard[0].write_bytes(shard[1])
    with progress(io.StringIO()):
        nd.save(ds, tmp_path / "result.zarr", resume=True)
    np.testing.assert_array_equal(nd.open_scan(tmp_path / "result.zarr").volume, ds.volume)


def damage_a_chunk(path):
    """Flip a bit in the first chunk of slice 1; return the shard's file and its true content."""
    file = ShardFiles(path).file((1, 0, 0, 0))
    content = file.read_bytes()
    file.write_bytes(bytes([content[0], content[1] ^ 1]) + content[2:])
    return file, content
