"""Files that go wrong: a full disk, damaged input, damaged output, locks that nobody holds."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from benchmarks.faults.runs import (
    NDTOMO_DASK,
    SLOW,
    Bench,
    Outcome,
    RowSkipped,
    Work,
    dataset_of,
    expect,
    finished,
    wait_until,
    write_scan,
)
from ndtomo_dask.io.shards import ShardFiles

SMALL_BLOCKS = {"allowed_mem": "4MB"}
"""So that an HDF5 file is read slice by slice."""
DAMAGED_SLICE, ITS_LABEL = 3, "z 0.06 mm"


@contextmanager
def small_disk(folder: Path, limit: str) -> Iterator[Callable[[str], None]]:
    """Mount a small file system, such as of ``"size=4m"``; yield what sets another limit."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", limit, "tmpfs", str(folder))
    try:
        yield lambda larger: _mount("-o", f"remount,{larger}", str(folder))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RowSkipped(f"mount is not permitted: {done.stderr.strip()}")


def disk_full(bench: Bench, limit: str = "size=4m") -> Outcome:
    """Write to a disk that is too small; make room; go on."""
    name = "disk_full_" + limit.replace("=", "_")
    disk = bench.folder / name / "disk"
    with (
        small_disk(disk, limit) as enlarge,
        bench.work(name, output=disk / "out.zarr") as work,
    ):
        work.run().refuse(2, "No space left on device", "--resume")
        before = work.blocks()
        enlarge("size=200m,nr_inodes=100000")
        work.run("--resume").succeed()
        return finished(
            work, f"output on a file system of `{limit}`, then enlarged",
            f"code 2, “No space left on device”; {work.kept(before)}",
        )  # fmt: skip


def disk_full_at_start(bench: Bench) -> Outcome:
    """Write to a disk that is full before the first block, when metadata are written."""
    return disk_full(bench, "nr_inodes=16")


