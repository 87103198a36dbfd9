"""`evaluate_peaks`: from the maps alone, also after storage, exactly what the kernel says."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.fitting.least_squares import fit_model
from ndtomo_dask.kernels.fitting.peak_model import PeakModel, evaluate_model
from tests.fit_cases import INSIDE, PAIR, PLACES, Q, pair_truth, pair_volume, volume_of
from tests.laws import assert_keeps, assert_lazy
from tests.tolerances import FIT

ALL = ("model", "residual", "components", "background")


@pytest.fixture
def volume(rng):
    ds = pair_volume(pair_truth(rng))
    ds["volume"] = ds.volume + rng.normal(size=ds.volume.shape)
    ds.volume[1, 1] = np.nan
    return ds


@pytest.fixture
def fitted(volume):
    return nd.fit_peaks(volume, **PAIR)


def test_evaluation_is_the_kernels(volume, fitted):
    made = nd.evaluate_peaks(fitted, ALL)
    limits = {"a.position": (Q[10], 3.125), "b.position": (3.125, Q[80])}
    model = PeakModel(dict.fromkeys(PLACES, "pseudo_voigt"))
    fit = fit_model(volume.volume.values.reshape(12, -1)[:, INSIDE], Q[INSIDE], model,
                    bounds=limits, significance=6.0,
                    start={f"{name}.position": at for name, at in PLACES.items()})  # fmt: skip
    parts = {name: values.reshape(3, 4, -1)
             for name, values in evaluate_model(model, Q[INSIDE], fit.values).items()}  # fmt: skip
    np.testing.assert_array_equal(made.fitted_background[..., INSIDE], parts["background"])
    for peak in PLACES:
        found = made.fitted_component.sel(peak=peak)[..., INSIDE]
        np.testing.assert_array_equal(found, parts[peak])
    np.testing.assert_allclose(made.fitted_model[..., INSIDE], sum(parts.values()), rtol=1e-12)
    np.testing.assert_array_equal(made.fitted_residual, volume.volume - made.fitted_model)
    assert np.isnan(made.fitted_model[..., 81:]).all()
    assert np.isnan(made.fitted_model[1, 1]).all()
    assert 0.5 < float(made.fitted_residual.std()) < 1.5


def test_evaluation_is_lazy_and_keeps_labels(fitted):
    made = assert_lazy(lambda ds: nd.evaluate_peaks(ds, ALL), fitted.chunk(y=1))
    assert_keeps(fitted, made, "evaluate_peaks")
    assert made.fitted_model.chunksizes["y"] == (1, 1, 1)
    assert made.fitted_component.dims == ("y", "x", "peak", "channel")
    assert made.fitted_residual.attrs["units"] == "count/mm"
    whole = nd.evaluate_peaks(fitted, ALL)
    for name in ("model", "residual", "component", "background"):
        np.testing.assert_array_equal(made[f"fitted_{name}"], whole[f"fitted_{name}"])


@pytest.mark.parametrize("background", [1, "none", "spectrum", [0, "exponential"]])
def test_a_stored_fit_is_evaluated_alike(volume, tmp_path, background):
    known = xr.DataArray(np.exp(-Q), dims="channel", coords={"q": ("channel", Q)})
    given = [0, known] if background == "spectrum" else background
    fitted = nd.fit_peaks(volume.astype("float32").chunk(y=2), background=given, **PAIR)
    nd.save(fitted, tmp_path / "fit.zarr")
    again = nd.open_scan(tmp_path / "fit.zarr", layout="spectra")
    expected, made = (nd.evaluate_peaks(ds, ALL) for ds in (fitted, again))
    for name in ("fitted_model", "fitted_residual", "fitted_component", "fitted_background"):
        assert made[name].dtype == "float32"
        np.testing.assert_array_equal(made[name], expected[name])
    assert np.isfinite(made.fitted_model).any()


def test_a_background_belongs_to_its_window_on_other_channels_too(fitted):
    whole = nd.evaluate_peaks(fitted, ALL)
    part = nd.evaluate_peaks(fitted.isel(channel=slice(20, 60)), ALL)
    for name in ("fitted_model", "fitted_background"):
        np.testing.assert_allclose(part[name], whole[name][..., 20:60], rtol=1e-12)
    finer = fitted.drop_dims("channel").assign_coords(q=("channel", np.linspace(3, 3.25, 251)))
    fine = nd.evaluate_peaks(finer, "model").fitted_model
    np.testing.assert_allclose(fine[..., ::5], whole.fitted_model[..., 20:71], rtol=1e-9)


def test_a_channel_of_two_windows_belongs_to_the_nearer(rng):
    ds = pair_volume(pair_truth(rng))
    windows = {"a": (3.0, 3.14), "b": (3.1, 3.25)}
    fitted = nd.fit_peaks(ds, windows=windows, axis="q")
    made = nd.evaluate_peaks(fitted, ["model", "components"])
    alone = nd.evaluate_peaks(nd.fit_peaks(ds, windows={"a": windows["a"]}, axis="q"))
    first = (Q >= 3.0) & (Q < 3.12)
    np.testing.assert_array_equal(made.fitted_model[..., first], alone.fitted_model[..., first])
    both = (Q >= 3.1) & (Q <= 3.14)
    assert np.isfinite(made.fitted_component[..., both]).all()


def test_a_peak_that_was_left_out_adds_nothing(rng):
    truth = pair_truth(rng)
    ds = pair_volume({"a": truth["a"]})
    ds["volume"] = ds.volume + rng.normal(scale=0.5, size=ds.volume.shape)
    fitted = nd.fit_peaks(ds, **PAIR)
    gone = np.isnan(fitted.peak_area.sel(peak="b").values)
    assert gone.sum() > 8
    made = nd.evaluate_peaks(fitted, ["model", "background", "components"])
    sum_of_rest = made.fitted_background + made.fitted_component.sel(peak="a")
    np.testing.assert_allclose(made.fitted_model.values[gone], sum_of_rest.values[gone], rtol=FIT)
    assert np.isnan(made.fitted_component.sel(peak="b").values[gone]).all()


def test_what_is_missing_is_said(fitted):
    for message, wrong, parts in (
        (r"evaluate_peaks needs 'peak_background'", fitted.drop_vars("peak_background"), "model"),
        (r"evaluate_peaks needs 'peak_fwhm'", fitted.drop_vars("peak_fwhm"), "model"),
        (r"needs the axis 'q' on 'channel', which", fitted.drop_dims("channel"), "model"),
        (r"evaluate_peaks needs 'volume'", fitted.drop_vars("volume"), "residual"),
        (r"but the maps have no 'b'; parts='components'", fitted.sel(peak=["a"]), "model"),
    ):
        with pytest.raises(SchemaError, match=message):
            nd.evaluate_peaks(wrong, parts)
    with pytest.raises(OptionError, match=r"parts='models' is not known. Did you mean 'model'"):
        nd.evaluate_peaks(fitted, "models")
    assert "fitted_component" in nd.evaluate_peaks(fitted.sel(peak=["a"]), "components")


def test_rays_are_evaluated_too(volume):
    rays = volume.rename(volume="sinogram", y="angle", x="translation")
    fitted = nd.fit_peaks(rays, variable="sinogram", **PAIR)
    made = nd.evaluate_peaks(fitted, "residual")
    assert made.fitted_residual.dims == ("angle", "translation", "channel")


def test_volume_of_one_spectrum():
    ds = volume_of(np.zeros((1, 1, Q.size)) + 5.0)
    made = nd.evaluate_peaks(nd.fit_peaks(ds, **PAIR))
    assert np.isnan(made.fitted_model).all()
