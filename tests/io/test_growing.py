"""What is there of a scan that is being written: never too much, and never in the writer's way."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest
import zarr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError, StoreError
from ndtomo_dask.io.growing import Look, Slices, Watch, watch
from ndtomo_dask.io.store import save
from ndtomo_dask.io.swmr import read_whole

SHAPE = (3, 4, 5, 6)
AXES = ("z", "angle")
VALUES = np.arange(np.prod(SHAPE), dtype="f4").reshape(SHAPE)
MAP = {"sinogram": "data", "angle": "angle"}


PROGRAM = """
import sys
import h5py
import numpy as np

values = np.arange(360, dtype="f4").reshape(3, 4, 5, 6)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Writer:
    """A program that writes a scan: a line of Python at a time, in a process of its own."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.do(f"path = {str(path)!r}")

    def do(self, *lines):
        for line in lines:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "done\n", line

    def begin(self, *, axes=("z", "angle"), chunks=(1, 2, 5, 6), shape=(3, 4, 5, 6), maxshape=None):
        """Make a file as an acquisition does: the axes in full, the data empty."""
        self.do("file = h5py.File(path, 'w', libver='latest')")
        for name in axes:
            self.do(f"file[{name!r}] = np.arange({SHAPE[AXES.index(name)]}.0)")
        options = f"shape={shape}, maxshape={maxshape}, chunks={chunks}, dtype='f4'"
        self.do(f"data = file.create_dataset('data', {options})")
        self.do("data.attrs['axes'] = 'z:angle:translation:channel'")
        return self

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "scan.h5")
    yield writer
    writer.end()


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self):
        return self.now


@dataclass
class Scan:
    """A scan of three slices whose looks are given."""

    looks: list = field(default_factory=list)
    path: str = "scan.h5"

    def look(self):
        return self.looks.pop(0)


def seen(whole, last, progress, state=0, ended=False):
    marks = np.zeros(3, bool)
    marks[list(whole)] = True
    return Look(marks, np.arange(3) == last, progress, state, ended)


def watched(*looks, seconds=1.0):
    """Look at a scan at even intervals, settle time 10 s; return what is complete each time."""
    clock = Clock()
    watch = Watch(Scan(list(looks)), settle=10.0, clock=clock)
    found = []
    for _ in looks[1:]:
        clock.now += seconds
        watch.look()
        found.append(np.flatnonzero(watch.complete).tolist())
    return found


def test_a_whole_slice_is_complete_when_another_part_was_stored_since():
    assert watched(seen([], 0, 1), seen([0], 0, 2), seen([0], 0, 2), seen([0], 1, 3)) == [
        [],
        [],
        [0],
    ]


def test_rewriting_a_whole_slice_does_not_complete_it():
    assert watched(seen([0], 0, 2, state=1), seen([0], 0, 2, state=2)) == [[]]


def test_after_a_pause_the_slice_written_last_is_not_complete_but_the_others_are():
    looks = [seen([0, 1], 1, 4)] * 3
    assert watched(*looks, seconds=6.0) == [[], [0]]


def test_a_whole_scan_is_complete_when_nothing_changes_or_the_writer_says_so():
    every = [0, 1, 2]
    assert watched(*[seen(every, 2, 6)] * 3, seconds=6.0) == [[], every]
    assert watched(seen(every, 2, 6), seen(every, 2, 6, state=1), seconds=11.0) == [[]]
    assert watched(seen(every, 2, 6), seen(every, 2, 6, ended=True)) == [every]


def test_chunks_of_hdf5_tell_which_slices_are_whole(tmp_path, writer):
    writer.begin().do("file.swmr_mode = True")
    source = nd.open_scan(tmp_path / "scan.h5", follow=True, **MAP).encoding["watched"]
    assert not source.look().whole.any()
    writer.do("data[0] = values[0]", "data.flush()", "data[2, :2] = 1", "data.flush()")
    look = source.look()
    assert look.whole.tolist() == [True, False, False]
    assert look.last.tolist() == [False, False, True]
    writer.do("data[1:] = values[1:]", "data.flush()")
    assert source.look().whole.all()


@pytest.mark.parametrize("given", ["axis", "expect", "limit"])
def test_a_dataset_that_grows_is_opened_in_its_final_shape(given, tmp_path, writer):
    axes = ("z", "angle") if given == "axis" else ("angle",)
    limit = (3 if given == "limit" else None, *SHAPE[1:])
    writer.begin(axes=axes, shape=(1, *SHAPE[1:]), maxshape=limit, chunks=(2, 4, 5, 6))
    writer.do("file.swmr_mode = True", "data[0] = values[0]", "data.flush()")
    expect = {"z": 3} if given == "expect" else None
    ds = nd.open_scan(tmp_path / "scan.h5", follow=True, expect=expect, **MAP)
    assert ds.sinogram.shape == SHAPE
    assert ds.sinogram.chunksizes["z"] == (1, 1, 1)
    np.testing.assert_array_equal(ds.sinogram[0], VALUES[0])
    # The chunk that holds two slices is there, but the dataset does not reach the second.
    assert ds.encoding["watched"].look().whole.tolist() == [True, False, False]
    writer.do("data.resize(2, axis=0)", "data[1] = values[1]", "data.flush()")
    look = ds.encoding["watched"].look()
    assert (look.whole.tolist(), look.last.tolist()) == ([True, True, False], [False, True, False])


def test_a_slice_that_is_not_there_yet_is_waited_for(tmp_path, writer):
    writer.begin(shape=(0, 4, 5, 6), maxshape=(None, 4, 5, 6)).do("file.swmr_mode = True")
    ds = nd.open_scan(tmp_path / "scan.h5", follow=True, **MAP)
    found = []
    reader = threading.Thread(target=lambda: found.append(ds.sinogram[1].values))
    reader.start()
    reader.join(0.5)
    assert not found
    writer.do("data.resize(2, axis=0)", "data[:2] = values[:2]", "data.flush()")
    reader.join(60)
    np.testing.assert_array_equal(found, VALUES[1:2])


WRITE_AGAIN_AND_AGAIN = """
import sys, h5py
for number in range(200):
    with h5py.File(sys.argv[1], "a") as file:
        file["data"][...] = number
