import numpy as np
import pytest
import xarray as xr
from sklearn.cluster import KMeans

import ndtomo_dask.components.cluster_methods as clusters_module
import ndtomo_dask.held as held_module
from ndtomo_dask import find_clusters, find_spectral_moments, map_clusters, save
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from ndtomo_dask.kernels.components import cluster_starts
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from ndtomo_dask.schema import record
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error
from tests.reads import counted
from tests.tolerances import AMPLIFIED

CHUNKS = [{"y": 5}, {"y": 8, "x": 7}, {"x": 1}]
TRUE_INERTIA = 1e-6
"""Relative: float32 scores against distances in all channels."""


@pytest.fixture
def volume(rng):
    """Four kinds of spectra, with noise and random strength; float32."""
    axis = np.arange(50)
    spectra = np.exp(-0.5 * ((axis - np.array([[8], [20], [31], [42]])) / 4) ** 2)
    kind = rng.integers(0, 4, (16, 18))
    data = spectra[kind] * rng.uniform(0.8, 1.2, (16, 18, 1))
    data += 0.05 * rng.standard_normal(data.shape)
    about = {"units": "count/mm", "long_name": "reconstructed intensity"}
    ds = xr.Dataset(
        {"volume": (("y", "x", "channel"), data.astype("float32"), about)},
        coords={"q": ("channel", 2 + 0.1 * axis), "y": np.arange(16) * 0.1, "wavelength": 0.2},
    )
    return record(ds.set_xindex("q"), "test")


def test_inertia_is_the_true_one_and_as_low_as_that_of_scikit_learn(volume):
    found = find_clusters(volume.chunk(y=4), clusters=4)
    rows = volume.volume.values.reshape(-1, 50).astype(float)
    labels = map_clusters(volume, found).cluster_label.values.reshape(-1)
    left = np.square(rows - found.cluster_spectrum.values[labels]).sum()
    assert float(found.inertia) == pytest.approx(left, rel=TRUE_INERTIA)
    peer = KMeans(4, n_init=4, random_state=0).fit(rows)
    assert float(found.inertia) <= 1.001 * peer.inertia_
    np.testing.assert_array_equal(found.cluster_size, np.bincount(labels))


def test_distances_are_taken_in_as_many_components_as_there_are_clusters(volume):
    found = find_clusters(volume, clusters=20)
    xr.testing.assert_identical(found, find_clusters(volume, clusters=20, components=20))
    xr.testing.assert_identical(
        find_clusters(volume, clusters=4), find_clusters(volume, clusters=4, components=16)
    )


def test_spectra_beyond_the_samples_are_swept_over_in_blocks(volume, monkeypatch):
    few = cluster_starts.Level(20, 10, 1e-5, 40), cluster_starts.Level(60, 15, 1e-5, 0)
    whole = find_clusters(volume, clusters=4)
    monkeypatch.setattr(cluster_starts, "LEVELS", few)
    found = find_clusters(volume.chunk(y=4), clusters=4)
    assert found.attrs["iterations"] > 1
    np.testing.assert_array_equal(found.cluster_size, whole.cluster_size)
    assert float(found.inertia) == pytest.approx(float(whole.inertia), rel=TRUE_INERTIA)


def test_clusters_are_small_labelled_and_say_what_was_left_out(volume):
    volume.volume[3, 4, 5] = np.nan
    found = find_clusters(volume.chunk(y=4), clusters=4)
    assert all(array.chunks is None for array in found.data_vars.values())
    assert found.cluster_spectrum.dims == ("cluster", "channel")
    assert "q" in found.cluster_spectrum.coords
    assert found.attrs["dropped_spectra"] == 1
    assert int(found.cluster_size.sum()) == 16 * 18 - 1
    assert int((map_clusters(volume, found).cluster_label == -1).sum()) == 1


def test_labels_do_not_depend_on_the_chunks(volume):
    expected = find_clusters(volume, clusters=4)
    labels = map_clusters(volume, expected).cluster_label
    for chunks in CHUNKS:
        found = find_clusters(volume.chunk(chunks), clusters=4)
        np.testing.assert_array_equal(map_clusters(volume, found).cluster_label, labels)
        assert relative_error(found.cluster_spectrum, expected.cluster_spectrum) < 1e-6
    exact = volume.astype(float)
    expected = find_clusters(exact, clusters=4)
    found = find_clusters(exact.chunk(y=5), clusters=4)
    assert relative_error(found.cluster_spectrum, expected.cluster_spectrum) < AMPLIFIED


def test_clusters_are_the_same_bits_here_and_on_workers(volume, monkeypatch, client):
    monkeypatch.setattr(held_module, "LEAST_GROUP", 3000)
    expected = find_clusters(volume.chunk(y=4), clusters=4)
    monkeypatch.setattr(held_module, "HERE", 0)
    xr.testing.assert_identical(find_clusters(volume.chunk(y=4), clusters=4), expected)


def test_the_data_are_read_once_after_the_moments(volume):
    ds, source = counted(volume, {"y": 2})
    moments = find_spectral_moments(ds)
    before = source.reads
    find_clusters(ds, moments, clusters=4)
    assert 1 <= source.reads - before < 1.5


def test_the_data_are_read_twice_without_moments(volume, monkeypatch):
    monkeypatch.setattr(clusters_module, "BASIS_SAMPLE", 40)
    monkeypatch.setattr(clusters_module, "PER_CHANNEL", 1)
    ds, source = counted(volume, {"y": 2})
    find_clusters(ds, clusters=4)
    assert 1 <= source.reads < 2.3


