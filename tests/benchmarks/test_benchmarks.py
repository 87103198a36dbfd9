import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    accuracy,
    accuracy_models,
    accuracy_page,
    accuracy_scans,
    bench_kernels,
    component_maps,
    component_peers,
    out_of_core,
    peers,
    read_twice,
    reconstruct_peers,
    truth,
)
from benchmarks.contest import Absent, Contestant, Result, enter, race, table
from benchmarks.sizes import BEAMLINE, SIZES, TERABYTE, TINY
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.reconstruction import METHODS as SOLVERS
from tests.tolerances import PEER

ROOT = Path(__file__).parents[2]
CLASSES = [bench_kernels.Reconstruction, bench_kernels.Spectra, bench_kernels.Storage]
KINDS = ("time_", "peakmem_", "track_")
METHODS = [
    (cls, name)
    for cls in [*CLASSES, bench_kernels.Graphs]
    for name, _ in inspect.getmembers(cls, inspect.isfunction)
    if name.startswith(KINDS)
]


@pytest.mark.parametrize(("cls", "method"), METHODS, ids=[f"{c.__name__}.{m}" for c, m in METHODS])
def test_every_benchmark_runs(cls, method, monkeypatch):
    monkeypatch.setattr(cls, "sizes", {"tiny": TINY})
    benchmark = cls()
    benchmark.setup("tiny")
    result = getattr(benchmark, method)("tiny")
    getattr(benchmark, "teardown", len)("tiny")
    assert (result is not None) == method.startswith("track_")
    assert result is None or result > 0


def test_a_terabyte_is_a_terabyte_and_is_never_computed():
    assert TERABYTE.nbytes >= 10**12
    assert TERABYTE.name in bench_kernels.Graphs.params
    assert all(TERABYTE.name not in cls.params for cls in CLASSES)
    assert set(SIZES) > set(bench_kernels.RUNNING)


def test_the_graph_of_a_scan_grows_with_its_blocks_not_with_its_pixels(monkeypatch):
    monkeypatch.setattr(bench_kernels.Graphs, "sizes", {"tiny": TINY, "beamline": BEAMLINE})
    tasks = {}
    for name in ("tiny", "beamline"):
        benchmark = bench_kernels.Graphs()
        benchmark.setup(name)
        tasks[name] = benchmark.track_tasks(name)
        benchmark.teardown(name)
    assert tasks["tiny"] <= tasks["beamline"] < 100


def test_the_true_sinogram_is_that_of_the_true_image():
    theta, densities = np.linspace(0, np.pi, 15, endpoint=False), truth.head_channels(2)
    A = load_projector("cpu", ParallelGeometry.centered(theta, 160))
    found = A(truth.head_image(160) @ densities)
    expected = truth.head_sinogram(theta, 160) @ densities
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < PEER


def names(results):
    return [one.name for one in results if isinstance(one, Result)]


@pytest.mark.filterwarnings("ignore")  # of the peers' own imports
def test_reconstruction_peers_agree_on_the_image():
    for name in reconstruct_peers.METHODS:
        errors = {}
        for threads in (1, 2):
            results = reconstruct_peers.contest(name, 48, 60, 3, threads=threads, repeat=1, slow=2)
            found = [one for one in results if isinstance(one, Result)]
            assert found[0].name.startswith("ndtomo_dask")
            assert max(one.error for one in found) < 2 * found[0].error
            assert all(one.seconds > 0 for one in found)
            errors[threads] = found[0].error
        assert errors[1] == errors[2]  # the number of threads changes nothing


def test_the_cost_of_a_channel_is_told_for_each_number_of_channels():
    told = reconstruct_peers.cost_of_channels(32, 20, (3, 16), repeat=1)
    assert [channels for channels, _ in told] == [3, 16]
    assert all(seconds > 0 for _, seconds in told)


@pytest.mark.filterwarnings("ignore")  # of the peers' own imports
@pytest.mark.parametrize("noisy", [False, True], ids=["clean", "noisy"])
def test_the_accuracy_of_every_method_and_peer_is_told(noisy, monkeypatch):
    for name, few in {"STEPS": (3, 8), "PENALTIES": (0.03, 0.1), "VARIATION_STEPS": 20}.items():
        monkeypatch.setattr(accuracy, name, few)
    data = accuracy_scans.make_data(24, noisy, size=33, channels=2)
    rows = accuracy.compare(data)
    names = {row.name.split(",")[0] for row in rows}
    assert names == {f"`{method}`" for method in SOLVERS} | set(accuracy_page.RIVALS)
    assert all(0 < row.rmse < 1.2 and 0 < row.ssim < 1 for row in rows)
    text = accuracy_page.page({"A scan": {24: rows}}, {"A scan": accuracy.models(data)})
    assert all(f"| {row.name} | {row.rmse:.3f} / {row.ssim:.3f}" in text for row in rows)
    if noisy:
        assert len(accuracy_page.draw(rows, data.image).axes) == 11


