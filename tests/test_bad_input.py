"""Bad input gets one sentence: what, where, what was expected, what to type. Faults are counted."""

import h5py
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import NdtomoError, OptionError, RecipeError, SchemaError, StoreError
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import hashes, write_scan

MAP = {"sinogram": "data", "angle": "angle", "translation": "translation", "tth": "tth"}
SHAPE = {"angle": 12, "translation": 16, "tth": 20}


@pytest.fixture
def write(tmp_path, rng):
    """Write a small HDF5 file; axes given replace the good ones."""

    def to_file(**changed):
        path = tmp_path / "scan.h5"
        axes = {name: np.linspace(0, 10, size) for name, size in SHAPE.items()} | changed
        shape = tuple(SHAPE.values()) if axes["angle"].size else (0, 16, 20)
        with h5py.File(path, "w") as file:
            file["data"] = changed.get("data", rng.random(shape))
            for name in SHAPE:
                file[name] = axes[name]
                file[name].attrs["units"] = "mm" if name == "translation" else "degree"
        return path

    return to_file


def refused(error, words, call, *args, **options):
    """A call that must fail, with these words, in one line of no more than a few sentences."""
    with pytest.raises(error, match=words) as caught:
        call(*args, **options)
    said = str(caught.value)
    assert isinstance(caught.value, NdtomoError)
    assert "\n" not in said
    assert len(said) < 400
    assert said.endswith((".", "?", ")"))


def test_a_good_file_is_taken(write):
    ds = nd.open_scan(write(), **MAP)
    assert dict(ds.sinogram.sizes) == {"angle": 12, "translation": 16, "channel": 20}


def test_missing_files_and_datasets(write, tmp_path):
    path = write()
    refused(StoreError, r"scann\.h5 does not exist\. Did you mean '.*scan\.h5'\?",
            nd.open_scan, tmp_path / "scann.h5")  # fmt: skip
    refused(StoreError, r"has no dataset 'datum'\. Did you mean 'data'\?",
            nd.open_scan, path, **(MAP | {"sinogram": "datum"}))  # fmt: skip
    refused(StoreError, r"is not a Zarr v3 store: it has no zarr\.json", nd.open_scan, tmp_path)
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros((3, 4))
        file["another"] = np.zeros((3, 4))
    refused(SchemaError, r"does not say which dataset is the scan\. Name it:", nd.open_scan, path)


def test_a_truncated_file(write):
    path = write()
    path.write_bytes(path.read_bytes()[:-3000])
    refused(StoreError, r"scan\.h5 is truncated at \d+ bytes: its end is missing\. Copy it again",
            nd.open_scan, path, **MAP)  # fmt: skip


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"tth": np.linspace(0, 1, 19)}, r"axis '(tth|channel)' has 19 values, but"),
        ({"angle": np.linspace(0, 1, 13)}, r"axis 'angle' has 13 values, but"),
        ({"tth": np.r_[np.linspace(0, 9, 19), 3.0]}, r"'tth' is not monotonic: value 3 at in"),
        ({"tth": np.r_[0.0, 0, np.linspace(1, 9, 18)]}, r"'tth' is not monotonic: value 0 at ind"),
        ({"translation": np.r_[np.linspace(0, 9, 15), 9.0]}, r"'translation' is not monotonic"),
        ({"tth": np.r_[np.linspace(0, 9, 19), np.nan]}, r"'tth' has a value that is not finite at"),
        ({"angle": np.zeros(0)}, r"has no projection angles"),
    ],
    ids=["length", "angles", "order", "double", "place", "nan", "none"],
)  # fmt: skip
def test_axes_that_cannot_be(write, axes, words):
    refused(SchemaError, words, nd.open_scan, write(**axes), **MAP)


def test_unknown_units_and_names(write):
    refused(SchemaError, r"axis 'tth' has unit 'furlong', not 'degree'",
            nd.open_scan, write(), **MAP, units={"tth": "furlong"})  # fmt: skip
    refused(SchemaError, r"the map has 'sinogramm'.*Did you mean 'sinogram'\?",
            nd.open_scan, write(), sinogramm="data")  # fmt: skip


