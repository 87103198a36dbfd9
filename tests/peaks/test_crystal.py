import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import (
    axes,
    crystallite_size,
    fit_peaks,
    lattice_parameter,
    strain,
    williamson_hall,
)
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.peaks import evaluate_peak
from ndtomo_dask.schema import record
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy
from tests.tolerances import STATISTICAL

HKL = {"111": (1, 1, 1), "200": (2, 0, 0), "220": (2, 2, 0)}
WAVELENGTH, ANGLE = 0.2, 4.0
EXACT = 1e-9
VERBS = {
    "lattice_parameter": lambda ds: lattice_parameter(ds, HKL),
    "strain": lambda ds: strain(ds, {"111": 3.08, "220": 5.04}),
    "crystallite_size": lambda ds: crystallite_size(ds, 0.01),
    "williamson_hall": lambda ds: williamson_hall(ds, 0.01),
}


@pytest.fixture
def truth(rng):
    """Lattice parameter, size and strain of every pixel, and the q and widths that follow."""
    a, size = rng.uniform(3.5, 3.6, (4, 5, 1)), rng.uniform(80, 300, (4, 5, 1))
    micro = rng.uniform(1e-3, 4e-3, (4, 5, 1))
    q = 2 * np.pi / a * np.sqrt([sum(index**2 for index in one) for one in HKL.values()])
    return {"a": a, "size": size, "micro": micro, "q": q,
            "width": 2 * np.pi * 0.9 / size + 2 * micro * q}  # fmt: skip


def fitted(position, fwhm, axis):
    """A dataset as fit_peaks returns it, with errors of a thousandth."""
    maps = {"position": position, "fwhm": fwhm, "fraction": np.full_like(fwhm, 1.0)}
    about = {"units": "1/angstrom", "long_name": "map", "axis": axis}
    data = {f"peak_{name}": (("y", "x", "peak"), one, about) for name, one in maps.items()}
    data |= {f"peak_{name}_error": (("y", "x", "peak"), abs(one) * 1e-3, about)
             for name, one in maps.items()}  # fmt: skip
    ds = xr.Dataset(data, coords={"peak": list(HKL), "y": np.arange(4) * 0.1})
    return record(ds.assign_coords(wavelength=WAVELENGTH), "test")


@pytest.fixture
def peaks(truth):
    return fitted(truth["q"], truth["width"], "q")


def on_axis(truth, axis):
    """The same peaks, on another axis."""
    q, width = truth["q"], truth["width"]
    if axis == "d":
        return fitted(2 * np.pi / q, 2 * np.pi / q**2 * width, axis)
    if axis == "tth":
        tth = axes.tth_from_q(q, wavelength=WAVELENGTH)
        slope = 2 * np.pi / WAVELENGTH * np.cos(np.deg2rad(tth) / 2) * np.pi / 180
        return fitted(tth, width / slope, axis)
    scale = 4 * np.pi * np.sin(np.deg2rad(ANGLE) / 2) / axes.HC
    return fitted(q / scale, width / scale, axis)


@pytest.mark.parametrize("name", VERBS)
def test_maps_are_lazy_keep_labels_and_do_not_depend_on_chunks(name, peaks):
    made = assert_lazy(VERBS[name], peaks.chunk(y=2))
    assert_keeps(peaks, made, name)
    stack = xr.concat([peaks, 1.01 * peaks], "z").assign_attrs(peaks.attrs)
    for map_name in ("peak_position", "peak_fwhm"):
        stack[map_name].attrs["axis"] = "q"
    stack = stack.astype("float32")
    assert VERBS[name](stack)[[*made.data_vars][-1]].dtype == "float32"
    assert_chunk_invariant(VERBS[name], stack, [{}, {"y": 1}, {"z": 1, "x": 2, "peak": 1}])


@pytest.mark.parametrize("axis", ["q", "d", "tth", "energy"])
def test_every_axis_gives_the_same_crystal(axis, truth, peaks):
    ds = peaks if axis == "q" else on_axis(truth, axis)
    angle = {"scattering_angle": ANGLE} if axis == "energy" else {}
    cell = lattice_parameter(ds, HKL, **angle)
    np.testing.assert_allclose(cell.lattice_parameter, truth["a"], rtol=EXACT)
    assert cell.lattice_parameter.attrs["units"] == "angstrom"
    assert cell.lattice.values.tolist() == ["a"]
    line = williamson_hall(ds, **angle)
    np.testing.assert_allclose(line.crystallite_size, truth["size"][..., 0], rtol=1e-4)
    np.testing.assert_allclose(line.microstrain, truth["micro"][..., 0], rtol=1e-4)
    one = crystallite_size(ds, **angle)
    expected = 2 * np.pi * 0.9 / truth["width"]
    np.testing.assert_allclose(one.peak_crystallite_size, expected, rtol=1e-4)
    np.testing.assert_allclose(one.peak_crystallite_size_error, expected * 1e-3, rtol=1e-4)
    unstrained = ds.peak_position[0, 0].reset_coords(drop=True)
    spacing = truth["a"] / truth["a"][0, 0]
    found = strain(ds, unstrained).peak_strain
    np.testing.assert_allclose(found, np.broadcast_to(spacing - 1, found.shape), atol=EXACT)


