import numpy as np
import pytest
import xarray as xr

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.scan_geometry import geometry_of, geometry_of_volume, grid_coordinates


def test_the_geometry_is_read_from_the_labels(scan):
    scan = scan.assign_coords(
        rotation_center=17.5, projection_shift=("angle", np.linspace(0, 1, 40))
    )
    geometry = geometry_of(scan, verb="x")
    np.testing.assert_allclose(geometry.angles, np.deg2rad(scan.angle))
    np.testing.assert_allclose(geometry.origins, 17.5 + np.linspace(0, 1, 40))
    assert geometry_of(scan.drop_vars("rotation_center"), verb="x").rotation_center == 15.5
    with pytest.raises(SchemaError, match=r"needs projection angles: ds.assign_coords\(angle="):
        geometry_of(scan.drop_vars("angle"), verb="x")


def test_a_region_keeps_pixels_of_the_whole_grid(scan):
    whole = geometry_of(scan, verb="x")
    part = geometry_of(scan, verb="x", region={"x": (0.1, -0.05), "y": (-0.2, 0.0)})
    np.testing.assert_allclose(part.x, whole.x[(whole.x >= -2.5) & (whole.x <= 5)])
    np.testing.assert_allclose(part.y, whole.y[(whole.y >= -10) & (whole.y <= 0)])
    assert part.shape == (10, 8)
    across = geometry_of(scan, verb="x", region={"y": (0, 0.1)})
    assert across.shape == (5, 32)


def test_smaller_pixels_cover_the_same_field(scan):
    fine = geometry_of(scan, verb="x", pixel_size=0.01)
    assert fine.shape == (64, 64)
    assert fine.pixel_size == 0.5
    edges = grid_coordinates(fine, 0.02)["x"].values[[0, -1]]
    np.testing.assert_allclose(edges, [-0.315, 0.315])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": {"z": (0, 1)}}, "names no range along y or x"),
        ({"region": {}}, "names no range along y or x"),
        ({"region": {"x": (5, 6)}}, r"has no pixel: x goes from -0.31 to 0.31 mm"),
        ({"pixel_size": 0.0}, "is not a length"),
        ({"pixel_size": float("nan")}, "is not a length"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(scan, options, message):
    with pytest.raises(OptionError, match=message):
        geometry_of(scan, verb="x", **options)


def test_a_grid_comes_back_from_its_labels(scan):
    scan = scan.assign_coords(rotation_center=16.25)
    made = geometry_of(scan, verb="x", region={"x": (-0.05, 0.1)}, pixel_size=0.01)
    volume = xr.Dataset(coords=dict(scan.coords) | grid_coordinates(made, 0.02))
    read = geometry_of_volume(volume, verb="x")
    assert read.shape == made.shape
    np.testing.assert_allclose(read.x, made.x)
    np.testing.assert_allclose(read.y, made.y)
    np.testing.assert_allclose(read.origins, made.origins)


def test_a_volume_without_a_scan_takes_angles():
    volume = xr.Dataset(coords={"y": np.arange(4) * 0.5, "x": np.arange(6) * 0.5})
    with pytest.raises(SchemaError, match="pass angles="):
        geometry_of_volume(volume, verb="x")
    geometry = geometry_of_volume(volume, verb="x", angles=[0, 90], translations=9)
    np.testing.assert_allclose(geometry.angles, [0, np.pi / 2])
    assert (geometry.translations, geometry.shape, geometry.pixel_size) == (9, (4, 6), 1.0)
    assert geometry.grid_center == (1.5, 2.5)
    with pytest.raises(SchemaError, match="needs square pixels"):
        geometry_of_volume(volume.assign_coords(x=np.arange(6.0)), verb="x", angles=[0])