def damaged_chunk(bench: Bench) -> Outcome:
    """Flip a bit in a compressed chunk of a Zarr scan."""

    def flip(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(bytes([content[0], content[1] ^ 1]) + content[2:])

    return _damaged_input(bench, "damaged_chunk", flip, "one bit of a compressed chunk flipped")


def truncated_shard(bench: Bench) -> Outcome:
    """Cut a shard of a Zarr scan in the middle."""

    def cut(file: Path) -> None:
        os.truncate(file, file.stat().st_size // 2)

    return _damaged_input(bench, "truncated_shard", cut, "a shard of the input cut in half")


def _damaged_input(
    bench: Bench, name: str, damage: Callable[[Path], None], injected: str
) -> Outcome:
    with bench.work(name, scan="scan.zarr", one_stage=True) as work:
        files = ShardFiles(work.scan / "sinogram")
        shard = files.file((DAMAGED_SLICE, *(0,) * (len(files.grid) - 1)))
        with set_aside(shard, work.folder) as mend:
            damage(shard)
            return _mended(work, mend, f"Zarr scan: {injected}")


@contextmanager
def set_aside(file: Path, folder: Path) -> Iterator[Callable[[], Any]]:
    """Keep a copy of a file that all rows use; yield what puts it back, with its date."""
    copy = shutil.copy2(file, folder / f"good_{file.name}")
    try:
        yield lambda: shutil.copy2(copy, file)
    finally:
        shutil.copy2(copy, file)


def damaged_hdf5(bench: Bench) -> Outcome:
    """Flip a bit in a chunk of an HDF5 scan, as a disk does: its date stays."""
    with (
        bench.work("damaged_hdf5", scan="checked.nxs", one_stage=True, input=SMALL_BLOCKS) as work,
        set_aside(work.scan, work.folder) as mend,
    ):
        date, content = work.scan.stat(), bytearray(work.scan.read_bytes())
        with h5py.File(work.scan) as file:
            chunk = file[dataset_of(file)].id.get_chunk_info(DAMAGED_SLICE)
        content[chunk.byte_offset + chunk.size // 2] ^= 1
        work.scan.write_bytes(content)
        os.utime(work.scan, ns=(date.st_atime_ns, date.st_mtime_ns))
        return _mended(work, mend, "HDF5 scan: one bit of a chunk flipped (gzip, Fletcher-32)")


def _mended(work: Work, mend: Callable[[], Any], injected: str) -> Outcome:
    """Run into the damage, which must be named; mend it; see that only that block is done."""
    said = work.run().refuse(2, f"1 of 8 blocks failed (volume, {ITS_LABEL})", "--resume")
    before = work.blocks()
    expect(len(before) == 7, f"{len(before)} of 8 blocks are stored, not 7")
    mend()
    work.run("--resume").succeed()
    named = said.partition("(")[2].partition(")")[0]
    return finished(work, injected, f"code 2, names “{named}”; {work.kept(before)}")


def dead_locks(bench: Bench) -> Outcome:
    """Leave what dead processes leave: locks, half a block, half an estimate."""
    with bench.work("dead_locks") as work:
        command = work.run()
        work.wait_for_blocks(command, "volume", 2)
        command.send(signal.SIGKILL, group=True)
        command.wait()
        lock = work.store.with_name("out.zarr.lock")
        expect(lock.exists(), "the dead run has left no lock")
        elsewhere = json.loads(lock.read_text()) | {"host": "node17", "machine": "another"}
        lock.with_name("out.zarr.lock.1-of-2").write_text(json.dumps(elsewhere))
        before = work.blocks()
        half = next((work.store / "volume" / "c").iterdir()) / "0" / "0" / f"0.{'ab' * 16}.partial"
        half.write_bytes(b"half a block")
        estimate = work.store / "found" / "07_find_components.partial"
        estimate.mkdir()
        (estimate / "zarr.json").write_text("{")
        text = work.run("--resume").succeed()
        expect("taken over" in text, "it did not say that it took the locks over", text)
        left = [path.name for path in work.folder.iterdir() if ".lock" in path.name]
        expect(not left, f"locks are left: {left}")
        return finished(
            work, "left behind: the locks of a dead process here and of one on another host, half "
            "a block, half an estimate",
            f"locks taken over (that of the other host after it was watched for 30 s), halves "
            f"removed; {work.kept(before)}",
        )  # fmt: skip


def two_runs(bench: Bench) -> Outcome:
    """Start a second run on the store of the first."""
    with bench.work("two_runs") as work:
        first, lock = work.run(), work.store.with_name("out.zarr.lock")
        wait_until(lambda: lock.exists() or not first.runs, "the first has its lock")
        first.send(signal.SIGSTOP, group=True)  # or it may be done before the others have started
        for second in [work.run("--resume"), work.run("--overwrite")]:
            second.refuse(2, "is being written by process")
        first.send(signal.SIGCONT, group=True)
        first.succeed()
        return finished(
            work, "a second run (`--resume`, then `--overwrite`) on the store of one at work",
            "the second: code 2, “is being written by process …”; the first: code 0",
            resumed=False,
        )  # fmt: skip


def changed_recipe(bench: Bench) -> Outcome:
    """Change the recipe, then the input, between a run and its resume."""
    with (
        bench.work(
            "changed_recipe", scan="checked.nxs", one_stage=True, input=SMALL_BLOCKS
        ) as work,
        set_aside(work.scan, work.folder) as put_back,
    ):
        command = work.run()
        work.wait_for_blocks(command, "volume", 2)
        command.end()
        before, right = work.blocks(), work.steps
        work.steps = [right[0], {"reconstruct": SLOW | {"iterations": 61}}]
        work.write().run("--resume").refuse(2, "was made by another recipe", "cannot be resumed")
        work.steps = right
        work.scan.unlink()
        write_scan(work.scan, seed=8)
        work.write().run("--resume").refuse(2, "was made from other input", "cannot be resumed")
        put_back()
        work.run("--resume").succeed()
        return finished(
            work, "the recipe changed before the resume; then the input",
            f"code 2, “was made by another recipe”; code 2, “was made from other input”; put back: "
            f"{work.kept(before)}",
        )  # fmt: skip


def damaged_output(bench: Bench) -> Outcome:
    """Flip a bit in the output of a run that is done."""
    with bench.work("damaged_output", scan="scan.zarr", one_stage=True) as work:
        work.run().succeed()
        shard = ShardFiles(work.store / "volume").file((DAMAGED_SLICE, 0, 0, 0))
        content = shard.read_bytes()
        shard.write_bytes(bytes([content[0], content[1] ^ 1]) + content[2:])
        before = work.blocks()
        before.pop(str(shard.relative_to(work.store)))
        found = work.start(*NDTOMO_DASK, "verify", str(work.store))
        code, text = found.wait(), found.text()
        expect(code == 1, f"verify ended with code {code}", text)
        expect(f"volume, {ITS_LABEL}: chunk checksum wrong" in text, "it is not named", text)
        work.run("--resume").succeed()
        return finished(
            work, "one bit of a stored block flipped",
            f"`ndtomo-dask verify`: code 1, “volume, {ITS_LABEL}: chunk checksum wrong”; "
            f"{work.kept(before)}",
        )  # fmt: skip
