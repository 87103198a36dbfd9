import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.filters import WINDOWS, filter_response, filter_sinogram, ramp_impulse
from tests.tolerances import ROUNDING


def direct_convolution(sinogram):
    """Linear convolution with the ramp's impulse response, as a dense matrix."""
    translations = sinogram.shape[1]
    impulse = ramp_impulse(4 * translations)
    distance = np.abs(np.subtract.outer(np.arange(translations), np.arange(translations)))
    return np.einsum("ts,ask->atk", impulse[distance], sinogram)


@pytest.mark.parametrize("translations", [1, 2, 31, 32, 64, 101, 128])
def test_ram_lak_is_a_linear_convolution_whatever_the_width(translations):
    sinogram = np.random.default_rng(1).standard_normal((3, translations, 2))
    expected = direct_convolution(sinogram)
    error = np.linalg.norm(filter_sinogram(sinogram) - expected)
    assert error <= ROUNDING[np.dtype("float64")] * np.linalg.norm(sinogram)


@pytest.mark.parametrize("length", [64, 90, 135, 1024])
def test_ramp_tends_to_the_frequency_and_keeps_a_mean(length):
    frequency = np.fft.rfftfreq(length)
    response = filter_response("ram-lak", length)
    assert np.abs(response - frequency).max() < 0.3 / length
    assert response[0] > 0  # the sampled ramp has 0 here, and loses the mean of a projection


@pytest.mark.parametrize("name", WINDOWS)
def test_every_window_keeps_low_and_damps_high_frequencies(name):
    gain = filter_response(name, 256) / filter_response("ram-lak", 256)
    assert gain[0] == pytest.approx(1)
    assert (np.diff(gain) <= 0).all()
    nyquist = {"ram-lak": 1, "shepp-logan": 2 / np.pi, "cosine": 0, "hann": 0, "hamming": 0.08}
    assert gain[-1] == pytest.approx(nyquist[name], abs=1e-12)


def test_an_unknown_filter_is_refused_with_the_nearest_name():
    with pytest.raises(OptionError, match=r"filter_name='ramlak' is not known.*'ram-lak'"):
        filter_sinogram(np.ones((2, 8, 1)), "ramlak")


def test_weights_scale_each_projection():
    sinogram = np.random.default_rng(2).standard_normal((3, 20, 2))
    weights = np.array([0.5, 2.0, 0.0])
    weighted = filter_sinogram(sinogram, weights=weights)
    np.testing.assert_allclose(weighted, weights[:, None, None] * filter_sinogram(sinogram))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_channel_is_the_same_bits_beside_bad_and_strong_neighbors(dtype):
    sinogram = np.random.default_rng(3).standard_normal((4, 48, 9)).astype(dtype)
    clean = filter_sinogram(sinogram)
    damaged = sinogram.copy()
    damaged[1, 7, 3] = np.nan
    damaged[..., 4] *= 1e7
    before = damaged.copy()
    result = filter_sinogram(damaged)
    others = [0, 1, 2, 5, 6, 7, 8]
    np.testing.assert_array_equal(result[..., others], clean[..., others])
    np.testing.assert_array_equal(damaged, before)
    assert np.isnan(result[1, :, 3]).all()
    assert not np.isnan(result[[0, 2, 3]]).any()
    assert result.dtype == dtype


def test_the_number_of_threads_and_of_channels_changes_no_bit(monkeypatch):
    sinogram = np.random.default_rng(4).standard_normal((5, 40, 19)).astype("float32")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = filter_sinogram(sinogram)
    split = [filter_sinogram(sinogram[..., part]) for part in (slice(0, 7), slice(7, 19))]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    np.testing.assert_array_equal(filter_sinogram(sinogram), alone)
    np.testing.assert_array_equal(np.concatenate(split, axis=-1), alone)