def test_few_spectra_make_about_the_same_basis(volume, monkeypatch):
    exact = find_clusters(volume, find_spectral_moments(volume), clusters=4)
    monkeypatch.setattr(clusters_module, "BASIS_SAMPLE", 100)
    monkeypatch.setattr(clusters_module, "PER_CHANNEL", 1)
    found = find_clusters(volume.chunk(y=4), clusters=4)
    assert float(found.inertia) == pytest.approx(float(exact.inertia), rel=0.01)
    np.testing.assert_array_equal(found.cluster_size, exact.cluster_size)
    seldom = volume.copy()
    seldom.volume[10:] = seldom.volume[:, :3] = seldom.volume[:, 4:] = np.nan
    alone = find_clusters(seldom.chunk(y=4), clusters=2)
    assert alone.attrs["dropped_spectra"] == 16 * 18 - 10
    assert int(alone.cluster_size.sum()) == 10


def test_mapping_is_lazy_and_keeps_labels(volume):
    found = find_clusters(volume, clusters=4)

    def verb(ds):
        return map_clusters(ds, found)

    made = assert_lazy(verb, volume.chunk(y=4))
    assert_keeps(volume, made, "map_clusters")
    assert made.cluster_label.dims == ("y", "x")
    assert made.cluster_label.dtype == made.cluster_label.compute().dtype == "int16"
    assert_chunk_invariant(verb, volume, CHUNKS)


def test_frames_slices_and_datasets_are_taken_together(volume):
    stack = xr.concat([volume, volume * 2], "z")
    whole = find_clusters(stack.chunk(z=1, y=5), clusters=6)
    parts = find_clusters([volume.chunk(y=7), volume * 2], clusters=6)
    assert relative_error(parts.cluster_spectrum, whole.cluster_spectrum) < 1e-6
    mapped = map_clusters(stack.chunk(z=1), whole).cluster_label
    assert mapped.dims == ("z", "y", "x")
    np.testing.assert_array_equal(mapped.isel(z=1), map_clusters(volume * 2, parts).cluster_label)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_data_are_one_cluster(volume, value):
    flat = xr.full_like(volume, value)
    found = find_clusters(flat, clusters=3)
    np.testing.assert_array_equal(found.cluster_size, [288, 0, 0])
    np.testing.assert_allclose(found.cluster_spectrum.values[0], value, atol=1e-6)
    assert float(found.inertia) == pytest.approx(0, abs=1e-6)


def test_one_cluster_is_the_mean(volume):
    found = find_clusters(volume.chunk(y=4), clusters=1)
    mean = volume.volume.mean(("y", "x"), dtype=float)
    np.testing.assert_allclose(found.cluster_spectrum.values[0], mean, atol=1e-6)


def test_bad_input_is_refused_in_words(volume):
    with pytest.raises(OptionError, match="clusters=0 must be 1 or more"):
        find_clusters(volume, clusters=0)
    with pytest.raises(OptionError, match="clusters=289 must be at most the 288 finite spectra"):
        find_clusters(volume, clusters=289)
    with pytest.raises(OptionError, match="needs moments without scaling"):
        find_clusters(volume, find_spectral_moments(volume, scaling="poisson"))
    with pytest.raises(PlanError, match="find_clusters would hold"):
        find_clusters(volume, allowed_mem="1MB")
    with pytest.raises(SchemaError, match=r"needs whole spectra.*layout='spectra'"):
        find_clusters(volume.chunk(channel=10))
    with pytest.raises(SchemaError, match="at least two finite spectra, but 1 of 1 hold NaN"):
        find_clusters(volume.isel(y=[0], x=[0]) * np.nan)
    found = find_clusters(volume, clusters=2)
    with pytest.raises(SchemaError, match="spectra of 50 channels, but 'volume' has 20"):
        map_clusters(volume.isel(channel=slice(20)), found)


def test_a_recipe_finds_and_maps_clusters(volume, tmp_path):
    save(volume.chunk(y=8), tmp_path / "in.zarr")
    steps = ["find_spectral_moments", {"find_clusters": {"clusters": 4}}, "map_clusters"]
    content = {"input": str(tmp_path / "in.zarr"), "output": str(tmp_path / "out.zarr")}
    recipe = make_recipe({**content, "steps": steps, "save": ["cluster_label"]})
    planned = {made.step: made.read_bytes / volume.volume.nbytes for made in plan_recipe(recipe)}
    assert planned == {"find_spectral_moments": 1, "find_clusters": 1, "map_clusters": 1}
    found = run_recipe(recipe).cluster_label
    expected = map_clusters(volume, find_clusters(volume, clusters=4)).cluster_label
    np.testing.assert_array_equal(found, expected)


def test_clusters_are_merged_into_groups_that_are_labelled(volume):
    found = find_clusters(volume.chunk(y=4), clusters=8, groups=4)
    assert found.cluster_group.dims == ("cluster",)
    assert sorted(set(found.cluster_group.values)) == [0, 1, 2, 3]
    assert found.cluster_group[0] == 0
    assert found.merge_distance.sizes == {"merge": 7}
    assert (np.diff(found.merge_distance) >= 0).all()
    peaks = found.cluster_spectrum.values.argmax(axis=1)
    for group in range(4):
        assert np.ptp(peaks[found.cluster_group.values == group]) < 5
    plain = find_clusters(volume.chunk(y=4), clusters=8)
    xr.testing.assert_equal(plain.cluster_spectrum, found.cluster_spectrum)
    assert "cluster_group" not in plain
    single = find_clusters(volume, clusters=1, groups=1)
    np.testing.assert_array_equal(single.cluster_group, [0])
    with pytest.raises(OptionError, match="groups=9 must lie between 1 and the 8 clusters"):
        find_clusters(volume, clusters=8, groups=9)
