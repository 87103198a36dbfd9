"""Frames of several slices: written, read, integrated, and masked slice by slice."""

import h5py
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.frame_cases import slices, write_poni

OPTIONS = {"points": 40, "unit": "tth", "limits": (1.0, 6.0)}
LOST = (2, 1, 2)
"""The sample, (z, angle, translation), whose frame is not there."""


def _written(tmp_path, form="esrf", **options):
    poni = write_poni(tmp_path / "detector.poni")
    frames = nd.simulate_frames(slices(), poni, seed=2)
    return nd.export_frames(frames, tmp_path / "frames", format=form, **options), poni


def _without_one(tmp_path):
    """A scan of which the file of a line is cut behind its first frame."""
    path, poni = _written(tmp_path, snake=False, fast="translation")
    line = LOST[0] * 4 + LOST[1] + 1
    with h5py.File(path.parent / f"scan{line:04d}/detector_0000.h5", "r+") as file:
        whole = file["entry_0000/measurement/data"]
        some, chunks = whole[: LOST[2]], whole.chunks
        del file["entry_0000/measurement/data"]
        part = file.create_dataset("entry_0000/measurement/data", (3, *chunks[1:]), chunks=chunks,
                                   dtype=some.dtype)  # fmt: skip
        part[: LOST[2]] = some
    return path, poni


@pytest.mark.parametrize("form", ["esrf", "eiger", "edf"])
def test_slices_are_written_and_read_back(tmp_path, form):
    path, poni = _written(tmp_path, form, fast="translation")
    frames, truth = nd.open_frames(path), slices()
    np.testing.assert_allclose(frames.z, np.repeat(truth.z, 12))
    ds = nd.integrate(frames, poni, **OPTIONS)
    assert dict(ds.sizes) == {"z": 3, "angle": 4, "translation": 3, "channel": 40}
    np.testing.assert_allclose(ds.z, truth.z)
    means = ds.sinogram.mean(("angle", "translation", "channel"))
    np.testing.assert_allclose(means / means[0], [1, 2, 3], rtol=0.02)
    alone = nd.integrate(frames.isel(frame=slice(12, 24)).drop_vars("z"), poni, **OPTIONS)
    np.testing.assert_array_equal(ds.sinogram[1], alone.sinogram)
    assert not ds.mask.values.any()


def test_a_frame_that_cannot_be_read_is_masked_in_its_slice(tmp_path):
    path, poni = _without_one(tmp_path)
    ds = nd.integrate(nd.open_frames(path), poni, **OPTIONS).compute()
    assert ds.mask.dims == ("z", "angle", "translation")
    assert [tuple(place) for place in np.argwhere(ds.mask.values)] == [LOST]
    marked = nd.mask_channels(ds, channels=[3]).mask
    assert marked.dims == ("z", "angle", "translation", "channel")
    assert int(marked.sum()) == 3 * 4 * 3 + 39
    filled = nd.interpolate_masked(ds, along="translation")
    assert filled.filled.dims == ("z", "angle", "translation")
    np.testing.assert_array_equal(filled.sinogram[LOST], ds.sinogram[2, 1, 1])
    np.testing.assert_array_equal(filled.sinogram[:2], ds.sinogram[:2])
    volume = nd.reconstruct(ds, method="sirt", iterations=2).volume
    assert np.isfinite(volume).all()
    unmasked = nd.reconstruct(ds.drop_vars("mask"), method="sirt", iterations=2).volume
    np.testing.assert_array_equal(volume, unmasked)


def test_a_recipe_keeps_the_mask_of_slices(tmp_path, caplog):
    path, poni = _without_one(tmp_path)
    integrate = {"calibration": str(poni)} | OPTIONS | {"limits": [1.0, 6.0]}
    content = {"input": str(path), "output": str(tmp_path / "out.zarr"), "save": ["volume", "mask"],
               "steps": [{"integrate": integrate}, "normalize_monitor", "reconstruct"]}  # fmt: skip
    made = run_recipe(make_recipe(content))
    assert "1 of 36 frames could not be read and are masked: scan0010/detector" in caplog.text
    assert made.attrs["unreadable_frames"] == 1
    assert [tuple(place) for place in np.argwhere(made.mask.values)] == [LOST]
    assert np.isfinite(made.volume).all()
