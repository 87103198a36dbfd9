import builtins
import errno

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

from ndtomo_dask.coordinates import axis_variable, derive_axes
from ndtomo_dask.errors import BackendError, OptionError, SchemaError, StoreError
from ndtomo_dask.io import write_hdf5
from ndtomo_dask.io.export import export
from ndtomo_dask.io.ndtomo import open_ndtomo
from ndtomo_dask.io.nexus import find_default, open_mapped

CHANNELS = 12
TTH = np.linspace(2.3, 5.2, CHANNELS)


def lazy(values, chunks):
    return da.from_array(values, chunks=chunks)


@pytest.fixture
def volume(rng):
    values = rng.random((8, 9, CHANNELS)).astype(np.float32)
    ds = xr.Dataset(
        {"volume": (("y", "x", "channel"), lazy(values, (8, 9, 5)), {"units": "count/mm"})},
        coords={
            "wavelength": 0.2,
            "tth": axis_variable("tth", TTH),
            "x": axis_variable("x", np.arange(9) / 3),
            "y": axis_variable("y", np.arange(8) / 3),
        },
        attrs={"history": "made by a test"},
    )
    return derive_axes(ds)


@pytest.fixture
def sinogram(rng):
    values = rng.integers(0, 60_000, (8, 9, CHANNELS)).astype(np.uint16)
    angles = rng.permutation(np.arange(8) * 22.5)
    return xr.Dataset(
        {
            "sinogram": (("angle", "translation", "channel"), lazy(values, (2, 9, CHANNELS))),
            "monitor": (("angle", "translation"), rng.random((8, 9)).astype(np.float32)),
            "rotation_center": 4.25,
            "mask": ("angle", np.arange(8) == 3),
            "flat": (("translation", "channel"), rng.random((9, CHANNELS))),
        },
        coords={
            "angle": axis_variable("angle", angles),
            "translation": axis_variable("translation", np.arange(9) * 0.1),
            "energy": axis_variable("energy", np.linspace(8, 9, CHANNELS)),
        },
    )


def assert_same(found, given, *names):
    for name in names:
        assert found[name].dims == given[name].dims
        np.testing.assert_array_equal(found[name], given[name])


def test_volume_round_trip_through_ndtomo(tmp_path, volume):
    path = export(volume, tmp_path / "volume.h5")
    with h5py.File(path) as file:
        assert file["data"].shape == (9, 8, CHANNELS)
        assert file["data"].dtype == np.float32
        np.testing.assert_array_equal(file["xaxis"], TTH)
        assert file["tth"].attrs["units"] == "degree"
        assert not {"q", "d"} & set(file)
    found = open_ndtomo(path)
    assert_same(found, volume, "volume", "tth", "q", "d", "x", "y", "wavelength")
    assert found.attrs["history"] == "made by a test"
    assert found.volume.attrs["units"] == "count/mm"


def test_sinogram_round_trip_through_ndtomo(tmp_path, sinogram):
    path = export(sinogram, tmp_path / "sinogram.hdf5")
    with h5py.File(path) as file:
        assert file["data"].shape == (9, 8, CHANNELS)
    assert_same(open_ndtomo(path), sinogram, "sinogram", "angle", "translation", "energy")


def test_sinogram_round_trip_through_nexus_without_a_map(tmp_path, sinogram):
    path = export(sinogram, tmp_path / "scan.nxs")
    with h5py.File(path) as file:
        assert file["entry/data/sinogram"].dtype == np.uint16
        assert file["entry/data/sinogram"].chunks == (1, 9, CHANNELS)
        assert list(file["entry/data"].attrs["axes"]) == ["angle", "translation", "energy"]
    found = open_mapped(path, find_default(path))
    assert_same(found, sinogram, *sinogram.data_vars, *sinogram.coords)
    assert found.sinogram.dtype == np.float32


def test_volume_round_trip_through_nexus(tmp_path, volume):
    path = export(volume, tmp_path / "volume.nxs")
    found = open_mapped(path, find_default(path))
    assert_same(found, volume, "volume", "tth", "q", "d", "x", "y", "wavelength")
    assert found.attrs["history"] == "made by a test"


