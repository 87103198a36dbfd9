"""Batches in flight: what is said of blocks whose workers die."""

import os

import dask
import pytest
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client, LocalCluster

from ndtomo_dask.errors import BlockError
from ndtomo_dask.graphs import Batch
from ndtomo_dask.runtime.flight import compute_on


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
