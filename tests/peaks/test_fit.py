import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import fit_peaks
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from ndtomo_dask.kernels.fitting.least_squares import FitStatus
from ndtomo_dask.kernels.fitting.peaks import evaluate_peak
from ndtomo_dask.schema import record
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy
from tests.tolerances import FIT, STATISTICAL

WINDOWS = {"first": (3.0, 3.2), "second": (3.3, 3.5)}
Q = np.linspace(2.9, 3.6, 141)


def verb(ds, **options):
    return fit_peaks(ds, **({"windows": WINDOWS, "axis": "q"} | options))


def spectra_of(area, position, fwhm, fraction):
    pixels = [evaluate_peak(Q, area=a, position=p, fwhm=w, fraction=f)
              for a, p, w, f in zip(area, position, fwhm, fraction, strict=True)]  # fmt: skip
    return np.stack(pixels)


@pytest.fixture
def truth(rng):
    shape = (6, 7, 2)
    lows = {"area": (1, 3), "fwhm": (0.02, 0.04), "fraction": (0.2, 0.8)}
    drawn = {name: rng.uniform(*bounds, shape) for name, bounds in lows.items()}
    drawn["position"] = rng.uniform(-0.02, 0.02, shape) + np.array([3.1, 3.4])
    return drawn


@pytest.fixture
def volume(truth):
    data = 5 + 2 * Q
    for peak in range(2):
        parts = [
            truth[name][..., peak].ravel() for name in ("area", "position", "fwhm", "fraction")
        ]
        data = data + spectra_of(*parts)
    about = {"units": "count/mm", "long_name": "reconstructed intensity"}
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data.reshape(6, 7, -1), about)})
    axis = ("channel", Q, {"units": "1/angstrom"})
    ds = ds.assign_coords(q=axis, tth=("channel", Q * 2), y=np.arange(6) * 0.1, wavelength=0.2)
    return record(ds.set_xindex("q").set_xindex("tth"), "test")


def one_peak_each(volume, truth):
    """Each window sees its own peak only: the other's tail is taken away."""
    data = volume.volume.values.copy()
    for peak, (low, high) in enumerate(WINDOWS.values()):
        other = [
            truth[name][..., 1 - peak].ravel() for name in ("area", "position", "fwhm", "fraction")
        ]
        inside = (low <= Q) & (high >= Q)
        data[..., inside] -= spectra_of(*other).reshape(data.shape)[..., inside]
    return volume.assign(volume=volume.volume.copy(data=data))


def test_fitting_is_lazy_and_keeps_labels(volume):
    made = assert_lazy(verb, volume.chunk(y=2))
    assert_keeps(volume, made, "fit_peaks")
    assert made.peak.values.tolist() == ["first", "second"]
    assert made.peak_area.dims == ("y", "x", "peak")
    units = {"area": "count/mm*1/angstrom", "position": "1/angstrom", "fwhm_error": "1/angstrom"}
    for name, unit in units.items():
        assert made[f"peak_{name}"].attrs["units"] == unit
    assert made.peak_status.dtype == "uint8"
    assert made.peak_position.attrs["axis"] == "q"
    meanings = made.peak_status.attrs["flag_meanings"].split()
    assert len(meanings) == len(made.peak_status.attrs["flag_values"]) == len(FitStatus)


def test_peaks_without_noise_are_recovered(volume, truth):
    made = verb(one_peak_each(volume, truth))
    for name, expected in truth.items():
        np.testing.assert_allclose(made[f"peak_{name}"], expected, rtol=FIT * 100)
    assert (made.peak_status == FitStatus.CONVERGED).all()


def test_noisy_peaks_lie_within_their_errors(volume, truth, rng):
    ds = one_peak_each(volume, truth)
    made = verb(ds + 0.5 * rng.standard_normal(ds.volume.shape))
    for name in ("area", "position"):
        pulls = (made[f"peak_{name}"] - truth[name]) / made[f"peak_{name}_error"]
        assert abs(float(pulls.mean())) < STATISTICAL / np.sqrt(pulls.size)
        assert float(abs(pulls).max()) < STATISTICAL
    np.testing.assert_allclose(made.peak_reduced_chi_square.mean(), 0.25, rtol=0.1)


