import numpy as np
import pytest

from ndtomo_dask.io.nexus import find_default, open_mapped
from tests.io.files import write_hdf5

ANGLES, HEIGHTS, POSITIONS, CHANNELS = 6, 3, 8, 10
THETA = np.array([0.0, 90.0, -30.0, 60.0, 30.0, 120.0])


@pytest.fixture
def counts(rng):
    return rng.integers(0, 1000, (ANGLES, POSITIONS, CHANNELS)).astype(np.uint16)


NXDATA = {"NX_class": "NXdata", "signal": "counts", "axes": ["rotation_angle", ".", "tth"]}


def nexus(path, counts, groups):
    return write_hdf5(
        path,
        groups=groups,
        entry__plot__counts=counts,
        entry__plot__rotation_angle=(THETA, {"units": "deg"}),
        entry__plot__tth=np.linspace(2, 5, CHANNELS),
        entry__instrument__monochromator__energy=(60_000.0, {"units": "eV"}),
        entry__monitor__data=np.ones((ANGLES, POSITIONS)),
    )


@pytest.mark.parametrize(
    "groups",
    [
        {"/": {"default": "entry"}, "entry": {"default": "plot"}, "entry/plot": NXDATA},
        {"entry/plot": NXDATA},
    ],
)
def test_default_plot_is_followed(tmp_path, counts, groups):
    path = nexus(tmp_path / "scan.nxs", counts, groups)
    mapping = find_default(path)
    assert mapping["sinogram"] == "/entry/plot/counts"
    ds = open_mapped(path, mapping)
    np.testing.assert_array_equal(ds.sinogram, counts)
    np.testing.assert_array_equal(ds.angle, THETA)
    assert ds.monitor.dims == ("angle", "translation")
    assert {"tth", "q", "d"} <= set(ds.coords)


def test_older_nexus_attributes_are_followed(tmp_path, counts):
    path = write_hdf5(
        tmp_path / "old.nxs",
        groups={"entry/plot": {"NX_class": "NXdata"}},
        entry__plot__counts=(counts, {"signal": 1, "axes": "rotation_angle:x:tth"}),
        entry__plot__rotation_angle=THETA,
    )
    np.testing.assert_array_equal(open_mapped(path, find_default(path)).sinogram, counts)
    path = write_hdf5(
        tmp_path / "older.nxs",
        groups={"entry/plot": {"NX_class": "NXdata"}},
        entry__plot__counts=(counts, {"signal": 1}),
        entry__plot__rotation_angle=(THETA, {"axis": 1}),
        entry__plot__energy=(np.linspace(7, 8, CHANNELS), {"axis": 3}),
    )
    np.testing.assert_array_equal(open_mapped(path, find_default(path)).sinogram, counts)


def test_indices_place_the_axes(tmp_path, counts):
    attrs = {"NX_class": "NXdata", "signal": "counts", "axes": ["theta", "energy"],
             "theta_indices": 1, "energy_indices": "2"}  # fmt: skip
    path = write_hdf5(
        tmp_path / "scan.nxs",
        groups={"entry/plot": attrs},
        entry__plot__counts=counts.transpose(1, 0, 2),
        entry__plot__theta=THETA,
    )
    np.testing.assert_array_equal(open_mapped(path, find_default(path)).sinogram, counts)


def test_siblings_named_by_the_axes_come_along(tmp_path, counts):
    path = nexus(tmp_path / "scan.nxs", counts, {"entry/plot": NXDATA})
    ds = open_mapped(path, {"sinogram": "entry/plot/counts"})
    assert {"angle", "tth"} <= set(ds.coords)


@pytest.mark.parametrize(
    ("shape", "axes", "kind"),
    [((4, 5), "y:x", "image"), ((4, 5, 6), "y:x:tth", "volume"), ((4, 5), "omega:x", "sinogram")],
)
def test_the_kind_follows_from_the_axes(tmp_path, shape, axes, kind):
    group = {"NX_class": "NXdata", "signal": "data"}
    path = write_hdf5(
        tmp_path / "a.nxs", {"e/p": group}, e__p__data=(np.ones(shape), {"axes": axes})
    )
    assert kind in find_default(path)


def test_a_file_without_a_default_has_none(tmp_path, counts):
    assert find_default(write_hdf5(tmp_path / "scan.h5", data=counts)) is None


def test_data_exchange_needs_no_map(tmp_path, rng):
    data = rng.random((ANGLES, HEIGHTS, POSITIONS)).astype(np.float32)
    path = write_hdf5(
        tmp_path / "aps.h5",
        exchange__data=data,
        exchange__theta=THETA,
        exchange__data_white=np.ones((4, HEIGHTS, POSITIONS)),
    )
    ds = open_mapped(path, find_default(path))
    assert ds.sinogram.dims == ("z", "angle", "translation", "channel")
    np.testing.assert_array_equal(ds.sinogram[..., 0], data.transpose(1, 0, 2))
    assert ds.flat.dims == ("z", "translation", "channel")
