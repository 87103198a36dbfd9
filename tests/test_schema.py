import numpy as np
import pytest
import xarray as xr

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.schema import label, record, require, step_of
from ndtomo_dask.variables import COORDINATES, SINOGRAM, VARIABLES, VOLUME


def test_every_variable_stands_under_its_own_name_with_a_unit():
    assert all(name == variable.name for name, variable in VARIABLES.items())
    assert all(variable.units and variable.long_name for variable in VARIABLES.values())
    assert {"sinogram", "volume", "peak_area", "peak_area_error", "peak_status"} <= set(VARIABLES)
    assert COORDINATES["q"].units == "1/angstrom"


def test_require_hands_back_the_canonical_order(scan):
    shuffled = scan.expand_dims(z=2).transpose("channel", "z", "translation", ...)
    assert require(shuffled, SINOGRAM, verb="x").dims == ("z", "angle", "translation", "channel")


def test_a_missing_variable_is_refused_with_the_nearest_name(scan):
    misspelt = scan.rename(sinogram="sinogramm")
    with pytest.raises(SchemaError, match=r"find_air needs 'sinogram'.*Did you mean 'sinogramm'"):
        require(misspelt, SINOGRAM, verb="find_air")
    with pytest.raises(SchemaError, match="It is empty"):
        require(xr.Dataset(), SINOGRAM, verb="find_air")


def test_what_is_not_a_dataset_is_refused(scan):
    with pytest.raises(SchemaError, match=r"takes an xarray.Dataset first, not DataArray"):
        require(scan.sinogram, SINOGRAM, verb="x")


def test_wrong_and_empty_dimensions_are_refused(scan):
    with pytest.raises(SchemaError, match=r"'angle' is missing"):
        require(scan.rename(angle="theta"), SINOGRAM, verb="x")
    with pytest.raises(SchemaError, match=r"has no entries along 'angle'"):
        require(scan.isel(angle=slice(0)), SINOGRAM, verb="x")


@pytest.mark.parametrize(("dim", "layout"), [("channel", "spectra"), ("angle", "images")])
def test_a_split_dimension_is_refused_with_the_call_that_mends_it(scan, dim, layout):
    message = rf"split along '{dim}' into 4 blocks.*open_scan\(store, layout='{layout}'\)"
    with pytest.raises(SchemaError, match=message):
        require(scan.chunk({dim: -(-scan.sizes[dim] // 4)}), SINOGRAM, verb="x", whole=[dim])


def test_labels_carry_units_and_one_line_of_history(scan):
    volume = xr.DataArray(np.zeros((2, 2, 60)), dims=("y", "x", "channel"), attrs={"assumed": "a"})
    before = scan.drop_vars(["x", "y", "true_phase_map", "true_strain"])
    made = label(before, {VOLUME: volume}, step="made", answer=np.float64(0.1))
    assert made.volume.attrs == {"units": "count/mm", "long_name": "reconstructed intensity",
                                 "assumed": "a"}  # fmt: skip
    assert made.attrs["history"].splitlines()[-1].endswith("made(answer=0.1)")
    assert len(made.attrs["history"].splitlines()) == 2
    assert "volume" not in before
    assert np.shares_memory(made.volume.values, volume.values)
    assert volume.attrs == {"assumed": "a"}


def test_history_begins_with_the_first_step():
    made = record(xr.Dataset(), "step", method="fbp")
    assert made.attrs["history"].endswith(": step(method='fbp')")
    assert made.attrs["history"].startswith("ndtomo_dask ")


def test_step_of_an_axis(scan):
    assert step_of(scan, "translation") == pytest.approx(0.02)
    assert step_of(scan.isel(translation=slice(None, None, -1)), "translation") > 0
    assert step_of(scan.drop_vars("translation"), "translation") == 1.0
