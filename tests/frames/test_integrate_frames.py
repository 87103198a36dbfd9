"""Frames made by the simulator, through every way of writing them, and back to their patterns."""

from itertools import chain

import numpy as np
import pytest

import ndtomo_dask as nd
from tests.frame_cases import SHAPE, at_centers, patterns, write_poni, write_scan
from tests.laws import assert_lazy
from tests.tolerances import PHYSICS, STATISTICAL

OPTIONS = {"points": 60, "unit": "tth", "limits": (1.0, 6.0)}


def _integrated(path, poni, **options):
    return nd.integrate(nd.open_frames(path), poni, **OPTIONS | options)


@pytest.mark.parametrize("form", ["esrf", "eiger", "cbf", "edf", "tif"])
@pytest.mark.parametrize("fast", ["angle", "translation"])
def test_frames_integrate_back_to_their_patterns(tmp_path, form, fast):
    path, poni = write_scan(tmp_path, noise="none", format=form, fast=fast)
    truth = patterns()
    ds = assert_lazy(lambda frames: nd.integrate(frames, poni, **OPTIONS), nd.open_frames(path))
    expected = at_centers(truth, ds)
    assert np.abs(ds.sinogram.values / expected - 1).max() < PHYSICS
    np.testing.assert_allclose(ds.angle, truth.angle, atol=1e-9)
    np.testing.assert_allclose(ds.translation, truth.translation, atol=1e-9)
    np.testing.assert_allclose(ds.monitor, truth.monitor)
    assert float(ds.wavelength) == pytest.approx(0.2)
    assert ds.sinogram.dtype == np.float32
    assert not ds.mask.values.any()


@pytest.mark.parametrize("method", ["mean", "trimmed", "median", "sigma_clip"])
def test_the_variance_is_that_of_the_counts(tmp_path, method):
    poni = write_poni(tmp_path / "detector.poni")
    truth = patterns(angles=120, translations=1).assign_coords(angle=np.arange(120.0))
    truth["sinogram"][...] = truth.sinogram[:1].values
    truth = truth.assign(sinogram=truth.sinogram * 0.2)
    frames = nd.simulate_frames(truth, poni, seed=5)
    path = nd.export_frames(frames, tmp_path / "frames")
    ds = _integrated(path, poni, method=method, splitting="no")
    scatter = ds.sinogram.values[:, 0].var(axis=0, ddof=1)
    claimed = ds.sinogram_variance.values[:, 0].mean(axis=0)
    error = np.sqrt(2 / 119 / scatter.size)  # of a mean of ratios of variances
    slack = {"mean": 0.0, "trimmed": 0.1, "median": 0.1, "sigma_clip": 0.1}[method]
    assert abs((scatter / claimed).mean() - 1) < STATISTICAL * error + slack


@pytest.mark.parametrize("method", ["trimmed", "median", "sigma_clip"])
def test_spots_of_crystals_are_removed_by_all_but_the_mean(tmp_path, method):
    poni = write_poni(tmp_path / "detector.poni")
    truth = patterns(angles=3, translations=2)
    clean = nd.export_frames(nd.simulate_frames(truth, poni, seed=1), tmp_path / "clean")
    spotted = nd.simulate_frames(truth, poni, seed=1, spots=4, spot_counts=5e4)
    dirty = nd.export_frames(spotted, tmp_path / "dirty")
    expected = at_centers(truth, _integrated(clean, poni))

    def error(**options):
        return np.abs(_integrated(dirty, poni, **options).sinogram.values / expected - 1)

    assert error().max() > 1
    # A small detector: a spot may fill a fifth of a ring, which no tenth that is trimmed holds.
    assert np.quantile(error(method=method, percentiles=(20, 60)), 0.99) < 0.15


def test_the_blocks_of_a_scan_do_not_change_a_bit(tmp_path, monkeypatch):
    path, poni = write_scan(tmp_path)
    whole = _integrated(path, poni).compute()
    monkeypatch.setattr("ndtomo_dask.block_sizes.FRAMES_PER_TASK", 3)
    ds = _integrated(path, poni)
    assert ds.sinogram.data.npartitions > 8
    cut = ds.compute()
    for name in whole.data_vars:
        np.testing.assert_array_equal(cut[name], whole[name])


def test_every_frame_is_read_once_in_the_order_of_the_disk(tmp_path, monkeypatch):
    from ndtomo_dask.io.frame_files import Located

    path, poni = write_scan(tmp_path)
    read, plain = [], Located.read

    def watched(self, numbers, shape):
        read.append(list(numbers))
        return plain(self, numbers, shape)

    monkeypatch.setattr(Located, "read", watched)
    nd.save(_integrated(path, poni), tmp_path / "scan.zarr")
    assert sorted(chain(*read)) == list(range(40))
    assert all(numbers == sorted(numbers) for numbers in read)


def test_hot_and_dead_pixels_and_masks_are_left_out(tmp_path):
    poni = write_poni(tmp_path / "detector.poni")
    truth = patterns(angles=2, translations=1)
    frames = nd.simulate_frames(truth, poni, noise="none").load()
    good = nd.export_frames(frames, tmp_path / "good")
    frames.frames[:, :, 20:25, :] = 2**32 - 1
    frames.frames[:, :, 60, 70] = 5000
    bad = nd.export_frames(frames, tmp_path / "bad")
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[20:25] = 1
    mask[60, 70] = 1
    np.save(tmp_path / "mask.npy", mask)
    wanted = _integrated(good, poni, mask=tmp_path / "mask.npy").sinogram.values
    found = _integrated(bad, poni, threshold=4000).sinogram.values
    np.testing.assert_array_equal(found, wanted)
    assert np.abs(_integrated(bad, poni).sinogram.values - wanted).max() > 1


@pytest.mark.parametrize("form", ["esrf", "edf"])
def test_a_run_of_frames_is_a_dataset_of_its_own(tmp_path, form):
    path, poni = write_scan(tmp_path, format=form, fast="translation", snake=False)
    frames = nd.open_frames(path)
    assert frames.frames.shape == (40, *SHAPE)
    some = nd.integrate(frames.isel(frame=slice(5, 15)), poni, **OPTIONS)
    every = nd.integrate(frames, poni, **OPTIONS)
    np.testing.assert_array_equal(some.sinogram, every.sinogram[1:3])
    np.testing.assert_array_equal(frames.frames[7], frames.frames.compute()[7])
