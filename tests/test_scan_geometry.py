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


def turned(degrees):
    """A scan of no content at these angles."""
    coords = {"angle": degrees, "translation": np.arange(8.0)}
    shape = (degrees.size, 8, 1)
    return xr.Dataset(
        {"sinogram": (("angle", "translation", "channel"), np.zeros(shape, "f4"))}, coords
    )


TURNS = {
    "half": np.linspace(0, np.pi, 180, endpoint=False),
    "half with its end": np.linspace(0, np.pi, 181),
    "full": np.linspace(-np.pi, np.pi, 91, endpoint=False),
    "rounded": np.round(np.linspace(0, np.pi, 40), 2),
    "golden": np.mod(np.arange(60) * np.pi * (5**0.5 - 1) / 2, np.pi),
    "few": np.linspace(0, np.pi, 10, endpoint=False),
}


@pytest.mark.parametrize("name", TURNS)
def test_radians_are_refused_by_their_span(name):
    ds = turned(TURNS[name])
    with pytest.raises(SchemaError, match=r"turn in radians: ds.assign_coords\(angle=.*rad2deg"):
        geometry_of(ds, verb="reconstruct")
    mended = ds.assign_coords(angle=("angle", np.rad2deg(ds.angle.values)))
    np.testing.assert_allclose(geometry_of(mended, verb="reconstruct").angles, TURNS[name])


def test_radians_are_refused_by_their_unit():
    ds = turned(np.linspace(0, 1.0, 5)).assign_coords(
        angle=("angle", np.linspace(0, 1.0, 5), {"units": "rad"})
    )
    with pytest.raises(SchemaError, match="needs angles in degrees, but theirs is 'rad'"):
        geometry_of(ds, verb="reconstruct")
    for unit in ("degree", "deg", "°"):
        ds.angle.attrs["units"] = unit
        assert geometry_of(ds, verb="x").angles[-1] == np.deg2rad(1.0)


def test_a_span_of_a_few_degrees_is_warned_of():
    with pytest.warns(UserWarning, match="61 projections span 2.09 degrees; if they are radians"):
        geometry_of(turned(np.deg2rad(np.linspace(-60, 60, 61))), verb="x")


@pytest.mark.parametrize(
    "degrees",
    [
        np.linspace(-60, 60, 61),
        np.linspace(0, 179, 180),
        np.linspace(0, 7, 29),  # a wedge of a scan
        np.arange(9) * 0.35,  # a few neighboring projections
        np.full(30, 12.0),
        np.array([0.0, 90.0]),
        np.arange(40) * 111.246,
    ],
    ids=len,
)
def test_real_scans_of_any_span_are_taken(degrees):
    geometry = geometry_of(turned(degrees), verb="x")
    np.testing.assert_allclose(geometry.angles, np.deg2rad(degrees))


def test_angles_to_project_at_are_degrees_too():
    volume = xr.Dataset(coords={"y": np.arange(4.0), "x": np.arange(4.0)})
    with pytest.raises(SchemaError, match=r"turn in radians: pass angles=np.rad2deg\(angles\)"):
        geometry_of_volume(volume, verb="project", angles=TURNS["half"])