def test_a_cube_without_coordinates_survives_nexus(tmp_path, rng):
    values = rng.random((4, 4, 4, 4))
    dims = ("z", "angle", "translation", "channel")
    ds = xr.Dataset({"sinogram": (dims, values), "monitor": (dims[:3], values[..., 0])})
    path = export(ds, tmp_path / "cube.nxs")
    assert_same(open_mapped(path, find_default(path)), ds, "sinogram", "monitor")


@pytest.mark.parametrize("suffix", [".h5", ".nxs"])
@pytest.mark.parametrize("chunks", [(8, 9, 12), (3, 4, 5), (8, 9, 1), ((1, 7), (2, 3, 4), (5, 7))])
def test_the_file_does_not_depend_on_the_blocks(tmp_path, volume, suffix, chunks):
    whole, cut = volume.copy(), volume.copy()
    whole["volume"] = volume.volume.compute()
    cut["volume"] = volume.volume.copy(data=volume.volume.data.rechunk(chunks))
    key = "data" if suffix == ".h5" else "entry/data/volume"
    with (
        h5py.File(export(whole, tmp_path / f"whole{suffix}")) as one,
        h5py.File(export(cut, tmp_path / f"cut{suffix}")) as two,
    ):
        np.testing.assert_array_equal(one[key], two[key])


