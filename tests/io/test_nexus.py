import h5py
import numpy as np
import pytest

from ndtomo_dask.axes import wavelength_from_energy
from ndtomo_dask.errors import SchemaError, StoreError
from ndtomo_dask.io.hdf5 import HDF5Array
from ndtomo_dask.io.nexus import find_default, open_mapped
from tests.io.files import write_hdf5

ANGLES, HEIGHTS, POSITIONS, CHANNELS = 6, 3, 8, 10
THETA = np.array([0.0, 90.0, -30.0, 60.0, 30.0, 120.0])
MAP = {"sinogram": "data", "angle": "theta"}


@pytest.fixture
def counts(rng):
    return rng.integers(0, 1000, (ANGLES, POSITIONS, CHANNELS)).astype(np.uint16)


@pytest.fixture
def scan(tmp_path, counts):
    return write_hdf5(
        tmp_path / "scan.h5",
        data=counts,
        theta=(THETA, {"units": "degrees"}),
        x=(np.arange(POSITIONS) * 10.0, {"units": "um"}),
        tth=np.linspace(2, 5, CHANNELS),
        monitor=np.ones((ANGLES, POSITIONS)),
    )


def test_a_mapped_scan_has_labels_units_and_the_order_of_the_file(scan, counts):
    ds = open_mapped(scan, MAP | {"translation": "x", "tth": "tth", "wavelength": 0.2})
    assert ds.sinogram.dims == ("angle", "translation", "channel")
    assert ds.sinogram.dtype == np.float32
    np.testing.assert_array_equal(ds.sinogram, counts)
    np.testing.assert_array_equal(ds.angle, THETA)
    np.testing.assert_allclose(ds.translation, np.arange(POSITIONS) * 0.01)
    assert ds.translation.attrs["units"] == "mm"
    assert ds.sel(q=slice(0, 100)).sizes["channel"] == CHANNELS
    assert ds.attrs["source"].startswith("scan.h5:/data ")


def test_opening_reads_no_data(scan, monkeypatch):
    monkeypatch.setattr(HDF5Array, "__getitem__", lambda *_: pytest.fail("data were read"))
    ds = open_mapped(scan, MAP | {"translation": "x", "monitor": "monitor"})
    assert ds.sinogram.chunks is not None


def test_axes_in_any_order_are_found_by_length(tmp_path, counts):
    path = write_hdf5(
        tmp_path / "scan.h5",
        data=counts.transpose(2, 0, 1),
        theta=THETA,
        q=np.linspace(1, 2, CHANNELS),
    )
    ds = open_mapped(path, MAP | {"q": "q"})
    np.testing.assert_array_equal(ds.sinogram, counts)


def test_explicit_dimensions_win(tmp_path, counts):
    path = write_hdf5(tmp_path / "scan.h5", data=counts.transpose(1, 2, 0), theta=THETA)
    ds = open_mapped(path, MAP, dims=("translation", "channel", "angle"))
    np.testing.assert_array_equal(ds.sinogram, counts)


def test_named_axes_of_the_dataset_are_followed(tmp_path, counts):
    data = (counts.transpose(1, 2, 0), {"axes": "x:energy:theta_fine"})
    ds = open_mapped(write_hdf5(tmp_path / "scan.h5", data=data), {"sinogram": "data"})
    np.testing.assert_array_equal(ds.sinogram, counts)


def test_frames_beside_a_spectral_axis_are_time(tmp_path, rng):
    data = (rng.random((2, 3, 4, 5)), {"axes": ["frame", "energy", "rot", "x"]})
    ds = open_mapped(write_hdf5(tmp_path / "scan.h5", data=data), {"sinogram": "data"})
    assert dict(ds.sizes) == {"time": 2, "angle": 4, "translation": 5, "channel": 3}


