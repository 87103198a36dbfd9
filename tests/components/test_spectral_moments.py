"""One reading of the data serves all estimates, and says of which data it is."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from tests.laws import relative_error
from tests.reads import counted
from tests.tolerances import AMPLIFIED

LOOKS = 0.13
"""Share of the data that is read to see whether moments are theirs, and for the shift."""


@pytest.fixture
def volume(rng):
    """Three peaks in random amounts; float64."""
    axis = np.arange(40)
    spectra = np.stack([np.exp(-0.5 * ((axis - c) / 3) ** 2) for c in (8, 20, 31)]) + 0.02
    maps = rng.uniform(0, 1, (24, 20, 3)) * (rng.uniform(0, 1, (24, 20, 3)) > 0.4)
    data = maps @ spectra + 0.01 * rng.standard_normal((24, 20, 40))
    coords = {"q": ("channel", 2 + 0.1 * axis)}
    return xr.Dataset({"volume": (("y", "x", "channel"), data)}, coords=coords).set_xindex("q")


def same(found, expected, names=("component_spectrum",)):
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("method", ["pca", "nmf"])
def test_stored_moments_give_the_same_bits_without_the_reading(volume, method, tmp_path):
    ds, source = counted(volume, {"y": 3})
    options = {"method": method, "components": 3, "iterations": 20}
    expected = nd.find_components(ds, **options)
    own = source.reads
    nd.save(nd.find_spectral_moments(ds), tmp_path / "moments.zarr")
    before = source.reads
    found = nd.find_components(ds, nd.open_scan(tmp_path / "moments.zarr"), **options)
    same(found, expected, expected.data_vars)
    passes = {"pca": 1, "nmf": 2}[method]
    assert passes <= own <= passes + LOOKS
    assert passes - 1 <= source.reads - before <= passes - 1 + LOOKS


def test_moments_are_sums_over_all_spectra(volume):
    found = nd.find_spectral_moments(volume.chunk(y=7, x=8))
    rows = volume.volume.values.reshape(-1, 40) - found.spectral_shift.values
    np.testing.assert_allclose(found.spectral_gram, rows.T @ rows, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.spectral_sum, rows.sum(axis=0), rtol=1e-9, atol=1e-9)
    assert found.attrs["spectra"] == 480
    assert "q" in found.spectral_shift.coords


def test_moments_of_other_data_are_refused(volume):
    moments = nd.find_spectral_moments(volume)
    assert nd.find_components(volume.chunk(y=5), moments, method="pca", components=2)
    for other in (
        volume * 2,
        volume.isel(y=slice(20)),
        volume.isel(channel=slice(30)),
        volume.assign(mask=("y", np.arange(24) == 3)),
    ):
        with pytest.raises(SchemaError, match=r"given moments of other data. Find them again"):
            nd.find_components(other, moments, components=2)
    with pytest.raises(OptionError, match=r"moments=3 is not a dataset. Pass what find_spectral"):
        nd.find_components(volume, 3)
    with pytest.raises(OptionError, match=r"scaling='poison' is not known. Did you mean 'poisson'"):
        nd.find_spectral_moments(volume, scaling="poison")


@pytest.mark.parametrize("method", ["pca", "nmf"])
def test_masked_pixels_are_left_out_and_counted_apart(volume, method, rng):
    mask = rng.random((24, 20)) < 0.3
    ds = volume.assign(mask=(("y", "x"), mask))
    ds.volume[5, 6, 7] = np.nan
    mask[5, 6] = False
    ds["volume"] = ds.volume.where(~ds.mask, 1e9)
    options = {"method": method, "components": 3, "iterations": 5}
    found = nd.find_components(ds.chunk(y=6), **options)
    rest = np.delete(volume.volume.values.reshape(-1, 40), np.flatnonzero(mask), axis=0)
    rest = rest[np.isfinite(rest).all(axis=1)]
    alone = xr.Dataset({"volume": (("y", "x", "channel"), rest[:, None])})
    expected = nd.find_components(alone, **options)
    assert relative_error(found.component_spectrum, expected.component_spectrum) < 1e-6
    assert found.attrs["masked_spectra"] == mask.sum()
    assert found.attrs["dropped_spectra"] == 480 - len(rest) - mask.sum()


@pytest.mark.parametrize("method", ["pca", "nmf"])
@pytest.mark.parametrize("how", ["nan", "mask"])
def test_dead_channels_are_left_out_of_spectra_and_maps(volume, method, how):
    dead = np.isin(np.arange(40), (0, 17))
    options = {"method": method, "components": 3, "iterations": 5}
    kept = volume.isel(channel=~dead)
    expected = nd.find_components(kept, **options)
    ds = volume.copy(deep=True)
    ds.volume[..., dead] = np.nan if how == "nan" else 1e6
    if how == "mask":
        ds = ds.assign(mask=("channel", dead))
    found = nd.find_components(ds.chunk(y=24), **options)
    np.testing.assert_array_equal(np.isnan(found.component_spectrum).all("component"), dead)
    same(found.isel(channel=~dead), expected)
    mapped = nd.map_components(ds.chunk(y=6), found).component_map
    truth = nd.map_components(kept, expected).component_map
    assert relative_error(mapped, truth) < AMPLIFIED


def test_a_mask_of_everything_is_refused(volume):
    with pytest.raises(SchemaError, match="find_spectral_moments needs data, but 'mask' marks"):
        nd.find_spectral_moments(volume.assign(mask=("channel", np.ones(40, bool))))


def test_datasets_are_taken_together(volume):
    parts = [volume.isel(y=slice(0, 10)), volume.isel(y=slice(10, 24)).chunk(y=5)]
    for method in ("pca", "nmf"):
        options = {"method": method, "components": 3, "iterations": 5}
        found = nd.find_components(parts, nd.find_spectral_moments(parts), **options)
        expected = nd.find_components(volume, **options)
        assert relative_error(found.component_spectrum, expected.component_spectrum) < 1e-8
    with pytest.raises(SchemaError, match="given datasets of 30 and 40 channels"):
        nd.find_components([volume, volume.isel(channel=slice(30))])
    with pytest.raises(SchemaError, match="given an empty list"):
        nd.find_components([])


def faint(rng, counts):
    """Poisson counts of spectra of very different strength."""
    axis = np.arange(60)
    centers = np.array([[10], [25], [45]])
    spectra = np.exp(-0.5 * ((axis - centers) / 3) ** 2) + np.exp(-axis / 4)
    amounts = rng.uniform(0, 1, (4000, 3)) ** 3
    clean = amounts @ spectra
    data = rng.poisson(clean * counts / clean.mean()).astype("float32")
    return xr.Dataset({"volume": (("y", "x", "channel"), data[:, None])}), spectra


def worst_match(found, truth):
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True)
    return (found @ truth.T).max(axis=0).min()


def test_scaling_by_the_counting_noise_finds_fainter_components(rng):
    ds, truth = faint(rng, 0.2)
    plain = nd.find_components(ds, components=3)
    moments = nd.find_spectral_moments(ds.chunk(y=1000), scaling="poisson")
    scaled = nd.find_components(ds.chunk(y=1000), moments, components=3)
    np.testing.assert_allclose(scaled.component_spectrum.sum("channel"), 1, rtol=1e-9)
    better = worst_match(scaled.component_spectrum.values, truth)
    assert worst_match(plain.component_spectrum.values, truth) < 0.95
    assert better > 0.98


def test_amounts_of_scaled_components_trust_faint_channels_more(rng):
    ds, _ = faint(rng, 5.0)
    found = nd.find_components(ds, nd.find_spectral_moments(ds, scaling="poisson"), components=3)
    made = nd.map_components(ds, found).component_map.values.reshape(-1, 3)
    spectra, root = found.component_spectrum.values, 1 / found.spectral_scale.values
    rows = ds.volume.values.reshape(-1, 60)
    left = np.square((rows - made @ spectra) * root).sum(axis=1)
    for change in (0.9, 1.1):
        other = np.square((rows - change * made @ spectra) * root).sum(axis=1)
        assert (left <= other + 1e-3).all()
    assert (made >= 0).all()
