"""Laws of the batched peak fit: truth, peers, statistics, isolation, bounds, words."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.optimize import curve_fit

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.least_squares import FitStatus, PeakFit, fit_peak
from ndtomo_dask.kernels.fitting.peak_shapes import subtract_pseudo_voigt
from ndtomo_dask.kernels.fitting.peaks import PARAMETERS, evaluate_background, evaluate_peak
from tests.tolerances import FIT, FIT_PEER, NARROW_PEAK, PULL_WIDTH, STATISTICAL

AXIS = np.linspace(3.05, 3.13, 64)


def column(values):
    return np.asarray(values)[..., np.newaxis]


def simulate(rng, pixels, axis=AXIS, shape="pseudo_voigt", terms=2):
    span = np.ptp(axis)
    fraction = {"gaussian": 0.0, "lorentzian": 1.0}.get(shape, rng.uniform(0.15, 0.85, pixels))
    truth = {
        "area": rng.uniform(1, 30, pixels) * span,
        "position": axis.min() + rng.uniform(0.35, 0.65, pixels) * span,
        "fwhm": rng.uniform(0.1, 0.2, pixels) * span,
        "fraction": np.broadcast_to(fraction, pixels),
    }
    background = rng.uniform(-20, 20, (pixels, terms))
    spectra = evaluate_peak(axis, **{name: column(v) for name, v in truth.items()})
    return spectra + evaluate_background(axis, background), truth | {"background": background}


def assert_same_fit(a, b, index=slice(None)):
    for item in fields(PeakFit):
        np.testing.assert_array_equal(getattr(a, item.name)[index], getattr(b, item.name)[index])


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian", "pseudo_voigt"])
@pytest.mark.parametrize("background", [-1, 0, 1, 2])
def test_truth_without_noise_is_recovered(shape, background):
    rng = np.random.default_rng(3)
    spectra, truth = simulate(rng, 50, shape=shape, terms=background + 1)
    fit = fit_peak(spectra, AXIS, shape=shape, background=background)
    assert np.all(fit.status == FitStatus.CONVERGED)
    for name, value in truth.items():
        np.testing.assert_allclose(getattr(fit, name), value, rtol=FIT, atol=FIT)


def test_agrees_with_scipy():
    rng = np.random.default_rng(4)
    spectra, truth = simulate(rng, 100)
    spectra += rng.normal(scale=0.5, size=spectra.shape)
    fit = fit_peak(spectra, AXIS)
    t = np.linspace(-1, 1, AXIS.size)

    def model(x, area, position, fwhm, fraction, constant, slope):
        peak = evaluate_peak(x, area=area, position=position, fwhm=fwhm, fraction=fraction)
        return peak + constant + slope * t

    def derivatives(x, *parameters):
        columns = np.zeros((4, x.size))
        subtract_pseudo_voigt(x, np.array(parameters[:4]), np.zeros(x.size), columns)
        return np.column_stack([columns.T, np.ones_like(t), t])

    low = [0, AXIS[0], AXIS[1] - AXIS[0], 0, -np.inf, -np.inf]
    high = [np.inf, AXIS[-1], np.ptp(AXIS), 1, np.inf, np.inf]
    for pixel, spectrum in enumerate(spectra):
        start = [*(truth[name][pixel] for name in PARAMETERS), *truth["background"][pixel]]
        peer, covariance = curve_fit(
            model, AXIS, spectrum, p0=start, jac=derivatives, bounds=(low, high),
            x_scale="jac", xtol=1e-12, ftol=1e-14, gtol=1e-12,
        )  # fmt: skip
        ours = np.array([*(getattr(fit, n)[pixel] for n in PARAMETERS), *fit.background[pixel]])
        inside = not fit.at_bound[pixel]
        assert np.all(np.abs(ours - peer) < FIT_PEER * np.sqrt(np.diag(covariance)))
        if inside:
            error = [getattr(fit, f"{n}_error")[pixel] for n in PARAMETERS]
            np.testing.assert_allclose(error, np.sqrt(np.diag(covariance))[:4], rtol=FIT_PEER)


def test_errors_are_as_wide_as_the_scatter():
    rng = np.random.default_rng(5)
    one, truth = simulate(np.random.default_rng(1), 1)
    spectra = one + rng.normal(scale=0.05, size=(3000, AXIS.size))
    fit = fit_peak(spectra, AXIS)
    for name in PARAMETERS:
        pull = (getattr(fit, name) - truth[name][0]) / getattr(fit, f"{name}_error")
        assert abs(np.std(pull) - 1) < PULL_WIDTH
        assert abs(np.mean(pull)) < STATISTICAL / np.sqrt(pull.size)
    np.testing.assert_allclose(fit.reduced_chi_square.mean(), 0.05**2, rtol=PULL_WIDTH)


@pytest.mark.parametrize("value", [0.0, 7.0, -0.1, 1e-30, 1e30])
def test_constant_spectrum_has_no_peak(value):
    fit = fit_peak(np.full((2, 64), value), AXIS)
    assert np.all(fit.status == FitStatus.INSIGNIFICANT)
    assert_nothing_but_status(fit)


def test_line_has_no_peak_in_float32():
    fit = fit_peak(np.linspace(3, 900, 64, dtype=np.float32)[np.newaxis], AXIS)
    assert fit.status[0] == FitStatus.INSIGNIFICANT


def test_noise_has_no_peak():
    noise = np.random.default_rng(6).normal(100, 3, size=(1000, 64))
    fit = fit_peak(noise, AXIS, significance=5.0)
    assert np.mean(fit.status == FitStatus.INSIGNIFICANT) > 0.97
    assert fit_peak(noise, AXIS, significance=0.0).status.min() == FitStatus.CONVERGED


def assert_nothing_but_status(fit):
    for item in fields(PeakFit):
        values = getattr(fit, item.name)
        if values.dtype.kind == "f":
            assert np.isnan(values).all(), item.name
    assert not fit.at_bound.any()


def test_too_few_finite_channels_is_bad_input():
    spectra, _ = simulate(np.random.default_rng(7), 3)
    spectra[0] = np.nan
    spectra[1, 7:] = np.inf
    spectra[2, 8:] = np.nan
    fit = fit_peak(spectra, AXIS)
    assert list(fit.status[:2]) == [FitStatus.BAD_INPUT] * 2
    assert fit.status[2] != FitStatus.BAD_INPUT
    assert_nothing_but_status(PeakFit(*(getattr(fit, f.name)[:2] for f in fields(PeakFit))))


def test_bad_channels_have_no_weight():
    spectra, truth = simulate(np.random.default_rng(8), 40)
    spectra[:, ::9] = np.nan
    spectra[:, 33] = -np.inf
    spectra[:, :2] = np.inf
    fit = fit_peak(spectra, AXIS)
    for name, value in truth.items():
        np.testing.assert_allclose(getattr(fit, name), value, rtol=FIT, atol=FIT)


def test_bad_pixel_harms_no_other():
    rng = np.random.default_rng(9)
    spectra, _ = simulate(rng, 9)
    spectra += rng.normal(size=spectra.shape)
    damaged = spectra.copy()
    damaged[4, 10:20] = np.nan
    damaged[5] = np.nan
    others = [0, 1, 2, 3, 6, 7, 8]
    assert_same_fit(fit_peak(spectra, AXIS), fit_peak(damaged, AXIS), others)


def test_order_and_chunks_do_not_matter():
    rng = np.random.default_rng(10)
    spectra, _ = simulate(rng, 2500)
    spectra = (spectra + rng.normal(size=spectra.shape)).astype(np.float32)
    whole = fit_peak(spectra, AXIS)
    order = rng.permutation(len(spectra))
    shuffled = fit_peak(spectra[order], AXIS)
    part = fit_peak(np.asfortranarray(spectra)[700:1900], AXIS)
    for item in fields(PeakFit):
        values = getattr(whole, item.name)
        np.testing.assert_array_equal(getattr(shuffled, item.name), values[order])
        np.testing.assert_array_equal(getattr(part, item.name), values[700:1900])


def test_input_is_not_written():
    spectra, _ = simulate(np.random.default_rng(11), 5)
    spectra[1, 3] = np.nan
    before = spectra.copy()
    spectra.flags.writeable = False
    fit_peak(spectra, AXIS)
    np.testing.assert_array_equal(spectra, before)


def test_scaled_data_scale_area_and_background_only():
    rng = np.random.default_rng(12)
    spectra, _ = simulate(rng, 200)
    spectra += rng.normal(size=spectra.shape)
    one, thousand = fit_peak(spectra, AXIS), fit_peak(1000 * spectra, AXIS)
    scales = {"area": 1e3, "area_error": 1e3, "background": 1e3, "background_error": 1e3}
    scales["reduced_chi_square"] = 1e6
    for item in fields(PeakFit):
        expected = getattr(one, item.name) * scales.get(item.name, 1)
        np.testing.assert_allclose(getattr(thousand, item.name), expected, rtol=FIT, atol=FIT)


def test_shifted_axis_shifts_position_only():
    rng = np.random.default_rng(13)
    spectra, _ = simulate(rng, 200)
    spectra += rng.normal(size=spectra.shape)
    here, there = fit_peak(spectra, AXIS), fit_peak(spectra, AXIS + 40)
    for item in fields(PeakFit):
        expected = getattr(here, item.name) + (40 if item.name == "position" else 0)
        np.testing.assert_allclose(getattr(there, item.name), expected, rtol=FIT, atol=FIT)


def test_descending_axis_gives_the_same_fit():
    rng = np.random.default_rng(14)
    spectra, _ = simulate(rng, 200)
    spectra += rng.normal(size=spectra.shape)
    spectra[3, 5] = np.nan
    assert_same_fit(fit_peak(spectra, AXIS), fit_peak(spectra[:, ::-1], AXIS[::-1]))


def test_uneven_axis():
    axis = 2 * np.pi / np.linspace(2.0, 2.4, 90)  # d spacing from even q
    spectra, truth = simulate(np.random.default_rng(15), 50, axis=axis)
    fit = fit_peak(spectra, axis)
    for name, value in truth.items():
        np.testing.assert_allclose(getattr(fit, name), value, rtol=FIT, atol=FIT)


def test_bounds_are_respected_and_reported():
    rng = np.random.default_rng(16)
    spectra, _ = simulate(rng, 300)
    spectra += rng.normal(scale=0.1, size=spectra.shape)
    bounds = {
        "area": (0.3, 1.2),
        "position": (3.08, 3.09),
        "fwhm": (0.009, 0.012),
        "fraction": (0.4, 0.6),
    }
    fit = fit_peak(spectra, AXIS, bounds=bounds)
    fitted = fit.status <= FitStatus.STALLED
    assert fitted.mean() > 0.9
    for bit, (name, (low, high)) in enumerate(bounds.items()):
        values = getattr(fit, name)[fitted]
        assert np.all((values >= low) & (values <= high)), name
        at = (fit.at_bound[fitted] & (1 << bit)) > 0
        np.testing.assert_array_equal(at, (values == low) | (values == high))
        np.testing.assert_array_equal(at, np.isnan(getattr(fit, f"{name}_error")[fitted]))
        assert at.any()


def test_equal_bounds_fix_a_parameter():
    spectra, truth = simulate(np.random.default_rng(17), 1)
    fit = fit_peak(
        spectra, AXIS, bounds={"fraction": (truth["fraction"][0],) * 2, "fwhm": (0.01, 0.01)}
    )
    assert fit.fwhm[0] == 0.01
    assert np.isnan([fit.fwhm_error[0], fit.fraction_error[0]]).all()
    assert np.isfinite([fit.area_error[0], fit.position_error[0]]).all()
    assert fit.at_bound[0] == 0


def test_fixed_shapes_have_no_fraction_error():
    spectra, _ = simulate(np.random.default_rng(18), 4, shape="lorentzian")
    fit = fit_peak(spectra, AXIS, shape="lorentzian")
    assert np.all(fit.fraction == 1)
    assert np.isnan(fit.fraction_error).all()
    assert not fit.at_bound.any()


@pytest.mark.parametrize("channels", [64, 200])
def test_narrow_peak_anywhere_in_the_window(channels):
    rng = np.random.default_rng(19)
    axis = np.arange(channels) * 0.1
    position = rng.uniform(0.4, axis[-1] - 0.4, 500)
    fwhm = rng.uniform(0.2, 0.4, 500)
    height = rng.uniform(300, 3000, 500)
    peak = evaluate_peak(axis, area=1.0, position=column(position), fwhm=column(fwhm), fraction=0.5)
    spectra = rng.poisson(column(height * fwhm) * peak * 1.3 + 50 + axis).astype(np.float32)
    fit = fit_peak(spectra, axis)
    wrong = ~(np.abs(fit.position - position) < 0.1)
    assert wrong.mean() <= NARROW_PEAK


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_in_is_dtype_out(dtype):
    spectra, truth = simulate(np.random.default_rng(20), 5)
    fit = fit_peak(spectra.astype(dtype), AXIS)
    for item in fields(PeakFit):
        kind = {"iterations": np.int16, "status": np.uint8, "at_bound": np.uint8}
        assert getattr(fit, item.name).dtype == kind.get(item.name, dtype)
    np.testing.assert_allclose(fit.position, truth["position"], rtol=1e3 * np.finfo(dtype).eps)


def test_integers_become_float32():
    spectra, _ = simulate(np.random.default_rng(21), 5)
    counts = np.rint(spectra + 50).astype(np.int32)
    assert_same_fit(fit_peak(counts, AXIS), fit_peak(counts.astype(np.float32), AXIS))


def test_iteration_limit_leaves_nothing():
    spectra, _ = simulate(np.random.default_rng(22), 5)
    fit = fit_peak(spectra, AXIS, iterations=1)
    assert np.all(fit.status == FitStatus.ITERATION_LIMIT)
    assert_nothing_but_status(fit)


def test_statuses_explain_themselves():
    assert [int(status) for status in FitStatus] == list(range(7))
    assert len({status.meaning for status in FitStatus}) == 7
    assert FitStatus(5) is FitStatus.INSIGNIFICANT


def test_no_pixels_is_no_error():
    fit = fit_peak(np.zeros((0, 64)), AXIS, background=2)
    assert fit.background.shape == (0, 3)
    assert replace(fit).status.size == 0


SPECTRA = np.zeros((2, 64))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": "gausian"}, "shape='gausian' is not known. Did you mean 'gaussian'?"),
        ({"background": 20}, "background=20 is not a degree"),
        ({"bounds": {"positon": (3.05, 3.1)}}, "Did you mean 'position'?"),
        (
            {"bounds": {"fraction": (0, 1)}, "shape": "gaussian"},
            "not a parameter of a gaussian peak",
        ),
        ({"bounds": {"fwhm": (0.02, 0.01)}}, "must be .lowest, highest."),
        ({"bounds": {"fwhm": (0.01, np.inf)}}, "bounds.'fwhm'."),
        ({"bounds": {"position": (3.05, 3.2)}}, "within 3.05 to 3.13"),
        ({"bounds": {"area": (-1, 1)}}, "within 0 to inf"),
        ({"bounds": {"fraction": (0, np.nan)}}, "within 0 to 1"),
        ({"bounds": {"area": 4.0}}, "must be .lowest, highest."),
        ({"significance": -1.0}, "significance=-1.0 must be"),
        ({"iterations": 0}, "iterations=0 must lie between"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(OptionError, match=words):
        fit_peak(SPECTRA, AXIS, **options)


@pytest.mark.parametrize(
    ("spectra", "axis", "words"),
    [
        (SPECTRA[0], AXIS, "shape .pixel, channel."),
        (SPECTRA, AXIS[1:], r"\(2, 64\) with an axis of shape \(63,\)"),
        (SPECTRA, np.r_[AXIS[:-1], np.nan], "finite and strictly"),
        (SPECTRA, np.r_[AXIS[:-1], AXIS[-2]], "strictly increasing or decreasing"),
        (SPECTRA[:, :7], AXIS[:7], "7 channels cannot determine 6 parameters: it needs 8"),
    ],
)
def test_wrong_arrays_are_refused(spectra, axis, words):
    with pytest.raises(SchemaError, match=words):
        fit_peak(spectra, axis)
