import h5py
import numpy as np
import pytest

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.alignment import center_of_mass, fit_sine, projection_shifts
from ndtomo_dask.kernels.centering import (
    find_center,
    score_fourier,
    score_mass,
    score_opposite,
)
from tests.tolerances import CENTER, CENTER_NOISY, CENTER_REAL


def ellipses(rng, steps, angles, center, *, snr=0.0, jitter=0.0, fill=0.7):
    """Project a disc with seven inclusions; the highest sample is 1."""
    offsets = rng.uniform(-jitter, jitter, angles.size)
    radius = fill * min(center, steps - 1 - center)
    image = np.zeros((angles.size, steps))
    for grain in range(8):
        axes = radius * (rng.uniform(0.5, 0.7, 2) if grain == 0 else rng.uniform(0.08, 0.25, 2))
        distance = radius * (0.2 if grain == 0 else rng.uniform(0, 0.7))
        path = center + distance * np.cos(angles + rng.uniform(0, 2 * np.pi)) + offsets
        tilt = angles - rng.uniform(0, np.pi)
        half = np.hypot(axes[0] * np.cos(tilt), axes[1] * np.sin(tilt))[:, None]
        for sub in (-0.4, -0.2, 0.0, 0.2, 0.4):
            inside = 1 - ((np.arange(steps) + sub - path[:, None]) / half) ** 2
            image += rng.uniform(0.2, 1) * axes.prod() / half * np.sqrt(np.clip(inside, 0, None))
    image /= image.max()
    noise = rng.normal(0, 1 / snr, image.shape) if snr else 0.0
    return image + noise, offsets


def turn(degrees, projections):
    return np.deg2rad(np.linspace(0, degrees, projections, endpoint=False))


SCANS = [(180, 90, 64), (180, 120, 101), (180, 180, 256), (360, 61, 64), (360, 52, 101)]


@pytest.mark.parametrize(("degrees", "projections", "steps"), SCANS)
@pytest.mark.parametrize("offset", [-9.3, 0.0, 7.75])
def test_auto_finds_the_axis_of_a_clean_scan(rng, degrees, projections, steps, offset):
    angles, center = turn(degrees, projections), (steps - 1) / 2 + offset
    image, _ = ellipses(rng, steps, angles, center)
    found = find_center(image, angles)
    assert found.method == ("entropy" if degrees == 180 else "opposite")
    assert found.checked_by == ("fourier" if degrees == 180 else "entropy")
    assert abs(found.center - center) < CENTER


@pytest.mark.parametrize(("degrees", "projections", "steps"), SCANS)
def test_noise_and_jitter_move_the_axis_little_and_show_in_the_error(
    rng, degrees, projections, steps
):
    angles, center = turn(degrees, projections), (steps - 1) / 2 + 4.4
    misses, errors = [], []
    for _ in range(9):
        image, _ = ellipses(rng, steps, angles, center, snr=5, jitter=0.5)
        found = find_center(image, angles)
        misses.append(found.center - center)
        errors.append(found.error)
    assert np.median(np.abs(misses)) < CENTER_NOISY[degrees]
    assert 0.3 < np.sqrt(np.mean(np.square(misses))) / np.sqrt(np.mean(np.square(errors))) < 2.5


def test_the_double_wedge_says_how_little_few_projections_tell(rng):
    angles, center = turn(180, 20), 34.2
    found = [find_center(ellipses(rng, 64, angles, center, snr=20, jitter=0.5)[0], angles,
                         method="fourier") for _ in range(15)]  # fmt: skip
    misses, errors = [one.center - center for one in found], [one.error for one in found]
    assert 0.3 < np.sqrt(np.mean(np.square(misses))) / np.sqrt(np.mean(np.square(errors))) < 2.0


@pytest.mark.parametrize("method", ["entropy", "sharpness"])
@pytest.mark.parametrize(("degrees", "projections", "steps"), SCANS)
def test_images_are_sharp_about_the_axis(rng, method, degrees, projections, steps):
    angles, center = turn(degrees, projections), (steps - 1) / 2 + 3.3
    image, _ = ellipses(rng, steps, angles, center)
    found = find_center(image, angles, method=method)
    assert abs(found.center - center) < CENTER
    assert abs(found.candidates[np.argmin(found.scores)] - center) < 0.5


