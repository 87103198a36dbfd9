import numpy as np
import pytest
import xarray as xr

from ndtomo_dask.io.arrays import open_for_reading, open_for_writing
from ndtomo_dask.io.store import save


@pytest.fixture
def stored(tmp_path, rng):
    values = rng.normal(size=(20, 20, 8)).astype("float32")
    save(xr.Dataset({"volume": (("y", "x", "channel"), values)}), tmp_path / "store.zarr")
    return tmp_path / "store.zarr" / "volume", values


def test_the_rust_pipeline_reads_what_the_python_pipeline_wrote(stored):
    pytest.importorskip("zarrs", reason="zarrs is not installed: pip install ndtomo-dask[fast]")
    path, values = stored
    reader = open_for_reading(path)
    assert type(reader._async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"
    np.testing.assert_array_equal(reader[...], values)


def test_the_rust_pipeline_never_writes(stored):
    path, _ = stored
    open_for_reading(path)
    writer = open_for_writing(path)
    assert type(writer._async_array.codec_pipeline).__name__ == "BatchedCodecPipeline"


def test_without_the_rust_pipeline_reading_goes_on(stored, monkeypatch):
    path, values = stored
    monkeypatch.setattr("ndtomo_dask.io.arrays.find_spec", lambda _: None)
    reader = open_for_reading(path)
    assert type(reader._async_array.codec_pipeline).__name__ == "BatchedCodecPipeline"
    np.testing.assert_array_equal(reader[...], values)