@pytest.mark.parametrize("lead", [False, True])
def test_a_fit_does_not_depend_on_the_chunks(volume, lead):
    ds = xr.concat([volume, volume * 2], "z").assign_attrs(volume.attrs) if lead else volume
    assert_chunk_invariant(
        verb, ds, [{}, {"y": 1}, {"y": 4, "x": 3}, *([{"z": 1}] if lead else [])]
    )


def test_a_stack_is_fitted_slice_by_slice(volume):
    stack = xr.concat([volume, volume * 2], "z").assign_attrs(volume.attrs)
    whole = verb(stack.chunk(z=1, y=3))
    for z in range(2):
        np.testing.assert_array_equal(whole.peak_area[z], verb(stack.isel(z=z)).peak_area)


def test_a_bad_pixel_is_a_status_and_damages_no_other(volume):
    expected = verb(volume)
    bad = volume.copy(deep=True)
    bad.volume[1, 2] = np.nan
    bad.volume[3, 4, 40] = np.inf
    bad.volume[5, 6] = 1.0
    made = verb(bad)
    assert (made.peak_status[1, 2] == FitStatus.BAD_INPUT).all()
    assert (made.peak_status[5, 6] == FitStatus.INSIGNIFICANT).all()
    assert np.isnan(made.peak_area.values[[1, 5], [2, 6]]).all()
    assert made.peak_status[3, 4, 0] == FitStatus.CONVERGED
    others = np.ones((6, 7), dtype=bool)
    others[[1, 3, 5], [2, 4, 6]] = False
    for name in ("peak_area", "peak_position", "peak_fwhm_error", "peak_status"):
        np.testing.assert_array_equal(made[name].values[others], expected[name].values[others])


def test_windows_may_be_given_in_any_axis_and_order(volume):
    by_q = verb(volume)
    by_tth = fit_peaks(volume, windows={"first": (6.4, 6.0)}, axis="tth")
    np.testing.assert_allclose(
        by_tth.peak_position, 2 * by_q.peak_position.sel(peak=["first"]), rtol=1e-5
    )


def test_counts_as_integers_are_fitted_as_float32(volume):
    made = verb((volume * 100).astype("int32").chunk(y=3))
    assert made.peak_area.dtype == made.peak_area.compute().dtype == "float32"
    assert float(made.peak_area.isnull().mean()) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": {}}, r"needs a window per peak, such as windows={'Ni 111'"),
        (
            {"windows": {"a": (5, 6)}},
            r"window 'a' \(5, 6\) lies outside axis 'q', which covers 2.9 to 3.6",
        ),
        ({"windows": {"a": (3.1, 3.11)}}, r"window 'a' \(3.1, 3.11\) holds 3 channels of axis 'q'"),
        ({"windows": {"a": (3.1, 3.13)}}, r"window 'a': a window of 7 channels cannot determine 6"),
        ({"windows": {"a": 3.1}}, r"window 'a' is 3.1; it must be \(first, last\)"),
        ({"axis": "energy"}, r"axis 'energy', but the data have tth, q"),
        ({"shape": "gausian"}, r"shape='gausian' is not known. Did you mean 'gaussian'"),
        ({"background": 20}, r"background=20 is not a degree"),
        ({"bounds": {"width": (0, 1)}}, r"bounds='width' is not a parameter"),
        ({"bounds": {"fwhm": (1, 0)}}, r"must be \(lowest, highest\)"),
        ({"significance": -1}, r"significance=-1"),
        ({"variable": "volum"}, r"fit_peaks was asked for variable='volum'.*Did you mean 'volume'"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(options, message, volume, no_compute):
    with pytest.raises((SchemaError, OptionError), match=message):
        verb(volume.chunk(y=3), **options)


def test_bad_data_are_refused_in_words(volume):
    with pytest.raises(SchemaError, match=r"fit_peaks needs whole spectra.*layout='spectra'"):
        verb(volume.chunk(channel=20))
    with pytest.raises(
        SchemaError, match=r"fit_peaks needs 'volume', which the dataset does not have"
    ):
        verb(volume.rename(volume="volumen"))
    with pytest.raises(PlanError, match=r"fit_peaks would hold .* layout='spectra'"):
        verb(volume, allowed_mem="1MB")
