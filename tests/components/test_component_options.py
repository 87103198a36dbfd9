"""What find_components and map_components can beside plain PCA and NMF."""

import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import find_clusters, find_components, find_spectral_moments, map_components
from ndtomo_dask.components import methods as component_methods
from ndtomo_dask.components import moments as component_moments
from ndtomo_dask.errors import OptionError, PlanError
from ndtomo_dask.schema import record
from tests.laws import assert_chunk_invariant, assert_lazy, relative_error
from tests.reads import counted
from tests.tolerances import ROUNDING

FOUND = 0.95
"""Correlation with the truth: amounts of 288 pixels are independent to some 0.1 only."""

RANDOMIZED = 1e-3
"""Relative: noise and components differ by a factor of a few hundred in variance."""

F64 = ROUNDING[np.dtype("float64")]


@pytest.fixture
def volume(rng):
    """Three spectra in independent amounts, three in four of them zero, with some noise."""
    axis = np.linspace(0, 1, 40)
    spectra = np.stack([np.exp(-0.5 * ((axis - c) / 0.06) ** 2) for c in (0.2, 0.5, 0.75)]) + 0.01
    maps = rng.uniform(0, 1, (16, 18, 3)) * (rng.uniform(0, 1, (16, 18, 3)) > 0.75)
    data = maps @ spectra + 0.02 * rng.standard_normal((16, 18, 40))
    ds = xr.Dataset(
        {"volume": (("y", "x", "channel"), data, {"units": "count/mm"}),
         "true": (("y", "x", "k"), maps)},
        coords={"q": ("channel", 2 + axis), "y": np.arange(16) * 0.1},
    )  # fmt: skip
    return record(ds.set_xindex("q"), "test")


def rebuilt(ds, found):
    mean = found.component_mean.values if "component_mean" in found else 0
    return ds.component_map.values @ found.component_spectrum.values + mean


def test_independent_components_are_the_true_amounts(volume):
    found = find_components(volume.chunk(y=4), method="ica", components=3)
    maps = map_components(volume, found).component_map.values.reshape(-1, 3)
    table = np.abs(np.corrcoef(maps.T, volume.true.values.reshape(-1, 3).T)[:3, 3:])
    assert (table.max(axis=0) > FOUND).all()
    np.testing.assert_allclose(maps.var(axis=0, ddof=1), found.explained_variance, rtol=1e-6)
    principal = find_components(volume, method="pca", components=3)
    np.testing.assert_allclose(
        found.explained_variance_ratio.sum(), principal.explained_variance_ratio.sum(), rtol=1e-9
    )


def test_independent_components_do_not_depend_on_the_chunks_and_read_twice(volume):
    expected = find_components(volume, method="ica", components=3)
    for chunks in [{"y": 5}, {"y": 8, "x": 7}]:
        found = find_components(volume.chunk(chunks), method="ica", components=3)
        assert relative_error(found.component_spectrum, expected.component_spectrum) < 1e-9
    ds, source = counted(volume, {"y": 2})
    moments = find_spectral_moments(ds)
    before = source.reads
    find_components(ds, moments, method="ica", components=3)
    assert 1 <= source.reads - before < 1.5


def test_sparsity_makes_maps_sparse(volume):
    shares = []
    for sparsity in (0, 0.02, 0.1):
        found = find_components(volume.chunk(y=4), components=3, sparsity=sparsity)
        maps = map_components(volume, found).component_map
        shares.append(float((maps == 0).mean()))
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.6


def test_smoothness_makes_spectra_smooth(volume):
    rough = []
    for smoothness in (0, 1, 100):
        found = find_components(volume.chunk(y=4), components=3, smoothness=smoothness)
        spectra = found.component_spectrum.values
        rough.append(np.square(np.diff(spectra, n=2)).sum() / np.square(spectra).sum())
        np.testing.assert_allclose(spectra.sum(axis=1), 1, rtol=1e-9)
    assert rough[0] > rough[1] > rough[2]


