"""The centers of simulated scans, whose axis is known by formula."""

import numpy as np
import pytest

import ndtomo_dask as nd
from benchmarks.center_scans import scan_number
from benchmarks.centers import rows, search
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.centering import find_center
from ndtomo_dask.reconstruction.sampling import SAMPLE, picks
from tests.reads import counted

SMALL = (7, 8, 12, 13, 14, 17, 23, 25, 31, 40, 43, 51, 52, 55, 60, 72, 74, 75, 82, 92)
"""Twenty of the two hundred scans of `benchmarks.centers`, those that take least time."""


def test_centers_of_simulated_scans():
    """Measured over all 200: median 0.01, largest 0.4; the bars are those of the benchmark."""
    found = search(SMALL)
    misses = np.abs([one.miss for one in found])
    assert np.median(misses) < 0.1
    assert misses.max() < 1.0
    apart = [one.miss / one.error for one in found]
    assert np.sqrt(np.mean(np.square(apart))) < 2  # the error is about what it says
    assert len(rows(found)) == 11


@pytest.mark.parametrize("number", [28, 86, 96, 108, 186])
def test_the_double_wedge_is_right_of_samples_that_fill_the_view(number):
    """They reach to 0.9 of it; a wedge for samples of 0.6 errs here by 0.1 to 0.6 steps."""
    scan = scan_number(number)
    found = find_center(scan.image, scan.angles, method="fourier")
    assert abs(found.center - scan.center) < 0.06


@pytest.fixture
def clean():
    options = {"size": 48, "angles": 60, "channels": 64, "jitter": 0.0, "air": 0.0, "decay": 1.0}
    return nd.simulate_scan(**options, noise="none").load()


def test_a_part_of_the_channels_is_enough_and_no_other_is_read(clean):
    lazy, source = counted(clean, {"channel": 16}, "sinogram")
    found = nd.find_rotation_center(lazy, channels=(16, 32))
    assert source.reads == pytest.approx(0.25)
    assert abs(float(found.rotation_center - clean.true_rotation_center)) < 0.15
    alone = nd.find_rotation_center(clean.isel(channel=slice(16, 32)))
    assert float(alone.rotation_center) == float(found.rotation_center)
    assert "channels=(16, 32)" in found.attrs["history"]


def test_the_search_can_be_told_where(clean):
    true = float(clean.true_rotation_center)
    found = nd.find_rotation_center(clean, search=(true - 3, true + 4))
    assert abs(float(found.rotation_center) - true) < 0.15
    with pytest.raises(SchemaError, match="the best score lies at the border"):
        nd.find_rotation_center(clean, search=(2, 10), method="fourier")
    with pytest.raises(OptionError, match=r"no range of translations: pass \(first, last\)"):
        nd.find_rotation_center(clean, search=(10, 70))
    with pytest.raises(OptionError, match="channels='Ni' is neither a number nor a range"):
        nd.find_rotation_center(clean, channels="Ni")
    with pytest.raises(OptionError, match="slices=0 must be 1 or more"):
        nd.find_rotation_center(clean.expand_dims("z"), slices=0)


def test_of_a_terabyte_a_few_gigabytes_are_read():
    sizes = {"z": 100, "angle": 1000, "translation": 1000, "channel": 4096}
    picked = picks(sizes, 4, None, None, verb="find")
    counts = {dim: sum(last - first for first, last in part) for dim, part in picked.items()}
    assert counts["z"] == 1
    assert 0.9 * SAMPLE < counts["channel"] * 10**6 * 4 <= SAMPLE
    assert all(last - first == 16 for first, last in picked["channel"])
    assert picks({**sizes, "channel": 16, "z": 4}, 4, None, None, verb="find") == {}


def test_shifts_by_reprojection_align_a_simulated_scan():
    options = {"size": 64, "angles": 96, "channels": 64, "jitter": 1.0, "air": 0.0, "decay": 1.0}
    scan = nd.simulate_scan(**options, noise="none").load()
    scan = scan.pipe(nd.set_rotation_center, float(scan.true_rotation_center))
    found = nd.find_projection_shifts(scan, method="reprojection")
    theta = np.deg2rad(scan.angle.values)
    design = np.stack([np.ones(96), np.cos(theta), np.sin(theta)], axis=1)
    true = scan.true_projection_shift.values
    true = true - design @ np.linalg.lstsq(design, true, rcond=None)[0]
    left = found.projection_shift.values - true
    assert np.mean(left**2) < 0.3 * np.mean(true**2)  # dense grains of a pixel or two
    assert float(found.rotation_center) == float(scan.rotation_center)
    split = nd.find_projection_shifts(scan.chunk(channel=16), method="reprojection")
    np.testing.assert_allclose(split.projection_shift, found.projection_shift, atol=1e-3)
    with pytest.raises(OptionError, match="method='mas' is not known"):
        nd.find_projection_shifts(scan, method="mas")
