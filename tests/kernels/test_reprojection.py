import numpy as np
import pytest

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels.alignment import projection_shifts
from ndtomo_dask.kernels.reprojection import reprojection_shifts
from tests.kernels.test_centering import ellipses, turn


def free(shifts, angles):
    design = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    return shifts - design @ np.linalg.lstsq(design, shifts, rcond=None)[0]


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("jitter", [0.5, 2.0, 4.0])
def test_jitter_is_found_without_noise(rng, jitter):
    angles = turn(180, 120)
    image, shifts = ellipses(rng, 96, angles, 49.2, jitter=jitter)
    found = reprojection_shifts(image, angles, center=49.2)
    assert rms(found - free(shifts, angles)) < 0.03 * jitter + 0.05
    np.testing.assert_allclose(free(found, angles), found, atol=1e-9)  # no drift


def test_in_noise_it_is_better_than_the_center_of_mass(rng):
    angles = turn(360, 160)
    image, shifts = ellipses(rng, 128, angles, 65.0, snr=50, jitter=1.0)
    true = free(shifts, angles)
    found = reprojection_shifts(image, angles, center=65.0)
    by_mass = projection_shifts(image, angles)[0]
    assert rms(found - true) < 0.12
    assert rms(found - true) < 0.6 * rms(free(by_mass, angles) - true)


def test_a_still_sample_stays_where_it_is(rng):
    angles = turn(180, 120)
    image, _ = ellipses(rng, 96, angles, 47.5, snr=30)
    assert rms(reprojection_shifts(image, angles, center=47.5)) < 0.08


def test_a_sample_that_leaves_the_field_of_view(rng):
    angles = turn(180, 140)
    image, shifts = ellipses(rng, 128, angles, 63.5, snr=50, jitter=1.5, fill=0.95)
    cut, true = image[:, 18:-18], free(shifts, angles)
    found = reprojection_shifts(cut, angles, center=45.5)
    assert rms(found - true) < 0.5 * rms(true)


def test_gaps_and_dead_projections_harm_nobody_else(rng):
    angles = turn(180, 90)
    image, shifts = ellipses(rng, 80, angles, 40.1, jitter=1.0)
    image[5, 20:22] = np.nan
    image[30] = np.nan
    before = image.copy()
    found = reprojection_shifts(image, angles, center=40.1)
    np.testing.assert_array_equal(image, before)
    assert np.isnan(found[30])
    alive = np.arange(90) != 30
    assert rms(found[alive] - free(shifts[alive], angles[alive])) < 0.15


def test_an_image_of_one_value_is_refused():
    with pytest.raises(SchemaError, match="one value everywhere have no shifts"):
        reprojection_shifts(np.ones((20, 30)), turn(180, 20), center=14.5)
