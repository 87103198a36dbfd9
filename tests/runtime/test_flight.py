"""Batches in flight: a few at a time, failures by position, a lost scheduler, a stop."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client, LocalCluster

import ndtomo_dask as nd
from ndtomo_dask.computing import compute
from ndtomo_dask.errors import BlockError, ClusterError, Stopped
from ndtomo_dask.graphs import Batch, block_keys, in_batches
from ndtomo_dask.runtime import stoppable
from ndtomo_dask.runtime.flight import compute_on

PATIENCE = 120


def numbered(block, folder="", fails=(), slow=0.0, block_id=(0,)):
    time.sleep(slow)
    if block_id[0] in fails:
        raise ValueError(f"block {block_id[0]} is broken")
    if folder:
        (Path(folder) / str(block_id[0])).touch()
    return block + block_id[0]


def work(size=3, count=12, wanted=True, **options):
    array = da.zeros(count, chunks=1).map_blocks(numbered, dtype=float, meta=np.empty(0), **options)
    keys = block_keys(array, np.ndindex(*array.numblocks))
    groups = [keys[first : first + size] for first in range(0, count, size)]
    return in_batches(array.dask, groups, wanted=wanted)


def test_results_come_batch_by_batch_in_order(client):
    results = [[int(block.item()) for block in batch] for batch in compute_on(client, work(5), "")]
    assert results == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_what_is_not_wanted_is_done_and_not_fetched(client, tmp_path):
    batches = work(wanted=False, folder=str(tmp_path))
    assert list(compute_on(client, batches, "")) == [[]] * 4
    assert len(list(tmp_path.iterdir())) == 12


def test_few_batches_are_known_to_the_scheduler_at_a_time(client):
    begun = []

    def counted():
        for batch in work(1, 8, slow=0.05):
            begun.append(batch)
            yield batch

    for landed, _ in enumerate(compute_on(client, counted(), ""), 1):
        assert len(begun) <= landed + 1


def test_progress_is_told_until_all_is_there(client):
    told = []
    list(compute_on(client, work(4, slow=0.02), "", told.append))
    assert told == sorted(told)
    assert told[-1] <= 12


def test_failures_are_told_by_position_when_all_others_are_done(client, tmp_path):
    batches = work(fails=(2, 7), wanted=False, folder=str(tmp_path))
    with pytest.raises(BlockError, match=r"writing failed: block 2 is broken") as failure:
        list(compute_on(client, batches, "writing"))
    assert failure.value.positions == (2, 7)
    assert len(list(tmp_path.iterdir())) == 10


def test_a_wanted_result_that_fails_ends_the_work(client):
    batches = compute_on(client, work(fails=(4,)), "sums")
    assert [block.item() for block in next(batches)] == [0, 1, 2]
    with pytest.raises(BlockError, match="sums failed: block 4 is broken"):
        next(batches)


def test_a_connected_cluster_names_failures_without_a_bar_too(client):
    with pytest.raises(BlockError) as failure:
        list(compute(work(fails=(5,), wanted=False), 12, "writing"))
    assert failure.value.positions == (5,)


@pytest.mark.slow
def test_a_lost_scheduler_is_said_in_words(tmp_path):
    """A scheduler and a worker of their own are started as programs, and killed."""
    file = tmp_path / "scheduler.json"
    programs = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        ["worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--memory-limit",
         "2GB"],
    ]  # fmt: skip
    running = []
    try:
        for words in programs:
            command = [sys.executable, "-m", "dask", *words, "--scheduler-file", str(file)]
            running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path))
            wait_for(file.is_file)
        client = nd.connect(file)
        batches = compute_on(client, work(1, 100, slow=0.1), "work")
        next(batches)
        running[0].kill()
        with pytest.raises(
            ClusterError, match=r"the scheduler was lost\. What was written is kept"
        ):
            list(batches)
        client.close()
    finally:
        for process in running:
            process.kill()
            process.wait()


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stop_takes_back_what_waits_and_lets_what_began_end(client, tmp_path):
    def stop():
        wait_for(lambda: any(tmp_path.iterdir()))
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    batches = work(20, 40, wanted=False, folder=str(tmp_path), slow=0.3)
    with (
        pytest.raises(Stopped, match=r"stopped by a signal\. What was written is kept"),
        stoppable(),
    ):
        list(compute_on(client, batches, "work"))
    stopper.join()
    done = len(list(tmp_path.iterdir()))
    assert 1 <= done < 40
    assert not any(client.run(lambda dask_worker: list(dask_worker.active_threads)).values())
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == done


def test_signals_mean_what_they_did_when_the_block_is_left():
    before = signal.getsignal(signal.SIGTERM)
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def die(_: object) -> None:
    os._exit(1)


@pytest.mark.slow
def test_a_block_that_kills_its_workers_is_named_by_its_place_and_the_others_are_done() -> None:
    tasks = {"deadly": Task("deadly", die, TaskRef("well")), "well": Task("well", int)}
    graph = HighLevelGraph({"both": MaterializedLayer(tasks)}, {"both": set()})
    forgive_none = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    local = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    words = r"each worker that began it has died, 1 in all; their logs say why"
    with forgive_none, LocalCluster(**local) as cluster, Client(cluster) as client:
        with pytest.raises(BlockError, match=words) as failed:
            list(compute_on(client, [Batch(graph, ("well", "deadly"), wanted=False)], "test"))
        assert failed.value.positions == (1,)
