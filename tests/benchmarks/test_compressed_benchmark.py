import numpy as np
import pytest

from benchmarks import compressed
from benchmarks.five_phases import five_phases
from tests.laws import relative_error


def test_a_row_says_what_is_saved_and_what_is_lost(capsys):
    tiny = ["--sizes", "32x48", "--channels", "120", "--repeat", "1"]
    compressed.main(tiny)
    head, _, row = capsys.readouterr().out.splitlines()[2:]
    assert head.startswith("| scan | components | full, s |")
    found = dict(zip(compressed.HEAD, row.strip("| ").split(" | "), strict=True))
    assert found["scan"] == "32² × 48"
    assert float(found["error, mixed"]) < float(found["error, full"])


def test_a_scene_without_strain_is_one_whose_strain_is_nothing():
    still, nearly = (five_phases(24, 20, 60, strain=strain) for strain in (0.0, 1e-9))
    assert relative_error(nearly.clean, still.clean) < 1e-5
    assert still.scan.sinogram.mean() == pytest.approx(20, rel=0.05)
    assert int(still.spots.sum()) == 12
    assert (still.clean[..., still.peak] >= still.common[..., still.peak]).all()
    assert not np.array_equal(five_phases(24, 20, 60, seed=1).clean, still.clean)