def test_without_channels_there_is_one(tmp_path, counts):
    path = write_hdf5(tmp_path / "scan.h5", data=counts[..., 0], theta=THETA)
    ds = open_mapped(path, MAP)
    assert ds.sinogram.sizes == {"angle": ANGLES, "translation": POSITIONS, "channel": 1}


def test_double_precision_stays_and_half_becomes_single(tmp_path):
    path = write_hdf5(tmp_path / "v.h5", a=np.zeros((2, 3, 4)), b=np.zeros((2, 3, 4), np.float16))
    dims = ("y", "x", "channel")
    assert open_mapped(path, {"volume": "a"}, dims=dims).volume.dtype == np.float64
    assert open_mapped(path, {"volume": "b"}, dims=dims).volume.dtype == np.float32


def test_big_endian_data_are_read_right(tmp_path, counts):
    path = write_hdf5(tmp_path / "scan.h5", data=counts.astype(">u2"), theta=THETA)
    ds = open_mapped(path, MAP, dims=("angle", "translation", "channel"))
    np.testing.assert_array_equal(ds.sinogram, counts)


def test_flats_and_darks_are_averaged_over_their_frames(tmp_path, rng):
    frames = rng.integers(0, 60_000, (5, HEIGHTS, POSITIONS)).astype(np.uint16)
    path = write_hdf5(
        tmp_path / "scan.h5",
        data=(np.ones((ANGLES, HEIGHTS, POSITIONS)), {"axes": "theta:y:x"}),
        theta=THETA,
        white=(frames, {"axes": "theta_white:y:x"}),
        dark=frames[0],
        bad=np.ones((5, 4)),
    )
    ds = open_mapped(path, MAP | {"flat": "white", "dark": "dark"})
    assert ds.flat.dims == ds.dark.dims == ("z", "translation", "channel")
    np.testing.assert_array_equal(ds.flat[..., 0], frames.mean(axis=0).astype(np.float32))
    np.testing.assert_array_equal(ds.dark[..., 0], frames[0])
    with pytest.raises(SchemaError, match=r"'flat' at 'bad' has shape \(5, 4\), but frames"):
        open_mapped(path, MAP | {"flat": "bad"})


def test_monitor_lies_along_the_axes_of_the_data(scan, tmp_path):
    ds = open_mapped(scan, MAP | {"translation": "x", "monitor": "monitor"})
    assert ds.monitor.dims == ("angle", "translation")
    path = write_hdf5(
        tmp_path / "bad.h5", data=np.ones((6, 8, 10)), theta=THETA, monitor=np.ones((6, 7))
    )
    dims = ("angle", "translation", "channel")
    with pytest.raises(SchemaError, match=r"'monitor' at 'monitor' has shape \(6, 7\), which fits"):
        open_mapped(path, MAP | {"monitor": "monitor"}, dims=dims)


def test_mask_is_boolean(tmp_path):
    path = write_hdf5(
        tmp_path / "s.h5", data=np.ones((6, 8)), theta=THETA, bad=np.array([0, 2, 0, 0, 0, 0])
    )
    mask = open_mapped(path, MAP | {"mask": "bad"}).mask
    assert mask.dims == ("angle",)
    np.testing.assert_array_equal(mask, [False, True, False, False, False, False])


def test_wavelength_from_the_beam_energy_with_its_unit(tmp_path, counts):
    path = write_hdf5(
        tmp_path / "s.h5",
        data=counts,
        theta=THETA,
        mono=([17000.0], {"units": "eV"}),
        lam=(1e-11, {"units": "m"}),
        two=[1.0, 2.0],
    )
    dims = ("angle", "translation", "channel")
    ds = open_mapped(path, MAP | {"beam_energy": "mono"}, dims=dims)
    assert float(ds.wavelength) == pytest.approx(float(wavelength_from_energy(17.0)), rel=1e-12)
    ds = open_mapped(path, MAP | {"wavelength": "lam"}, dims=dims)
    assert float(ds.wavelength) == pytest.approx(0.1, rel=1e-12)
    with pytest.raises(SchemaError, match="'wavelength' at 'two' is not one positive number"):
        open_mapped(path, MAP | {"wavelength": "two"}, dims=dims)


