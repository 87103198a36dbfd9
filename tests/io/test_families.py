"""Scans as beamlines write them: each is read as what it is, or refused in one sentence."""

import h5py
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import SchemaError, StoreError
from tests.formats.bliss import write_bliss
from tests.formats.diamond import write_diamond
from tests.formats.maps import write_maps
from tests.formats.xrdct import write_xrdct


@pytest.mark.parametrize("per", ["scan", "line"])
@pytest.mark.parametrize("fast", ["angle", "translation"])
@pytest.mark.parametrize("link", ["virtual", "external"])
def test_a_bliss_master_is_put_on_the_grid_of_its_motors(tmp_path, scan, per, fast, link):
    path = write_bliss(tmp_path / "master.h5", scan, fast=fast, per=per, link=link)
    ds = nd.open_scan(path)
    assert ds.sinogram.dims == ("angle", "translation", "channel")
    np.testing.assert_array_equal(ds.sinogram, scan.sinogram)
    np.testing.assert_allclose(ds.angle, scan.angle)
    np.testing.assert_allclose(ds.translation, scan.translation)
    assert f"{fast} is fast, every other one backward" in ds.attrs["assumed"]


def test_any_part_of_a_listed_scan_is_the_same(tmp_path, scan):
    ds = nd.open_scan(write_bliss(tmp_path / "master.h5", scan, fast="translation"))
    for part in ({"angle": 7}, {"angle": slice(3, 9), "translation": slice(5, 30, 3)},
                 {"channel": slice(10, 12)}, {"angle": slice(4, 4)}):  # fmt: skip
        np.testing.assert_array_equal(ds.sinogram.isel(part), scan.sinogram.isel(part))


def test_one_scan_of_a_master_is_chosen(tmp_path, scan):
    path = write_bliss(tmp_path / "m.h5", scan)
    with h5py.File(path, "a") as file:
        file.copy("1.1", "2.1")
        del file["2.1/measurement/mca"]
        file["2.1/measurement/mca"] = scan.sinogram.values.reshape(-1, scan.channel.size)[:40]
    with pytest.raises(SchemaError, match=r"scans of .* differ: .* Say which .* group='1.1'"):
        nd.open_scan(path)
    np.testing.assert_array_equal(nd.open_scan(path, group="1.1").sinogram, scan.sinogram)
    with pytest.raises(SchemaError, match=r"has no scan '3.1'. Did you mean '2.1'"):
        nd.open_scan(path, group="3.1")


def test_a_scan_that_was_stopped_keeps_its_whole_lines(tmp_path, scan):
    ds = nd.open_scan(write_bliss(tmp_path / "m.h5", scan, fast="translation", lost=40))
    lines = scan.sizes["angle"] - 2
    np.testing.assert_array_equal(ds.sinogram, scan.sinogram[:lines])
    assert "the last 24 points, an incomplete line, are left out" in ds.attrs["assumed"]


def test_what_a_bliss_master_leaves_open_is_asked_for(tmp_path, scan):
    path = write_bliss(tmp_path / "m.h5", scan)
    with h5py.File(path, "a") as file:
        file["1.1/measurement/mca2"] = np.ones((1280, 3))
    with pytest.raises(SchemaError, match=r"has 2 sets of spectra: .* sinogram='1.1/measurement"):
        nd.open_scan(path)
    with h5py.File(path, "a") as file:
        del file["1.1/measurement/mca2"], file["1.1/measurement/mca"]
    with pytest.raises(SchemaError, match=r"has no spectra; it measured .*fpico6.*Say which count"):
        nd.open_scan(path)
    counter = {"sinogram": "1.1/measurement/fpico6", "angle": "1.1/measurement/rot"}
    ds = nd.open_scan(path, **counter, translation="1.1/measurement/dty")
    assert dict(ds.sinogram.sizes) == {"angle": 40, "translation": 32, "channel": 1}
    with h5py.File(path, "a") as file:
        file["1.1/measurement/eiger"] = np.ones((1280, 4, 5))
    with pytest.raises(SchemaError, match="holds frames of the detector 'eiger', not spectra"):
        nd.open_scan(path)
    with h5py.File(path, "a") as file:
        file["1.1/measurement/mca"] = np.ones((1280, 3))
        for place in ("measurement/dty", "instrument/positioners/dty"):
            del file[f"1.1/{place}"]
    with pytest.raises(SchemaError, match=r"which motor is the translation; moved: rot. Name it"):
        nd.open_scan(path)


