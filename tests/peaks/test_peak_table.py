import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import find_peaks, fit_peaks, reconstruct, windows_of
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.levenberg_marquardt import FitStatus
from tests.laws import relative_error
from tests.tolerances import ROUNDING

Q = np.linspace(2.9, 3.6, 281)
PEAKS = ((3.0531, 0.02, 40.0), (3.3, 0.03, 25.0))
SHARP = 1e-4
"""Of an axis whose step is 0.0025: a parabola through three channels."""


def gaussian(center, fwhm, height):
    return height * np.exp(-4 * np.log(2) * ((Q - center) / fwhm) ** 2)


@pytest.fixture
def volume():
    """One peak everywhere, one in a single pixel, on a background."""
    data = np.tile(5 + gaussian(*PEAKS[0]), (4, 5, 1))
    data[2, 3] += gaussian(*PEAKS[1])
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data, {"units": "count/mm"})})
    axes = {"q": ("channel", Q, {"units": "1/angstrom"}),
            "d": ("channel", 2 * np.pi / Q, {"units": "angstrom"})}  # fmt: skip
    return ds.assign_coords(axes).set_xindex("q").set_xindex("d")


def test_a_table_says_where_peaks_are_with_units(volume):
    table = find_peaks(volume, axis="q")
    np.testing.assert_allclose(table.position, [3.0531, 3.3], atol=SHARP)
    np.testing.assert_allclose(table.fwhm, [0.02, 0.03], rtol=0.02)
    np.testing.assert_allclose(table.prominence, [40, 25 / 20], rtol=0.01)
    assert table.peak.values.tolist() == ["3.053", "3.3"]
    assert table.window_high.attrs["units"] == table.fwhm.attrs["units"] == "1/angstrom"
    assert table.height.attrs["units"] == "count/mm"
    assert table.attrs["axis"] == "q"
    assert "find_peaks(variable='volume'" in table.attrs["history"]


def test_the_maximum_shows_what_one_pixel_has_and_a_region_what_it_has(volume):
    highest = find_peaks(volume, spectrum="maximum", axis="q")
    np.testing.assert_allclose(highest.prominence, [40, 25], rtol=0.01)
    elsewhere = xr.DataArray(np.arange(5) < 3, dims="x")
    for spectrum in ("mean", "maximum"):
        table = find_peaks(volume, region=elsewhere, spectrum=spectrum, axis="q")
        np.testing.assert_allclose(table.position, [3.0531], atol=SHARP)


def test_peaks_are_the_same_on_an_axis_that_falls(volume):
    by_q, by_d = find_peaks(volume, axis="q"), find_peaks(volume, axis="d")
    np.testing.assert_allclose(by_d.position[::-1], 2 * np.pi / by_q.position, atol=SHARP)
    assert (by_d.window_low < by_d.position).all()
    assert (by_d.position < by_d.window_high).all()
    assert (np.diff(by_d.position) > 0).all()


@pytest.mark.parametrize("spectrum", ["mean", "maximum"])
def test_layouts_and_blocks_do_not_matter(volume, spectrum):
    volume.volume[0, 0, 100], volume.volume[1] = np.nan, np.nan
    expected = find_peaks(volume, spectrum=spectrum, axis="q")
    for chunks in ({"y": 1}, {"channel": 50}, {"y": 3, "x": 2, "channel": 100}):
        table = find_peaks(volume.chunk(chunks), spectrum=spectrum, axis="q")
        for name in expected.data_vars:
            assert relative_error(table[name], expected[name]) <= 100 * ROUNDING[np.dtype(float)]


def test_a_channel_that_is_nowhere_is_bridged(volume):
    volume.volume[..., 10] = np.nan
    assert find_peaks(volume, axis="q").sizes["peak"] == 2
    assert find_peaks(volume.chunk(y=1), axis="q", spectrum="maximum").sizes["peak"] == 2


def test_an_edited_table_is_fitted(volume):
    table = find_peaks(volume, spectrum="maximum", axis="q", peaks=2)
    table = table.assign_coords(peak=["Ni 111", "NiO 200"])
    windows = windows_of(table)
    assert list(windows) == ["Ni 111", "NiO 200"]
    made = fit_peaks(volume, windows=windows, axis="q", shape="gaussian", background=0)
    found = made.peak_position.sel(peak="NiO 200")
    assert float(found[2, 3]) == pytest.approx(3.3, abs=SHARP)
    assert made.peak_status[2, 3, 1] == FitStatus.CONVERGED
    assert windows_of(table.drop_sel(peak="Ni 111")) == {"NiO 200": windows["NiO 200"]}


def test_peaks_of_a_simulated_scan_are_those_of_its_phases(scan):
    table = find_peaks(reconstruct(scan), axis="q", spectrum="mean")
    mean = reconstruct(scan).volume.mean(("y", "x"))
    highest = float(mean.q[int(np.argmax(mean.data))])
    strongest = table.position[int(np.argmax(table.prominence.data))]
    assert abs(float(strongest) - highest) < 0.05
    of_rays = find_peaks(scan, variable="sinogram", axis="q")
    assert np.abs(of_rays.position.values - float(strongest)).min() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spectrum": "median"}, r"spectrum='median' is not known. Did you mean 'mean'"),
        ({"prominence": -1.0}, r"prominence=-1.0 must be more than 0"),
        ({"width": 0}, r"width=0 must be more than 0"),
        ({"peaks": 0}, r"peaks=0 must be more than 0"),
        ({"prominence": 1e6}, r"no peak of prominence 1e\+06 or more. Pass prominence="),
        ({"axis": "energy"}, r"axis 'energy', but the data have q, d"),
        ({"variable": "volum"}, r"Did you mean 'volume'"),
        ({"region": xr.DataArray(np.zeros(5, bool), dims="x")}, r"without a finite value"),
    ],
)
def test_bad_options_are_refused_in_words(options, message, volume):
    with pytest.raises((OptionError, SchemaError), match=message):
        find_peaks(volume, **options)


def test_tables_without_windows_are_refused_in_words(volume):
    table = find_peaks(volume, axis="q")
    with pytest.raises(SchemaError, match=r"windows_of needs a table with 'window_low' \(peak\)"):
        windows_of(table.drop_vars("window_low"))
    with pytest.raises(SchemaError, match=r"different names, but they are \['a', 'a'\]"):
        windows_of(table.assign_coords(peak=["a", "a"]))
    with pytest.raises(SchemaError, match=r"window of peak '3.053' reaches from 9 to"):
        windows_of(table.assign(window_low=table.window_low * 0 + 9))