def test_no_penalty_gives_the_same_bits(volume):
    expected = find_components(volume, components=3, iterations=20)
    found = find_components(volume, components=3, iterations=20, sparsity=0.0, smoothness=0.0)
    xr.testing.assert_identical(found, expected)


@pytest.mark.parametrize("method", ["pca", "nmf", "ica"])
def test_the_residual_is_what_the_components_leave(volume, method):
    found = find_components(volume, method=method, components=2)
    made = map_components(volume.chunk(y=5), found, residual=True)
    left = volume.volume.values - rebuilt(made, found)
    expected = np.sqrt(np.square(left).mean(axis=-1))
    np.testing.assert_allclose(made.component_residual, expected, rtol=1e-9)
    assert made.component_residual.dims == ("y", "x")
    assert made.component_residual.attrs["units"] == "count/mm"
    plain = map_components(volume.chunk(y=5), found)
    np.testing.assert_array_equal(made.component_map, plain.component_map)
    assert "component_residual" not in plain


def test_the_residual_is_lazy_and_comes_from_the_same_reading(volume):
    found = find_components(volume, components=3)

    def verb(ds):
        return map_components(ds, found, residual=True)

    assert_lazy(verb, volume.chunk(y=4))
    assert_chunk_invariant(verb, volume, [{"y": 5}, {"y": 8, "x": 7}], tolerance=100 * F64)
    ds, source = counted(volume, {"y": 2})
    verb(ds)[["component_map", "component_residual"]].compute()
    assert source.reads == 1


def test_the_residual_of_a_spectrum_with_nan_is_nan_and_others_stay(volume):
    found = find_components(volume, components=3, iterations=5)
    expected = map_components(volume, found, residual=True).component_residual
    bad = volume.copy(deep=True)
    bad.volume[3, 4, 5] = np.nan
    made = map_components(bad, found, residual=True).component_residual
    assert np.isnan(made[3, 4])
    assert int(np.isnan(made).sum()) == 1
    np.testing.assert_array_equal(made[5:], expected[5:])


def test_penalties_that_do_not_suit_are_refused_in_words(volume):
    with pytest.raises(OptionError, match=r"sparsity=-0.1 must be 0 or more"):
        find_components(volume, sparsity=-0.1)
    with pytest.raises(OptionError, match=r"smoothness=1.0 suits method='nmf' only, not 'pca'"):
        find_components(volume, method="pca", smoothness=1.0)
    scaled = find_spectral_moments(volume, scaling="poisson")
    with pytest.raises(OptionError, match=r"sparsity=0.1 needs moments without scaling"):
        find_components(volume, scaled, sparsity=0.1)


@pytest.mark.parametrize("method", ["pca", "nmf", "ica"])
def test_the_randomized_solver_finds_what_the_exact_one_does(volume, method):
    exact = find_components(volume, method=method, components=3, solver="exact")
    found = find_components(volume.chunk(y=4), method=method, components=3, solver="randomized")
    assert set(found) == set(exact)
    assert relative_error(found.component_spectrum, exact.component_spectrum) < RANDOMIZED
    if method != "nmf":
        np.testing.assert_allclose(found.component_mean, exact.component_mean, rtol=1e-9)
        np.testing.assert_allclose(
            found.explained_variance_ratio, exact.explained_variance_ratio, rtol=RANDOMIZED
        )


def test_the_randomized_solver_reads_three_times_at_most_and_is_chosen_for_many_channels(
    volume, monkeypatch
):
    monkeypatch.setattr(component_moments, "LOOKED_AT", 9)
    ds, source = counted(volume, {"y": 2})
    find_components(ds, method="pca", components=3, solver="randomized")
    assert source.reads < 3.6  # with the patches
    monkeypatch.setattr(component_methods, "LARGEST_GRAM", 39)
    expected = find_components(volume, method="pca", components=3, solver="randomized")
    xr.testing.assert_equal(find_components(volume, method="pca", components=3), expected)
    with pytest.raises(OptionError, match="reads the data in place of moments"):
        find_components(volume, find_spectral_moments(volume), solver="randomized")
    with pytest.raises(OptionError, match="components=41 must lie between 1 and the 40 channels"):
        find_components(volume, components=41, solver="randomized")


