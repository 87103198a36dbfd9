"""`fit_peaks` with several peaks: tables, ties, maps as bounds and starts, likelihoods, shapes."""

import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ndtomo_dask import evaluate_peaks, find_peaks, fit_peaks
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.least_squares import FitStatus, fit_model
from ndtomo_dask.kernels.fitting.peak_model import PeakModel, Tie
from ndtomo_dask.kernels.fitting.peaks import PARAMETERS, SHAPES
from ndtomo_dask.kernels.fitting.window_fit import columns_for
from ndtomo_dask.peaks.fit import columns_planned
from ndtomo_dask.peaks.windows import lay_windows
from tests.fit_cases import INSIDE, PAIR, PLACES, WINDOW, Q, pair_truth, pair_volume, volume_of
from tests.laws import assert_chunk_invariant
from tests.tolerances import FIT, STATISTICAL

AXIS = xr.DataArray(Q, dims="channel", name="q")
LOOSE = 100 * FIT
"""For two overlapping peaks: what is left of the last step is larger."""


@pytest.fixture
def truth(rng):
    return pair_truth(rng)


@pytest.fixture
def volume(truth):
    return pair_volume(truth)


def verb(ds, **options):
    return fit_peaks(ds, **(PAIR | options))


def assert_recovered(made, truth, names=PARAMETERS):
    for peak, values in truth.items():
        for column, name in enumerate(names):
            found = made[f"peak_{name}"].sel(peak=peak)
            np.testing.assert_allclose(found, values[..., column], rtol=LOOSE, err_msg=name)


def test_peaks_of_one_window_are_fitted_together(volume, truth):
    made = verb(volume)
    assert_recovered(made, truth)
    expected = fit_model(
        volume.volume.values.reshape(12, -1)[:, INSIDE], Q[INSIDE],
        PeakModel(dict.fromkeys(PLACES, "pseudo_voigt")),
        bounds={"a.position": (Q[10], 3.125), "b.position": (3.125, Q[80])},
        start={f"{name}.position": at for name, at in PLACES.items()}, significance=6.0,
    )  # fmt: skip
    np.testing.assert_array_equal(made.peak_area.values.reshape(12, 2), expected.values[:, [0, 4]])
    np.testing.assert_array_equal(
        made.peak_background.values.reshape(12, 2), expected.values[:, 8:]
    )


def test_peaks_of_a_table_share_a_window_where_theirs_touch(volume, truth):
    table = find_peaks(volume, axis="q", prominence=1)
    table = table.assign_coords(peak=["a", "b"]).assign(window_low=("peak", [2.95, 3.125]))
    table["window_high"] = ("peak", [3.125, 3.3])
    made = fit_peaks(volume, peaks=table)
    assert made.window.values.tolist() == ["a + b"]
    assert_recovered(made, truth)
    again = pd.read_csv(io.StringIO(table.to_dataframe().to_csv()))
    by_csv = fit_peaks(volume, peaks=again, axis="q")
    np.testing.assert_array_equal(by_csv.peak_area, made.peak_area)
    apart = table.assign(window_high=("peak", [3.12, 3.3]), window=("peak", ["one", "two"]))
    assert fit_peaks(volume, peaks=apart).window.values.tolist() == ["one", "two"]
    shaped = fit_peaks(volume, peaks=table.assign(shape=("peak", ["gaussian", ""])))
    assert np.nanmax(shaped.peak_fraction.sel(peak="a")) == 0
    assert np.nanmax(shaped.peak_fraction.sel(peak="b")) > 0


