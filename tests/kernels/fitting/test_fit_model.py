"""Laws of fits with several peaks, ties, backgrounds and likelihoods; NIST's certified values."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.least_squares import FitStatus, ModelFit, fit_model, fit_peak
from ndtomo_dask.kernels.fitting.peak_model import (
    KA_COPPER,
    PeakModel,
    Tie,
    background_rows,
    caglioti,
    evaluate_model,
    ka_doublet,
    same,
)
from ndtomo_dask.kernels.fitting.peaks import SHAPES, SINGLE, evaluate_peak, evaluate_shape
from tests.tolerances import FIT, PULL_WIDTH, STATISTICAL

DATA = Path(__file__).parents[2] / "data"
X = np.linspace(3.0, 3.4, 128)
THREE = PeakModel({"a": "pseudo_voigt", "b": "gaussian", "c": "lorentzian"})
BOUNDS = {"a.position": (3.05, 3.15), "b.position": (3.15, 3.25), "c.position": (3.25, 3.35),
          "fwhm": (0.01, 0.1)}  # fmt: skip


def three_peaks(rng, pixels):
    truth = []
    for at, fraction in ((3.1, rng.uniform(0.2, 0.8, pixels)), (3.2, 0), (3.3, 1)):
        truth += [rng.uniform(1, 5, pixels), at + rng.uniform(-0.01, 0.01, pixels)]
        truth += [rng.uniform(0.03, 0.05, pixels), np.broadcast_to(fraction, pixels)]
    truth += [rng.uniform(5, 9, pixels), rng.uniform(-3, 3, pixels)]
    truth = np.column_stack(truth)
    return sum(evaluate_model(THREE, X, truth).values()), truth


@pytest.mark.parametrize("shape", SINGLE)
def test_every_shape_is_recovered_without_noise(shape):
    rng = np.random.default_rng(1)
    spare = {"fraction": (0.2, 0.8), "asymmetry": (0.05, 0.3)}
    truth = [rng.uniform(5, 30, 20), rng.uniform(3.15, 3.25, 20), rng.uniform(0.02, 0.05, 20)]
    for name in SHAPES[shape].parameters[3:]:
        low, high = SHAPES[shape].limits[name]
        truth.append(np.full(20, low) if low == high else rng.uniform(*spare[name], 20))
    truth = np.column_stack(truth)
    spectra = evaluate_shape(shape, X, truth) + 50 + 20 * (X - 3.2)
    found = fit_model(spectra, X, PeakModel({"a": shape}))
    np.testing.assert_allclose(found.values[:, : truth.shape[1]], truth, rtol=FIT, atol=FIT)


def test_peaks_of_several_shapes_are_recovered():
    spectra, truth = three_peaks(np.random.default_rng(2), 50)
    fit = fit_model(spectra, X, THREE, bounds=BOUNDS)
    assert np.all(fit.status <= FitStatus.STALLED)
    np.testing.assert_allclose(fit.values, truth, rtol=FIT, atol=FIT)


def test_peaks_that_are_alike_are_numbered_by_position():
    rng = np.random.default_rng(3)
    at = np.sort(rng.uniform(3.05, 3.35, (60, 2)), axis=1)
    at = at[np.diff(at)[:, 0] > 0.05]
    area = rng.uniform(1, 9, (2, len(at), 1))
    spectra = sum(evaluate_peak(X, area=area[k], position=at[:, [k]], fwhm=0.03, fraction=0.3)
                  for k in range(2))  # fmt: skip
    fit = fit_model(spectra, X, PeakModel({"first": "pseudo_voigt", "second": "pseudo_voigt"}))
    found = np.column_stack([fit["first.position"], fit["second.position"]])
    np.testing.assert_allclose(found, at, rtol=FIT)


def test_peak_that_is_not_there_is_left_out_and_the_others_fitted():
    rng = np.random.default_rng(4)
    spectra, truth = three_peaks(rng, 300)
    spectra -= evaluate_model(THREE, X, truth)["b"]
    spectra += rng.normal(scale=1.0, size=spectra.shape)
    fit = fit_model(spectra, X, THREE, bounds=BOUNDS, significance=5.0)
    gone = fit.status[:, 1] == FitStatus.INSIGNIFICANT
    assert gone.mean() > 0.95
    assert np.isnan(fit["b.area"][gone]).all()
    assert np.isnan(fit.error("b.position")[gone]).all()
    assert np.isfinite(fit["a.area"]).mean() > 0.99


def test_tied_parameters_are_what_the_ties_say():
    ties = ka_doublet("one", "two") | {"three.fwhm": Tie({"one.fwhm": 2.0}, offset=0.001)}
    model = PeakModel({"one": "pseudo_voigt", "two": "pseudo_voigt", "three": "gaussian"}, 0, ties)
    x, bounds = np.linspace(2.0, 2.3, 160), {"three.position": (2.2, 2.25)}
    truth = {"one": (8.0, 2.1, 0.008, 0.4), "three": (3.0, 2.22, 0.017, 0.0)}
    truth["two"] = (4.0, 2.1 * KA_COPPER[1] / KA_COPPER[0], 0.008, 0.4)
    spectra = sum(evaluate_shape("pseudo_voigt", x, [p]) for p in truth.values()) + 5.0
    fit = fit_model(spectra, x, model, bounds=bounds)
    for name, expected in truth.items():
        first = fit.names.index(f"{name}.area")
        np.testing.assert_allclose(fit.values[0, first : first + 4], expected, rtol=FIT, atol=FIT)
    noisy = spectra + np.random.default_rng(5).normal(size=(300, x.size))
    fit = fit_model(noisy, x, model, bounds=bounds)
    np.testing.assert_allclose(fit["two.area"], fit["one.area"] / 2, rtol=FIT)
    np.testing.assert_allclose(fit.error("two.area"), fit.error("one.area") / 2, rtol=FIT)
    pull = (fit["one.fwhm"] - 0.008) / fit.error("one.fwhm")
    assert abs(np.std(pull) - 1) < 2 * PULL_WIDTH


def test_widths_over_a_pattern_follow_caglioti():
    tth = {"a": 20.0, "b": 35.0, "c": 50.0, "d": 65.0}
    true = {"U": 0.05, "V": -0.02, "W": 0.01, "X": 0.02, "Y": 0.01}
    ties, x, rng = caglioti(tth), np.linspace(15, 70, 1200), np.random.default_rng(6)
    width = {n: sum(c * true[u] for u, c in tie.terms.items()) for n, tie in ties.items()}
    spectra = np.full((1, x.size), 20.0)
    for name, at in tth.items():
        peak = [50.0, at, width[f"{name}.gaussian_square"], width[f"{name}.lorentzian_fwhm"]]
        spectra += evaluate_shape("thompson_cox_hastings", x, peak)
    spectra = np.concatenate([spectra, spectra + rng.normal(size=(60, x.size))])
    model = PeakModel(dict.fromkeys(tth, "thompson_cox_hastings"), 1, ties)
    bounds = {f"{name}.position": (at - 1, at + 1) for name, at in tth.items()}
    fit = fit_model(spectra, x, model, bounds=bounds)
    for name, expected in true.items():
        assert fit[name][0] == pytest.approx(expected, rel=FIT)
        pulls = (fit[name][1:] - expected) / fit.error(name)[1:]
        assert abs(pulls.mean()) < STATISTICAL / np.sqrt(60)


@pytest.mark.parametrize("background", [5, "chebyshev:4", np.cos(20 * X), [1, np.cos(20 * X)]])
def test_backgrounds(background):
    rng, rows = np.random.default_rng(7), background_rows(background, X)
    scale, area = rng.uniform(-5, 5, (20, len(rows))), rng.uniform(2, 5, (20, 1))
    spectra = evaluate_peak(X, area=area, position=3.2, fwhm=0.04, fraction=0.4)
    fit = fit_peak(spectra + scale @ rows, X, background=background)
    np.testing.assert_allclose(fit.area, area[:, 0], rtol=FIT)
    np.testing.assert_allclose(fit.background, scale, rtol=FIT, atol=FIT)


def test_bounds_and_starts_may_be_maps():
    at = np.random.default_rng(8).uniform(3.08, 3.32, 80)
    at = at[np.abs(at - 3.2) > 0.04]
    strange = 6.4 - at  # a stronger peak elsewhere in the window
    spectra = evaluate_peak(X, area=2.0, position=at[:, None], fwhm=0.03, fraction=0.5)
    spectra += evaluate_peak(X, area=6.0, position=strange[:, None], fwhm=0.03, fraction=0.5)
    model = PeakModel({"a": "pseudo_voigt"}, 0)
    by_bounds = fit_model(spectra, X, model, bounds={"position": (at - 0.02, at + 0.02)})
    assert np.nanmax(np.abs(by_bounds["a.position"] - at)) <= 0.02 + 1e-12
    start = {"a.position": at, "a.fwhm": 0.03, "a.area": 2.0}
    by_start = fit_model(spectra, X, model, start=start, significance=0)
    assert np.mean(np.abs(by_start["a.position"] - at) < 0.02) > 0.9


def test_order_and_chunks_do_not_matter():
    rng = np.random.default_rng(9)
    spectra, _ = three_peaks(rng, 1300)
    spectra = (spectra + rng.normal(size=spectra.shape)).astype("float32")
    low, some = rng.uniform(3.05, 3.07, 1300), rng.permutation(1300)[:200]
    fits = [
        fit_model(spectra[rows], X, THREE, bounds=BOUNDS | {"a.position": (low[rows], 3.15)},
                  likelihood="cauchy")
        for rows in (slice(None), some)
    ]  # fmt: skip
    for item in fields(ModelFit)[1:]:
        whole, part = (getattr(fit, item.name) for fit in fits)
        np.testing.assert_array_equal(part, whole[some], item.name)


NOISE = {"gaussian": "counts", "weighted": "given", "poisson": None, "huber": "given",
         "cauchy": "given"}  # fmt: skip


@pytest.mark.parametrize("likelihood", NOISE)
def test_errors_are_as_wide_as_the_scatter_of_counts(likelihood):
    truth = {"area": 20.0, "position": 3.2, "fwhm": 0.05, "fraction": 0.5}
    expected = evaluate_peak(X, **truth) + 50
    spectra = np.random.default_rng(10).poisson(expected, (2000, X.size)).astype(float)
    variance = expected if NOISE[likelihood] == "given" else NOISE[likelihood]
    fit = fit_peak(spectra, X, likelihood=likelihood, variance=variance)
    for name, value in truth.items():
        pull = (getattr(fit, name) - value) / getattr(fit, f"{name}_error")
        assert abs(np.nanstd(pull) - 1) < PULL_WIDTH
        assert abs(np.nanmean(pull)) < 0.15  # the bias of a nonlinear model
    if likelihood in ("weighted", "poisson"):
        assert fit.reduced_chi_square.mean() == pytest.approx(1.0, abs=0.02)


def test_poisson_likelihood_is_not_biased_where_counts_are_few():
    expected = evaluate_peak(X, area=2.0, position=3.2, fwhm=0.05, fraction=0.5) + 0.3
    spectra = np.random.default_rng(11).poisson(expected, (800, X.size)).astype(float)
    poisson = fit_peak(spectra, X, likelihood="poisson", background=0)
    assert np.nanmean(poisson.area) == pytest.approx(2.0, rel=0.05)
    assert np.nanstd(poisson.area) < np.nanstd(fit_peak(spectra, X, background=0).area)


@pytest.mark.parametrize("likelihood", ["huber", "cauchy"])
def test_spots_hardly_move_a_robust_fit(likelihood):
    rng = np.random.default_rng(12)
    spectra = evaluate_peak(X, area=20.0, position=3.2, fwhm=0.05, fraction=0.5) + 50
    spectra = spectra + rng.normal(scale=5, size=(300, X.size))
    np.put_along_axis(spectra, rng.integers(0, X.size, (300, 2)), 3000.0, axis=1)
    robust, plain = fit_peak(spectra, X, likelihood=likelihood), fit_peak(spectra, X)
    off = [np.nanmedian(np.abs(fit.area / 20 - 1)) for fit in (robust, plain)]
    assert off[0] < 0.05 < off[1]


def test_negative_counts_are_bad_input():
    spectra, _ = three_peaks(np.random.default_rng(13), 2)
    spectra[1, 5] = -1.0
    status = fit_model(spectra, X, THREE, bounds=BOUNDS, likelihood="poisson").status
    assert np.all(status[0] <= FitStatus.STALLED)
    assert np.all(status[1] == FitStatus.BAD_INPUT)


def test_channel_without_a_variance_has_no_weight():
    spectra, truth = three_peaks(np.random.default_rng(14), 5)
    variance = np.ones(spectra.shape)
    variance[:, 40:44] = [0.0, np.nan, np.inf, -1.0]
    spectra[:, 40:44] = 1e6
    fit = fit_model(spectra, X, THREE, bounds=BOUNDS, likelihood="weighted", variance=variance)
    np.testing.assert_allclose(fit.values, truth, rtol=FIT, atol=FIT)


def nist(name):
    text = (DATA / f"{name}.dat").read_text()
    rows = re.findall(r"^\s+b\d =\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", text, re.MULTILINE)
    certified = np.array(rows, dtype=float)
    lines = re.split(r"Data:\s+y", text)[1].splitlines()[1:]
    data = np.array([line.split() for line in lines if line.strip()], dtype=float)
    return data[:, 1], data[:, 0], certified


@pytest.mark.parametrize("name", ["Gauss1", "Gauss2", "Gauss3"])
def test_certified_values_of_nist(name):
    """NIST StRD: two Gaussians on an exponential, from the further of its two starts."""
    x, y, certified = nist(name)
    first, _, value, error = certified.T
    middle, root = (x.min() + x.max()) / 2, 2 * np.sqrt(np.log(2))
    start = {"tail.decay": first[1], "tail.amplitude": first[0] * np.exp(-first[1] * middle)}
    for k, peak in ((2, "a"), (5, "b")):
        start |= {f"{peak}.position": first[k + 1], f"{peak}.fwhm": first[k + 2] * root}
        start[f"{peak}.area"] = first[k] * first[k + 2] * np.sqrt(np.pi)
    model = PeakModel({"a": "gaussian", "b": "gaussian", "tail": "exponential"}, -1)
    fit = fit_model(y[np.newaxis], x, model, start=start, tolerance=1e-14, significance=0)
    found = dict(zip(fit.names, fit.values[0], strict=True))
    ours = [found["tail.amplitude"] * np.exp(found["tail.decay"] * middle),
            found["tail.decay"]]  # fmt: skip
    for peak in "ab":
        width = found[f"{peak}.fwhm"] / root
        ours += [found[f"{peak}.area"] / (width * np.sqrt(np.pi)), found[f"{peak}.position"], width]
    np.testing.assert_allclose(ours, value, rtol=1e-6)
    positions = [fit.error(f"{peak}.position")[0] for peak in "ab"]
    np.testing.assert_allclose(positions, error[[3, 6]], rtol=1e-5)


SPECTRA = np.zeros((2, X.size))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"bounds": {"a.fwmh": (0, 1)}},
            "bounds='a.fwmh' is not a parameter. Did you mean 'a.fwhm'",
        ),
        ({"bounds": {"fwhm": 0.1}}, "bounds.'fwhm'.=0.1 must be .lowest, highest."),
        ({"start": {"q": 1.0}}, "start='q' is not a parameter"),
        ({"likelihood": "poison"}, "likelihood='poison' is not known. Did you mean 'poisson'"),
        ({"likelihood": "weighted"}, "likelihood='weighted' needs variance="),
        ({"variance": "count"}, "variance='count' is not known"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(OptionError, match=words):
        fit_model(SPECTRA, X, THREE, **options)


@pytest.mark.parametrize(
    ("ties", "words"),
    [
        (same("fwhm", "a", "d"), "ties='d.fwhm' is not a parameter"),
        (same("fwhm", "a", "b") | same("fwhm", "b", "c"), "'b.fwhm', which is tied itself"),
        ({"b.area": Tie({"a.fwhm": 1.0})}, "tie areas to areas only"),
        ({"fwhm": Tie({"a.fwhm": 1.0})}, "must name one peak's parameter"),
    ],
)
def test_wrong_ties_are_refused(ties, words):
    with pytest.raises(OptionError, match=words):
        fit_model(SPECTRA, X, PeakModel(THREE.peaks, 1, ties))


def test_wrong_models_are_refused():
    with pytest.raises(OptionError, match="needs at least one peak"):
        PeakModel({})
    with pytest.raises(OptionError, match="shape of peak 'a'='gausian' is not known"):
        PeakModel({"a": "gausian"})
    with pytest.raises(OptionError, match="background='cubic' is not known"):
        fit_model(SPECTRA, X, PeakModel(THREE.peaks, "cubic"))


def test_wrong_arrays_are_refused():
    with pytest.raises(SchemaError, match=r"variance needs the shape of the spectra, \(2, 128\)"):
        fit_model(SPECTRA, X, THREE, variance=np.ones(5))
    with pytest.raises(SchemaError, match=r"start.'a.fwhm'. has 3 values; expected one, or"):
        fit_model(SPECTRA, X, THREE, start={"a.fwhm": [1, 2, 3]})
    with pytest.raises(SchemaError, match="spectrum needs a finite value for each of 128"):
        fit_model(SPECTRA, X, PeakModel(THREE.peaks, np.ones(3)))
