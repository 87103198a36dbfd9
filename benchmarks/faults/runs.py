"""Real runs to be disturbed: the command as a process group of its own, and what it leaves."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import psutil
import yaml

from ndtomo_dask.io import export, save
from ndtomo_dask.synthetic import simulate_scan

PATIENCE = 420.0
"""Seconds until something that should have happened is given up."""
SIZES = {"size": 32, "angles": 40, "channels": 128, "slices": 8, "grains": 12, "seed": 7}
LARGE = {"size": 64, "angles": 64, "channels": 1024, "slices": 4, "grains": 12, "seed": 7}
"""With shards of 16 MB, whose writing takes long enough to be interrupted."""
SLOW: dict[str, Any] = {"method": "sirt", "iterations": 60}
QUICK: dict[str, Any] = {"method": "fbp"}
NDTOMO_DASK = (sys.executable, "-m", "ndtomo_dask.cli")
LOCAL = {"kind": "local", "workers": 2, "threads": 1, "memory": "2GB"}


class RowFailed(Exception):
    """A run did not do what it must; the row fails."""


class RowSkipped(Exception):
    """This machine does not allow what the row needs."""


def expect(fact: object, words: str, text: str = "") -> None:
    """Fail the row unless something is so; ``text`` is what a run has printed."""
    if not fact:
        raise RowFailed(words + (f"; the end of its output:\n{text[-3000:]}" if text else ""))


def wait_until(happened: Callable[[], Any], words: str, *, poll: float = 0.02) -> Any:
    """Wait for something, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (result := happened()):
        expect(time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain until {words}")
        time.sleep(poll)
    return result


def steps(method: Mapping[str, Any]) -> list[Any]:
    """Steps of the main job, with an estimate, two layouts and three stages that are stored."""
    return [
        {"remove_air": {"width": 2}},
        "normalize_projections",
        "find_projection_shifts",
        "align_projections",
        "find_rotation_center",
        "set_rotation_center",
        {"reconstruct": dict(method)},
        {"find_components": {"method": "nmf", "components": 3, "iterations": 30}},
        "map_components",
        {"fit_peaks": {"windows": {"Cu 200": [3.3, 3.65]}, "axis": "q", "shape": "gaussian"}},
    ]


ALL = ["sinogram", "volume", "component_map", "component_spectrum", "peak_area", "peak_status"]
STAGE: list[Any] = [{"set_rotation_center": {"center": 15.5}}, {"reconstruct": SLOW}]
"""One stage only: a block for each slice of the scan."""


def write_scan(path: Path, **changes: int) -> Path:
    """Simulate a scan, once; one called ``checked.nxs`` has a chunk with a checksum per slice."""
    if path.exists():
        return path
    scan = simulate_scan(**(LARGE if path.stem == "large" else SIZES) | changes)
    if path.suffix == ".zarr":
        save(scan, path)
        return path
    export(scan, path, variable="sinogram")
    if path.stem == "checked":
        with h5py.File(path, "a") as file:
            _check_chunks(file, dataset_of(file))
    return path


def _check_chunks(file: h5py.File, name: str) -> None:
    values, attributes = file[name][...], dict(file[name].attrs)
    del file[name]
    chunks = (1, *values.shape[1:])
    made = file.create_dataset(
        name, data=values, chunks=chunks, compression="gzip", fletcher32=True
    )
    made.attrs.update(attributes)


def dataset_of(file: h5py.File) -> str:
    """Path of the sinogram in a file."""
    found: list[str] = []

    def collect(name: str, entry: Any) -> None:
        if getattr(entry, "ndim", 0) == 4:
            found.append(name)

    file.visititems(collect)
    return found[0]


def hashes(store: Path) -> dict[str, str]:
    """Digest of every file below a store."""
    return {
        str(path.relative_to(store)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


@dataclass
class Command:
    """A program that runs, as the leader of a process group, and what it prints."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; return its exit code."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise RowFailed(f"it did not end in {patience:.0f} s:\n{self.text()[-3000:]}") from None

    def succeed(self) -> str:
        """Wait for its end, which must be a good one; return what it said."""
        code = self.wait()
        expect(code == 0, f"it ended with code {code}", self.text())
        return self.text()

    def refuse(self, code: int, *words: str) -> str:
        """Wait for its end, which must be one sentence with these words; return that."""
        ended = self.wait()
        expect(ended == code, f"it ended with code {ended}, not {code}", self.text())
        said = [line for line in self.text().splitlines() if line.startswith("ndtomo-dask: ")]
        expect(len(said) == 1, "it did not end with one sentence", self.text())
        for word in words:
            expect(word in said[0], f"{word!r} is not in: {said[0]}")
        return said[0]

    def workers(self) -> list[psutil.Process]:
        """Worker processes of its local cluster."""
        try:
            children = psutil.Process(self.pid).children(recursive=True)
            return [child for child in children if _is_worker(child)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """Kill the group, whatever is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("spawn_main" in word for word in process.cmdline())
    except psutil.Error:
        return False


@dataclass
class Work:
    """A recipe in a folder of its own, whose run is to be disturbed."""

    folder: Path
    scan: Path
    steps: list[Any]
    save: list[str]
    expected: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    input: dict[str, Any] = field(default_factory=dict)
    output: Path | None = None

    @property
    def store(self) -> Path:
        return self.output or self.folder / "out.zarr"

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    def write(self) -> "Work":
        """Write the recipe and the cluster file."""
        content = {
            "input": {"path": str(self.scan), **self.input},
            "output": str(self.store),
            "steps": self.steps,
            "save": self.save,
            "cluster": str(self.folder / "cluster.yaml"),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recipe.write_text(yaml.safe_dump(content, sort_keys=False))
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump(LOCAL))
        return self

    def run(self, *flags: str, before: tuple[str, ...] = (), **environment: str) -> Command:
        """Start ``ndtomo-dask run``; ``before`` are words that stand before the command."""
        return self.start(*before, *NDTOMO_DASK, "run", str(self.recipe), *flags, **environment)

    def start(self, *words: str, **environment: str) -> Command:
        """Start any program, which ends with the row at the latest."""
        log = self.folder / f"log.{len(self.commands)}"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | environment, cwd=self.folder,
            )  # fmt: skip
        self.commands.append(Command(process, log))
        return self.commands[-1]

    def blocks(self) -> dict[str, tuple[int, int]]:
        """Blocks that are stored, each with what tells whether it was written again."""
        found = {}
        for name in self.save:
            for path in (self.store / name / "c").rglob("*"):
                if path.suffix != ".partial" and path.is_file():
                    about = path.stat()
                    found[str(path.relative_to(self.store))] = (about.st_ino, about.st_mtime_ns)
        return found

    def count(self, name: str) -> int:
        """How many blocks of a variable are stored."""
        return sum(block.startswith(f"{name}/") for block in self.blocks())

    def partial(self) -> list[Path]:
        """Temporary files of blocks, and estimates, that are or were being written."""
        return list(self.store.rglob("*.partial")) if self.store.exists() else []

    def wait_for_blocks(self, command: Command, name: str, count: int = 1) -> None:
        """Wait until so many blocks of a variable are stored, while a run goes on."""
        wait_until(
            lambda: self.count(name) >= count or not command.runs, f"{count} of {name} are stored"
        )
        expect(command.runs, "the run had ended before it could be disturbed", command.text())

    def kept(self, before: Mapping[str, tuple[int, int]]) -> str:
        """Say how many blocks are left from before; none may have been made again."""
        now = self.blocks()
        again = [name for name, about in before.items() if now.get(name) != about]
        expect(not again, f"{len(again)} blocks were made again, such as {again[:1]}")
        return f"{len(before)} of {len(now)} blocks kept, 0 made again"

    def is_same(self) -> bool:
        """Tell whether the store has the bits of the undisturbed run; say what differs if not."""
        found = hashes(self.store)
        differing = [
            n for n in sorted(found | self.expected) if found.get(n) != self.expected.get(n)
        ]
        if differing:
            print(f"{len(differing)} files differ, such as {differing[:3]}", file=sys.stderr)
        return not differing


@dataclass
class Bench:
    """Where rows work, and the undisturbed runs to which theirs are compared."""

    folder: Path
    seed: int = 20140722
    _undisturbed: dict[str, dict[str, str]] = field(default_factory=dict)

    def random(self) -> random.Random:
        return random.Random(self.seed)

    @contextmanager
    def work(
        self,
        name: str,
        *,
        scan: str = "scan.nxs",
        one_stage: bool = False,
        iterations: int = 60,
        **options: Any,
    ) -> Iterator[Work]:
        """Give a row its work; what it started ends with it."""
        path = write_scan(self.folder / scan)
        method = QUICK if path.stem == "large" else SLOW | {"iterations": iterations}
        made, saved = (STAGE, ["volume"]) if one_stage else (steps(method), ALL)
        work = Work(self.folder / name, path, made, saved, **options)
        work.expected = self._expected(f"{scan} {one_stage} {method}", work)
        try:
            yield work.write()
        finally:
            for command in work.commands:
                command.end()

    def _expected(self, key: str, work: Work) -> dict[str, str]:
        if key not in self._undisturbed:
            folder = self.folder / f"undisturbed_{len(self._undisturbed)}"
            calm = Work(folder, work.scan, work.steps, work.save, input=work.input).write()
            command = calm.run()
            try:
                command.succeed()
            finally:
                command.end()
            self._undisturbed[key] = hashes(calm.store)
        return self._undisturbed[key]


@dataclass(frozen=True)
class Outcome:
    """What a row of the table says."""

    injected: str
    happened: str
    finish: str
    same: bool


RESUME = "`ndtomo-dask run recipe.yaml --resume`"
NOTHING = "nothing"


def finished(work: Work, injected: str, happened: str, *, resumed: bool = True) -> Outcome:
    """Make the row of a work that is done."""
    expect(not work.partial(), f"left behind: {work.partial()[:2]}")
    return Outcome(injected, happened, RESUME if resumed else NOTHING, work.is_same())
