"""Frames as beamlines leave them: every family of files, and what is wrong with them."""

import h5py
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import SchemaError, StoreError
from ndtomo_dask.io.frame_files import Unreadable
from tests.frame_cases import SHAPE, patterns, write_poni, write_scan

OPTIONS = {"points": 40, "unit": "tth", "limits": (1.0, 6.0)}


def _stack(count, seed=0):
    return np.random.default_rng(seed).poisson(20, (count, *SHAPE)).astype("uint32")


def _reader(ds):
    return ds["frames"].encoding["reader"]


def _unread(ds):
    found = _reader(ds).read(range(ds.sizes["frame"]))
    return {number: frame.reason for number, frame in found if isinstance(frame, Unreadable)}


def _eiger(folder, lengths=(4, 4, 3)):
    """An Eiger master with external links to files of frames."""
    frames = _stack(sum(lengths))
    with h5py.File(folder / "scan_master.h5", "w") as file:
        specific = file.create_group("entry/instrument/detector/detectorSpecific")
        specific["nimages"], specific["ntrigger"] = sum(lengths), 1
        specific["pixel_mask"] = (np.arange(np.prod(SHAPE)) % 97 == 0).reshape(SHAPE).astype("u4")
        file["entry/sample/goniometer/omega"] = np.arange(float(sum(lengths)))
        for part, length in enumerate(lengths, start=1):
            name, first = f"scan_data_{part:06d}.h5", sum(lengths[: part - 1])
            with h5py.File(folder / name, "w") as data:
                data["entry/data/data"] = frames[first : first + length]
            file[f"entry/data/data_{part:06d}"] = h5py.ExternalLink(name, "entry/data/data")
    return folder / "scan_master.h5", frames


def test_an_eiger_master_is_read_through_its_links(tmp_path):
    path, frames = _eiger(tmp_path)
    ds = nd.open_frames(path)
    np.testing.assert_array_equal(ds.frames, frames)
    np.testing.assert_array_equal(ds.angle, np.arange(11.0))
    assert ds.pixel_mask.values.sum() == np.ceil(np.prod(SHAPE) / 97)
    made = nd.integrate(ds, write_poni(tmp_path / "d.poni"), translations=[0], **OPTIONS)
    assert made.sinogram.shape == (11, 1, 40)


def test_an_eiger_master_that_was_exported_has_its_gaps_masked(tmp_path):
    poni = write_poni(tmp_path / "d.poni")
    frames = nd.simulate_frames(patterns(angles=3, translations=2), poni).load()
    frames.frames[..., 10:14, :] = 2**32 - 1
    ds = nd.open_frames(nd.export_frames(frames, tmp_path / "scan", format="eiger"))
    assert sorted(path.name for path in (tmp_path / "scan").iterdir()) == [
        "scan_data_000001.h5", "scan_data_000002.h5", "scan_master.h5"
    ]  # fmt: skip
    np.testing.assert_array_equal(np.flatnonzero(ds.pixel_mask.any("column")), range(10, 14))
    np.testing.assert_array_equal(ds.angle, [0, 22.5, 45, 45, 22.5, 0])
    np.testing.assert_array_equal(ds.monitor, frames.monitor.values.T.ravel()[[0, 1, 2, 5, 4, 3]])
    np.testing.assert_array_equal(ds.frames[3], frames.frames[2, 1])


def test_frames_in_a_file_that_is_absent_are_unreadable_and_counted(tmp_path):
    path, _ = _eiger(tmp_path)
    (tmp_path / "scan_data_000002.h5").unlink()
    unread = _unread(nd.open_frames(path))
    assert list(unread) == [4, 5, 6, 7]
    assert "scan_data_000002.h5: " in unread[4]
    for part in tmp_path.glob("scan_data*"):
        part.unlink()
    with pytest.raises(StoreError, match="links to 3 files of frames, none of which can be opened"):
        nd.open_frames(path)


def test_a_virtual_dataset_is_read_from_its_files(tmp_path):
    frames, layout = _stack(6), h5py.VirtualLayout(shape=(9, *SHAPE), dtype="uint32")
    for part in range(2):
        with h5py.File(tmp_path / f"part{part}.h5", "w") as file:
            file["data"] = frames[part * 3 : part * 3 + 3]
        source = h5py.VirtualSource(f"part{part}.h5", "data", shape=(3, *SHAPE))
        layout[part * 4 : part * 4 + 3] = source
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file.create_virtual_dataset("1.1/measurement/eiger", layout)
        file["1.1/measurement/rot"] = np.arange(9.0)
        file["1.1/instrument/positioners/dty"] = 0.5
    ds = nd.open_frames(tmp_path / "master.h5")
    np.testing.assert_array_equal(ds.frames[4:7], frames[3:])
    np.testing.assert_array_equal(ds.translation, np.full(9, 0.5))
    assert list(_unread(ds)) == [3, 7, 8]
    (tmp_path / "part1.h5").unlink()
    assert list(_unread(nd.open_frames(tmp_path / "master.h5"))) == [3, 4, 5, 6, 7, 8]