@pytest.mark.parametrize(
    ("ties", "law"),
    [
        ({"fwhm": "equal"}, lambda p: (p.peak_fwhm[..., 1], p.peak_fwhm[..., 0])),
        ({"fwhm": ["a", "b"]}, lambda p: (p.peak_fwhm[..., 1], p.peak_fwhm[..., 0])),
        ({"b.area": "0.5 * a.area"}, lambda p: (p.peak_area[..., 1], p.peak_area[..., 0] / 2)),
        ({"b.area": "a.area / 4 + a.area*0.25"},
         lambda p: (p.peak_area[..., 1], p.peak_area[..., 0] / 2)),
        ({"b.position": "a.position + 0.05"},
         lambda p: (p.peak_position[..., 1], p.peak_position[..., 0] + 0.05)),
        ({"b.fwhm": Tie({"a.fwhm": 2.0}, -0.01)},
         lambda p: (p.peak_fwhm[..., 1], 2 * p.peak_fwhm[..., 0] - 0.01)),
        ({"ka_doublet": {"peaks": ["a", "b"], "ratio": 0.25, "wavelengths": [1.54, 1.565]}},
         lambda p: (p.peak_position[..., 1], p.peak_position[..., 0] * 1.565 / 1.54)),
    ],
)  # fmt: skip
def test_ties_are_obeyed(volume, rng, ties, law):
    made = verb(volume + rng.normal(size=volume.volume.shape), ties=ties)
    assert np.isfinite(made.peak_area).any()
    both = np.isfinite(made.peak_area).all("peak")
    actual, expected = (side.values[both] for side in law(made))
    np.testing.assert_allclose(actual, expected, rtol=FIT)


def test_widths_of_a_pattern_follow_caglioti(rng):
    tth, places = np.linspace(15, 70, 600), {"a": 20.0, "b": 35.0, "c": 50.0, "d": 65.0}
    widths = {name: 0.3 + at / 200 for name, at in places.items()}
    spectra = np.full((2, 2, tth.size), 20.0) + rng.normal(size=(2, 2, tth.size))
    for name, at in places.items():
        spectra += 125 * np.exp(-4 * np.log(2) * ((tth - at) / widths[name]) ** 2)
    ds = volume_of(spectra, axis=tth).rename(q="tth")
    made = fit_peaks(
        ds, windows={"all": (15, 70)}, peaks={"all": places}, axis="tth",
        shape="thompson_cox_hastings", ties={"caglioti": "all"},
    )  # fmt: skip
    t = np.tan(np.deg2rad(list(places.values())) / 2)
    square = made.peak_gaussian_square.values.reshape(4, 4)
    expected = [np.polyval(np.polyfit(t[:3], row[:3], 2), t[3]) for row in square]
    np.testing.assert_allclose(square[:, 3], expected, rtol=LOOSE)
    fwhm = made.peak_fwhm.mean(("y", "x"))
    np.testing.assert_allclose(fwhm, list(widths.values()), rtol=0.1)
    assert made.peak_lorentzian_fwhm_error.dims == ("y", "x", "peak")


def test_maps_of_starts_and_bounds_are_used_pixel_by_pixel(volume, truth):
    at = volume.volume.isel(channel=0).copy(data=truth["a"][..., 1])
    around = {"a": {"position": (at - 1e-4, at + 1e-4)}, "fwhm": (0.01, 0.1)}
    made = verb(volume, bounds=around, start={"a": {"position": at}})
    assert_recovered(made, truth)
    wrong = verb(volume, bounds={"a": {"position": (at + 0.01, at + 0.02)}})
    low = at.values + 0.01
    assert (wrong.peak_position.sel(peak="a").values >= low - FIT).all()
    hole = at.where((at.x > 0.05) | (at.y > 0.05))
    np.testing.assert_array_equal(
        verb(volume, start={"a.position": hole}).peak_area[1:],
        verb(volume, start={"a.position": at}).peak_area[1:],
    )
    again = verb(volume, start={name: made[f"peak_{name}"] for name in PARAMETERS})
    assert_recovered(again, truth)
    within = (made.peak_position - 1e-3, made.peak_position + 1e-3)
    assert_recovered(verb(volume, bounds={"position": within}), truth)


def test_bounds_that_cross_or_are_missing_stay_in_their_pixel(volume):
    low = xr.zeros_like(volume.volume.isel(channel=0)) + 3.05
    low[0, 1], low[2, 2] = np.nan, 3.5
    made = verb(volume, bounds={"a": {"position": (low, 3.12)}})
    assert (made.peak_status[2, 2] == FitStatus.BAD_INPUT).all()
    assert np.isnan(made.peak_area[2, 2]).all()
    assert np.isfinite(made.peak_area.values).sum() == 2 * 11
    plain = verb(volume, bounds={"a": {"position": (3.05, 3.12)}})
    np.testing.assert_allclose(made.peak_area[0], plain.peak_area[0], rtol=FIT)


