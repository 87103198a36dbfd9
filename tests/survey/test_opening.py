"""A survey of files that say little, nothing or nonsense; and what it reads of large ones."""

import json
import re

import h5py
import numpy as np
import pytest
import yaml

import ndtomo_dask as nd
from ndtomo_dask.cli import main
from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.hdf5 import HDF5Array
from ndtomo_dask.survey import survey_scan
from ndtomo_dask.survey.numbers import numbers_of
from ndtomo_dask.survey.sample import BUDGET, take_sample
from tests.formats.bliss import write_bliss
from tests.formats.xrdct import write_xrdct
from tests.io.files import write_hdf5

CENTERS = {"aps_tooth_ct.h5": (296.0, 0.5), "gel_phantom_17frames.h5": (140.5, 0.5)}
"""Translation index of the axis, from the page beside the data, and by how much it may be off."""


@pytest.fixture(scope="module")
def scan():
    return nd.simulate_scan(size=32, angles=40, channels=60, grains=12, jitter=0, seed=7).load()


@pytest.mark.parametrize(
    "order",
    [("angle", "translation", "channel"), ("translation", "channel", "angle"),
     ("channel", "angle", "translation")],
)  # fmt: skip
@pytest.mark.parametrize("square", [False, True])
def test_axes_without_any_name_are_told_by_length_and_content(tmp_path, scan, order, square):
    scan = scan.isel(angle=slice(32)) if square else scan
    path = write_hdf5(tmp_path / "scan.h5", raw__counts=scan.sinogram.transpose(*order).values,
                      raw__rot=scan.angle.values, raw__two_theta=scan.tth.values)  # fmt: skip
    found = survey_scan(path)
    assert found["dimensions"].answer.split(", ")[0].split()[0] == order[0]
    options = yaml.safe_load(found.recipe)["input"]
    np.testing.assert_array_equal(nd.open_scan(**options).sinogram, scan.sinogram)


def test_axes_that_are_alike_stay_undetermined(tmp_path, rng):
    path = write_hdf5(tmp_path / "scan.h5", raw__counts=rng.random((24, 24)) + 5)
    found = survey_scan(path)
    assert found["dimensions"].answer == "undetermined"
    assert "none is much steadier" in found["dimensions"].evidence
    assert found.recipe is None


def test_axes_of_an_nxxrdct_file_with_one_length_are_told_by_content(tmp_path, scan):
    square = scan.isel(angle=slice(32))
    found = survey_scan(write_xrdct(tmp_path / "scan.nxs", square, listed=False))
    assert found["dimensions"].answer == "translation 32, angle 32, channel 60"
    options = yaml.safe_load(found.recipe)["input"]
    np.testing.assert_array_equal(nd.open_scan(**options).sinogram, square.sinogram)


def test_a_list_of_points_is_surveyed_as_its_grid(tmp_path, scan):
    found = survey_scan(write_bliss(tmp_path / "master.h5", scan))
    assert "1280 points lie in 32 lines of 40" in found["dimensions"].evidence
    assert found["zigzag in angle"].answer == "no"


def test_a_store_is_surveyed_as_its_file(tmp_path, scan):
    nd.export(scan, tmp_path / "scan.nxs")
    nd.convert(tmp_path / "scan.nxs", tmp_path / "scan.zarr")
    one, other = (survey_scan(tmp_path / name) for name in ("scan.nxs", "scan.zarr"))
    assert [finding.answer for finding in one.findings] == [
        finding.answer for finding in other.findings
    ]


def test_a_scan_without_angles_is_told_to_have_none(tmp_path, scan):
    path = write_hdf5(tmp_path / "s.h5", a=scan.sinogram.values, two_theta=scan.tth.values)
    found = survey_scan(path, sinogram="a", dims=("angle", "translation", "channel"))
    assert found["angle span"].answer == "unknown"
    assert found.recipe is None
    assert found["rotation center"].answer == "undetermined"


