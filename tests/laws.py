"""Laws that several parts of the package keep, each as one assertion."""

import dask
import numpy as np
import xarray as xr

from tests.tolerances import ADJOINT


def assert_adjoint(A, rng, dtype):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for noise x and y, with dot products in float64."""
    dtype = np.dtype(dtype)
    x = rng.standard_normal((*A.geometry.shape, 3)).astype(dtype)
    shape = (A.geometry.angles.size, A.geometry.translations, 3)
    y = rng.standard_normal(shape).astype(dtype)
    forward, backward = A(x), A.T(y)
    assert forward.dtype == backward.dtype == dtype
    left = np.vdot(forward.astype(float), y.astype(float))
    right = np.vdot(x.astype(float), backward.astype(float))
    scale = np.linalg.norm(forward.astype(float)) * np.linalg.norm(y.astype(float))
    assert abs(left - right) <= ADJOINT[dtype] * scale


def _refuse(*args, **options):
    raise AssertionError("something was computed that should be lazy")


def assert_lazy(verb, ds):
    """A lazy verb computes nothing and hands back Dask arrays; return what it made."""
    with dask.config.set(scheduler=_refuse):
        made = verb(ds)
    changed = [n for n in made.data_vars if n not in ds or made[n].data is not ds[n].data]
    assert any(made[name].chunks for name in changed)
    return made


def relative_error(actual, expected):
    """‖actual - expected‖ / ‖expected‖ over finite values; NaN must stand in the same places."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(actual), finite)
    difference = np.linalg.norm(actual[finite] - expected[finite])
    return difference / max(np.linalg.norm(expected[finite]), np.finfo(float).tiny)


def assert_chunk_invariant(verb, ds, chunkings, *, tolerance=None):
    """A verb makes the same of data in memory and of any blocks of them.

    Without a tolerance the same means bit by bit, labels and attributes included.
    """
    expected = verb(ds)
    for chunks in chunkings:
        actual = verb(ds.chunk(chunks)).compute()
        assert set(actual.data_vars) == set(expected.data_vars)
        for name in expected.data_vars:
            assert actual[name].dims == expected[name].dims
            assert actual[name].dtype == expected[name].dtype
            if tolerance is not None and expected[name].dtype.kind == "f":
                assert relative_error(actual[name], expected[name]) <= tolerance, (name, chunks)
            else:
                np.testing.assert_array_equal(actual[name], expected[name], f"{name} {chunks}")
        xr.testing.assert_identical(actual.coords.to_dataset(), expected.coords.to_dataset())


def assert_keeps(before, after, step):
    """A verb keeps coordinates, other variables and units, and adds one line to the history."""
    for name in before.coords:
        xr.testing.assert_identical(after[name].variable, before[name].variable)
        assert (name in after.xindexes) == (name in before.xindexes)
    for name in set(before.data_vars) & set(after.data_vars) - {"sinogram"}:
        xr.testing.assert_identical(after[name].variable, before[name].variable)
    assert set(before.data_vars) <= set(after.data_vars)
    old, new = before.attrs["history"].splitlines(), after.attrs["history"].splitlines()
    assert new[:-1] == old
    assert f": {step}(" in new[-1]
    for name in after.data_vars:
        if not str(name).startswith("true_"):
            assert {"units", "long_name"} <= set(after[name].attrs), name


def assert_round_trip(write, read, ds):
    """What was written is read back: values bit by bit, labels, attributes and units."""
    write(ds)
    again = read()
    for name in ds.variables:
        kind = again[name].dtype.kind
        assert again[name].dims == ds[name].dims
        assert kind in "OT" or again[name].dtype == ds[name].dtype
        np.testing.assert_array_equal(np.asarray(again[name]), np.asarray(ds[name]), str(name))
        kept = {key: value for key, value in again[name].attrs.items() if key in ds[name].attrs}
        assert kept == ds[name].attrs
    assert again.attrs == ds.attrs