def test_chunks_and_maps_do_not_matter(volume, rng):
    noisy = volume + rng.normal(scale=0.5, size=volume.volume.shape)
    at = noisy.volume.isel(channel=0, drop=True) * 0 + 3.1
    noisy = noisy.assign_attrs(volume.attrs)
    options = {"start": {"a": {"position": at}}, "bounds": {"a": {"fwhm": (at * 0 + 0.01, 0.1)}}}
    assert_chunk_invariant(lambda ds: verb(ds, **options), noisy, [{"y": 1}, {"y": 2, "x": 1}])


@pytest.mark.parametrize(
    "shape", ["split_pseudo_voigt", "doniach_sunjic", "thompson_cox_hastings", "voigt"]
)
def test_every_parameter_of_a_shape_is_returned(rng, shape):
    names = SHAPES[shape].parameters
    usual = {"area": 3.0, "position": 3.12, "fwhm": 0.03, "fraction": 0.4, "asymmetry": 0.1,
             "gaussian_square": 4e-4, "lorentzian_fwhm": 0.01}  # fmt: skip
    ds = pair_volume({"a": np.tile([usual[name] for name in names], (2, 2, 1))}, shape)
    made = fit_peaks(ds, windows={"a": (2.95, 3.3)}, axis="q", shape=shape)
    for name in names:
        np.testing.assert_allclose(made[f"peak_{name}"], usual[name], rtol=LOOSE)
        assert {"units", "long_name"} <= set(made[f"peak_{name}_error"].attrs)
    assert ("peak_asymmetry" in made) == ("asymmetry" in names)
    if shape == "thompson_cox_hastings":
        assert 0.02 < float(made.peak_fwhm[0, 0, 0]) < 0.03
        assert np.isfinite(made.peak_fwhm_error).all()
        assert np.isfinite(made.peak_fraction_error).all()


@pytest.mark.parametrize(
    ("background", "offset"), [("exponential", 0.0), ([0, "exponential"], 7.0)]
)
def test_peaks_on_a_decay(rng, background, offset):
    truth, middle = pair_truth(rng, (6, 8)), 3.125
    decay, height = rng.uniform(1, 8, (6, 8, 1)), rng.uniform(10, 30, (6, 8, 1))
    ds = pair_volume(truth)
    below = offset + height * np.exp(-decay * (Q - middle))
    ds["volume"] = ds.volume - (5 + 2 * Q) + below
    made = verb(ds, background=background)
    assert_recovered(made, truth)
    terms = made.peak_background.isel(window=0).values
    np.testing.assert_allclose(terms[..., -2:], np.concatenate([height, decay], -1), rtol=LOOSE)
    again = evaluate_peaks(made, ["background", "residual"])
    inside = np.isfinite(again.fitted_background.values)
    np.testing.assert_allclose(again.fitted_background.values[inside], below[inside], rtol=LOOSE)
    noisy = ds.assign(volume=ds.volume + rng.normal(scale=2.0, size=ds.volume.shape))
    fit = verb(noisy, background=background, bounds={"background.decay": (0, 20)})
    pull = (fit.peak_area.sel(peak="a") - truth["a"][..., 0]) / fit.peak_area_error.sel(peak="a")
    assert 0.7 < float(pull.std()) < 1.4
    flat = verb(noisy.assign(volume=noisy.volume - below + 3 * offset), background=background)
    assert np.isfinite(flat.peak_background).mean() > 0.8


def test_likelihoods(rng):
    truth = pair_truth(rng, (12, 12))
    expected = pair_volume(truth).volume * 20
    ds = volume_of(rng.poisson(expected).astype(float))
    made = {
        "poisson": verb(ds, likelihood="poisson"),
        "weighted": verb(ds.assign(volume_variance=expected), likelihood="weighted"),
        "named": verb(ds.assign(noise=expected), variance="noise"),
        "counts": verb(ds, variance="counts"),
    }
    for name, found in made.items():
        for peak, values in truth.items():
            one = found.sel(peak=peak)
            pull = (one.peak_area - 20 * values[..., 0]) / one.peak_area_error
            assert abs(float(pull.mean())) < STATISTICAL * float(pull.std()) / 12, name
            assert 0.7 < float(pull.std()) < 1.5, name
    spot = ds.copy(deep=True)
    spot.volume[0, 0, 30] += 500
    robust = [verb(one, likelihood="huber").peak_area[0, 0] for one in (ds, spot)]
    plain = [verb(one).peak_area[0, 0] for one in (ds, spot)]
    assert abs(robust[1] - robust[0]).max() < 0.3 * abs(plain[1] - plain[0]).max()


