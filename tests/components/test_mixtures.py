import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score

import ndtomo_dask.held as held_module
from ndtomo_dask import find_clusters, find_spectral_moments, map_clusters, save
from ndtomo_dask.errors import OptionError
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_lazy, relative_error
from tests.reads import counted

CHUNKS = [{"y": 5}, {"y": 8, "x": 7}, {"x": 1}]


@pytest.fixture
def truth(rng):
    """Half the pixels are of a phase of very different amounts, which K-means cuts in two."""
    return rng.integers(0, 3, (24, 20))


@pytest.fixture
def volume(rng, truth):
    axis = np.arange(40)
    spectra = np.exp(-0.5 * ((axis - np.array([[8], [20], [31]])) / 4) ** 2)
    strength = np.where(truth == 0, rng.normal(8, 2, truth.shape), 1.0)
    data = spectra[truth] * strength[..., None] + 0.03 * rng.standard_normal((24, 20, 40))
    return xr.Dataset(
        {"volume": (("y", "x", "channel"), data.astype("float32"))},
        coords={"q": ("channel", 2 + 0.1 * axis)},
    ).set_xindex("q")


def found_in(ds, **options):
    return find_clusters(ds, method="gaussian_mixture", clusters=3, components=4, **options)


def test_clusters_of_different_shapes_are_told_apart(volume, truth):
    mixture, means = found_in(volume.chunk(y=4)), find_clusters(volume, clusters=3, components=4)
    made = map_clusters(volume.chunk(y=4), mixture).compute()
    nearest = map_clusters(volume, means).cluster_label
    assert adjusted_rand_score(truth.ravel(), made.cluster_label.values.ravel()) == 1
    assert adjusted_rand_score(truth.ravel(), nearest.values.ravel()) < 0.9
    np.testing.assert_allclose(made.cluster_probability.sum("cluster"), 1, rtol=1e-5)
    assert mixture.cluster_spectrum.dims == ("cluster", "channel")
    assert "q" in mixture.cluster_spectrum.coords
    np.testing.assert_array_equal(mixture.cluster_size, np.bincount(made.cluster_label.values.flat))
    order = np.argsort(-np.bincount(truth.flat))
    means = np.stack([volume.volume.values[truth == kind].mean(axis=0) for kind in order])
    np.testing.assert_allclose(mixture.cluster_spectrum, means, atol=0.02)


def test_the_criterion_tells_how_many_clusters_there_are(volume):
    moments = find_spectral_moments(volume)
    criterion = {
        count: float(
            find_clusters(
                volume, moments, method="gaussian_mixture", clusters=count, components=4
            ).information_criterion
        )
        for count in (2, 3, 4)
    }
    assert min(criterion, key=criterion.get) == 3


def test_maps_are_lazy_do_not_depend_on_chunks_and_contain_nan(volume):
    found = found_in(volume)

    def verb(ds):
        return map_clusters(ds, found)

    made = assert_lazy(verb, volume.chunk(y=4))
    assert made.cluster_probability.dims == ("y", "x", "cluster")
    assert made.cluster_probability.dtype == "float32"
    assert made.cluster_label.dtype == made.cluster_label.compute().dtype == "int16"
    assert_chunk_invariant(verb, volume, CHUNKS)
    spoiled = volume.copy(deep=True)
    spoiled.volume[3, 4, 5] = np.nan
    mapped = verb(spoiled)
    assert mapped.cluster_label[3, 4] == -1
    assert int((mapped.cluster_label == -1).sum()) == 1
    assert int(mapped.cluster_probability.isnull().any("cluster").sum()) == 1
    assert found_in(spoiled.chunk(y=5)).attrs["dropped_spectra"] == 1


def test_mixtures_do_not_depend_on_chunks_or_workers(volume, monkeypatch, client):
    expected = found_in(volume.astype(float))
    found = found_in(volume.astype(float).chunk(y=5, x=6))
    assert relative_error(found.cluster_spectrum, expected.cluster_spectrum) < 1e-6
    monkeypatch.setattr(held_module, "LEAST_GROUP", 3000)
    expected = found_in(volume.chunk(y=4))
    monkeypatch.setattr(held_module, "HERE", 0)
    xr.testing.assert_identical(found_in(volume.chunk(y=4)), expected)


def test_the_data_are_read_twice_and_once_to_map(volume):
    ds, source = counted(volume, {"y": 2})
    found = found_in(ds)
    assert 2 <= source.reads < 2.3
    before = source.reads
    map_clusters(ds, found)[["cluster_label", "cluster_probability"]].compute()
    assert source.reads - before == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_data_are_one_cluster(volume, value):
    flat = xr.full_like(volume, value)
    found = found_in(flat)
    assert int(found.cluster_size[0]) == 24 * 20
    np.testing.assert_allclose(found.cluster_spectrum.values[0], value, atol=1e-6)


def test_bad_options_are_refused(volume):
    with pytest.raises(OptionError, match=r"method='gmm' .*gaussian_mixture"):
        find_clusters(volume, method="gmm")
    with pytest.raises(OptionError, match="clusters=481 must be at most the 480 finite spectra"):
        find_clusters(volume, method="gaussian_mixture", clusters=481)


def test_a_recipe_finds_and_maps_a_mixture(volume, tmp_path):
    save(volume.chunk(y=8), tmp_path / "in.zarr")
    options = {"method": "gaussian_mixture", "clusters": 3, "components": 4}
    content = {"input": str(tmp_path / "in.zarr"), "output": str(tmp_path / "out.zarr")}
    content["steps"] = [{"find_clusters": options}, "map_clusters"]
    recipe = make_recipe({**content, "save": ["cluster_label", "cluster_probability"]})
    planned = {made.step: made.read_bytes / volume.volume.nbytes for made in plan_recipe(recipe)}
    assert planned == {"find_clusters": 2, "map_clusters": 1}
    run_recipe(recipe)
    stored = xr.open_zarr(tmp_path / "out.zarr", consolidated=False)
    expected = map_clusters(volume, found_in(volume))
    np.testing.assert_array_equal(stored.cluster_label, expected.cluster_label)
    np.testing.assert_allclose(stored.cluster_probability, expected.cluster_probability, atol=1e-4)
