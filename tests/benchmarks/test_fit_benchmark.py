import numpy as np
import pytest

from benchmarks import fit_cases, fit_peers, fit_rivals


@pytest.mark.filterwarnings("ignore")  # of the peers' own imports
def test_every_installed_rival_reaches_our_minimum():
    case = fit_cases.Case(1, 4)
    ours = fit_cases.squares(case, case.ours(case.start, significance=0))
    rivals = {"SciPy": fit_rivals.curve_fit, **fit_rivals.RIVALS}
    reached = {}
    for name, rival in rivals.items():
        try:
            reached[name] = rival(case, 4)
        except ImportError:
            continue
    assert "SciPy" in reached
    for found in reached.values():
        np.testing.assert_allclose(found, ours, rtol=1e-3)


@pytest.mark.parametrize("name", fit_rivals.PACKAGED)
def test_fits_with_a_model_of_their_own_find_the_peak(name):
    case = fit_cases.Case(1, 12)
    try:
        found = fit_rivals.PACKAGED[name](case, 12)
    except ImportError:
        pytest.skip(f"{name.split()[0]} is not installed")
    assert np.median(np.abs(found - case.truth[:, 0, 1])) < 1


@pytest.mark.filterwarnings("ignore")  # of the peers' own imports
@pytest.mark.parametrize("peaks", [1, 3])
def test_the_race_tells_every_rival(peaks):
    told = "\n".join(fit_peers.race(peaks, 20, 2, 1))
    assert f"{peaks} peaks" in told
    names = ["SciPy curve_fit", *([*fit_rivals.RIVALS, *fit_rivals.PACKAGED] if peaks == 1 else ())]
    assert all(name in told for name in names)


def test_misses_are_counted_against_the_best_known():
    case = fit_cases.Case(3, 60)
    assert fit_cases.misses(case) < 0.05
    assert fit_cases.agreement(case, 3) > 0.9


def test_the_truth_has_the_heights_that_it_was_made_with():
    x = np.linspace(-400, 400, 80_001)
    for fraction in (0.0, 0.3, 1.0):
        area = float(fit_cases.unit_area(np.array(fraction))) * 5
        peak = fit_cases.profile(x, area, 0.0, 5.0, np.array(fraction))
        assert peak.max() == pytest.approx(1)
        assert peak[np.searchsorted(x, 2.5)] == pytest.approx(0.5, abs=1e-3)


def test_what_is_left_through_dask_is_told(tmp_path):
    assert fit_peers.through_dask(8, 1, tmp_path) > 0
