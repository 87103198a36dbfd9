"""The benchmark of integration runs, at a small size, and its figures can be true."""

from benchmarks.integrate import throughput, write_frames


def test_throughput_is_measured_beside_pyfai(tmp_path):
    master, poni = write_frames(tmp_path, angles=4, translations=8, size=64)
    figures = throughput(master, poni, rounds=1, frames=6)
    assert set(figures) == {"pyFAI", "ours", "reading alone", "share of pyFAI", "table MB"}
    assert all(value > 0 for value in figures.values())
