import numpy as np
import pytest
from scipy.integrate import quad

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.simulation import phantoms
from tests.tolerances import ROUNDING

F64 = ROUNDING[np.dtype("float64")]
Q = np.linspace(2.1, 4.59, 250)


def capillary(size=96, phases=4, grains=60, seed=3, **options):
    return phantoms.capillary_phantom(size, phases, grains, np.random.default_rng(seed), **options)


@pytest.mark.parametrize("center", [None, (40.25, 61.5)])
def test_area_of_a_disc_is_pi_r_squared(center):
    assert phantoms.disc((101, 120), 30.0, center).sum() == pytest.approx(np.pi * 900, rel=0.01)


def test_the_middle_of_a_disc_is_half_of_n_minus_one():
    mask = phantoms.disc((21, 30), 8.0)
    rows, columns = np.nonzero(mask)
    assert (rows.mean(), columns.mean()) == (10.0, 14.5)


def test_a_ring_and_its_inner_disc_make_the_outer_disc():
    inner, outer = phantoms.disc((50, 50), 10.0), phantoms.disc((50, 50), 15.0)
    ring = phantoms.ring((50, 50), 10.0, 15.0)
    assert not (ring & inner).any()
    np.testing.assert_array_equal(ring | inner, outer)


def test_voronoi_labels_name_the_nearest_seed():
    seeds = np.random.default_rng(0).uniform(0, 30, (25, 2))
    pixels = np.stack(np.mgrid[:30, :34], axis=-1)
    brute = np.linalg.norm(pixels[:, :, None] - seeds, axis=-1).argmin(axis=-1)
    np.testing.assert_array_equal(phantoms.voronoi_labels((30, 34), seeds), brute)


def test_voronoi_grains_follow_their_seed():
    first, again, other = (
        phantoms.voronoi_grains((40, 50), 30, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (40, 50)
    assert set(np.unique(first)) <= set(range(30))


def test_a_capillary_follows_its_seed():
    for same, again in zip(capillary(), capillary(), strict=True):
        np.testing.assert_array_equal(same, again)
    assert (capillary().labels != capillary(seed=4).labels).any()


def test_grains_fill_the_sample_disc_and_nothing_else():
    truth = capillary()
    sample = phantoms.disc((96, 96), 0.42 * 96)
    np.testing.assert_array_equal(truth.labels >= 0, sample)
    assert not truth.phase_map[~sample].any()
    assert not truth.strain_map[~sample].any()


def test_a_grain_has_one_composition_and_one_strain():
    truth = capillary()
    for grain in np.unique(truth.labels[truth.labels >= 0]):
        cell = truth.labels == grain
        assert np.ptp(truth.phase_map[cell], axis=0).max() == 0
        assert np.ptp(truth.strain_map[cell]) == 0


def test_grains_are_pure_mixed_or_void_in_the_promised_amounts():
    truth = capillary(size=200, grains=800)
    first = [np.flatnonzero(truth.labels == grain)[:1] for grain in range(800)]
    amounts = truth.phase_map.reshape(-1, 4)[np.concatenate(first)]
    present = (amounts > 0).sum(axis=1)
    assert np.bincount(present).size == 3
    np.testing.assert_allclose(np.bincount(present) / present.size, [0.1, 0.7, 0.2], atol=0.05)
    total = amounts.sum(axis=1)[present > 0]
    assert total.min() >= 0.6
    assert total.max() <= 1.0


def test_strains_are_the_levels_and_every_phase_is_there():
    truth = capillary(strain=2e-3)
    np.testing.assert_allclose(truth.levels, [-2e-3, -1e-3, 0, 1e-3, 2e-3], atol=F64)
    assert set(np.unique(truth.strain_map)) == set(truth.levels)
    assert (truth.phase_map.max(axis=(0, 1)) > 0).all()


@pytest.mark.parametrize("size", [8, 33, 96, 257])
def test_the_wall_is_closed_and_outside_the_sample(size):
    truth = capillary(size=size, phases=1, grains=3)
    wall = truth.wall > 0
    assert not (wall & (truth.labels >= 0)).any()
    assert wall[size // 2].sum() >= 2  # a row through the middle crosses it on both sides
    y, x = np.nonzero(wall)
    assert np.hypot(y - (size - 1) / 2, x - (size - 1) / 2).max() <= 0.45 * size


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 4}, "size=4 is too small"),
        ({"phases": 0}, "phases=0 must be 1 or more"),
        ({"grains": 0}, "grains=0 must be 1 or more"),
        ({"levels": 0}, "levels=0 must be 1 or more"),
    ],
)
def test_an_impossible_capillary_is_refused(options, words):
    with pytest.raises(OptionError, match=words):
        capillary(**options)


