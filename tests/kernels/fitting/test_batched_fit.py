"""Fits in Torch are those of the compiled kernel: the same minima, errors and statuses."""

import sys

import numpy as np
import pytest

from benchmarks.fit_cases import Case
from ndtomo_dask import fit_peaks
from ndtomo_dask.errors import BackendError, OptionError
from ndtomo_dask.kernels.fitting import least_squares
from ndtomo_dask.kernels.fitting.batched_fit import fit_batched
from ndtomo_dask.kernels.fitting.least_squares import FitStatus, fit_model
from ndtomo_dask.kernels.fitting.peak_model import PeakModel, same
from tests.fit_cases import PAIR, pair_truth, pair_volume
from tests.laws import assert_lazy

NEAR = 0.01
"""Of a standard error: what two stops of the same rule are apart."""
ERRORS = 0.01
"""Relative, of standard errors taken that far from the minimum."""
LIKELIHOODS = [{}, {"variance": "counts"}, {"likelihood": "poisson"}]


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def both(case, **options):
    return [fit_model(case.data, case.x, case.model, bounds=case.bounds, backend=backend, **options)
            for backend in ("cpu", "torch")]  # fmt: skip


def apart(ours, theirs):
    return np.abs(theirs.values - ours.values) / ours.errors


@pytest.mark.parametrize("options", LIKELIHOODS)
@pytest.mark.parametrize("peaks", [1, 2])
def test_values_errors_and_statuses_are_the_compiled_kernels(torch, peaks, options):
    case = Case(peaks, 300)
    ours, theirs = both(case, **options)
    distance = apart(ours, theirs)
    known = np.isfinite(distance)
    assert (distance[known] < NEAR).mean() > 0.99
    np.testing.assert_allclose(theirs.errors[known], ours.errors[known], rtol=ERRORS)
    np.testing.assert_array_equal(theirs.at_bound, ours.at_bound)
    np.testing.assert_array_equal(theirs.status, ours.status)
    np.testing.assert_allclose(theirs.reduced_chi_square, ours.reduced_chi_square, rtol=1e-4)


def test_most_fits_are_done_in_the_batch(torch, monkeypatch):
    done = []

    def counting(*given):
        done.append(fit_batched(*given))
        return done[-1]

    monkeypatch.setattr(least_squares, "fit_batched", counting)
    case = Case(2, 300)
    fit_model(case.data, case.x, case.model, bounds=case.bounds, backend="torch")
    assert done[0].mean() > 0.9


def test_what_is_out_of_the_ordinary_is_what_it_was(torch):
    case = Case(1, 40)
    case.data[3] = np.nan
    case.data[4, 20] = np.inf
    case.data[5] = 0.0
    case.data[6] = np.random.default_rng(1).normal(50.0, 3.0, case.x.size)
    ours, theirs = both(case, significance=6.0)
    assert ours.status[[3, 5, 6], 0].tolist() == [
        FitStatus.BAD_INPUT, FitStatus.INSIGNIFICANT, FitStatus.INSIGNIFICANT
    ]  # fmt: skip
    np.testing.assert_array_equal(theirs.status, ours.status)
    np.testing.assert_array_equal(theirs.values[3:7], ours.values[3:7])
    alone = fit_model(np.delete(case.data, [3, 4, 5, 6], axis=0), case.x, case.model,
                      bounds=case.bounds, significance=6.0, backend="torch")  # fmt: skip
    np.testing.assert_allclose(
        alone.values, np.delete(theirs.values, [3, 4, 5, 6], axis=0), rtol=1e-9
    )


def test_ties_fixed_shapes_and_maps_of_starts_hold(torch):
    case = Case(2, 120)
    ties = same("fwhm", "p0", "p1")
    peaks = {"p0": "gaussian", "p1": "pseudo_voigt"}
    start = {"p0.position": case.truth[:, 0, 1], "p1.position": case.truth[:, 1, 1]}
    model = PeakModel(peaks, [1, np.cos(case.x / 9)], ties)
    given = {"bounds": case.bounds, "start": start}
    ours, theirs = (fit_model(case.data, case.x, model, backend=name, **given)
                    for name in ("cpu", "torch"))  # fmt: skip
    distance = apart(ours, theirs)
    known = np.isfinite(distance)
    assert (distance[known] < NEAR).mean() > 0.99
    np.testing.assert_allclose(theirs["p0.fwhm"], theirs["p1.fwhm"], rtol=1e-6)


def test_an_axis_that_falls_is_fitted_alike(torch):
    case = Case(1, 60)
    given = {"bounds": case.bounds, "backend": "torch"}
    rising = fit_model(case.data, case.x, case.model, **given)
    falling = fit_model(case.data[:, ::-1], case.x[::-1], case.model, **given)
    assert np.nanmax(apart(rising, falling)) < NEAR


def test_single_precision_comes_back_and_inputs_are_not_written(torch):
    case = Case(1, 30)
    data = case.data.astype(np.float32)
    kept = data.copy()
    fit = fit_model(data, case.x, case.model, bounds=case.bounds, backend="torch")
    assert fit.values.dtype == fit.errors.dtype == np.float32
    np.testing.assert_array_equal(data, kept)


def test_the_verb_passes_it_on_whatever_the_blocks(torch, rng):
    ds = pair_volume(pair_truth(rng, (6, 7)))
    ds["volume"] = ds.volume + rng.normal(size=ds.volume.shape)
    ours = fit_peaks(ds, **PAIR)
    made = assert_lazy(lambda ds: fit_peaks(ds, backend="torch", **PAIR), ds.chunk(y=2))
    whole = fit_peaks(ds, backend="torch", **PAIR)
    for name in ("area", "position", "fwhm"):
        error = ours[f"peak_{name}_error"]
        for other in (made, whole):
            distance = abs(other[f"peak_{name}"] - ours[f"peak_{name}"]) / error
            assert float(distance.quantile(0.99)) < NEAR
    np.testing.assert_array_equal(made.peak_status, ours.peak_status)
    assert "backend='torch'" in made.attrs["history"]


def test_without_torch_it_is_refused_where_the_work_is_done(monkeypatch, rng):
    monkeypatch.setitem(sys.modules, "torch", None)
    ds = pair_volume(pair_truth(rng))
    made = fit_peaks(ds.chunk(y=1), backend="torch", **PAIR)
    with pytest.raises(BackendError, match=r"pip install 'ndtomo-dask\[torch\]'"):
        made.peak_area.compute(scheduler="synchronous")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": "voigt"}, r"backend='torch' fits 'gaussian', 'lorentzian' and 'pseudo_voigt'"),
        ({"background": [0, "exponential"]}, r"the other shapes and an exponential background"),
        ({"likelihood": "huber"}, r"backend='torch' knows likelihood='gaussian' and 'poisson'"),
        ({"backend": "cuda"}, r"backend='cuda' is not known. Known are: auto, cpu, torch"),
    ],
)
def test_what_it_does_not_do_is_refused_in_words(rng, options, words):
    ds = pair_volume(pair_truth(rng)).chunk(y=1)
    with pytest.raises(OptionError, match=words):
        fit_peaks(ds, **{"backend": "torch"} | PAIR | options)
