"""Rows that are held have the same sums wherever they are, bit by bit."""

import pickle
import time
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

import ndtomo_dask.held as module
from ndtomo_dask import find_components
from ndtomo_dask.held import held

PATIENCE = 60


def total(rows, weight=1.0):
    return rows.sum(axis=0, dtype=np.float64) * weight


def add(first, second):
    return first + second


def numbers(rows, number):
    return [number]


@pytest.fixture
def array(rng):
    return xr.DataArray(rng.normal(size=(37, 20, 5)).astype("float32"), dims=("y", "x", "rank"))


@pytest.fixture
def small_groups(monkeypatch):
    """A few blocks per group, as in large data."""
    monkeypatch.setattr(module, "LEAST_GROUP", 2000)


def held_sums(array):
    with held([array], "test") as rows:
        return rows(total, add, weight=3.0), rows.numbered(numbers, add)


@pytest.mark.usefixtures("small_groups")
def test_sums_are_the_same_bits_here_in_files_and_on_workers(array, monkeypatch, tmp_path, request):
    lazy = array.chunk(y=5, x=9)
    expected, where = held_sums(lazy)
    np.testing.assert_allclose(expected, 3 * array.sum(("y", "x"), dtype=float), rtol=1e-12)
    np.testing.assert_array_equal(np.sort(np.concatenate(where)), np.arange(37 * 20))
    np.testing.assert_array_equal(where[1][:3], [9, 10, 11])
    assert where[1][9] == 20 + 9
    monkeypatch.setattr(module, "HERE", 0)
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        in_files = held_sums(lazy)
    assert not list(tmp_path.iterdir())
    request.getfixturevalue("client")
    on_workers = held_sums(lazy)
    for got, got_where in (in_files, on_workers):
        np.testing.assert_array_equal(got, expected)
        assert list(map(list, got_where)) == list(map(list, where))


@pytest.mark.usefixtures("small_groups")
def test_factors_are_the_same_bits_here_and_on_workers(rng, monkeypatch, client):
    data = rng.random((30, 20, 3)) @ rng.random((3, 40))
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data.astype("float32"))}).chunk(y=4)
    expected = find_components(ds, components=3, iterations=20)
    monkeypatch.setattr(module, "HERE", 0)
    found = find_components(ds, components=3, iterations=20)
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[name], expected[name])


def scratch_files(dask_worker):
    return [path.name for path in Path(dask_worker.local_directory).rglob("*.npy")]


def test_workers_keep_rows_in_scratch_and_let_them_go(array, monkeypatch, client):
    monkeypatch.setattr(module, "HERE", 0)
    with held([array.chunk(y=5)], "test") as rows:
        assert sum(map(len, client.run(scratch_files).values())) == 8
        rows(total, add)
    deadline = time.monotonic() + PATIENCE
    while any(client.has_what().values()) or any(client.run(scratch_files).values()):
        assert time.monotonic() < deadline, "the workers still hold something"
        time.sleep(0.05)


def test_a_file_goes_with_its_object_and_travels_as_rows(tmp_path, array):
    rows = array.values[0]
    kept = module.LocalFile(rows, tmp_path)
    np.testing.assert_array_equal(np.load(kept), rows)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(kept)), rows)
    del kept
    assert not list(tmp_path.iterdir())


def test_an_array_in_memory_is_one_piece(array):
    got, where = held_sums(array)
    np.testing.assert_array_equal(got, total(array.values.reshape(-1, 5), 3.0))
    np.testing.assert_array_equal(where, [np.arange(740)])


def test_numbers_go_on_from_one_array_to_the_next(array):
    with held([array.isel(y=slice(3)).chunk(y=2), array.chunk(x=7)], "test") as rows:
        found = rows.numbered(numbers, add)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(3 * 20 + 740))
    np.testing.assert_array_equal(found[2][:8], [60, 61, 62, 63, 64, 65, 66, 80])
