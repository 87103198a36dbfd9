import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import find_components, find_spectral_moments, map_components
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from ndtomo_dask.schema import record
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error
from tests.tolerances import AMPLIFIED, ROUNDING

TILES = [{}, {"y": 5}, {"y": 8, "x": 7}]
F64 = ROUNDING[np.dtype("float64")]


@pytest.fixture
def volume(rng):
    """Three nonnegative spectra in random amounts, float64; pure pixels of each exist."""
    axis = np.linspace(0, 1, 50)
    spectra = np.stack([np.exp(-0.5 * ((axis - c) / 0.05) ** 2) for c in (0.2, 0.5, 0.75)]) + 0.01
    maps = rng.uniform(0, 1, (16, 18, 3)) * (rng.uniform(0, 1, (16, 18, 3)) > 0.4)
    maps[0, :3] = np.eye(3)
    about = {"units": "count/mm", "long_name": "reconstructed intensity"}
    ds = xr.Dataset(
        {"volume": (("y", "x", "channel"), maps @ spectra, about), "true": (("y", "x", "k"), maps)},
        coords={"q": ("channel", 2 + axis), "y": np.arange(16) * 0.1, "wavelength": 0.2},
    )
    ds.true.attrs = {"units": "1", "long_name": "truth"}
    return record(ds.set_xindex("q"), "test")


def found_again(components, truth):
    """Best correlation of each true map with one of the maps."""
    made = components.values.reshape(-1, components.shape[-1])
    table = np.corrcoef(made.T, truth.values.reshape(-1, 3).T)[: made.shape[1], made.shape[1] :]
    return table.max(axis=0)


@pytest.mark.parametrize("method", ["pca", "nmf"])
def test_components_are_found_at_once_and_are_small(volume, method):
    found = find_components(volume.chunk(y=4), method=method, components=3)
    assert all(array.chunks is None for array in found.data_vars.values())
    assert found.component_spectrum.dims == ("component", "channel")
    assert "q" in found.component_spectrum.coords
    assert found.attrs["method"] == method
    assert found.attrs["dropped_spectra"] == 0
    assert len(found.attrs["history"].splitlines()) == 1


def test_principal_components_are_those_of_the_data(volume):
    found = find_components(volume.chunk(y=4), method="pca", components=3)
    rows = volume.volume.values.reshape(-1, 50)
    np.testing.assert_allclose(found.component_mean, rows.mean(axis=0), rtol=1e-12)
    values = np.linalg.svd(rows - rows.mean(axis=0))[1] ** 2 / (len(rows) - 1)
    np.testing.assert_allclose(found.explained_variance, values[:3], rtol=1e-9)
    assert float(found.explained_variance_ratio.sum()) == pytest.approx(1, abs=1e-9)
    scores = map_components(volume, found).component_map
    rebuilt = scores.values @ found.component_spectrum.values + found.component_mean.values
    np.testing.assert_allclose(rebuilt, volume.volume, atol=1e-10)


def test_nonnegative_components_recover_the_true_maps(volume):
    found = find_components(volume, method="nmf", components=3, iterations=500)
    np.testing.assert_allclose(found.component_spectrum.sum("channel"), 1, rtol=1e-9)
    assert (found.component_spectrum >= 0).all()
    assert (np.diff(found.component_weight) <= 0).all()
    mapped = map_components(volume, found).component_map
    assert (mapped >= 0).all()
    assert (found_again(mapped, volume.true) > 0.99).all()


@pytest.mark.parametrize("lead", [False, True])
def test_principal_components_do_not_depend_on_the_chunks(volume, lead):
    ds = xr.concat([volume, volume * 0.5], "z") if lead else volume
    expected = find_components(ds, method="pca", components=3)
    for chunks in [*TILES, *([{"z": 1}] if lead else [])]:
        found = find_components(ds.chunk(chunks), method="pca", components=3)
        for name in expected.data_vars:
            assert relative_error(found[name], expected[name]) <= AMPLIFIED


@pytest.mark.parametrize("lead", [False, True])
def test_nonnegative_components_do_not_depend_on_the_chunks(volume, lead):
    ds = xr.concat([volume, volume * 0.5], "z") if lead else volume
    expected = find_components(ds, components=2, iterations=5)
    for chunks in [*TILES, *([{"z": 1}] if lead else [])]:
        found = find_components(ds.chunk(chunks), components=2, iterations=5)
        assert abs(float(found.objective / expected.objective) - 1) <= AMPLIFIED
        assert relative_error(found.component_spectrum, expected.component_spectrum) <= 1e-8


def test_spectra_with_nan_are_left_out_and_counted(volume):
    bad = volume.copy(deep=True)
    bad.volume[3, 4, 5] = np.nan
    bad.volume[7, 8, 9] = np.inf
    found = find_components(bad.chunk(y=4), method="pca", components=3)
    assert found.attrs["dropped_spectra"] == 2
    kept = np.delete(volume.volume.values.reshape(-1, 50), [3 * 18 + 4, 7 * 18 + 8], axis=0)
    np.testing.assert_allclose(found.component_mean, kept.mean(axis=0), rtol=1e-12)


def test_a_bad_spectrum_damages_only_its_own_pixel(volume):
    found = find_components(volume, components=3, iterations=5)
    expected = map_components(volume, found).component_map
    bad = volume.copy(deep=True)
    bad.volume[3, 4, 5] = np.nan
    made = map_components(bad, found).component_map
    assert np.isnan(made[3, 4]).all()
    others = np.ones((16, 18), dtype=bool)
    others[3, 4] = False
    np.testing.assert_array_equal(made.values[others], expected.values[others])