@pytest.mark.parametrize("background", [-1, "none", 0, "chebyshev:3", "spectrum", "mixed"])
def test_backgrounds(truth, background):
    bare = pair_volume(truth).volume - 5 - 2 * Q
    added = {"chebyshev:3": 5 + Q**3, "spectrum": 7 * np.exp(-Q), "mixed": 7 * np.exp(-Q) + 3}
    ds = volume_of((bare + added.get(background, 0.0)).values)
    known = xr.DataArray(np.exp(-Q), dims="channel", coords={"q": ("channel", Q)})
    given = {"spectrum": known, "mixed": [0, known]}.get(background, background)
    made = verb(ds, background=given)
    assert_recovered(made, truth)
    if background == "mixed":
        np.testing.assert_allclose(made.peak_background[..., 0, :], [[[3, 7]] * 4] * 3, rtol=1e-4)


def test_lists_of_spectra_and_sinograms_are_fitted(volume, truth):
    spectra = volume.volume.stack(pixel=("y", "x")).transpose("pixel", "channel")
    listed = xr.Dataset({"volume": spectra.drop_vars(["pixel", "y", "x"])})
    made = verb(listed.chunk(pixel=5))
    assert made.peak_area.dims == ("pixel", "peak")
    np.testing.assert_array_equal(made.peak_area.values.reshape(3, 4, 2), verb(volume).peak_area)
    rays = volume.rename(volume="sinogram", y="angle", x="translation")
    rays = rays.assign(mask=("angle", [False, True, False]))
    of_rays = verb(rays, variable="sinogram")
    assert of_rays.peak_area.dims == ("angle", "translation", "peak")
    assert np.isnan(of_rays.peak_area[1]).all()
    assert of_rays.peak_area.attrs.get("additive", 1) == 1
    assert of_rays.peak_position.attrs["additive"] == 0


def test_scaling_and_shifting(volume):
    plain, scaled = verb(volume), verb(volume * 1024.0)
    np.testing.assert_array_equal(scaled.peak_area, plain.peak_area * 1024)
    np.testing.assert_array_equal(scaled.peak_position, plain.peak_position)
    np.testing.assert_array_equal(scaled.peak_fwhm_error, plain.peak_fwhm_error)
    moved = volume.drop_vars("q").assign_coords(q=("channel", Q + 1)).set_xindex("q")
    shifted = fit_peaks(moved, windows={"pair": (3.95, 4.3)}, axis="q",
                        peaks={"pair": {name: at + 1 for name, at in PLACES.items()}})  # fmt: skip
    np.testing.assert_allclose(shifted.peak_position, plain.peak_position + 1, rtol=FIT)
    np.testing.assert_allclose(shifted.peak_area, plain.peak_area, rtol=LOOSE)