def test_a_detector_file_that_is_gone_is_named(tmp_path, scan):
    path = write_bliss(tmp_path / "m.h5", scan, link="external")
    (tmp_path / "scan0001" / "mca_0000.h5").unlink()
    with pytest.raises(StoreError, match=r"points into the file 'scan0001/mca_0000.h5', which"):
        nd.open_scan(path)


def test_points_off_the_grid_are_refused(tmp_path, scan, rng):
    path = write_bliss(tmp_path / "m.h5", scan)
    with h5py.File(path, "a") as file:
        file["1.1/instrument/positioners/rot"][100:140] += 30
    with pytest.raises(SchemaError, match=r"1280 points of .* are on no grid .* angle is off by"):
        nd.open_scan(path)
    with h5py.File(path, "a") as file:
        file["1.1/instrument/positioners/dty"][...] = rng.random(1280)
    with pytest.raises(SchemaError, match="neither motor stands still while the other one moves"):
        nd.open_scan(path)


def test_a_diamond_master_is_read_though_a_device_wrote_nothing(tmp_path, scan):
    ds = nd.open_scan(write_diamond(tmp_path / "i15-1.nxs", scan))
    np.testing.assert_array_equal(ds.sinogram, scan.sinogram)
    np.testing.assert_allclose(ds.angle, scan.angle)
    np.testing.assert_allclose(ds.tth, scan.tth)


@pytest.mark.parametrize(
    ("absent", "axes_in", "words"),
    [
        (("imaging",), "imaging", r"'/entry/imaging/data' in .*x.nxs points into .*x-imaging.h5'"),
        (("panda",), "panda", r"'/entry/imaging/gts_theta' in .*x.nxs points into .*x-panda.h5'"),
        (("imaging", "panda"), "imaging", r"Put it at .*x-imaging.h5, or name a dataset that is"),
    ],
)
def test_a_diamond_master_without_its_data_says_which_file_is_missing(
    tmp_path, scan, absent, axes_in, words
):
    path = write_diamond(tmp_path / "x.nxs", scan, absent=absent, axes_in=axes_in)
    with pytest.raises(StoreError, match=words):
        nd.open_scan(path)


def test_a_link_to_a_dataset_that_was_never_written_is_named(tmp_path, scan):
    path = write_diamond(tmp_path / "x.nxs", scan)
    with h5py.File(tmp_path / "x-imaging.h5", "a") as file:
        del file["entry/data/data"]
    with pytest.raises(StoreError, match=r"points at '/entry/data/data' in 'x-imaging.h5', which"):
        nd.open_scan(path)


@pytest.mark.parametrize("order", [("translation", "angle"), ("angle", "translation")])
@pytest.mark.parametrize("listed", [True, False])
def test_an_nxxrdct_file_is_settled_by_length_not_by_its_axes(tmp_path, scan, listed, order):
    ds = nd.open_scan(write_xrdct(tmp_path / "x.nxs", scan, listed=listed, order=order))
    np.testing.assert_array_equal(ds.sinogram, scan.sinogram)
    np.testing.assert_allclose(ds.angle, scan.angle)
    np.testing.assert_allclose(ds.tth, scan.tth)


def test_an_nxxrdct_file_with_axes_of_one_length_asks_for_dims(tmp_path, scan):
    square = scan.isel(angle=slice(32))
    path = write_xrdct(tmp_path / "x.nxs", square, listed=False)
    with pytest.raises(SchemaError, match=r"cannot be told apart. Say which .* dims=\('angle'"):
        nd.open_scan(path)
    ds = nd.open_scan(path, dims=("translation", "angle", "channel"))
    np.testing.assert_array_equal(ds.sinogram, square.sinogram)


def test_an_nxxrdct_file_without_its_motors_asks_for_them(tmp_path, scan):
    path = write_xrdct(tmp_path / "x.nxs", scan)
    with h5py.File(path, "a") as file:
        del file["entry/data/rotation"]
    with pytest.raises(SchemaError, match=r"has no angle in /entry. Name it: .* angle='entry/samp"):
        nd.open_scan(path)