"""


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_reading_neither_stops_a_writer_nor_sees_half_of_what_it_writes(libver, tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("data", data=np.zeros((200, 500)), chunks=(10, 500))
    with subprocess.Popen([sys.executable, "-c", WRITE_AGAIN_AND_AGAIN, str(path)]) as writer:
        while writer.poll() is None:
            values = read_whole(path, lambda file: file["data"][...])
            assert (values == values[0, 0]).all()
        assert writer.returncode == 0
    assert read_whole(path, lambda file: file["data"][0, 0]) == 199


def test_a_file_that_stays_open_without_swmr_is_given_up_in_a_sentence(tmp_path, writer):
    writer.begin()
    with pytest.raises(StoreError, match=r"scan\.h5 is open for writing in a program .* SWMR mode"):
        read_whole(tmp_path / "scan.h5", list, patience=0.3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"chunks": None}, r"data is not chunked, so it cannot be told .* in chunks of one proj"),
        ({"chunks": (2, 4, 5, 6)}, r"has chunks of 2 slices, so it cannot be told"),
        ({"shape": (0, 4, 5, 6), "maxshape": (None, 4, 5, 6), "axes": ("angle",)},
         r"grows along 'z', and nothing says how far\. .* add to the input expect: \{z: 180\}"),
        ({"expect": {"z": 2}}, r"has 3 entries along 'z' and can have 3, but 2 are expected"),
        ({"expect": {"zz": 2}}, r"expect has 'zz'\. Did you mean"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(options, reason, tmp_path, writer):
    given = dict(options)
    expect = given.pop("expect", None)
    writer.begin(**given).do("file.close()")
    with pytest.raises((SchemaError, OptionError), match=reason):
        nd.open_scan(tmp_path / "scan.h5", follow=True, expect=expect, **MAP)


def test_space_set_aside_for_all_chunks_is_not_taken_for_data(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["angle"] = np.arange(4.0)
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((1, 2, 5, 6))
        made.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple(SHAPE)
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_FLOAT, space, made)
    dims = ("z", "angle", "translation", "channel")
    with pytest.raises(SchemaError, match=r"has space set aside for all its chunks"):
        nd.open_scan(tmp_path / "scan.h5", follow=True, dims=dims, **MAP)


def test_a_scan_that_is_shorter_than_expected_is_refused_without_following(tmp_path, writer):
    writer.begin().do("file.close()")
    with pytest.raises(SchemaError, match=r"has 3 entries along 'z', but 30 are expected.*--follo"):
        nd.open_scan(tmp_path / "scan.h5", expect={"z": 30}, **MAP)


def test_the_entry_says_when_the_scan_has_ended(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/angle"] = np.arange(4.0)
        data = file.create_dataset("entry/data", data=VALUES, chunks=(1, 2, 5, 6))
        data.attrs["axes"] = "z:angle:translation:channel"
    named = {"sinogram": "entry/data", "angle": "entry/angle"}
    source = nd.open_scan(tmp_path / "scan.h5", follow=True, **named).encoding["watched"]
    assert not source.look().ended
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file["entry/end_time"] = "2014-07-22T12:00:00"
    assert source.look().ended


def test_shards_of_a_store_tell_which_slices_are_whole(tmp_path):
    ds = nd.simulate_scan(size=16, angles=10, channels=8, slices=3)[["sinogram", "true_phase_map"]]
    save(ds, tmp_path / "scan.zarr")
    shards = [tmp_path / f"scan.zarr/sinogram/c/{number}" for number in range(3)]
    for number in (1, 2):
        shards[number].rename(tmp_path / str(number))
    followed = nd.open_scan(tmp_path / "scan.zarr", follow=True)
    assert list(followed.data_vars) == ["sinogram"]
    source = followed.encoding["watched"]
    assert source.look().whole.tolist() == [True, False, False]
    (tmp_path / "2").rename(shards[2])
    assert source.look().whole.tolist() == [True, False, True]
    (tmp_path / "1").rename(shards[1])
    assert source.look().whole.all()
    assert not watch(followed, settle=5.0).complete.any()


def test_shards_of_several_slices_cannot_be_followed(tmp_path):
    array = zarr.create_array(
        tmp_path / "scan.zarr/sinogram", shape=SHAPE, shards=(3, 4, 5, 6), chunks=(1, 4, 5, 6),
        dtype="f4", dimension_names=["z", "angle", "translation", "channel"],
    )  # fmt: skip
    zarr.open_group(tmp_path / "scan.zarr")
    array[...] = VALUES
    with pytest.raises(SchemaError, match=r"has shards of 3 slices, so it cannot be told"):
        nd.open_scan(tmp_path / "scan.zarr", follow=True)


def test_blocks_are_chosen_by_the_slices_they_lie_in():
    ready, new = np.array([True, True, False]), np.array([False, True, False])
    slices = Slices(("z",), ready, new)
    scan = nd.simulate_scan(size=16, angles=10, channels=8, slices=3)
    chosen = slices.chooser(scan.sinogram.chunk({"z": 1, "channel": 4}))
    assert [chosen((z, 0, 0, 1)) for z in range(3)] == [False, True, False]
    both = slices.chooser(scan.sinogram.chunk({"z": 2}))
    assert [both((z, 0, 0, 0)) for z in range(2)] == [True, False]
    assert slices.first == {"z": [0]}
    last = Slices(("z",), np.ones(3, bool), new)
    assert all(last.chooser(scan.sinogram)((z, 0, 0, 0)) for z in range(3))
