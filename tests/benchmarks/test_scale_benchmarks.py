import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import zarr

import ndtomo_dask as nd
from benchmarks import graphs, out_of_core, overhead, scaling, scaling_model, scheduler
from benchmarks.bare import do_share, write_hollow
from benchmarks.model import Center, limits, predict
from benchmarks.rates import Rates
from benchmarks.sizes import TINY
from ndtomo_dask.byte_sizes import KB, MB

TINY_SHAPE = ["--pixels", "24", "--angles", "16", "--channels", "64"]
RATES = Rates(6e-9, 6e-9, 1e-8, 1e-9, 4e-10, 5e-11, 1e-10, 5e-10, 2e-7, 0.2, 0.9)
CENTER = Center(cores=32, node_io=1e9, shared_io=5e10, task=1e-3)
TERABYTE = scaling_model.slices_for(1e12)


@pytest.fixture
def folder(tmp_path):
    nd.save(replace(TINY, slices=2).simulate(counts=200.0)[["sinogram"]], tmp_path / overhead.RAW)
    return tmp_path


@pytest.mark.parametrize(("chain", "tasks"), [("FBP", 1), ("air, flux, FBP", 6)])
def test_a_block_of_a_large_scan_is_few_tasks_and_few_bytes(tmp_path, chain, tasks):
    size = graphs.graph_size(3 * 10**9)
    graphs.write_hollow(size, tmp_path / graphs.RAW)
    found = graphs.measure(chain, tmp_path)
    assert found.spelled.blocks == size.slices * 22
    assert found.spelled.blocks <= found.spelled.tasks <= tasks * found.spelled.blocks
    assert found.spelled.pickled_bytes / found.spelled.pickled_blocks < 4 * KB
    assert found.peak >= found.idle
    assert chain in found.row()


@pytest.mark.filterwarnings("ignore")  # of a scheduler that is shut down
def test_the_scheduler_never_holds_more_than_a_few_batches():
    blocks = 8 * scheduler.PER_BATCH
    with nd.connect("local", workers=1, threads=1, memory="1GB") as client:
        looks = scheduler.measure(blocks, client)
    assert looks[-1].done == blocks
    assert 0 < max(look.held for look in looks) <= 4 * scheduler.PER_BATCH
    assert f"{blocks:,} tasks" in scheduler.report(looks)


def test_bare_work_writes_the_bits_that_dask_writes(folder):
    stage = overhead.reconstruction(folder)
    write_hollow(stage.result, folder / overhead.BARE)
    shares = [do_share(stage.work, number, 2) for number in range(2)]
    nd.save(stage.result, folder / overhead.DASK)
    bare, dask = (
        zarr.open_array(folder / name / "volume", mode="r")[...]
        for name in (overhead.BARE, overhead.DASK)
    )
    assert np.isfinite(bare).all()
    np.testing.assert_array_equal(bare, dask)
    assert all(0 < share.read + share.kernel + share.write <= share.wall for share in shares)


def test_bare_reading_takes_each_pipeline(folder):
    work = overhead.reconstruction(folder).work
    assert do_share(work.reading("Zarr"), 0, 1).read > 0
    assert do_share(work.reading(), 0, 1).kernel < do_share(work.reading(), 0, 1).wall


def test_more_nodes_are_never_slower_and_more_data_never_faster():
    twice = replace(TERABYTE, slices=2 * TERABYTE.slices)
    before = [math.inf] * 7
    for nodes in (1, 3, 10, 100, 1000):
        found = [one.seconds for one in predict(TERABYTE, RATES, CENTER, nodes)]
        larger = [one.seconds for one in predict(twice, RATES, CENTER, nodes)]
        assert all(a <= b for a, b in zip(found, before, strict=True))
        assert all(a >= b for a, b in zip(larger, found, strict=True))
        before = found


@pytest.mark.parametrize(
    ("center", "nodes", "limit"),
    [
        (replace(CENTER, sampled=1), 1, "cores"),
        (replace(CENTER, sampled=1, node_io=1e7), 1, "node I/O"),
        (replace(CENTER, sampled=1, shared_io=1e7), 100, "shared I/O"),
        (replace(CENTER, sampled=1, task=10.0), 100, "scheduler"),
        (replace(CENTER, sampled=4), 1000, "client"),
        (CENTER, 1000, "scheduler"),
    ],
)
def test_a_stage_is_limited_by_what_is_scarce(center, nodes, limit):
    assert limits(predict(TERABYTE, RATES, center, nodes)) == limit


def test_scans_side_by_side_are_not_slower_than_one_after_the_other():
    found, _ = scaling_model.best(TERABYTE, 20, RATES, CENTER, 100)
    assert found <= 20 * scaling_model.total(predict(TERABYTE, RATES, CENTER, 100))


def test_efficiency_counts_work_and_workers():
    first = scaling.Point("weak", 1, 100 * MB, {"a": 6.0, "b": 4.0})
    assert scaling.Point("weak", 2, 200 * MB, {"a": 10.0}).efficiency(first) == 1.0
    assert scaling.Point("strong", 2, 100 * MB, {"a": 10.0}).efficiency(first) == 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a scheduler that is shut down
def test_scaling_writes_a_table_and_a_plot(tmp_path):
    paths = {"csv": tmp_path / "scaling.csv", "plot": tmp_path / "scaling.png"}
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    assert scaling.main(["--size", "100kB", *TINY_SHAPE, "--workers", "1", *words]) == 0
    rows = list(csv.DictReader(paths["csv"].open()))
    assert {row["scaling"] for row in rows} == {"strong", "weak"}
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert paths["plot"].stat().st_size > 10 * KB


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a scheduler that is shut down
def test_overhead_is_printed_with_its_parts(tmp_path, capsys):
    words = ["--size", "200kB", *TINY_SHAPE, "--workers", "1", "--repeat", "1"]
    assert overhead.main([*words, "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in ("read, FBP, write", "read, map components, write", *overhead.REST, "pipeline"):
        assert part in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a scheduler that is shut down
def test_a_series_is_measured_in_processes_of_its_own(tmp_path, capfd):
    words = ["--series", "100kB,200kB", *TINY_SHAPE, "--workers", "1", "--folder", str(tmp_path)]
    assert out_of_core.main(words) == 0
    rows = capfd.readouterr().out.splitlines()
    head = next(n for n, row in enumerate(rows) if "a worker" in row and "per GB" in row)
    assert len(rows[head + 1 :]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a scheduler that is shut down
def test_the_model_is_printed_and_checked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling_model, "measure_rates", lambda *_: RATES)
    plot = tmp_path / "model.png"
    assert scaling_model.main(["--plot", str(plot)]) == 0
    assert "| 100 TB, one scan |" in capsys.readouterr().out
    assert plot.stat().st_size > 10 * KB
    small = replace(TINY, slices=2)
    monkeypatch.setattr(scaling_model, "scan_size", lambda *_, **__: small)
    assert scaling_model.main(["--check", "1MB", "--workers", "1"]) == 0
    assert "| in all |" in capsys.readouterr().out
