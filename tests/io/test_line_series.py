"""Series of files with a line each: put on the grid of their table, or refused in one sentence."""

import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.survey import survey_scan
from tests.formats.lines import write_lines


@pytest.fixture(scope="module")
def small():
    options = {"size": 12, "angles": 10, "channels": 20, "grains": 5, "jitter": 0, "seed": 2}
    return nd.simulate_scan(**options).load()


@pytest.mark.parametrize("suffix", [".edf", ".tif", ".cbf"])
def test_lines_are_put_on_the_grid_of_their_table(tmp_path, small, suffix):
    ds = nd.open_scan(write_lines(tmp_path / "run", small, suffix))
    assert ds.sinogram.dtype == np.float32
    np.testing.assert_array_equal(ds.sinogram, small.sinogram)
    np.testing.assert_allclose(ds.angle, small.angle)
    np.testing.assert_allclose(ds.translation, small.translation)
    np.testing.assert_allclose(ds.monitor[3], 1e5 + np.arange(12))
    assert "translation is fast, every other one backward" in ds.attrs["assumed"]


def test_lines_are_reconstructed_and_surveyed(tmp_path, small):
    folder = write_lines(tmp_path / "run", small, ".edf", zigzag=False)
    assert np.isfinite(nd.reconstruct(nd.open_scan(folder)).volume).all()
    found = survey_scan(folder)
    assert found["dimensions"].answer == "angle 10, translation 12, channel 20"
    assert found["angle span"].answer == "half turn"


def test_lines_without_positions_ask_for_a_table(tmp_path, small):
    folder = write_lines(tmp_path / "run", small, ".edf", table=False)
    with pytest.raises(SchemaError, match=r"the angle of its 120 files. Put a table positions.csv"):
        nd.open_scan(folder)


def test_frames_are_no_lines(tmp_path, small):
    folder = write_lines(tmp_path / "run", small, ".edf", rows=3)
    with pytest.raises(SchemaError, match=r"frames of 3 by 20, not lines. Integrate them: nd.in"):
        nd.open_scan(folder)