def test_q_without_a_wavelength(write):
    ds = nd.open_scan(write(), **MAP).load()
    refused(SchemaError, r"asked for axis 'q', which follows from 'tth' only with a wavelength",
            nd.fit_peaks, nd.reconstruct(ds), windows={"a": (1, 2)}, axis="q")  # fmt: skip
    assert "q" in nd.open_scan(write(), **MAP, wavelength=0.2).coords


def test_windows_that_hold_nothing(write):
    ds = nd.reconstruct(nd.open_scan(write(), **MAP).load())
    for window, words in (
        ((50, 60), r"window 'a' \(50, 60\) lies outside axis 'tth', which covers 0 to 10 degree"),
        (
            (1, 1.2),
            r"window 'a' \(1, 1\.2\) holds 1 channels of axis 'tth'; a fit needs at least 5",
        ),
    ):
        refused(SchemaError, words, nd.fit_peaks, ds, windows={"a": window}, axis="tth")
    refused(OptionError, r"fit_peaks needs a window per peak", nd.fit_peaks, ds, windows={})


def test_unknown_options_and_verbs(write):
    ds = nd.open_scan(write(), **MAP)
    refused(OptionError, r"method='fpb' is not known\. Did you mean 'fbp'\?",
            nd.reconstruct, ds, method="fpb")  # fmt: skip
    recipe = {"input": "scan.h5", "output": "out.zarr"}
    for step, words in (
        ("recontruct", r"verb 'recontruct' is not known\. Did you mean 'reconstruct'\?"),
        ({"reconstruct": {"filtre": "hann"}}, r"no option 'filtre'\. Did you mean 'filter'\?"),
    ):
        refused(RecipeError, words, make_recipe, recipe | {"steps": [step]})


def test_values_that_are_not_finite_are_bridged_and_counted(write, rng):
    data = rng.random(tuple(SHAPE.values()))
    clean = nd.reconstruct(nd.open_scan(write(data=data.copy()), **MAP)).compute()
    data[3, 4, 5], data[7, 8, 5], data[2, 2, 9] = np.nan, np.inf, -np.inf
    ds = nd.reconstruct(nd.open_scan(write(data=data), **MAP))
    counted = ds.missing_samples.values
    assert (counted[5], counted[9], counted.sum()) == (2, 1, 3)
    assert np.isfinite(ds.volume).all()
    others = np.setdiff1d(np.arange(20), [5, 9])
    np.testing.assert_array_equal(ds.volume[..., others], clean.volume[..., others])
    assert not np.array_equal(ds.volume[..., 5], clean.volume[..., 5])


def test_a_dead_projection_is_left_out(write, rng):
    data = rng.random(tuple(SHAPE.values()))
    data[6] = np.nan
    path = write(data=data)
    ds = nd.open_scan(path, **MAP)
    without = ds.isel(angle=np.arange(12) != 6)
    dead = nd.reconstruct(ds)
    np.testing.assert_array_equal(dead.volume, nd.reconstruct(without).volume)
    assert dead.missing_samples.sum() == 16 * 20


def test_nothing_is_overwritten_unasked(tmp_path):
    scan, store = (
        write_scan(tmp_path / "scan.nxs", size=16, angles=12, channels=20),
        tmp_path / "s.zarr",
    )
    ds = nd.open_scan(scan)
    nd.save(ds[["sinogram"]], store)
    nd.export(ds, tmp_path / "copy.h5", variable="sinogram")
    before, copy = hashes(store), (tmp_path / "copy.h5").read_bytes()
    refused(StoreError, r"already has 'sinogram'", nd.save, ds[["sinogram"]], store)
    refused(StoreError, r"already has 'sinogram'", nd.convert, scan, store)
    refused(
        StoreError, r"copy\.h5 exists", nd.export, ds, tmp_path / "copy.h5", variable="sinogram"
    )
    steps = {"input": str(scan), "output": str(store), "steps": ["reconstruct"]}
    refused(StoreError, r"s\.zarr exists", run_recipe, make_recipe(steps))
    assert hashes(store) == before
    assert (tmp_path / "copy.h5").read_bytes() == copy
    nd.save(ds[["sinogram"]] * 2, store, overwrite=True)
    assert hashes(store) != before