def test_half_turns_of_few_and_different_numbers_of_projections(rng):
    angles = np.sort(np.concatenate([turn(180, 9)[:5], np.pi + turn(180, 9)[:9]]))
    image, _ = ellipses(rng, 64, angles, 33.0)
    found = find_center(image, angles, method="entropy", search=(28, 38))
    assert abs(found.center - 33.0) < 1
    assert np.isfinite(found.error)


def test_methods_that_disagree_say_so(rng):
    angles, center = turn(360, 120), 47.0
    image, _ = ellipses(rng, 96, angles, center)
    drift = np.linspace(-3, 3, angles.size)  # a stage that creeps, whose pairs disagree
    moved = np.stack([np.interp(np.arange(96) - d, np.arange(96), row)
                      for d, row in zip(drift, image, strict=True)])  # fmt: skip
    found = find_center(moved, angles)
    assert found.error > 10 * find_center(image, angles).error


@pytest.mark.parametrize("method", ["mass", "opposite", "fourier", "entropy"])
def test_the_order_of_the_angles_does_not_matter(rng, method):
    angles = turn(360 if method in ("mass", "opposite") else 180, 90)
    image, _ = ellipses(rng, 80, angles, 42.2)
    mixed = rng.permutation(angles.size)
    sorted_first = find_center(image, angles, method=method)
    assert find_center(image[mixed], angles[mixed], method=method).center == pytest.approx(
        sorted_first.center, abs=1e-9
    )


def test_uneven_angles_are_resampled(rng):
    angles = np.sort(turn(180, 150) + rng.uniform(-0.4, 0.4, 150) * np.pi / 150)
    image, _ = ellipses(rng, 96, angles, 51.3)
    assert abs(find_center(image, angles, method="fourier").center - 51.3) < CENTER


def test_last_projection_at_180_degrees_is_not_counted_twice(rng):
    angles = np.deg2rad(np.linspace(0, 180, 121))
    image, _ = ellipses(rng, 96, angles, 44.6)
    assert abs(find_center(image, angles).center - 44.6) < CENTER


def test_input_is_untouched_and_gaps_background_and_dead_projections_do_no_harm(rng):
    angles = turn(360, 80)
    image, _ = ellipses(rng, 101, angles, 46.2)
    image = np.asarray(image + 20, dtype=np.float32)
    image[3, 40:43] = np.nan
    image[:, 70] = np.inf
    image[17] = np.nan
    before = image.copy()
    for method in ("auto", "mass"):
        assert abs(find_center(image, angles, method=method).center - 46.2) < CENTER
    np.testing.assert_array_equal(image, before)


def test_a_truncated_sample_is_centered_by_opposite_projections(rng):
    angles = turn(360, 120)
    image, _ = ellipses(rng, 128, angles, 60.0, fill=0.8)
    cut = image[:, 20:]
    assert abs(find_center(cut, angles, method="opposite").center - 40.0) < CENTER


def test_scores_are_least_at_the_axis(rng):
    candidates = np.arange(40, 60, 0.25)
    for score, degrees in ((score_mass, 180), (score_opposite, 360), (score_fourier, 180)):
        angles = turn(degrees, 120)
        image, _ = ellipses(rng, 101, angles, 48.5)
        assert candidates[np.argmin(score(image, angles, candidates))] == pytest.approx(
            48.5, abs=0.25
        )


def test_center_of_mass_bridges_gaps():
    image = np.array([[0.0, 1.0, np.nan, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0], [np.nan] * 5])
    np.testing.assert_allclose(center_of_mass(image), [2.0, np.nan, np.nan])


def test_sine_fit_is_exact_and_ignores_an_outlier():
    angles = turn(180, 60)
    path = 31.7 + 4 * np.cos(angles) - 2.5 * np.sin(angles)
    path[10] += 30
    path[20] = np.nan
    fit = fit_sine(path, angles)
    assert (fit.center, fit.amplitude_cos, fit.amplitude_sin) == pytest.approx(
        (31.7, 4, -2.5), abs=1e-3
    )
    assert fit.residual[10] == pytest.approx(30, abs=1e-2)
    assert np.isnan(fit.residual[20])