def test_noisy_maps_lie_within_their_errors(truth, peaks, rng):
    noisy = peaks.copy(deep=True)
    for name in ("peak_position", "peak_fwhm"):
        error = peaks[f"{name}_error"] * 0.3
        noisy[f"{name}_error"] = error.assign_attrs(peaks[name].attrs)
        noisy[name] = (peaks[name] + error * rng.standard_normal(error.shape)).assign_attrs(
            peaks[name].attrs
        )
    cell = lattice_parameter(noisy, HKL)
    line = williamson_hall(noisy)
    cases = [
        (cell.lattice_parameter, cell.lattice_parameter_error, truth["a"]),
        (line.crystallite_size, line.crystallite_size_error, truth["size"][..., 0]),
        (line.microstrain, line.microstrain_error, truth["micro"][..., 0]),
    ]
    for found, error, expected in cases:
        pulls = (found - expected) / error
        assert float(abs(pulls).max()) < STATISTICAL
        assert 0.5 < float(pulls.std()) < 1.6


def test_an_instrument_is_taken_away_peak_by_peak(truth, peaks):
    broad = peaks.assign(peak_fwhm=peaks.peak_fwhm + 0.02)
    options = {"instrument_fraction": 1.0}
    by_name = crystallite_size(broad, dict.fromkeys(HKL, 0.02), **options)
    array = xr.DataArray([0.02] * 3, dims="peak", coords={"peak": list(HKL)[::-1]})
    for made in (by_name, crystallite_size(broad, 0.02, **options),
                 crystallite_size(broad, array, **options)):  # fmt: skip
        expected = 2 * np.pi * 0.9 / truth["width"]
        np.testing.assert_allclose(made.peak_crystallite_size, expected, rtol=1e-3)
    one = crystallite_size(broad, {"111": 0.02}, **options)
    assert np.isnan(one.peak_crystallite_size.sel(peak="200")).all()
    assert np.isnan(crystallite_size(broad, 9.0).peak_crystallite_size).all()


def test_a_pixel_that_was_not_fitted_is_nan_and_touches_no_other(peaks):
    bad = peaks.copy(deep=True)
    for name in ("peak_position", "peak_fwhm", "peak_position_error", "peak_fwhm_error"):
        bad[name][1, 2], bad[name][2, 3, 1] = np.nan, np.nan
    others = np.ones((4, 5), bool)
    others[[1, 2], [2, 3]] = False
    for name, verb in VERBS.items():
        expected, made = verb(peaks), verb(bad)
        for one in set(made.data_vars) - set(peaks.data_vars):
            assert np.isnan(made[one][1, 2]).all(), name
            np.testing.assert_array_equal(made[one].values[others], expected[one].values[others])
    assert np.isfinite(lattice_parameter(bad, HKL).lattice_parameter[2, 3]).all()


def test_fitted_spectra_give_the_cell_they_were_made_of(truth, rng):
    axis = np.linspace(2.9, 5.3, 1200)
    spectra = [
        sum(evaluate_peak(axis, area=9, position=q, fwhm=0.03, fraction=0.5) for q in pixel)
        for pixel in truth["q"].reshape(-1, 3)
    ]
    data = np.array(spectra).reshape(4, 5, -1) + rng.standard_normal((4, 5, 1200))
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data)}, {"q": ("channel", axis)})
    windows = {"111": (2.9, 3.25), "200": (3.35, 3.75), "220": (4.75, 5.25)}
    made = lattice_parameter(fit_peaks(ds, windows=windows, axis="q"), HKL)
    pulls = (made.lattice_parameter - truth["a"]) / made.lattice_parameter_error
    assert float(abs(pulls).max()) < STATISTICAL
    assert float(made.lattice_parameter_error.max()) < 2e-3


def test_bad_input_is_refused_in_words(peaks):
    tth = peaks.assign(peak_position=peaks.peak_position.assign_attrs(axis="tth"))
    energy = peaks.assign(peak_position=peaks.peak_position.assign_attrs(axis="energy"))
    channel = peaks.assign(peak_position=peaks.peak_position.assign_attrs(axis="channel"))
    cases = [
        (lambda: lattice_parameter(peaks, {"11": (1, 1, 1)}), "hkl has peak '11'. Did you mean"),
        (lambda: lattice_parameter(peaks, {}), "hkl names no peak. Known are: 111, 200, 220"),
        (lambda: lattice_parameter(peaks, {"111": (0, 0, 0)}), r"must be like \(1, 1, 1\)"),
        (lambda: lattice_parameter(peaks, {"111": (1, 1, 1)}, system="hexagonal"),
         "the peaks 111 do not determine a, c of a hexagonal cell"),
        (lambda: lattice_parameter(peaks, HKL, system="cubik"), "Did you mean 'cubic'"),
        (lambda: lattice_parameter(tth.drop_vars("wavelength"), HKL), "needs a wavelength"),
        (lambda: lattice_parameter(energy, HKL), "needs the 2θ of the detector"),
        (lambda: lattice_parameter(channel, HKL), "the axis of 'peak_position' is channel"),
        (lambda: lattice_parameter(peaks.drop_vars("peak_position_error"), HKL),
         "needs 'peak_position_error'"),
        (lambda: lattice_parameter(peaks.drop_vars("peak"), HKL), "'peak' has no coordinate"),
        (lambda: strain(peaks, {"333": 1.0}), "reference has peak '333'"),
        (lambda: strain(peaks, peaks.peak_position), "must be named along 'peak' alone"),
        (lambda: crystallite_size(peaks, -1.0), "instrument_fwhm must be 0 or more"),
        (lambda: crystallite_size(peaks, shape_factor=0), "shape_factor=0 must be more than 0"),
        (lambda: williamson_hall(peaks, peaks=["111"]), "needs two peaks or more of a phase"),
        (lambda: williamson_hall(peaks, profile="voigt"), "profile='voigt' is not known"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises((OptionError, SchemaError), match=message):
            call()