def test_given_units_win_over_those_of_the_file(tmp_path, counts):
    path = write_hdf5(
        tmp_path / "s.h5", data=counts, theta=(np.deg2rad(THETA), {"units": "degree"})
    )
    dims = ("angle", "translation", "channel")
    ds = open_mapped(path, MAP, dims=dims, units={"angle": "rad"})
    np.testing.assert_allclose(ds.angle, THETA, atol=1e-12)
    with pytest.raises(SchemaError, match="axis 'angle' has unit 'furlong'"):
        open_mapped(path, MAP, dims=dims, units={"angle": "furlong"})
    with pytest.raises(SchemaError, match="units names 'theta'"):
        open_mapped(path, MAP, dims=dims, units={"theta": "rad"})


def test_ambiguous_dimensions_ask_for_dims(scan):
    with pytest.raises(SchemaError, match=r"cannot be told apart. .* dims=\('angle'"):
        open_mapped(scan, MAP)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"tth": "short"}, "axis 'channel' has 4 values, but no axis of /data"),
        ({"tth": "zigzag"}, "axis 'tth' is not monotonic"),
        ({"tth": "flatline"}, "has the one value 3, 10 times"),
        ({"tth": "text"}, "axis 'tth' at 'text' holds"),
        ({"y": "short"}, "a sinogram has no 'y' axis"),
        ({"theta": "theta"}, "the map has 'theta', which is no name of the data model"),
        ({"volume": "data"}, "exactly one of 'sinogram', 'volume', 'image', 'spectrum', not 2"),
    ],
)
def test_an_axis_that_does_not_fit_is_refused(tmp_path, counts, extra, words):
    path = write_hdf5(
        tmp_path / "scan.h5",
        data=counts,
        theta=THETA,
        short=np.arange(4.0),
        zigzag=np.array([1.0, 2, 3, 2, 5, 6, 7, 8, 9, 10]),
        flatline=np.full(CHANNELS, 3.0),
        text=np.array([b"a"] * CHANNELS),
    )
    with pytest.raises(SchemaError, match=words):
        open_mapped(path, MAP | extra)


def test_wrong_length_is_refused_with_explicit_dimensions(tmp_path, counts):
    path = write_hdf5(tmp_path / "scan.h5", data=counts, theta=THETA[:5])
    with pytest.raises(SchemaError, match="axis 'angle' has 5 values, but the data have 6"):
        open_mapped(path, MAP, dims=("angle", "translation", "channel"))


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        (("angle", "translation"), "does not name each of the 3 axes"),
        (("angle", "angle", "channel"), "does not name each of the 3 axes"),
        (("angle", "x", "channel"), "dims has 'x', which a sinogram does not have"),
    ],
)
def test_wrong_dims_are_refused(scan, dims, words):
    with pytest.raises(SchemaError, match=words):
        open_mapped(scan, MAP, dims=dims)


def test_no_angles_are_refused_in_words(tmp_path):
    path = write_hdf5(tmp_path / "scan.h5", data=np.ones((0, 8, 10)), theta=np.ones(0))
    with pytest.raises(SchemaError, match=r"data \(0, 8, 10\) has no projection angles"):
        open_mapped(path, MAP, dims=("angle", "translation", "channel"))


def test_a_sinogram_needs_angles_and_translations(tmp_path):
    path = write_hdf5(
        tmp_path / "scan.h5", data=np.ones((6, 10)), theta=THETA, q=np.arange(1.0, 11)
    )
    with pytest.raises(SchemaError, match="a sinogram needs an axis 'translation'"):
        open_mapped(path, MAP | {"q": "q"})
    path = write_hdf5(tmp_path / "number.h5", data=3.0, empty=h5py.Empty("f4"))
    with pytest.raises(SchemaError, match=r"needs an axis 'angle', but /data \(\) has no axes"):
        open_mapped(path, {"sinogram": "data"})
    with pytest.raises(StoreError, match=r"'empty' in .* is an empty dataset"):
        open_mapped(path, {"sinogram": "empty"})


