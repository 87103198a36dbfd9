import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import project, reconstruct, set_rotation_center
from ndtomo_dask.errors import BackendError, PlanError, SchemaError
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error


@pytest.fixture
def solved(clean_scan):
    ds = set_rotation_center(clean_scan, clean_scan.true_rotation_center)
    return reconstruct(ds, method="cgls", iterations=25)


def test_projecting_is_lazy_and_keeps_labels(solved):
    made = assert_lazy(project, solved.chunk(channel=20))
    assert made.projected_sinogram.dims == ("angle", "translation", "channel")
    kept = assert_keeps(solved, project(solved), "project")
    assert kept is None or kept.projected_sinogram.attrs["units"] == "count"


def test_the_projections_do_not_depend_on_the_chunks(solved):
    assert_chunk_invariant(project, solved, [{}, {"channel": 7}, {"channel": 1}], tolerance=1e-6)


def test_a_good_volume_gives_the_measured_sinogram(solved):
    residual = relative_error(project(solved).projected_sinogram.values, solved.sinogram.values)
    assert residual < 0.1
    blurred = reconstruct(set_rotation_center(solved, 14.0), method="cgls", iterations=25)
    worse = relative_error(project(blurred).projected_sinogram.values, solved.sinogram.values)
    assert worse > 1.2 * residual


def test_projecting_other_angles_needs_no_scan(solved):
    volume = solved[["volume"]].drop_vars(["angle", "translation"], errors="ignore")
    made = project(volume, angles=[0.0, 90.0], translations=40).projected_sinogram
    assert made.sizes == {"angle": 2, "translation": 40, "channel": 60}
    np.testing.assert_allclose(made.angle, [0, 90])
    total = volume.volume.sum(["y", "x"]) * 0.02
    np.testing.assert_allclose(made.sum("translation").isel(angle=1), total, rtol=1e-4)
    np.testing.assert_allclose(
        made.isel(angle=0, translation=slice(4, 36)), volume.volume.sum("y") * 0.02,
        rtol=1e-3, atol=1e-3 * float(total.max()),
    )  # fmt: skip


def test_slices_are_projected_one_by_one(solved):
    both = xr.concat([solved.volume, 2 * solved.volume], "z").assign_coords(z=[0.0, 0.1])
    stack = solved.drop_vars("volume").assign(volume=both).chunk(z=1, channel=20)
    made = project(stack).projected_sinogram
    np.testing.assert_array_equal(made.isel(z=0), project(solved).projected_sinogram)
    assert relative_error(made.isel(z=1).values, 2 * made.isel(z=0).values) < 1e-6


def test_what_cannot_be_projected_is_refused(solved, scan):
    with pytest.raises(SchemaError, match="needs 'volume'"):
        project(scan)
    with pytest.raises(SchemaError, match="split along 'y' into 2 blocks"):
        project(solved.chunk(y=16))
    with pytest.raises(BackendError, match="backend='cpuu' is not known"):
        project(solved, backend="cpuu")
    with pytest.raises(PlanError, match="would hold"):
        project(solved.chunk(channel=20), allowed_mem="1kB")
