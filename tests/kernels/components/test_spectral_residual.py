import numpy as np
import pytest

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.components import spectral_residual as sr
from ndtomo_dask.kernels.projectors import load_projector
from tests.laws import relative_error
from tests.tolerances import ROUNDING

F32 = np.dtype("float32")
QUIET = 6.5
"""Largest score of noise alone in a thousand windows: measured 5.5, and 7 is the threshold."""


def scan(size=64, angles=90, center=None):
    geometry = ParallelGeometry.centered(
        np.pi * np.arange(angles) / angles, size, rotation_center=center
    )
    return geometry, load_projector("cpu", geometry)


def scores_of(sinogram, geometry):
    coarse = sr.coarse_sinogram(sinogram)
    return sr.structure_scores(coarse, geometry=sr.coarse_geometry(geometry))


def spot(size, row, column, height=1.0):
    image = np.zeros((size, size, 1), dtype=F32)
    image[row : row + 2, column : column + 2] = height
    return image


@pytest.mark.parametrize("width", [3.0, 6.0, 11.0])
def test_the_width_of_peaks_is_found_on_any_smooth_background(width):
    channel = np.arange(600)
    centers = np.random.default_rng(0).uniform(50, 550, 12)
    offset = (channel - centers[:, None]) / (width / 2.3548)
    spectra = np.exp(-0.5 * offset**2) + np.exp(-channel / 200)
    assert sr.peak_width(spectra) == pytest.approx(width, abs=1)


def test_spectra_without_peaks_or_channels_have_some_width():
    assert sr.peak_width(np.zeros((2, 50))) >= 3
    assert sr.peak_width(np.ones((2, 4))) == 3


@pytest.mark.parametrize("width", [3, 6, 7])
@pytest.mark.parametrize("channels", [10, 60, 61])
def test_every_channel_is_in_a_window_and_most_in_two(width, channels):
    windows = sr.peak_windows(np.ones(channels, dtype=bool), width)
    step = sr.window_step(width)
    assert (windows.sum(axis=1) >= 1).all()
    assert (windows[step:-step].sum(axis=1)[: channels - 3 * step] == 2).all()
    assert windows.sum(axis=0).max() == min(2 * step, channels)


def test_channels_that_are_not_used_stand_in_no_window():
    used = np.arange(40) % 7 != 0
    assert (sr.peak_windows(used, 6)[~used] == 0).all()
    found = np.zeros(sr.peak_windows(used, 6).shape[1], dtype=bool)
    found[4] = True
    channels = sr.channels_of_windows(found, used, 6)
    assert np.flatnonzero(channels).tolist() == [c for c in range(13, 27) if c % 7]
    assert not sr.channels_of_windows(np.zeros_like(found), used, 6).any()


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_sums_of_windows_are_those_of_the_matrix(dtype, rng):
    block = rng.integers(0, 1000, (5, 21, 80)).astype(dtype)
    used = rng.random(80) > 0.1
    windows = sr.peak_windows(used, 6).astype(F32)
    made = sr.window_sums(block, windows)
    assert made.dtype == F32
    assert relative_error(made, block.astype(float) @ windows) < ROUNDING[F32]
    if dtype == "float32":
        block[..., ~used] = np.nan
        np.testing.assert_array_equal(sr.window_sums(block, windows), made)


@pytest.mark.parametrize("translations", [64, 65])
@pytest.mark.parametrize("center", [None, 29.3])
def test_a_coarse_sinogram_is_that_of_the_coarse_geometry(translations, center):
    geometry, A = scan(translations, center=center)
    y, x = geometry.y[:, None], geometry.x
    image = np.exp(-((y - 8) ** 2 + (x + 5) ** 2) / 30).astype(F32)[..., None]
    coarse = sr.coarse_geometry(geometry)
    assert coarse.translations == (translations + 1) // 2
    made = sr.coarse_sinogram(A(image))[..., 0]
    assert made.shape == (90, coarse.translations)
    places = np.arange(coarse.translations)
    mass = (made * places).sum(axis=1) / made.sum(axis=1)
    at = coarse.origins - 5 / 2 * np.cos(coarse.angles) - 8 / 2 * np.sin(coarse.angles)
    np.testing.assert_allclose(mass, at, atol=0.02)


def test_noise_scores_less_than_the_threshold(rng):
    geometry, _ = scan()
    noise = rng.standard_normal((90, 64, 1000)).astype(F32)
    scores = scores_of(noise, geometry)
    assert scores.shape == (1000,)
    assert scores.max() < QUIET


def test_a_spot_of_four_pixels_scores_wherever_it_lies(rng):
    geometry, A = scan()
    places = [(r, c) for r in (20, 21, 30) for c in (24, 25, 40)]
    spots = np.concatenate([spot(64, *place, 3.0) for place in places], axis=2)
    noise = 5 * rng.standard_normal((90, 64, 9)).astype(F32)
    # In the sinogram it is a fifth of the noise.
    assert A(spots).max() < 2 * noise.std()
    assert (scores_of(A(spots) + noise, geometry) > 1.4 * scores_of(noise, geometry)).all()


def test_a_window_does_not_depend_on_its_neighbors(rng):
    geometry, _ = scan()
    noise = rng.standard_normal((90, 64, 70)).astype(F32)
    scores = scores_of(noise, geometry)
    noise[..., 3] = np.nan
    noise[..., 5] = 0
    spoiled = scores_of(noise, geometry)
    others = np.delete(np.arange(70), [3, 5])
    np.testing.assert_array_equal(spoiled[others], scores[others])
    assert spoiled[[3, 5]].tolist() == [0, 0]


def test_missing_projections_and_samples_are_no_structure(rng):
    geometry, _ = scan()
    noise = 100 + rng.standard_normal((90, 64, 20)).astype(F32)
    noise -= noise.mean()
    noise[7] = np.nan
    noise[20, 30] = np.nan
    assert scores_of(noise, geometry).max() < QUIET
    assert (scores_of(np.full_like(noise, np.nan), geometry) == 0).all()