def test_missing_dataset_names_the_nearest(scan):
    with pytest.raises(StoreError, match=r"no dataset 'thetta'. Did you mean 'theta'\?"):
        open_mapped(scan, {"sinogram": "data", "angle": "thetta"})


def test_text_data_are_refused(tmp_path):
    path = write_hdf5(tmp_path / "t.h5", data=np.array([[b"a", b"b"]]))
    with pytest.raises(SchemaError, match="not numbers"):
        open_mapped(path, {"image": "data"}, dims=("y", "x"))


def test_catalyst_is_opened_by_one_call(shared_data):
    entry = "entry1/stxm_entry"
    ds = open_mapped(
        shared_data("i18_catalyst_multimodal.nxs"),
        {
            "sinogram": f"{entry}/data/data",
            "angle": f"{entry}/data/theta",
            "translation": f"{entry}/sample/x",
            "z": f"{entry}/data/y",
            "monitor": f"{entry}/monitor/data",
            "beam_energy": f"{entry}/instrument/monochromator/energy",
        },
    )
    assert dict(ds.sizes) == {"z": 7, "angle": 52, "translation": 101, "channel": 1}
    np.testing.assert_allclose(ds.angle[:4], [-42, 63, -140, -133], atol=0.001)
    assert ds.monitor.dims == ("z", "angle", "translation")
    np.testing.assert_allclose(np.diff(ds.translation), 0.00198, rtol=1e-3)
    assert float(ds.wavelength) == pytest.approx(0.7293, abs=1e-4)


def test_catalyst_heights_that_never_change_are_refused(shared_data):
    entry = "entry1/stxm_entry"
    with pytest.raises(SchemaError, match=r"axis 'z' at .* has the one value -0.85, 7 times"):
        open_mapped(
            shared_data("i18_catalyst_multimodal.nxs"),
            {"sinogram": f"{entry}/data/data", "z": f"{entry}/sample/y"},
        )


def test_tooth_with_its_flats_and_darks(shared_data):
    path = shared_data("aps_tooth_ct.h5")
    ds = open_mapped(
        path,
        {
            "sinogram": "exchange/data",
            "angle": "exchange/theta",
            "flat": "exchange/data_white",
            "dark": "exchange/data_dark",
        },
    )
    assert dict(ds.sizes) == {"z": 2, "angle": 181, "translation": 640, "channel": 1}
    assert ds.identical(open_mapped(path, find_default(path)))
    with h5py.File(path) as file:
        row = file["exchange/data"][90, 1]
    np.testing.assert_array_equal(ds.sinogram[1, 90, :, 0], row)
    assert 0 < float(ds.dark.mean()) < float(ds.flat.mean())


def test_gel_frames_are_channels(shared_data):
    ds = open_mapped(
        shared_data("gel_phantom_17frames.h5"),
        {
            "sinogram": "parallel/sinogram",
            "angle": "parallel/angles_deg",
            "translation": "parallel/translation_mm",
        },
    )
    assert dict(ds.sizes) == {"angle": 180, "translation": 282, "channel": 17}


def test_iron_edge_in_electronvolts_and_micrometers(shared_data):
    ds = open_mapped(
        shared_data("als_stxm_fe_ledge.h5"),
        {"volume": "counts", "energy": "energy_eV", "y": "y_um", "x": "x_um"},
        units={"energy": "eV", "y": "um", "x": "um"},
    )
    assert dict(ds.sizes) == {"y": 150, "x": 150, "channel": 123}
    edge = ds.volume.sel(energy=slice(0.7090, 0.7105)).mean()
    assert float(edge) < float(ds.volume.sel(energy=slice(0.700, 0.705)).mean())
