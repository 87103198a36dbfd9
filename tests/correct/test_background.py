"""Backgrounds: what is broad goes, what is narrow stays."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import BackendError, OptionError, SchemaError
from ndtomo_dask.kernels.corrections import background as kernel
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy

pybaselines = pytest.importorskip("pybaselines")

OPTIONS = {
    "snip": {"width": 30, "smooth": 2},
    "asls": {"smoothness": 1e6, "asymmetry": 0.05},
    "arpls": {"smoothness": 1e4},
    "polynomial": {"order": 2},
}
LEFT = {"snip": 10.0, "asls": 9.0, "arpls": 3.0, "polynomial": 3.0}
"""Root mean square of what is left of a background of 150 counts, whose noise is 12."""
RAYS = ("angle", "translation", "channel")


@pytest.fixture(scope="module")
def parts():
    """Peaks, and the background under them, of rays of different brightness."""
    channel, rng = np.arange(300.0), np.random.default_rng(2)
    bright = rng.uniform(0.5, 1.5, (6, 10, 1))
    peaks = sum(
        height * np.exp(-0.5 * ((channel - center) / width) ** 2)
        for height, center, width in [(400, 60, 3), (200, 130, 5), (300, 145, 4), (150, 240, 3)]
    )
    return bright * peaks, bright * (100 + 80 * np.exp(-channel / 120))


@pytest.fixture(scope="module")
def spectra(parts):
    counts = np.random.default_rng(3).poisson(parts[0] + parts[1]).astype("float32")
    about = {"units": "count", "long_name": "intensity"}
    ds = xr.Dataset({"sinogram": (RAYS, counts, about)}, {"angle": np.arange(6.0)})
    return ds.assign_coords(q=("channel", np.linspace(1, 5, 300))).assign_attrs(history="made")


@pytest.mark.parametrize("method", OPTIONS)
def test_the_background_goes_and_the_peaks_stay(method, parts, spectra):
    made = nd.subtract_background(spectra, method=method, **OPTIONS[method]).sinogram
    found = spectra.sinogram - made
    assert np.sqrt(float(((found - parts[1]) ** 2).mean())) < LEFT[method]
    assert abs(float((made - parts[0]).mean())) < 0.9 * LEFT[method]


@pytest.mark.parametrize("method", ["asls", "arpls", "polynomial"])
def test_each_spectrum_is_what_pybaselines_makes_of_it(method, spectra):
    made = nd.subtract_background(spectra, method=method, **OPTIONS[method]).sinogram
    known = kernel.METHODS[method]
    asked = {known.renamed[name]: value
             for name, value in {**known.options, **OPTIONS[method]}.items()}  # fmt: skip
    for ray in [(0, 0), (3, 7)]:
        spectrum = spectra.sinogram[ray].values.astype(float)
        base = getattr(pybaselines.Baseline(), known.name)(spectrum, **asked)[0]
        np.testing.assert_allclose(made[ray], spectrum - base, atol=1e-3)


def test_snip_agrees_with_pybaselines_away_from_the_ends(spectra):
    made = nd.subtract_background(spectra, width=20).sinogram
    for ray in [(0, 0), (3, 7)]:
        spectrum = spectra.sinogram[ray].values.astype(float)
        base = pybaselines.Baseline().snip(spectrum, max_half_window=20, decreasing=True)[0]
        inside = slice(60, -60)
        error = (made[ray] - (spectrum - base))[inside]
        assert float(np.sqrt((error**2).mean())) < 1.0  # a tenth of the noise


@pytest.mark.parametrize("method", OPTIONS)
def test_backgrounds_do_not_depend_on_the_chunks_and_the_input_stays(method, spectra):
    def verb(ds):
        return nd.subtract_background(ds, method=method, **OPTIONS[method])

    before = spectra.copy(deep=True)
    made = assert_lazy(verb, spectra.chunk(angle=4))
    xr.testing.assert_identical(spectra, before)
    assert_keeps(spectra, made, "subtract_background")
    assert made.sinogram.attrs == spectra.sinogram.attrs
    assert_chunk_invariant(verb, spectra, [{"angle": 4}, {"angle": 1, "translation": 3}])


@pytest.mark.parametrize("method", OPTIONS)
def test_a_bad_sample_stays_in_its_spectrum(method, spectra):
    reference = nd.subtract_background(spectra, method=method, **OPTIONS[method]).sinogram
    bad = spectra.copy(deep=True)
    bad.sinogram[2, 3, 100] = np.nan
    bad.sinogram[2, 4] = np.nan
    bad.sinogram[2, 5] = 7.0
    bad.sinogram[..., 10] = np.where(bad.sinogram[..., 10] > -1, 1e6, 0)
    mask = xr.DataArray(np.arange(300) == 10, dims="channel")
    made = nd.subtract_background(bad.assign(mask=mask), method=method, **OPTIONS[method]).sinogram
    np.testing.assert_array_equal(np.isnan(made), np.isnan(bad.sinogram))
    assert (made[2, 5, 11:] == 0).all()
    away = (reference - made)[:, :, 60:].drop_isel(angle=2)
    assert float(np.abs(away).max()) < 12  # one channel was bridged, and no other is seen


def test_of_a_volume_another_variable_is_made(spectra):
    volume = spectra.rename(sinogram="volume", angle="y", translation="x").drop_vars("y")
    volume.volume.attrs["units"] = "count/mm"
    made = nd.subtract_background(volume.chunk(y=2), variable="volume", width=30)
    expected = nd.subtract_background(spectra, width=30).sinogram
    np.testing.assert_array_equal(made.volume_without_background, expected)
    np.testing.assert_array_equal(made.volume, volume.volume)
    assert made.volume_without_background.attrs["units"] == "count/mm"
    assert made.volume_without_background.attrs["long_name"] == "volume less its background"


def test_counts_become_float32_and_float64_stays(spectra):
    counts = spectra.assign(sinogram=spectra.sinogram.astype("uint16"))
    assert nd.subtract_background(counts, width=9).sinogram.dtype == "float32"
    assert nd.subtract_background(spectra.astype("float64"), width=9).sinogram.dtype == "float64"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "snp"}, "method='snp' is not known. Did you mean 'snip'"),
        ({}, "method='snip' needs width, .*: 1 to 149 of 300 channels, not None"),
        ({"width": 150}, "1 to 149 of 300 channels, not 150"),
        ({"width": 9, "order": 2}, "order=2 is for method='polynomial', not for 'snip'"),
        ({"method": "asls", "asymmetry": 1.5}, "asymmetry=1.5 must be between 0 and 1"),
        ({"variable": "volumes", "width": 9}, "variable='volumes' is not known"),
    ],
)
def test_bad_options_are_refused(options, message, spectra):
    with pytest.raises(OptionError, match=message):
        nd.subtract_background(spectra, **options)


def test_pieces_and_absent_libraries_are_refused(spectra, monkeypatch):
    with pytest.raises(SchemaError, match=r"needs whole spectra.*layout='spectra'"):
        nd.subtract_background(spectra.chunk(channel=20), width=9)
    monkeypatch.setitem(__import__("sys").modules, "pybaselines", None)
    with pytest.raises(BackendError, match=r"needs 'pybaselines'.*ndtomo-dask\[corrections\]"):
        nd.subtract_background(spectra, method="arpls")
    nd.subtract_background(spectra, width=9)


def test_a_recipe_takes_whole_spectra_then_whole_images(spectra, tmp_path):
    nd.save(spectra[["sinogram"]].chunk(channel=60), tmp_path / "scan.zarr")
    content = {
        "input": str(tmp_path / "scan.zarr"),
        "output": str(tmp_path / "out.zarr"),
        "steps": [{"subtract_background": {"width": 30}}, "reconstruct",
                  {"subtract_background": {"width": 30, "variable": "volume"}}],
        "save": ["volume", "volume_without_background"],
    }  # fmt: skip
    made = run_recipe(make_recipe(content))
    typed = nd.reconstruct(nd.subtract_background(spectra, width=30))
    typed = nd.subtract_background(typed, width=30, variable="volume")
    for name in content["save"]:
        np.testing.assert_array_equal(made[name], typed[name])
