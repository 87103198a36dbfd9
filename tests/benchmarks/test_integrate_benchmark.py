"""The benchmark of integration runs, at a small size, and its figures can be true."""

import pytest

from benchmarks.integrate import write_frames
from benchmarks.integrate_rates import on_workers, throughput


def test_throughput_is_measured_beside_pyfai(tmp_path):
    master, poni = write_frames(tmp_path, angles=4, translations=8, size=64)
    figures = throughput(master, poni, rounds=1, frames=6)
    assert set(figures) == {"pyFAI", "ours", "reading alone", "share of pyFAI", "table MB"}
    assert all(value > 0 for value in figures.values())


def test_a_scan_is_measured_on_workers_beside_pyfai(tmp_path):
    master, poni = write_frames(tmp_path, angles=4, translations=8, size=64)
    figures = on_workers(master, poni, tmp_path, workers=1, rounds=1, frames=6)
    share = figures["ours"] / figures["pyFAI on one core"]
    assert figures["share of pyFAI times workers"] == pytest.approx(share)
    assert figures["pyFAI in all workers"] > 0
    assert not list(tmp_path.glob("*.zarr"))
