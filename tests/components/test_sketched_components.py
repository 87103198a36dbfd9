"""NMF of many spectra of many channels: products with a few directions in place of all."""

import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import find_components, find_spectral_moments
from ndtomo_dask.components import moments, spectra
from tests.reads import counted

OBJECTIVE = 1.0001
"""Of that with all products of channels."""
CHANNELS = 340
GRAIN = (slice(23, 26), slice(17, 20))
"""Pixels of the third phase; no patch lies there."""


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    monkeypatch.setattr("ndtomo_dask.block_sizes.MANY_SPECTRA", 3000)
    monkeypatch.setattr(moments, "LOOKED_AT", 90)


@pytest.fixture
def volume(rng):
    """Counts of two phases everywhere, and of a third in one grain."""
    place = np.array([[40, 200], [110, 280], [160, 310]])[..., None]
    patterns = np.exp(-(((np.arange(CHANNELS) - place) / 4) ** 2)).sum(axis=1) + 0.02
    amounts = np.zeros((60, 60, 3))
    amounts[..., :2] = rng.gamma(0.5, 20, (60, 60, 2))
    amounts[(*GRAIN, 2)] = 60
    counts = rng.poisson(amounts @ patterns).astype("float32")
    return xr.Dataset({"volume": (("y", "x", "channel"), counts)}, attrs={"patterns": patterns})


def test_nmf_reads_the_data_twice_and_is_as_good_as_with_all_products(volume):
    volume = volume.assign(volume=volume.volume.copy(deep=True))
    volume.volume[GRAIN] = 0
    ds, source = counted(volume, {"y": 10, "x": 10})
    found = find_components(ds, components=2)
    assert source.reads < 3.2
    exact = find_components(volume, components=2, solver="exact")
    assert float(found.objective) < OBJECTIVE * float(exact.objective)
    assert float(found.objective) != float(exact.objective)
    assert set(found) == set(exact)


def test_a_grain_that_lies_in_no_patch_is_found(volume):
    y, x = (spectra._windows(60, 3) for _ in range(2))
    rows, columns = (set(range(part.start, part.stop)) for part in GRAIN)
    assert not (rows & set(y) and columns & set(x))
    found = find_components(volume.chunk(y=10), components=3, solver="randomized")
    unit = found.component_spectrum.values
    truth = volume.attrs["patterns"][2]
    cosine = unit @ truth / np.linalg.norm(unit, axis=1) / np.linalg.norm(truth)
    assert cosine.max() > 0.99


def test_given_moments_and_fewer_spectra_take_all_products(volume):
    few = volume.isel(y=slice(0, 40))
    expected = find_components(few, components=2, solver="exact")
    xr.testing.assert_equal(find_components(few, components=2), expected)
    exact = find_components(volume, components=2, solver="exact")
    given = find_components(volume, find_spectral_moments(volume), components=2)
    xr.testing.assert_equal(given, exact)


@pytest.mark.parametrize("shape", [(60, 60), (4, 50, 90), (2, 3, 40, 70), (1, 500), (1, 1, 3)])
def test_patches_are_few_small_and_the_same_whatever_the_blocks(shape, rng):
    dims = ("time", "z", "y", "x")[-len(shape) :]
    ds = xr.Dataset({"volume": ((*dims, "channel"), rng.random((*shape, 5)))})
    one = spectra.patches(spectra.spectra_of(ds, "volume", verb="test"), 300)
    lazy = spectra.spectra_of(ds.chunk(dict.fromkeys(dims, 7)), "volume", verb="test")
    np.testing.assert_array_equal(spectra.patches(lazy, 300).arrays[0], one.arrays[0])
    assert min(200, np.prod(shape)) <= one.count <= 400