def test_wrong_inputs_are_refused_in_one_sentence(tmp_path, scan):
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(StoreError, match="is not an HDF5 file"):
        survey_scan(tmp_path / "text.h5")
    (tmp_path / "none.h5").touch()
    with pytest.raises(StoreError, match=r"none.h5 .*0 bytes.* is not an HDF5 file"):
        survey_scan(tmp_path / "none.h5")
    write_hdf5(tmp_path / "empty.h5")
    with pytest.raises(StoreError, match="holds no dataset at all"):
        survey_scan(tmp_path / "empty.h5")
    with pytest.raises(StoreError, match="does not exist"):
        survey_scan(tmp_path / "absent.h5")
    with pytest.raises(StoreError, match="is not a Zarr v3 store"):
        survey_scan(tmp_path)
    path = write_hdf5(tmp_path / "whole.h5", a=scan.sinogram.values)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="is truncated at 5000 bytes"):
        survey_scan(cut)


def huge(path, scan, *, projections=20_000):
    """A file of 48 GB, most of it never written: chunks of a projection, some in the middle."""
    shape = (projections, 300, 2000)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(NX_class="NXdata", signal="counts", axes=["theta", "x", "tth"])
        data.create_dataset("counts", shape=shape, chunks=(1, *shape[1:]), dtype="f4",
                            compression="lzf")  # fmt: skip
        data["theta"] = np.linspace(0, 180, projections, endpoint=False)
        data["x"], data["tth"] = np.arange(300) * 0.01, np.linspace(1, 9, 2000)
    return path