@pytest.mark.parametrize("method", ["pca", "nmf"])
def test_mapping_is_lazy_keeps_labels_and_does_not_depend_on_the_chunks(volume, method):
    found = find_components(volume, method=method, components=3, iterations=5)

    def verb(ds):
        return map_components(ds, found)

    made = assert_lazy(verb, volume.chunk(y=4))
    assert_keeps(volume, made, "map_components")
    assert made.component_map.dims == ("y", "x", "component")
    assert_chunk_invariant(verb, volume, TILES, tolerance=100 * F64)
    stack = xr.concat([volume, volume * 0.5], "z").assign_attrs(volume.attrs)
    whole = verb(stack.chunk(z=1, y=8)).component_map
    for z in range(2):
        alone = verb(stack.isel(z=z).chunk(y=8)).component_map
        np.testing.assert_array_equal(whole.isel(z=z), alone)


@pytest.mark.parametrize("method", ["pca", "nmf"])
def test_counts_as_integers_are_not_rounded(volume, method):
    counts = (volume * 1000).round()
    options = {"method": method, "components": 3, "iterations": 5}
    expected = map_components(counts, find_components(counts, **options)).component_map
    integers = counts.astype("int32").chunk(y=4)
    made = map_components(integers, find_components(integers, **options)).component_map
    assert made.dtype == made.compute().dtype == "float32"
    assert relative_error(made, expected) < 1e-3


def test_spectra_that_are_given_can_be_mapped(volume):
    spectra = volume.volume.isel(y=0, x=slice(3)).rename(x="component").transpose("component", ...)
    given = spectra.drop_vars("y").rename("component_spectrum").to_dataset()
    mapped = map_components(volume, given)
    np.testing.assert_allclose(mapped.component_map, volume.true, atol=1e-9)
    assert "method='given'" in mapped.attrs["history"]


def test_bad_input_is_refused_in_words(volume):
    with pytest.raises(SchemaError, match=r"find_components needs whole spectra.*layout='spectra'"):
        find_components(volume.chunk(channel=10))
    with pytest.raises(OptionError, match=r"method='nfm' is not known. Did you mean 'nmf'"):
        find_components(volume, method="nfm")
    with pytest.raises(OptionError, match=r"components=0 must be 1 or more"):
        find_components(volume, components=0)
    with pytest.raises(OptionError, match=r"components=51 must lie between 1 and the 50 channels"):
        find_components(volume, components=51)
    with pytest.raises(
        SchemaError, match=r"find_components was asked for variable='volum'.*'volume'"
    ):
        find_components(volume, variable="volum")
    with pytest.raises(SchemaError, match=r"at least two finite spectra, but 288 of 288 hold NaN"):
        find_components(volume * np.nan)
    with pytest.raises(PlanError, match=r"find_components would hold"):
        find_components(volume, allowed_mem="1MB")
    found = find_components(volume, method="pca", components=2)
    with pytest.raises(SchemaError, match=r"spectra of 50 channels, but 'volume' has 20"):
        map_components(volume.isel(channel=slice(20)), found)
    with pytest.raises(SchemaError, match=r"map_components needs 'component_spectrum'"):
        map_components(volume, volume)


@pytest.mark.parametrize("scaling", ["none", "poisson"])
def test_known_spectra_stay_and_the_others_are_found(volume, scaling):
    truth = volume.volume.isel(y=0, x=slice(3)).rename(x="component").transpose("component", ...)
    known = truth.isel(component=[1]).drop_vars("y").rename("component_spectrum").to_dataset()
    moments = find_spectral_moments(volume, scaling=scaling)
    found = find_components(volume.chunk(y=4), moments, components=3, known=known)
    unit = truth.values / truth.values.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.component_spectrum.values[0], unit[1], rtol=1e-9)
    lengths = np.linalg.norm(unit, axis=1)
    cosines = found.component_spectrum.values @ unit.T / lengths
    cosines /= np.linalg.norm(found.component_spectrum.values, axis=1)[:, None]
    assert (cosines.max(axis=0) > 0.99).all()
    alone = find_components(volume, components=1, known=known)
    np.testing.assert_allclose(alone.component_spectrum.values[0], unit[1], rtol=1e-9)


def test_known_spectra_that_do_not_suit_are_refused(volume):
    known = find_components(volume, components=2, iterations=5)
    with pytest.raises(OptionError, match="components=1 must be at least 2, the number of known"):
        find_components(volume, components=1, known=known)
    with pytest.raises(SchemaError, match="known spectra of 20 channels, but the data have 50"):
        find_components(volume, known=known.isel(channel=slice(20)))
    with pytest.raises(SchemaError, match="known spectra that are finite in all channels"):
        find_components(volume, known=known * np.nan)


@pytest.mark.parametrize("method", ["pca", "nmf"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_data_have_components_that_are_finite(volume, method, value):
    flat = xr.full_like(volume, value)
    found = find_components(flat.chunk(y=4), method=method, components=2)
    assert all(np.isfinite(array).all() for array in found.data_vars.values())
    amounts = map_components(flat, found).component_map
    assert np.isfinite(amounts).all()
    if method == "nmf":
        rebuilt = amounts.values @ found.component_spectrum.values
        np.testing.assert_allclose(rebuilt, flat.volume, atol=1e-9)


@pytest.mark.parametrize("method", ["pca", "nmf"])
def test_one_component_is_the_strongest(volume, method):
    found = find_components(volume.chunk(y=4), method=method, components=1)
    assert found.component_spectrum.shape == (1, 50)


def test_one_spectrum_is_too_few(volume):
    with pytest.raises(SchemaError, match="at least two finite spectra"):
        find_components(volume.isel(y=[3], x=[3]), components=1)
