import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from benchmarks.truth import head_sinogram
from ndtomo_dask.errors import OptionError, SchemaError
from tests.laws import assert_chunk_invariant, assert_lazy, relative_error

SIZE, STEP, MU = 64, 0.05, 0.8  # pixels, mm, 1/mm


@pytest.fixture
def scan():
    """A head that scatters, in a body that absorbs; both by formula."""
    angles = np.deg2rad(np.arange(0, 180, 3.0))
    paths = head_sinogram(angles, SIZE) * STEP
    true = paths @ np.linspace(1, 2, 10 * 3).reshape(10, 3)
    transmission = np.exp(-MU * paths[..., 0])
    measured = (true * transmission[..., None]).astype(np.float32)
    dims = ("angle", "translation", "channel")
    ds = xr.Dataset(
        {"sinogram": (dims, measured, {"units": "count/s", "long_name": "intensity"}),
         "sinogram_variance": (dims, measured * 2, {"units": "count^2/s^2", "long_name": "v"}),
         "transmission": (dims[:2], transmission, {"units": "1", "long_name": "T"})},
        {"angle": ("angle", np.rad2deg(angles)),
         "translation": ("translation", (np.arange(SIZE) - (SIZE - 1) / 2) * STEP)},
    )  # fmt: skip
    return ds.assign(true=(dims, true)).assign_attrs(history="made by formula")


def test_dividing_by_the_transmission_brings_the_line_integrals_back(scan):
    made = nd.absorption_correction(scan)
    assert relative_error(made.sinogram, scan.true) < 1e-6
    expected = scan.sinogram_variance / scan.transmission**2
    assert relative_error(made.sinogram_variance, expected) < 1e-6
    assert relative_error(scan.sinogram, scan.true) > 0.3  # it was worth it
    assert made.sinogram.attrs["units"] == "count/s"
    assert "absorption_correction(source=" in made.attrs["history"]


def test_a_map_of_attenuation_is_projected(scan):
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    radius = SIZE / 2
    inside = (x / (0.69 * radius)) ** 2 + (y / (0.92 * radius)) ** 2 <= 1
    place = (np.arange(SIZE) - (SIZE - 1) / 2) * STEP
    found = xr.Dataset({"attenuation": (("y", "x"), MU * inside)}, {"y": place, "x": place})
    made = nd.absorption_correction(scan, attenuation=found)
    assert relative_error(made.sinogram, scan.true) < 0.03  # edges of pixels
    fine = found.interp(y=np.linspace(*place[[0, -1]], 127), x=np.linspace(*place[[0, -1]], 127))
    assert (
        relative_error(nd.absorption_correction(scan, attenuation=fine).sinogram, scan.true) < 0.04
    )


def test_it_is_lazy_and_does_not_depend_on_the_chunks(scan):
    assert_lazy(nd.absorption_correction, scan.chunk(channel=1))
    assert_chunk_invariant(nd.absorption_correction, scan, [{"angle": 7}, {"channel": 2}])
    stack = xr.concat([scan, scan], "z")
    assert_chunk_invariant(nd.absorption_correction, stack, [{"z": 1, "angle": 9}])


def test_rays_without_transmission_become_nan(scan):
    scan.transmission[3, 4] = 0.0
    scan.transmission[5, 6] = np.nan
    bad = np.isnan(nd.absorption_correction(scan).sinogram.values)
    assert bad[3, 4].all()
    assert bad[5, 6].all()
    assert bad.sum() == 2 * scan.sizes["channel"]
    with pytest.raises(SchemaError, match="needs 'transmission', which the scan does not have"):
        nd.absorption_correction(scan.drop_vars("transmission"))


def test_pixels_outside_the_circle_become_what_is_asked():
    place = (np.arange(21) - 10) * 0.1
    ones = np.ones((2, 21, 21, 5), dtype=np.float32)
    ds = xr.Dataset({"volume": (("z", "y", "x", "channel"), ones)}, {"y": place, "x": place})
    made = nd.mask_circle(ds).volume
    assert made.dtype == np.float32
    assert made[0, 10, 0, 0] == 1
    assert made[0, 0, 0, 0] == 0
    assert float(made[0, ..., 0].sum()) == pytest.approx(np.pi * 10.5**2, rel=0.02)
    small = nd.mask_circle(ds, radius=0.5, fill=float("nan")).volume
    assert int(np.isfinite(small[0, ..., 0]).sum()) == pytest.approx(np.pi * 25, rel=0.05)
    assert_lazy(nd.mask_circle, ds.chunk(channel=2))
    assert_chunk_invariant(nd.mask_circle, ds, [{"y": 7, "channel": 2}])
    with pytest.raises(SchemaError, match="variable='sinogram', which has no pixels"):
        nd.mask_circle(ds, variable="sinogram")
    with pytest.raises(OptionError, match="radius=-1 must be more than 0"):
        nd.mask_circle(ds, radius=-1)