def test_pixels_in_another_order_give_the_same(volume, rng):
    noisy = volume + rng.normal(scale=3.0, size=volume.volume.shape)
    noisy.volume[0, 0, 20], noisy.volume[1, 1] = np.inf, 4.0
    plain, turned = verb(noisy), verb(noisy.isel(y=[2, 0, 1], x=[1, 3, 0, 2]))
    for name in ("peak_area", "peak_fwhm", "peak_status", "peak_position_error"):
        np.testing.assert_array_equal(turned[name].sortby(["y", "x"]), plain[name], err_msg=name)
    assert (plain.peak_status[1, 1] == FitStatus.INSIGNIFICANT).all()
    assert np.isnan(plain.peak_background[1, 1]).all()
    assert np.nanmin(plain.peak_fwhm) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peaks": {"pear": PLACES}}, r"peaks names window 'pear'. Did you mean 'pair'"),
        ({"peaks": {"pair": {}}}, r"peaks\['pair'\]=\{\} must have a position"),
        ({"peaks": {"pair": {"a": 3.1, "b": 3.35}}}, r"peak 'b' at 3.35 lies outside its window"),
        ({"peaks": {"pair": {"a": 3.1, "b": 3.1}}}, r"peaks 'a' and 'b' are both at 3.1"),
        ({"shape": {"c": "gaussian"}}, r"shape names peak 'c'"),
        ({"shape": "exponential"}, r"shape='exponential' is not known"),
        ({"bounds": {"c": {"fwhm": (0, 1)}}}, r"bounds names peak 'c'"),
        ({"bounds": {"a": {"width": (0, 1)}}}, r"bounds='a.width' is not a parameter"),
        ({"bounds": {"a.fwhm": 3}}, r"bounds\['a.fwhm'\]=3 must be \(lowest, highest\)"),
        ({"start": {"fwhm": "wide"}}, r"start\['fwhm'\]='wide' must be a number, or an xarray map"),
        ({"start": {"fwhm": xr.DataArray(np.ones(3), dims="y")}}, r"has dimensions \('y',\), but"),
        ({"start": {"fwhm": xr.DataArray(np.ones((3, 5)), dims=("y", "x"))}}, r"same 'x'"),
        ({"ties": {"width": "equal"}}, r"ties='width' is not a parameter"),
        ({"ties": {"fwhm": "same"}}, r"must be 'equal' or a list of peaks"),
        ({"ties": {"fwhm": ["a", "c"]}}, r"ties\['fwhm'\] names peak 'c'"),
        ({"ties": {"b.area": "half of a.area"}}, r"'half of a.area' is no sum of parameters"),
        ({"ties": {"b.area": "0.5"}}, r"names no parameter; to fix one, give bounds="),
        ({"ties": {"b.area": "2 * a.fwhm"}}, r"mixes an area with 'a.fwhm'"),
        ({"ties": {"ka_doublet": ["a"]}}, r"must name several peaks of one window"),
        ({"ties": {"caglioti": "all"}}, r"'thompson_cox_hastings' on axis 'tth', but 'a' is a"),
        ({"ties": {"fwhm": "equal"}, "peaks": None}, r"ties nothing: no window has several peaks"),
        ({"likelihood": "gauss"}, r"likelihood='gauss' is not known. Did you mean 'gaussian'"),
        ({"likelihood": "weighted"}, r"needs 'volume_variance', which the dataset does not have"),
        ({"variance": "counts", "likelihood": "poisson"}, r"goes with likelihood='gaussian' only"),
        ({"background": 1.5}, r"background=1.5 is not known: expected a degree"),
        ({"background": "cubic"}, r"background='cubic' is not known"),
        ({"background": xr.DataArray(np.ones(9), dims="channel")}, r"have 9 channels"),
    ],
)
def test_wrong_options_are_refused_in_words(volume, options, message, no_compute):
    with pytest.raises((SchemaError, OptionError), match=message) as refused:
        verb(volume.chunk(y=2), **options)
    assert "\n" not in str(refused.value)


def test_wrong_tables_are_refused_in_words(volume):
    table = find_peaks(volume, axis="q", prominence=1)
    with pytest.raises(OptionError, match=r"asked for axis 'd', but the table .* found on 'q'"):
        fit_peaks(volume, peaks=table, axis="d")
    with pytest.raises(OptionError, match=r"takes windows=... or a table"):
        fit_peaks(volume, peaks=table, windows=WINDOW)
    with pytest.raises(SchemaError, match=r"needs a table with 'position' \(peak\)"):
        fit_peaks(volume, peaks=table.drop_vars("position"))
    with pytest.raises(SchemaError, match=r"needs a table with 'window_low'"):
        fit_peaks(volume, peaks=table.drop_vars("window_low"))


def test_a_recipe_plans_the_columns_that_a_fit_makes():
    usual = {"windows": {"pair": (2.948, 3.302), "c": (3.31, 3.4)}, "peaks": {"pair": PLACES}}
    for extra in ({}, {"background": "chebyshev:3"}, {"shape": {"c": "split_pseudo_voigt"}}):
        options = usual | extra
        laid = lay_windows(
            options["windows"], options["peaks"], AXIS, options.get("shape", "voigt")
        )
        shapes = [shape for window in laid for shape in window.shapes.values()]
        terms = 4 if "background" in extra else 2
        assert columns_planned(options) == (3, columns_for(shapes, 2, terms).count)