def test_of_a_huge_file_little_is_read(tmp_path, scan, monkeypatch):
    read, original = [], HDF5Array.__getitem__

    def count(array, key):
        values = original(array, key)
        read.append(values.nbytes)
        return values

    monkeypatch.setattr(HDF5Array, "__getitem__", count)
    found = survey_scan(huge(tmp_path / "huge.h5", scan), budget=BUDGET // 4)
    assert 0.5 * BUDGET // 4 < sum(read) <= BUDGET // 4 + 3 * max(read)
    assert max(read) == 300 * 2000 * 4
    assert "of 20000 projections" in found.read


@pytest.mark.parametrize("chunk", [1, 30])
def test_a_part_of_the_projections_tells_what_all_do(tmp_path, chunk):
    scan = nd.simulate_scan(size=48, angles=600, channels=400, grains=12, seed=3).load()
    values = scan.sinogram.values
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        data = file.create_group("data")
        data.attrs.update(NX_class="NXdata", signal="counts", axes=["theta", "x", "tth"])
        data.create_dataset("counts", data=values, chunks=(chunk, 48, 400))
        for name, axis in (("theta", "angle"), ("x", "translation"), ("tth", "tth")):
            data[name] = scan[axis].values
    few = survey_scan(tmp_path / "scan.h5", budget=values.nbytes // 2)
    assert "of 600 projections" in few.read
    every = survey_scan(tmp_path / "scan.h5")
    for question in ("zigzag", "zigzag in angle", "angle span", "contrast"):
        assert few[question].answer == every[question].answer
    center = few["rotation center"].figures["center"]
    assert center == pytest.approx(float(scan.true_rotation_center), abs=0.5)


def test_a_sample_has_neighbors_evenly_spread_and_the_first_ones(scan):
    ds = scan.isel(angle=np.arange(400) % 40).chunk(angle=1, translation=-1, channel=-1)
    sample = take_sample(ds, budget=60 * 32 * 60 * 4)
    assert (sample.rows[:12] == np.arange(12)).all()
    assert (np.diff(sample.rows) == 1).sum() > 20
    assert 40 < sample.rows.size <= 60
    gaps = np.diff(sample.rows[sample.spread])
    assert np.ptp(gaps) <= 1
    np.testing.assert_allclose(sample.image, ds.sinogram[sample.rows].mean("channel"), rtol=1e-5)


@pytest.mark.parametrize("name", CENTERS)
def test_the_axis_of_measured_scans_is_where_it_is_known_to_be(shared_data, name):
    found = survey_scan(shared_data(name))
    center, off = CENTERS[name]
    assert abs(found["rotation center"].figures["center"] - center) < off
    assert found["rotation center"].level == "fine"
    assert found["angle span"].answer == "half turn"
    assert found.alarms == ()


def test_the_tooth_is_transmission_with_flats(shared_data):
    found = survey_scan(shared_data("aps_tooth_ct.h5"))
    assert found["dimensions"].answer == "z 2, angle 181, translation 640, channel 1"
    assert found["contrast"].answer == "absorption"
    assert "flats" in found["contrast"].evidence
    assert found["angle unit"].figures["span"] == pytest.approx(179.0055, abs=1e-3)


def test_the_catalyst_is_understood_though_its_file_shows_something_else_first(shared_data):
    """Its default plot is a tiny excerpt of fluorescence; angles are unsorted, the stage drifts."""
    found = survey_scan(shared_data("i18_catalyst_multimodal.nxs"))
    assert "entry1/stxm_entry/data/data" in found.recipe
    assert found["dimensions"].answer == "angle 52, z 7, translation 101"
    assert found["angle span"].answer == "full turn"
    assert found["angle span"].figures["step"] == pytest.approx(7, abs=0.01)
    assert found["angle order"].answer == "not sorted"
    assert found["contrast"].answer == "absorption"
    assert found["projection shifts"].answer == "seen"
    assert abs(found["rotation center"].figures["center"] - 45.4) < 1.5


def test_the_command_writes_a_recipe_that_is_planned(tmp_path, scan, capsys):
    path, recipe = tmp_path / "scan.nxs", tmp_path / "recipe.yaml"
    nd.export(scan, path)
    assert main(["survey", str(path), "--output", str(recipe)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"angle span +half turn", shown)
    assert main(["plan", str(recipe)]) == 0
    assert "save volume" in capsys.readouterr().out
    assert main(["survey", str(path), "--output", str(recipe)]) == 2
    assert "recipe.yaml exists" in capsys.readouterr().err
    assert main(["survey", str(path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["findings"]["angle span"]["answer"] == "half turn"
    assert content["recipe"].startswith("# Suggested by")


def test_the_command_says_what_it_cannot_write(tmp_path, rng, capsys):
    path = write_hdf5(tmp_path / "scan.h5", raw__counts=rng.random((24, 24)) + 5)
    assert main(["survey", str(path), "--output", str(tmp_path / "recipe.yaml")]) == 2
    assert "is not written: the scan has no angles or dimensions" in capsys.readouterr().err


def test_of_a_file_with_many_datasets_the_first_are_looked_at(tmp_path, scan, monkeypatch):
    monkeypatch.setattr("ndtomo_dask.survey.numbers.MOST", 7)
    many = {f"log__n{number:03}": np.arange(3.0) for number in range(50)}
    path = write_hdf5(tmp_path / "scan.h5", **many)
    assert len(numbers_of(path)) == 7
    write_bliss(tmp_path / "m.h5", scan)
    assert survey_scan(tmp_path / "m.h5")["angle span"].answer == "half turn"


def test_frames_are_said_to_be_frames(tmp_path, scan):
    path = write_bliss(tmp_path / "m.h5", scan)
    with h5py.File(path, "a") as file:
        del file["1.1/measurement/mca"]
        file["1.1/measurement/eiger"] = np.ones((1280, 4, 5), np.uint16)
    found = survey_scan(path)
    assert found["dimensions"].answer == "undetermined"
    assert "holds frames of the detector 'eiger'" in found["dimensions"].evidence
    assert "nd.integrate(nd.open_frames(" in found["dimensions"].evidence