@pytest.mark.parametrize("name", phantoms.REFLECTIONS)
def test_a_pattern_is_the_closed_form_of_the_example(name):
    expected = 0.01 + sum(
        height * np.exp(-((Q - position) ** 2) / (2 * 0.025**2))
        for position, height in phantoms.REFLECTIONS[name]
    )
    np.testing.assert_allclose(
        phantoms.pattern(Q, phantoms.REFLECTIONS[name]), expected, rtol=100 * F64
    )


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_area_of_a_peak_is_its_integral(fraction):
    def peak(q):
        return float(phantoms.pattern(q, ((0.0, 2.5),), fwhm=0.4, fraction=fraction, baseline=0))

    integral = 2 * quad(peak, 0, np.inf)[0]
    assert phantoms.peak_area(2.5, 0.4, fraction) == pytest.approx(integral, rel=1e-7)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_a_peak_is_half_as_high_half_a_width_away(fraction):
    half = phantoms.pattern(3.1, ((3.0, 1.0),), fwhm=0.2, fraction=fraction, baseline=0.0)
    assert float(half) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("strain", [-2e-3, 1e-3])
def test_a_stretched_lattice_diffracts_at_smaller_q(strain):
    q = np.linspace(2.9, 3.1, 20001)
    top = q[phantoms.pattern(q, ((3.0, 1.0),), strain=strain).argmax()]
    assert top == pytest.approx(3.0 / (1 + strain), abs=1e-5)
    assert (top < 3.0) == (strain > 0)


def test_scatter_of_glass_and_air_is_smooth_and_positive():
    halo, air = phantoms.amorphous_halo(Q), phantoms.air_scatter(Q)
    assert halo.min() > 0
    assert air.min() > 0
    assert (np.diff(air) < 0).all()
    assert np.abs(np.diff(halo, 2)).max() < 1e-3 * halo.max()


@pytest.mark.parametrize(("count", "topups"), [(12, 1), (12, 3), (13, 3), (4, 4)])
def test_the_beam_is_refilled_as_often_as_asked(count, topups):
    beam = phantoms.beam_decay(count, 0.7, topups)
    assert beam.shape == (count,)
    assert (beam == 1).sum() == topups
    assert (np.diff(beam) > 0).sum() == (topups - 1 if count > topups else 0)
    assert beam[-1] == (0.7 if count > topups else 1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: phantoms.beam_decay(5, 0.0), "drop=0 must lie above 0"),
        (lambda: phantoms.beam_decay(5, 0.5, 6), "topups=6 must lie between 1 and the 5 points"),
        (lambda: phantoms.pattern(Q, ((3.0, 1.0),), fwhm=0), "fwhm=0 must be above 0"),
        (lambda: phantoms.peak_area(1.0, 1.0, 1.5), "fraction=1.5 must lie between 0"),
        (lambda: phantoms.pattern(Q, ((3.0, 1.0),), strain=-1), "leaves no lattice"),
        (
            lambda: phantoms.voronoi_grains((4, 4), 0, np.random.default_rng(0)),
            "grains=0 must be 1 or more",
        ),
    ],
)
def test_impossible_options_are_refused(call, words):
    with pytest.raises(OptionError, match=words):
        call()
