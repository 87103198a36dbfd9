import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.simulation import defects
from ndtomo_dask.kernels.simulation.defects import DEAD, GOOD, HOT, Defects

ROWS, ANGLES = (24, 40), 30


def counted(given, number=0, expected=None):
    expected = np.full(ROWS, 50.0) if expected is None else expected
    return defects.count_projection(expected, given, number=number, angles=ANGLES)


def test_without_defects_the_expected_counts_are_counted():
    expected = np.random.default_rng(0).uniform(0, 9, ROWS)
    assert counted(Defects(), expected=expected) is expected


def test_every_defect_leaves_its_input_alone():
    given = Defects(0.1, 500, 2, 2, 29, noise="poisson")
    expected = np.full(ROWS, 50.0)
    for number in range(ANGLES):
        counted(given, number, expected)
    assert (expected == 50.0).all()


def test_stripes_scatter_as_asked_and_lie_at_one_translation():
    gain = defects.stripe_gain(Defects(stripes=0.05), 200, 4000)
    lasting = gain.mean(axis=0)
    assert lasting.std() == pytest.approx(0.05, rel=0.1)
    assert gain.mean() == pytest.approx(1, abs=0.01)
    assert (gain[0] - gain[-1]).std() == pytest.approx(2 * 0.05 * defects.DRIFT, rel=0.1)


def test_a_strong_stripe_is_dark_not_negative():
    assert (defects.stripe_gain(Defects(stripes=5.0), 8, 100) >= 0).all()


def test_spots_stand_in_single_rays_at_the_true_places():
    given = Defects(spots=40, bright=100.0)
    found = np.stack([counted(given, number) for number in range(ANGLES)]) - 50.0
    spots = defects.draw_spots(given, ANGLES, *ROWS, 0)
    rays = {*zip(spots.angle, spots.translation, strict=True)}
    assert {tuple(ray) for ray in np.argwhere((found > 0.01).any(axis=-1))} == rays
    channel = np.rint(spots.channel).astype(int)
    assert (found[spots.angle, spots.translation, channel] >= 0.9 * spots.height).all()
    assert (spots.height >= 100).all()


def test_each_slice_has_spots_of_its_own():
    given = Defects(spots=8)
    first, other = (defects.draw_spots(given, ANGLES, *ROWS, number) for number in (0, 1))
    assert (first.channel != other.channel).any()


def test_hot_channels_count_too_much_and_dead_ones_nothing():
    given = Defects(hot_channels=3, dead_channels=2, bright=200.0)
    states = defects.channel_states(given, ROWS[1])
    assert [int((states == state).sum()) for state in (GOOD, HOT, DEAD)] == [35, 3, 2]
    found = counted(given)
    assert (found[:, states == GOOD] == 50).all()
    assert (found[:, states == HOT].mean(axis=0) > 150).all()
    assert (found[:, states == HOT].std(axis=0) > 0).all()
    assert (found[:, states == DEAD] == 0).all()


def test_missing_projections_have_no_counts():
    given = Defects(missing=7)
    missing = defects.missing_projections(given, ANGLES)
    assert missing.sum() == 7
    empty = [not counted(given, number).any() for number in range(ANGLES)]
    np.testing.assert_array_equal(missing, empty)


@pytest.mark.parametrize(
    "other", [{"stripes": 0.1}, {"spots": 50}, {"dead_channels": 3}, {"missing": 5}]
)
def test_a_defect_does_not_change_what_the_others_draw(other):
    alone, both = Defects(hot_channels=4), Defects(hot_channels=4, **other)
    hot = [defects.channel_states(one, 60) == HOT for one in (alone, both)]
    np.testing.assert_array_equal(*hot)


def test_more_bad_channels_or_projections_than_there_are_is_refused():
    with pytest.raises(OptionError, match="9 channels cannot be hot or dead: the scan has 8"):
        defects.channel_states(Defects(hot_channels=5, dead_channels=4), 8)
    with pytest.raises(OptionError, match="missing=8 leaves nothing"):
        defects.missing_projections(Defects(missing=8), 8)
    with pytest.raises(OptionError, match="spots=-1 must be 0 or more"):
        Defects(spots=-1)