@pytest.mark.parametrize("whole", [True, False])
def test_projection_shifts_recover_what_a_sine_does_not_explain(rng, whole):
    angles = turn(180, 100)
    image, shifts = ellipses(rng, 96, angles, 50.0, jitter=0 if whole else 3)
    if whole:
        shifts = rng.integers(-3, 4, angles.size).astype(float)
        image = np.stack([np.roll(row, int(s)) for row, s in zip(image, shifts, strict=True)])
    found, center = projection_shifts(image + 5, angles)
    explained = fit_sine(shifts, angles)
    np.testing.assert_allclose(found, explained.residual, atol=CENTER)
    assert center == pytest.approx(50.0 + explained.center, abs=CENTER)


def test_a_rolled_sinogram_moves_the_center_by_the_roll(rng):
    angles = turn(180, 128)
    image, _ = ellipses(rng, 128, angles, 63.5)
    moved = find_center(np.roll(image, 3, axis=1), angles).center
    assert moved - find_center(image, angles).center == pytest.approx(3, abs=CENTER)


@pytest.mark.parametrize("fill", [0.0, 7.0])
def test_an_image_without_contrast_is_refused(fill):
    with pytest.raises(SchemaError, match="undetermined: the image has one value everywhere"):
        find_center(np.full((20, 30), fill), turn(180, 20))


def test_bad_input_is_refused_in_words(rng):
    angles = turn(180, 40)
    image, _ = ellipses(rng, 64, angles, 30)
    with pytest.raises(SchemaError, match="at least 3 distinct projection angles"):
        find_center(image[:2], angles[:2])
    with pytest.raises(SchemaError, match="40 projections need as many angles, not 39"):
        find_center(image, angles[1:])
    with pytest.raises(SchemaError, match="Sum or select the channels first"):
        find_center(image[..., None], angles)
    with pytest.raises(SchemaError, match=r"hold none\. Use method='fourier'"):
        find_center(image, angles * 0.9, method="opposite")
    with pytest.raises(SchemaError, match="needs angles over half a turn, not 88 degrees"):
        find_center(image, angles / 2, method="fourier")
    with pytest.raises(SchemaError, match=r"lies at the border.*Widen search"):
        find_center(image, angles, search=(33, 45))
    with pytest.raises(OptionError, match="Did you mean 'fourier'"):
        find_center(image, angles, method="fourrier")


def i18(path):
    with h5py.File(path) as file:
        entry = file["entry1/stxm_entry"]
        flux = entry["data/data"][:] / entry["monitor/data"][:].astype(float)
        theta = np.deg2rad(entry["data/theta"][:])
    edges = np.concatenate([flux[..., :3], flux[..., -3:]], axis=-1)
    return -np.log(flux / np.median(edges, axis=-1, keepdims=True)).sum(axis=1), theta


def test_catalyst_scan_whose_stage_drifts(shared_data):
    """Pairs of opposite projections place the axis from 43.1 to 45.4 as the stage drifts.

    0 and 180 degrees alone give 45.4; the center whose reconstruction fits best is 44.5.
    """
    image, theta = i18(shared_data("i18_catalyst_multimodal.nxs"))
    found = find_center(image, theta)
    assert found.method == "opposite"
    assert abs(found.center - 44.5) < CENTER_REAL
    assert found.error > 0.2
    turned = np.rad2deg(np.mod(theta, np.pi))
    start = (turned < 30) | (turned > 165)
    late = find_center(image[start], theta[start], method="opposite")
    assert abs(late.center - 45.4) < CENTER_REAL


def test_tooth_scan(shared_data):
    with h5py.File(shared_data("aps_tooth_ct.h5")) as file:
        data = file["exchange"]
        dark = data["data_dark"][:].mean(axis=0)
        share = (data["data"][:] - dark) / (data["data_white"][:].mean(axis=0) - dark)
        theta = np.deg2rad(data["theta"][:])
    for row in range(2):
        image = -np.log(share[:, row])
        for method in ("auto", "mass"):
            assert abs(find_center(image, theta, method=method).center - 296.0) < CENTER_REAL


def test_gel_scan(shared_data):
    with h5py.File(shared_data("gel_phantom_17frames.h5")) as file:
        image = file["parallel/sinogram"][:].astype(float).sum(axis=0)
        theta = np.deg2rad(file["parallel/angles_deg"][:])
    for method in ("auto", "mass"):
        assert abs(find_center(image, theta, method=method).center - 140.5) < CENTER_REAL