def test_blocks_are_written_a_few_at_a_time_and_fill_whole_chunks(tmp_path, monkeypatch):
    alive, most = set(), []

    def block(block_info=None):
        alive.add(block_info[None]["chunk-location"])
        most.append(len(alive))
        return np.ones((4, 4, 2), np.float32)

    original = write_hdf5.dask.compute

    def compute(*arrays):
        alive.clear()
        return original(*arrays)

    monkeypatch.setattr(write_hdf5.dask, "compute", compute)
    monkeypatch.setattr(write_hdf5.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(write_hdf5, "BATCH_BYTES", 2 * 4 * 4 * 2 * 4)
    data = da.map_blocks(block, chunks=((4,), (4,), (2,) * 20), dtype=np.float32,
                         meta=np.empty((0, 0, 0), np.float32))  # fmt: skip
    path = export(xr.Dataset({"volume": (("y", "x", "channel"), data)}), tmp_path / "v.nxs")
    assert max(most) <= 2
    with h5py.File(path) as file:
        assert file["entry/data/volume"].chunks == (1, 4, 2)
        assert (file["entry/data/volume"][...] == 1).all()


@pytest.mark.parametrize("peaks", [["Ni 111"], ["Ni 111", "NiO 200"]])
def test_peak_maps_round_trip(tmp_path, rng, peaks):
    names = ("peak_area", "peak_position", "peak_fwhm", "peak_fraction")[: 5 - len(peaks)]
    maps = {name: (("y", "x", "peak"), rng.random((5, 6, len(peaks)))) for name in names}
    ds = xr.Dataset(maps, coords={"peak": peaks})
    path = export(ds, tmp_path / "fits.h5")
    with h5py.File(path) as file:
        name = "Area" if len(peaks) == 1 else "Peak_Area_1"
        np.testing.assert_array_equal(file[name], ds.peak_area[..., -1].T)
    assert_same(open_ndtomo(path), ds, *names, "peak")


def test_image_and_spectrum_round_trip(tmp_path, volume):
    image = volume.volume.mean("channel").rename("image")
    np.testing.assert_array_equal(open_ndtomo(export(image, tmp_path / "i.h5")).image, image)
    spectrum = volume.volume[3, 4].rename("spectrum")
    found = open_ndtomo(export(spectrum, tmp_path / "s.h5"))
    assert_same(found, spectrum.to_dataset(), "spectrum", "tth")


def test_two_columns_hold_every_digit(tmp_path, volume):
    spectrum = volume.volume[3, 4] * 1e-9
    path = export(spectrum, tmp_path / "pixel.xy", variable="volume")
    table = np.loadtxt(path)
    np.testing.assert_allclose(table[:, 0], TTH, rtol=1e-8)
    np.testing.assert_array_equal(table[:, 1].astype(np.float32), spectrum)


def test_two_columns_of_a_volume_are_its_mean_without_nan(tmp_path, volume):
    values = volume.volume.compute()
    values[0, 0] = np.nan
    path = export(volume.assign(volume=values), tmp_path / "mean.xy")
    mean = np.nanmean(values.values.astype(float), axis=(0, 1))
    np.testing.assert_allclose(np.loadtxt(path)[:, 1], mean, rtol=1e-8)


def test_picture_has_a_pixel_a_value_rows_down_and_transparent_nan(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    values = np.array([[0.0, 1.0, 2.0], [3.0, np.nan, 5.0]])
    path = export(xr.DataArray(values, dims=("y", "x"), name="image"), tmp_path / "a.png")
    pixels = image.imread(path)
    assert pixels.shape == (2, 3, 4)
    assert pixels[1, 1, 3] == 0
    assert pixels[0, 0, 3] == 1
    np.testing.assert_allclose(pixels[0, 0, :3], [0.267, 0.005, 0.329], atol=0.003)
    np.testing.assert_allclose(pixels[1, 2, :3], [0.993, 0.906, 0.144], atol=0.003)


def test_picture_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BackendError, match=r"pip install 'ndtomo-dask\[plot\]'"):
        export(xr.DataArray(np.ones((2, 2)), dims=("y", "x")), tmp_path / "a.png")


def test_nothing_is_overwritten_unasked(tmp_path, volume):
    path = export(volume, tmp_path / "v.h5")
    before = path.read_bytes()
    (tmp_path / "link.h5").hardlink_to(path)
    with pytest.raises(StoreError, match=r"v\.h5 exists\. Pass overwrite=True to replace it"):
        export(volume * 2, path)
    assert path.read_bytes() == before
    export(volume * 2, path, overwrite=True)
    np.testing.assert_array_equal(open_ndtomo(path).volume, volume.volume * 2)
    assert (tmp_path / "link.h5").read_bytes() == before  # replaced whole, never written into


def test_a_failed_export_leaves_nothing(tmp_path, volume):
    def fail(block):
        raise ValueError("bad block")

    bad = volume.volume.copy(data=volume.volume.data.map_blocks(fail, dtype=np.float32))
    with pytest.raises(ValueError, match="bad block"):
        export(volume.assign(volume=bad), tmp_path / "v.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_file(tmp_path, volume, monkeypatch):
    path = export(volume, tmp_path / "v.nxs")
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write_hdf5, "write_blocks", full)
    with pytest.raises(StoreError, match="cannot be written: the disk is full"):
        export(volume, path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        (
            "v.tiff",
            {},
            StoreError,
            r"suffix '\.tiff', which export does not know\. Known are: \.h5",
        ),
        ("v.hdf", {}, StoreError, r"Did you mean '\.hdf5'"),
        ("v.h5", {"variable": "volum"}, SchemaError, "asked for 'volum'.* Did you mean 'volume'"),
        ("v.h5", {"format": "csv"}, OptionError, "format='csv' is not known"),
        ("none/v.h5", {}, StoreError, "the folder .*none does not exist"),
        ("v.png", {"variable": "volume"}, SchemaError, r"shows \(y, x\).*isel\(channel=0\)"),
        ("v.xy", {"variable": "map"}, SchemaError, r"holds a spectrum, but 'map' has \('y', 'x'\)"),
        ("v.png", {}, SchemaError, r"Choose one: variable=\.\.\. of volume, map"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, volume, name, options, error, words):
    ds = volume.assign(map=volume.volume[..., 0])
    with pytest.raises(error, match=words):
        export(ds, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_ndtomo_holds_one_slice_of_a_sinogram(tmp_path):
    dims = ("z", "angle", "translation", "channel")
    ds = xr.Dataset({"sinogram": (dims, np.ones((2, 3, 4, 5)))})
    with pytest.raises(SchemaError, match=r"Select one first: ds\.isel\(z=0\)"):
        export(ds, tmp_path / "s.h5")
    maps = xr.Dataset({"component_map": (("y", "x", "component"), np.ones((2, 2, 3)))})
    with pytest.raises(SchemaError, match=r"Export it to \.nxs instead"):
        export(maps, tmp_path / "c.h5")
    export(maps, tmp_path / "c.nxs")
    assert find_default(tmp_path / "c.nxs") is None


def test_format_goes_before_the_suffix(tmp_path, sinogram):
    path = export(sinogram, tmp_path / "scan.h5", format="nexus")
    assert "sinogram" in find_default(path)
