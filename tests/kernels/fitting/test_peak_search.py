import numpy as np
import pytest

from ndtomo_dask.kernels.fitting.peak_search import noise_of, search_peaks
from tests.tolerances import STATISTICAL

CHANNEL = np.arange(400.0)
SHARP = 0.02
"""Channels: a parabola through three points of a Gaussian of 9 channels."""


def gaussian(center, fwhm, height):
    return height * np.exp(-4 * np.log(2) * ((CHANNEL - center) / fwhm) ** 2)


def test_peaks_are_where_they_are_and_as_wide():
    centers, widths, heights = [60.3, 150.75, 310.0], [9, 14, 9], [10, 30, 5]
    y = 2 + sum(gaussian(*one) for one in zip(centers, widths, heights, strict=True))
    found = search_peaks(y)
    np.testing.assert_allclose(found.position, centers, atol=SHARP)
    np.testing.assert_allclose(found.right - found.left, widths, rtol=0.02)
    np.testing.assert_allclose(found.height, np.array(heights) + 2, rtol=0.002)
    np.testing.assert_allclose(found.prominence, heights, rtol=0.02)
    np.testing.assert_allclose(found.first, np.array(centers) - 3 * np.array(widths), atol=1)
    np.testing.assert_allclose(found.last, np.array(centers) + 3 * np.array(widths), atol=1)


def test_windows_end_at_the_valley_between_neighbors_but_hold_nine_channels():
    y = gaussian(100, 10, 5) + gaussian(115, 10, 5) + gaussian(200, 3, 5)
    found = search_peaks(y)
    assert found.last[0] == found.first[1]
    assert 106 <= found.last[0] <= 109
    close = search_peaks(gaussian(100, 3, 5) + gaussian(104.5, 3, 5))
    assert (close.last - close.first >= 8).all()


def test_the_most_prominent_are_kept_in_their_order():
    y = gaussian(50, 9, 1) + gaussian(150, 9, 3) + gaussian(250, 9, 2)
    np.testing.assert_allclose(search_peaks(y, most=2).position, [150, 250], atol=SHARP)
    np.testing.assert_allclose(search_peaks(y, prominence=2.5).position, [150], atol=SHARP)


def test_noise_alone_has_few_peaks(rng):
    counts = [search_peaks(rng.standard_normal(400), prominence=None).position.size
              for _ in range(50)]  # fmt: skip
    assert np.mean(counts) < 1
    noise = noise_of(3 * rng.standard_normal(4000) + np.linspace(0, 1000, 4000))
    assert noise == pytest.approx(3, rel=STATISTICAL / np.sqrt(4000))


def test_a_dead_channel_is_no_peak_and_no_valley():
    y = 2 + gaussian(100.3, 12, 5)
    y[99], y[300] = np.nan, np.nan
    assert search_peaks(y).position == pytest.approx([100.3], abs=0.5)


def test_a_flat_spectrum_has_no_peak():
    assert search_peaks(np.ones(100)).position.size == 0
