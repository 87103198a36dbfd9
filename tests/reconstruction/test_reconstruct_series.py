"""Frames, slices and interlaced projections: a series is its parts, reconstructed one by one."""

import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import reconstruct
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.projectors import MODEL, load_projector
from ndtomo_dask.kernels.projectors.derived import interlaced
from ndtomo_dask.scan_geometry import geometry_of
from ndtomo_dask.schema import step_of
from tests.block_cases import COUPLED, OPTIONS
from tests.laws import relative_error

UNEQUAL = 1e-2
"""Relative L2 by which frames that must not be the same differ at least."""
MEAN = 1e-5
"""Relative L2 in float32, for the mean of reconstructions from parts of the projections."""


@pytest.fixture
def series(scan):
    """Three frames of two slices, no two alike."""
    scan = scan.isel(channel=slice(0, 60, 10)).drop_dims(["y", "x"])
    scan["sinogram"] = scan.sinogram.clip(0)
    slices = [scan.sinogram, scan.sinogram.copy(data=scan.sinogram.values[:, ::-1])]
    frames = [xr.concat([one * scale for one in slices], "z") for scale in (1.0, 0.5)]
    frames.append(xr.concat(slices[::-1], "z"))
    whole = xr.concat(frames, "time").assign_coords(z=[0.0, 0.1], time=[0.0, 60.0, 120.0])
    return whole.to_dataset(name="sinogram").assign_attrs(scan.attrs)


@pytest.mark.parametrize("method", OPTIONS)
def test_a_time_series_is_its_frames_bit_by_bit(series, method):
    options = {"method": method} | OPTIONS[method]
    channels = -1 if method in COUPLED else 4
    lazy = reconstruct(series.chunk(time=1, z=2, channel=channels), **options)
    assert lazy.volume.dims == ("time", "z", "y", "x", "channel")
    found = lazy.volume.compute()
    for time in range(3):
        for z in range(2):
            alone = reconstruct(series.isel(time=time, z=z), **options).volume
            np.testing.assert_array_equal(found.isel(time=time, z=z), alone)
    np.testing.assert_array_equal(found, reconstruct(series, **options).volume)
    assert relative_error(found[2], found[0]) > UNEQUAL


@pytest.mark.parametrize("method", ["fbp", "sirt", "cgls", "tv"])
def test_interlaced_projections_are_scans_of_their_own(series, method):
    """Each part is what the operator of that part makes, and no part is another."""
    ds = series.isel(time=0, z=0)
    geometry = geometry_of(ds, verb="reconstruct")
    parts = []
    for start, A in enumerate(interlaced(load_projector("cpu", geometry, MODEL), 4)):
        part = ds.isel(angle=slice(start, None, 4))
        made = reconstruct(part, method=method, **OPTIONS[method]).volume.values
        solved = getattr(solvers, method)(A, part.sinogram.values, **OPTIONS[method])
        np.testing.assert_array_equal(made, solved / np.float32(step_of(ds, "translation")))
        parts.append(made)
    assert relative_error(parts[1], parts[0]) > UNEQUAL


def test_fbp_of_all_projections_is_the_mean_of_interlaced_ones(series):
    ds = series.isel(time=0, z=0)
    parts = [reconstruct(ds.isel(angle=slice(n, None, 2)), backend="reference") for n in (0, 1)]
    mean = (parts[0].volume + parts[1].volume).values / 2
    assert relative_error(mean, reconstruct(ds, backend="reference").volume.values) <= MEAN


@pytest.mark.parametrize("method", OPTIONS)
def test_the_order_of_the_projections_does_not_matter(series, method):
    """As of a scan that is interlaced in time: 0°, 18°, …, then those between."""
    ds = series.isel(time=0, z=0)
    order = np.concatenate([np.arange(start, 40, 4) for start in (0, 2, 1, 3)])
    options = {"method": method} | OPTIONS[method]
    found = reconstruct(ds.isel(angle=order), **options).volume
    assert relative_error(found, reconstruct(ds, **options).volume) <= MEAN


@pytest.mark.parametrize("method", OPTIONS)
def test_degrees_that_are_radians_are_refused_by_every_method(scan, method):
    radians = scan.assign_coords(angle=np.deg2rad(scan.angle.values))
    with pytest.raises(SchemaError, match=r"needs angles in degrees, but .* a turn in radians"):
        reconstruct(radians, method=method, **OPTIONS[method])
