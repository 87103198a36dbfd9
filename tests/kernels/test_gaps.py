import numpy as np
import pytest

from ndtomo_dask.kernels.gaps import bridge_gaps, channels_by_projections, missing_samples


@pytest.fixture
def sinogram(rng):
    return rng.uniform(1, 2, (5, 12, 7)).astype("float32")


def test_every_kind_of_missing_sample_is_counted(sinogram):
    sinogram[0, 0, 0], sinogram[1, 2, 0], sinogram[3, 3, 4] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(missing_samples(sinogram), [2, 0, 0, 0, 1, 0, 0])


def test_a_gap_in_a_straight_line_is_bridged_exactly():
    line = np.arange(12.0)[None, :, None] * np.ones((2, 1, 3))
    holed = line.copy()
    holed[0, 4:8, 1] = np.nan
    np.testing.assert_allclose(bridge_gaps(holed, np.isfinite(holed)), line)


def test_at_the_ends_the_nearest_sample_is_repeated(sinogram):
    sinogram[2, :3, 1] = np.nan
    sinogram[2, 10:, 1] = np.inf
    bridged = bridge_gaps(sinogram, np.isfinite(sinogram))
    assert (bridged[2, :3, 1] == sinogram[2, 3, 1]).all()
    assert (bridged[2, 10:, 1] == sinogram[2, 9, 1]).all()


def test_finite_samples_and_the_input_are_left_alone(sinogram):
    assert bridge_gaps(sinogram, np.isfinite(sinogram)) is sinogram
    sinogram[2, 5, 1] = np.nan
    before = sinogram.copy()
    finite = np.isfinite(sinogram)
    bridged = bridge_gaps(sinogram, finite)
    np.testing.assert_array_equal(bridged[finite], before[finite])
    np.testing.assert_array_equal(sinogram, before)
    assert bridged.dtype == sinogram.dtype
    assert np.isfinite(bridged).all()


def test_channels_are_grouped_by_the_projections_they_have(sinogram):
    sinogram[1, :, [2, 5]] = np.nan
    sinogram[:, :, 6] = np.nan
    sinogram[0, 3, 0] = np.nan
    groups = {
        tuple(channels): usable
        for usable, channels in channels_by_projections(np.isfinite(sinogram))
    }
    assert set(groups) == {(0, 1, 3, 4), (2, 5), (6,)}
    np.testing.assert_array_equal(groups[2, 5], [True, False, True, True, True])
    assert not groups[(6,)].any()
    assert groups[0, 1, 3, 4].all()
