import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import fit_peaks, reconstruct, set_rotation_center, simulate_scan
from ndtomo_dask.errors import OptionError
from ndtomo_dask.synthetic import true_peaks
from tests.tolerances import STATISTICAL

SMALL = {"size": 24, "angles": 20, "channels": 40, "grains": 8}


def test_simulating_computes_no_counts(no_compute):
    assert simulate_scan(**SMALL).sinogram.chunks is not None


def test_any_projection_can_be_drawn_alone():
    ds = simulate_scan(**SMALL, slices=2)
    whole = ds.sinogram.values
    for z, angle in ((0, 0), (1, 7), (1, 19)):
        np.testing.assert_array_equal(ds.sinogram.isel(z=z, angle=angle).values, whole[z, angle])


def test_counts_do_not_depend_on_the_blocks(monkeypatch):
    expected = simulate_scan(**SMALL, slices=2).sinogram
    monkeypatch.setattr("ndtomo_dask.block_sizes.LEAST_TASKS", 3)
    actual = simulate_scan(**SMALL, slices=2).sinogram
    assert actual.chunks != expected.chunks
    np.testing.assert_array_equal(actual, expected)


def test_a_slice_does_not_depend_on_how_many_there_are():
    one, two, flat = (simulate_scan(**SMALL, slices=count) for count in (1, 2, 0))
    np.testing.assert_array_equal(two.sinogram.isel(z=0), one.sinogram.isel(z=0))
    np.testing.assert_array_equal(flat.sinogram, one.sinogram.isel(z=0))
    assert (two.sinogram.isel(z=0) != two.sinogram.isel(z=1)).any()


def test_a_seed_decides_everything_and_another_seed_another_scan():
    first, again, other = (simulate_scan(**SMALL, seed=seed) for seed in (3, 3, 4))
    xr.testing.assert_identical(first.compute(), again.compute())
    assert (first.true_phase_map != other.true_phase_map).any()


def test_noise_is_poisson_about_the_expected_counts(scan, clean_scan):
    expected = clean_scan.sinogram.values.astype(float)
    pulls = ((scan.sinogram.values - expected) / np.sqrt(np.maximum(expected, 1)))[expected > 20]
    assert abs(pulls.mean()) * np.sqrt(pulls.size) < STATISTICAL
    assert abs(pulls.var() - 1) * np.sqrt(pulls.size / 2) < STATISTICAL
    assert (scan.sinogram.values == np.rint(scan.sinogram.values)).all()


def test_flux_of_the_expected_counts_is_the_true_beam(clean_scan):
    edge = clean_scan.sinogram.isel(translation=0, channel=0)
    flux = edge / clean_scan.true_beam
    np.testing.assert_allclose(flux, float(flux[0]), rtol=1e-6)


def test_the_truth_explains_the_data():
    options = {"size": 48, "angles": 64, "channels": 120, "counts": 1000.0, "jitter": 0.0}
    ds = simulate_scan(**options, air=0.0, decay=1.0, noise="none", grains=8)
    ds = set_rotation_center(ds, float(ds.true_rotation_center))
    ds = fit_peaks(reconstruct(ds.load()), windows={"Al 111": (2.6, 2.78)}, axis="q").compute()
    truth = true_peaks(ds, {"Al 111": ("Al", 0)}, counts=1000.0)
    inside = truth.true_peak_area > 0.99 * truth.true_peak_area.max()
    ratio = (ds.peak_area / truth.true_peak_area).where(inside).median()
    offset = (ds.peak_position - truth.true_peak_position).where(inside).median()
    assert float(ratio) == pytest.approx(1, abs=0.05)
    assert abs(float(offset)) < 2e-3


def test_labels_and_units(scan):
    assert scan.sinogram.dims == ("angle", "translation", "channel")
    assert scan.sinogram.attrs["units"] == "count"
    assert {"tth", "q", "d"} <= set(scan.xindexes)
    assert ": simulate_scan(" in scan.attrs["history"]


def test_unknown_noise_and_empty_scans_are_refused():
    with pytest.raises(OptionError, match="Did you mean 'poisson'"):
        simulate_scan(**SMALL, noise="poison")
    with pytest.raises(OptionError, match=r"size >= 8, angles >= 1 and channels >= 1"):
        simulate_scan(angles=0)