def test_names_of_axes_that_contradict_their_lengths_are_not_believed(tmp_path, scan):
    path = write_xrdct(tmp_path / "x.nxs", scan, listed=False, order=("angle", "translation"))
    with h5py.File(path, "a") as file:
        file["entry/definition"][()] = b"NXroot"
    ds = nd.open_scan(path)
    np.testing.assert_array_equal(ds.sinogram, scan.sinogram)
    assert "by length, though it calls them ['translation', 'rotation'" in ds.attrs["assumed"]


@pytest.mark.parametrize("summed", [True, False])
def test_the_four_elements_of_a_fluorescence_detector_are_added(tmp_path, scan, summed):
    path = write_maps(tmp_path / "xrf.h5", scan, summed=summed)
    ds = nd.open_scan(path)
    counts = scan.sinogram.values
    np.testing.assert_array_equal(ds.volume, counts)  # a map: rows are rows to MAPS
    assert float(ds.energy[1]) == pytest.approx(0.01)
    raw = " + ".join(f"MAPS_RAW/data_{letter}" for letter in "abcd")
    ds = nd.open_scan(path, sinogram=raw, angle="MAPS/y_axis", translation="MAPS/x_axis",
                      energy="MAPS/energy[:60]")  # fmt: skip
    np.testing.assert_array_equal(ds.sinogram, counts)
    one = nd.open_scan(tmp_path / "xrf.h50").volume
    np.testing.assert_array_equal(one, counts // 4)


def test_elements_that_do_not_belong_together_are_refused(tmp_path, scan):
    path = write_maps(tmp_path / "xrf.h5", scan)
    with h5py.File(path, "a") as file:
        del file["MAPS_RAW/data_b"], file["MAPS/x_axis"]
        file["MAPS_RAW/data_b"] = np.ones((3, 3))
    with pytest.raises(SchemaError, match=r"data_b \(3, 3\) cannot be added"):
        nd.open_scan(path, sinogram="MAPS_RAW/data_a + MAPS_RAW/data_b", angle="MAPS/y_axis")
    with pytest.raises(SchemaError, match=r"has no MAPS/x_axis. Name .* dims=\('channel', 'y', 'x"):
        nd.open_scan(path)


def test_a_measured_fluorescence_map_is_read_as_it_is(shared_data):
    ds = nd.open_scan(shared_data("aps_2ide_xrf_standard.h5"))
    assert dict(ds.sizes) == {"y": 11, "x": 11, "channel": 2000}
    total = ds.volume.sum(["y", "x"]).compute()
    for element, line in {"Si": 1.74, "Ca": 3.69, "Fe": 6.40, "Cu": 8.04}.items():
        near = total.sel(energy=slice(line - 0.15, line + 0.15))
        assert float(near.energy[near.argmax("channel")]) == pytest.approx(line, abs=0.04), element


def test_sub_scans_of_slow_counters_are_passed_over(tmp_path, scan):
    path = write_bliss(tmp_path / "m.h5", scan)
    with h5py.File(path, "a") as file:
        file["1.2/measurement/temperature"] = np.arange(9.0)
    np.testing.assert_array_equal(nd.open_scan(path).sinogram, scan.sinogram)


@pytest.mark.parametrize("place", ["entry/data/image_key", "entry/instrument/detector/image_key"])
def test_flats_and_darks_among_the_projections_are_taken_out(tmp_path, scan, place):
    kinds = np.array([2, 1, 1] + [0] * 40 + [1, 2])
    values = np.zeros((45, *scan.sinogram.shape[1:]), np.float32)
    values[kinds == 0], values[kinds == 1], values[kinds == 2] = scan.sinogram, 700, 7
    values[1] = 1000
    angles = np.zeros(45)
    angles[kinds == 0] = scan.angle
    with h5py.File(tmp_path / "tomo.nxs", "w") as file:
        data = file.create_group("entry/data")
        data.attrs.update(NX_class="NXdata", signal="data", axes=["rotation_angle", "x", "tth"])
        data["data"], data["rotation_angle"], file[place] = values, angles, kinds
    ds = nd.open_scan(tmp_path / "tomo.nxs")
    np.testing.assert_array_equal(ds.sinogram, scan.sinogram)
    np.testing.assert_array_equal(ds.angle, scan.angle)
    assert (ds.flat == 800).all()
    assert (ds.dark == 7).all()
    assert ds.flat.dims == ("translation", "channel")