def test_accuracy_is_perfect_of_the_truth_and_names_only_better_peers():
    data = accuracy_scans.make_data(4, False, size=33, channels=2)
    truth_itself = accuracy_scans.judge(data, "`sirt`", "", data.image)
    assert (truth_itself.rmse, truth_itself.ssim) == (0, pytest.approx(1))
    mirrored = accuracy_scans.judge(data, "ASTRA SIRT", "", data.image[:, ::-1])
    assert mirrored.rmse > 0.1
    assert accuracy_page.beaten(mirrored, truth_itself)
    assert not accuracy_page.beaten(truth_itself, mirrored)


def test_a_uniform_disc_is_uniform_at_45_degrees_but_for_the_model_pixel():
    scatter = {model: accuracy_models.ripple(model) for model in accuracy_models.MODELS}
    assert scatter.pop("pixel") > 0.03
    assert max(scatter.values()) < 0.01


def test_fit_peers_agree_within_standard_errors():
    results, agreement = peers.fit(60, 64, repeat=1, subset=8)
    assert all(one.error < 0.5 for one in results)
    assert "standard errors" in agreement


@pytest.mark.filterwarnings("ignore")  # of the peers' own imports and convergence
def test_component_peers_reach_the_same():
    for contest in (component_peers.factors, component_peers.clusters):
        results = contest(400, 60, 3, repeat=1)
        assert all(0.95 < one.error < 1.05 for one in results if isinstance(one, Result))
    for one in component_peers.principal(400, 60, 3, repeat=1)[:3]:
        assert one.error < 1e-5
    peaks = component_peers.memory(component_peers.growing(400, 60, 100, 3), 3, iterations=3)
    assert set(peaks) == {"PCA", "NMF", "K-means"}


@pytest.mark.filterwarnings("ignore")  # of scikit-learn's convergence
def test_nonnegative_maps_of_shapes_are_those_of_the_truth():
    scores = component_maps.maps(10.0)
    assert scores["ndtomo_dask NMF"] > 0.99
    assert scores["ndtomo_dask PCA"] < 0.9


def test_contestants_take_turns_and_absent_ones_are_listed():
    calls = []

    def contestant(name):
        return Contestant(name, lambda: calls.append(name), 2, lambda _: 0.5)

    def missing():
        raise ImportError("no such library")

    absent = enter("a peer", missing)
    assert absent == Absent("a peer")
    results = race([contestant("ours"), absent, contestant("theirs")], repeat=2)
    assert calls == ["ours", "theirs"] * 3
    shown = table("A contest", results, piece="channel", error="error")
    assert "not installed" in next(line for line in shown.splitlines() if "a peer" in line)
    assert "1.00" in next(line for line in shown.splitlines() if "ours" in line)


def test_peers_prints_the_tables_that_are_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(peers, "CONTESTS", {"reconstruct": print, "fit": print})
    peers.main(["--fit", "--repeat", "3"])
    assert capsys.readouterr().out == "3\n"
    peers.main([])
    assert capsys.readouterr().out == "5\n5\n"


TINY_RUN = ["--size", "300kB", "--pixels", "24", "--angles", "16", "--channels", "64"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a scheduler that is shut down
def test_out_of_core_runs_to_the_end_and_cleans_up(tmp_path, capsys):
    assert out_of_core.main([*TINY_RUN, "--workers", "1", "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for stage in ("simulate", "find air", "reconstruct", "PCA", "NMF", "map components"):
        assert stage in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a scheduler that is shut down
def test_components_beside_two_readings_run_and_clean_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(read_twice, "SIZE", 64)
    monkeypatch.setattr(read_twice, "CHANNELS", 256)
    few = ["--size", "1MB", "--workers", "1", "--repeat", "1", "--folder", str(tmp_path)]
    assert read_twice.main(few) == 0
    assert "times as long as two readings" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_scan_has_at_least_the_size_asked_for():
    size = out_of_core.scan_size(8 * 10**9, size=256, angles=256, channels=1024)
    assert size.slices == 30
    assert size.nbytes >= 8 * 10**9 > size.nbytes * 29 / 30


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"spilled": 2_000_000}, "spilled 2 MB"),
        ({"paused": 3}, "paused 3 times"),
        ({"restarted": 1}, "restarted 1 times"),
        ({"limit": 50}, "a worker held 60 B of 50 B"),
    ],
)
def test_a_run_that_went_wrong_says_how(wrong, words):
    stages = [out_of_core.Stage("a", 0, peak=40), out_of_core.Stage("b", 0, peak=60)]
    assert out_of_core.Report(limit=60, stages=stages).failures == []
    assert out_of_core.Report(**{"limit": 60, **wrong}, stages=stages).failures == [words]


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda f: f.stem)
def test_a_module_imports(file):
    importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