def test_frames_that_were_never_written_are_not_taken_for_dark_ones(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        data = file.create_dataset("entry/data", (5, *SHAPE), "uint32", chunks=(1, *SHAPE))
        data[:3] = _stack(3)
    assert _unread(nd.open_frames(tmp_path / "scan.h5")) == dict.fromkeys(
        (3, 4), "it was never written"
    )


def test_a_file_that_is_truncated_costs_its_frames(tmp_path):
    path, _ = write_scan(tmp_path)
    part = path.parent / "scan0003/detector_0000.h5"
    part.write_bytes(part.read_bytes()[:-200])
    unread = _unread(nd.open_frames(path))
    assert list(unread) == list(range(16, 24))
    assert "truncated" in unread[16]


@pytest.mark.parametrize("kind", ["cbf", "edf", "tif"])
def test_a_damaged_image_is_unreadable_and_so_is_one_of_another_shape(tmp_path, kind):
    import fabio

    path, _ = write_scan(tmp_path, format=kind)
    files = sorted(path.glob(f"*.{kind}"))
    files[7].write_bytes(files[7].read_bytes()[:300])
    files[8].write_bytes(files[8].read_bytes()[:-2500])
    other = type(fabio.open(str(files[0])))(data=np.ones((5, 6), "int32"))
    other.write(str(files[9]))
    unread = _unread(nd.open_frames(path))
    assert list(unread) == [7, 8, 9]
    assert unread[9] == f"it has (5, 6) pixels, the first frame {SHAPE}"


def test_images_are_sorted_as_numbers(tmp_path):
    import fabio

    for number in (10, 9, 1):
        image = fabio.edfimage.EdfImage(data=np.full(SHAPE, number, "int32"))
        image.write(str(tmp_path / f"f{number}.edf"))
    assert nd.open_frames(tmp_path).frames[:, 0, 0].values.tolist() == [1, 9, 10]


def test_a_scan_without_its_motor_says_what_to_type(tmp_path):
    path, poni = write_scan(tmp_path)
    with h5py.File(path, "a") as file:
        for scan in file.values():
            scan["measurement"].move("rot", "hrz")
    with pytest.raises(SchemaError, match=r"to be the angle. It has: dty, fpico6, hrz. Name one:"):
        nd.integrate(nd.open_frames(path), poni, **OPTIONS)
    with pytest.raises(SchemaError, match=r"has no 'hrs' for 'angle'. Did you mean 'hrz'"):
        nd.open_frames(path, angle="hrs")
    ds = nd.integrate(nd.open_frames(path, angle="hrz"), poni, **OPTIONS)
    assert ds.sizes["angle"] == 8


def test_a_position_that_comes_twice_is_refused_or_averaged(tmp_path):
    path, poni = write_scan(tmp_path, format="edf", snake=False)
    table = path / "positions.csv"
    lines = table.read_text().splitlines()
    first = lines[1].split(",")[1]
    lines[2] = ",".join([lines[2].split(",")[0], first, *lines[2].split(",")[2:]])
    table.write_text("\n".join(lines))
    frames = nd.open_frames(path)
    with pytest.raises(SchemaError, match="frames 0 and 1 of frames lie at one position, angle 0"):
        nd.integrate(frames, poni, **OPTIONS)
    ds = nd.integrate(frames, poni, repeats="mean", **OPTIONS)
    single = nd.integrate(frames.isel(frame=[0]), poni, **OPTIONS)
    other = nd.integrate(frames.isel(frame=[1]), poni, **OPTIONS)
    mean = (single.sinogram.values[0, 0] + other.sinogram.values[0, 0]) / 2
    np.testing.assert_allclose(ds.sinogram[0, 0], mean, rtol=1e-6)
    halved = (single.sinogram_variance.values + other.sinogram_variance.values)[0, 0] / 4
    np.testing.assert_allclose(ds.sinogram_variance[0, 0], halved, rtol=1e-6)
    assert ds.mask.values.sum() == 1  # where the second should have been


def test_positions_off_the_grid_are_binned_by_weight(tmp_path):
    path, poni = write_scan(tmp_path, snake=False)
    frames = nd.open_frames(path)
    on_grid = nd.integrate(frames, poni, **OPTIONS)
    shifted = frames.assign_coords(angle=frames.angle + 0.25 * 22.5)
    ds = nd.integrate(shifted, poni, angles=on_grid.angle.values, **OPTIONS)
    a, v = on_grid.sinogram.values.astype(float), on_grid.sinogram_variance.values.astype(float)
    np.testing.assert_allclose(ds.sinogram[1:], 0.75 * a[1:] + 0.25 * a[:-1], rtol=1e-5)
    wanted = 0.75**2 * v[1:] + 0.25**2 * v[:-1]
    np.testing.assert_allclose(ds.sinogram_variance[1:], wanted, rtol=1e-5)
    np.testing.assert_array_equal(ds.sinogram[0], on_grid.sinogram[0])


def test_frames_without_positions_are_laid_out_in_their_order(tmp_path):
    path, poni = write_scan(tmp_path, snake=True)
    known = nd.integrate(nd.open_frames(path), poni, **OPTIONS)
    frames = nd.open_frames(path).drop_vars(["angle", "translation"])
    told = {"angles": {"first": 0, "last": 157.5, "count": 8}, "translations": known.translation}
    ds = nd.integrate(frames, poni, fast="angle", snake=True, **told, **OPTIONS)
    np.testing.assert_array_equal(ds.sinogram, known.sinogram)
    np.testing.assert_allclose(ds.angle, known.angle)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.mkdir(), "has no frames: no file there ends in .cbf, .edf, .tif"),
        (lambda path: path.write_bytes(b"not HDF5"), "is not an HDF5 file"),
        (lambda path: h5py.File(path, "w").close(), "does not say which dataset has the frames"),
    ],
)
def test_what_holds_no_frames_is_refused(tmp_path, write, message):
    write(tmp_path / "scan.h5")
    with pytest.raises((SchemaError, StoreError), match=message):
        nd.open_frames(tmp_path / "scan.h5")
