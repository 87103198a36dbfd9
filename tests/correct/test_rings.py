"""Rings: stripes are removed as Algotom does it, and nothing else is touched."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import BackendError, OptionError, SchemaError
from ndtomo_dask.kernels.corrections import stripes
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy

removal = pytest.importorskip("algotom.prep.removal")

METHODS = tuple(stripes.METHODS)
RECOVERED = {"sorting": 0.7, "filtering": 0.5, "wavelet": 0.4, "regularized": 0.25}
"""Least share of the stripes' error that is removed where the sample is smooth: measured, less 5 %.
A filter takes a stripe for part of the slope on which it stands."""
OPTIONS = {
    "sorting": {"size": 3},
    "filtering": {"size": 5, "sigma": 1},
    "wavelet": {},
    "regularized": {"regularization": 0.5},
    "large": {"size": 11, "snr": 2.0},
    "dead": {"size": 11, "snr": 2.0},
    "all": {"size": 7, "large_size": 11, "snr": 2.0},
}


@pytest.fixture(scope="module")
def clean():
    """Smooth blobs on their sine waves, with noise; one channel brighter than the other."""
    angle, translation = np.linspace(0, 180, 90, endpoint=False), np.arange(96.0)
    values = np.zeros((90, 96, 5))
    for number, (radius, phase, width) in enumerate([(10, 0.3, 45), (8, 2.0, 40), (5, 4.0, 60)]):
        center = 47.5 + radius * np.cos(np.deg2rad(angle) + phase)
        blob = np.exp(-0.5 * ((translation - center[:, None]) / width) ** 2)
        values += blob[..., None] * (100 + 3 * number * np.arange(5.0))
    values += np.random.default_rng(0).normal(0, 2.0, values.shape)
    rays = ("angle", "translation", "channel")
    ds = xr.Dataset({"sinogram": (rays, values.astype("float32"))}, {"angle": angle})
    ds.sinogram.attrs = {"units": "count", "long_name": "intensity"}
    return ds.assign_attrs(history="simulated")


@pytest.fixture(scope="module")
def striped(clean):
    offset = np.zeros(96, "float32")
    offset[[30, 41, 52, 65]] = [12, -10, 11, -8]
    stripe = xr.DataArray(offset, dims="translation")
    return clean.assign(sinogram=(clean.sinogram + stripe).assign_attrs(clean.sinogram.attrs))


def error(ds, clean):
    return float(np.sqrt(((ds.sinogram - clean.sinogram) ** 2).mean()))


@pytest.mark.parametrize("method", RECOVERED)
def test_stripes_are_removed(method, striped, clean):
    before = error(striped, clean)
    after = error(nd.remove_rings(striped, method=method, **OPTIONS[method]), clean)
    assert after < (1 - RECOVERED[method]) * before


@pytest.mark.parametrize("method", METHODS)
def test_each_channel_is_what_algotom_makes_of_it(method, striped, rng):
    # Noise in each column, of which a detection of stripes measures the size.
    columns = xr.DataArray(rng.normal(0, 5, 96).astype("float32"), dims="translation")
    striped = striped.assign(sinogram=striped.sinogram + columns)
    known = stripes.METHODS[method]
    made = nd.remove_rings(striped, method=method, **OPTIONS[method]).sinogram
    named = {known.options[name]: value for name, value in OPTIONS[method].items()}
    for channel in range(5):
        image = striped.sinogram[:, :, channel].values.copy()
        expected = getattr(removal, known.name)(image, **known.fixed, **named)
        np.testing.assert_array_equal(made[:, :, channel], np.asarray(expected, "float32"))


@pytest.mark.parametrize("method", METHODS)
def test_rings_do_not_depend_on_the_chunks_and_the_input_stays(method, striped):
    before = striped.copy(deep=True)
    made = assert_lazy(lambda ds: nd.remove_rings(ds, method=method), striped.chunk(channel=2))
    xr.testing.assert_identical(striped, before)
    assert_keeps(striped, made, "remove_rings")
    assert made.sinogram.attrs == striped.sinogram.attrs
    assert_chunk_invariant(lambda ds: nd.remove_rings(ds, method=method), striped,
                           [{"channel": 2}, {"channel": 1}])  # fmt: skip


@pytest.mark.parametrize("kind", ["nan", "masked"])
def test_a_bad_sample_stays_where_it_is(kind, striped):
    reference = nd.remove_rings(striped).sinogram
    bad = striped.copy(deep=True)
    bad.sinogram[10, 15, 2] = np.nan if kind == "nan" else 1e7
    bad.sinogram[40, :, 2] = np.nan
    if kind == "masked":
        mask = xr.zeros_like(bad.sinogram, dtype=bool)
        mask[10, 15, 2] = True
        bad = bad.assign(mask=mask)
    made = nd.remove_rings(bad).sinogram
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(made[..., others], reference[..., others])
    np.testing.assert_array_equal(np.isnan(made), np.isnan(bad.sinogram))
    np.testing.assert_array_equal(made[10, 15, 2], bad.sinogram[10, 15, 2])
    near = np.abs(made - reference)[:, :, 2]
    assert float(near.where(np.isfinite(near) & (near < 1e6)).mean()) < 1.0  # half the noise


def test_counts_become_float32_and_float64_stays(striped):
    counts = striped.assign(sinogram=striped.sinogram.clip(min=0).astype("uint16"))
    assert nd.remove_rings(counts).sinogram.dtype == "float32"
    assert nd.remove_rings(striped.astype("float64")).sinogram.dtype == "float64"


@pytest.mark.parametrize("method", METHODS)
def test_channels_in_which_nothing_varies_stay_as_they_are(method, striped):
    flat = striped.copy(deep=True)
    flat.sinogram[..., 1] = 7.0
    flat.sinogram[..., 2] = np.nan
    made = nd.remove_rings(flat, method=method).sinogram
    np.testing.assert_array_equal(made[..., 1:3], flat.sinogram[..., 1:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sortng"}, "method='sortng' is not known. Did you mean 'sorting'"),
        ({"snr": 3.0}, "snr=3.0 is for method='large' or 'dead' or 'all', not for 'sorting'"),
        ({"size": 0}, "size=0 must be a number of translations"),
        ({"method": "wavelet", "level": 9}, "level=9 of the wavelet filter is too high for 90"),
        ({"method": "wavelet", "wavelet": "db99"}, "wavelet='db99' is not known"),
    ],
)
def test_bad_options_are_refused(options, message, striped):
    with pytest.raises(OptionError, match=message):
        nd.remove_rings(striped, **options)


def test_pieces_and_small_sinograms_are_refused(striped, monkeypatch):
    with pytest.raises(SchemaError, match=r"remove_rings needs whole images.*layout='images'"):
        nd.remove_rings(striped.chunk(angle=20))
    with pytest.raises(OptionError, match="needs 8 angles and translations or more"):
        nd.remove_rings(striped.isel(angle=slice(4)))
    with pytest.raises(OptionError, match="wavelet='db9' cannot decompose 10 angles and 96 trans"):
        nd.remove_rings(striped.isel(angle=slice(10)), method="wavelet")
    monkeypatch.setitem(__import__("sys").modules, "algotom.prep", None)
    monkeypatch.setitem(__import__("sys").modules, "algotom.prep.removal", None)
    with pytest.raises(BackendError, match=r"needs 'algotom'.*pip install 'ndtomo-dask\[corr"):
        nd.remove_rings(striped)


@pytest.mark.parametrize("saved", [["volume"], ["sinogram", "volume"]])
def test_a_recipe_stores_by_projection_what_it_turns_into_images(saved, striped, tmp_path):
    nd.save(striped[["sinogram"]].chunk(angle=23), tmp_path / "scan.zarr")
    content = {
        "input": str(tmp_path / "scan.zarr"),
        "output": str(tmp_path / "out.zarr"),
        "steps": ["find_projection_scale", "normalize_projections", {"remove_rings": {"size": 11}},
                  "reconstruct"],
        "save": saved,
    }  # fmt: skip
    made = run_recipe(make_recipe(content))
    ds = nd.open_scan(tmp_path / "scan.zarr")
    ds = nd.normalize_projections(ds, nd.find_projection_scale(ds))
    ds = nd.remove_rings(ds.compute(), size=11)
    typed = nd.reconstruct(ds)
    for name in saved:
        np.testing.assert_array_equal(made[name], typed[name])
    again = run_recipe(make_recipe(content), resume=True)
    np.testing.assert_array_equal(again.volume, typed.volume)
