"""The demo: from nothing to a scored result and a report, and it notices when it is wrong."""

import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.demo import DemoResult, run_demo, score
from ndtomo_dask.errors import StoreError

GOOD = {"component_correlation": {"Al": 0.99}, "area_error": {"Cu 200": 0.02},
        "position_error": {"Cu 200": 0.05}, "seconds": 61.4}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"component_correlation": {"Al": 0.99, "Fe": 0.90}}, False),
        ({"area_error": {"Cu 200": 0.02, "Zn 102": 0.06}}, False),
        ({"position_error": {"Cu 200": 0.3}}, False),
        ({"area_error": {"Cu 200": np.inf}}, False),
    ],
    ids=["good", "component", "area", "position", "unfitted"],
)
def test_a_demo_passes_only_if_all_of_it_is_accurate(change, passed):
    result = DemoResult(**(GOOD | change))
    assert result.passed is passed
    assert result.numbers()["time"] == "61 s"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"is not empty and holds no demo\. Name another folder"):
        run_demo(tmp_path, say=lambda _: None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_the_demo_leaves_what_it_says_and_is_accurate(tmp_path):
    said = []
    result = run_demo(tmp_path / "demo", size=80, say=said.append)
    for name in ("scan.nxs", "recipe.yaml", "result.zarr", "report.html"):
        assert (tmp_path / "demo" / name).exists()
    assert min(result.component_correlation.values()) > 0.85
    assert set(result.component_correlation) == {"Al", "Cu", "Fe", "Pt", "Zn"}
    assert max(result.area_error.values()) < 0.1
    assert max(result.position_error.values()) < 0.3
    assert "report.html" in said[-1]
    assert "truth: " not in said[-1]
    stored = nd.open_scan(tmp_path / "demo" / "result.zarr", layout="spectra")
    assert stored.volume.sel(q=slice(3.4, 3.55)).sizes["channel"] > 1
    assert np.isfinite(score_again(stored, tmp_path)).all()


def score_again(stored, tmp_path):
    """A result scored against the truth of another sample is bad: the score can tell."""
    from ndtomo_dask.demo import COUNTS, GRAINS, PEAKS
    from ndtomo_dask.synthetic import simulate_scan, true_peaks

    other = simulate_scan(size=80, angles=12, channels=8, counts=COUNTS, grains=GRAINS, seed=99)
    maps = true_peaks(other, PEAKS, counts=COUNTS).merge(other[["true_phase_map"]])
    wrong = score(stored, maps, seconds=0.0)
    assert not wrong.passed
    return [*wrong.component_correlation.values()]