@pytest.mark.parametrize("method", ["pca", "nmf"])
def test_the_randomized_solver_scales_counts_as_the_exact_one_does(rng, method):
    counts = rng.poisson(rng.gamma(1, 4, (24, 20, 3)) @ rng.gamma(1, 2, (3, 40)))
    ds = xr.Dataset({"volume": (("y", "x", "channel"), counts.astype("float32"))})
    moments = find_spectral_moments(ds, scaling="poisson")
    expected = find_components(ds, moments, method=method, components=3)
    lazy, source = counted(ds, {"y": 2})
    found = find_components(
        lazy, method=method, components=3, solver="randomized", scaling="poisson"
    )
    assert source.reads < 4.5 + (method != "pca")
    np.testing.assert_array_equal(found.spectral_scale, expected.spectral_scale)
    assert relative_error(found.component_spectrum, expected.component_spectrum) < 0.01
    same = find_components(ds, method=method, components=3, scaling="poisson")
    xr.testing.assert_equal(same, expected)
    with pytest.raises(OptionError, match="scaling='poisson' goes without moments"):
        find_components(ds, moments, scaling="poisson")


def test_less_memory_is_enough_for_the_randomized_solver(rng):
    ds = xr.Dataset({"volume": (("y", "x", "channel"), rng.random((4, 5, 2000)))})
    with pytest.raises(PlanError, match=r"Gram matrix alone takes .*solver='randomized'"):
        find_components(ds.chunk(y=1), method="pca", components=2, allowed_mem="100MB")
    found = find_components(
        ds.chunk(y=1), method="pca", components=2, allowed_mem="100MB", solver="randomized"
    )
    assert found.component_spectrum.shape == (2, 2000)
    with pytest.raises(PlanError, match=r"find_clusters .*solver='randomized'"):
        find_clusters(ds.chunk(y=1), clusters=2, allowed_mem="100MB")
    randomized = find_clusters(
        ds.chunk(y=1), clusters=2, allowed_mem="100MB", solver="randomized", components=3
    )
    exact = find_clusters(ds, clusters=2, components=3)
    assert float(randomized.inertia) == pytest.approx(float(exact.inertia), rel=0.05)
    with pytest.raises(PlanError, match=r"select fewer channels\.$"):
        find_spectral_moments(ds.chunk(y=1), allowed_mem="100MB")


def test_streaming_finds_what_is_found_in_compressed_spectra(volume, monkeypatch):
    monkeypatch.setattr(component_methods, "NMF_SAMPLE", 60)
    ds, source = counted(volume, {"y": 2})
    expected = find_components(volume, components=3)
    found = find_components(ds, components=3, solver="streaming")
    iterations = found.attrs["iterations"]
    assert iterations + 2 <= source.reads < iterations + 3.5
    assert iterations < expected.attrs["iterations"]
    assert float(found.objective) <= 1.0001 * float(expected.objective)
    assert relative_error(found.component_spectrum, expected.component_spectrum) < 0.02
    for options in ({"sparsity": 0.02}, {"known": expected.isel(component=[1])}):
        held = find_components(volume, components=3, **options)
        streamed = find_components(ds, components=3, solver="streaming", **options)
        assert float(streamed.objective) <= 1.0001 * float(held.objective)


def test_streaming_begins_anew_where_the_sample_holds_nothing(volume, monkeypatch):
    monkeypatch.setattr(component_methods, "NMF_SAMPLE", 4)
    found = find_components(volume.chunk(y=4), components=3, solver="streaming")
    expected = find_components(volume, components=3)
    assert float(found.objective) <= 1.0001 * float(expected.objective)
    with pytest.raises(OptionError, match="solver='streaming' suits method='nmf' only"):
        find_components(volume, method="pca", solver="streaming")
