"""A scan larger than the memory of its workers, from raw counts to component maps.

``python -m benchmarks.out_of_core --size 8GB`` simulates a scan, stores it by projections,
corrects, reconstructs and stores it, reads it back by pixels, finds PCA and NMF components and
maps them: on two workers of 1 GB each. It prints what every stage took, and what its workers held
at their worst moment beside what was planned. The exit code is 1 if a worker spilled, paused,
restarted or passed its limit. ``--series 1GB,4GB,10GB`` does it for several sizes, each in a
process of its own, and prints how the peaks depend on the size. The raw store is deleted once the
volume is there, so a series needs the disk for about 1.2 times its largest scan.
"""

import argparse
import math
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import xarray as xr

import ndtomo_dask as nd
from benchmarks.sizes import Size
from benchmarks.watch import NoWatch, WorkerWatch
from ndtomo_dask import machine, plan
from ndtomo_dask.apply import allowed_memory, block_of
from ndtomo_dask.byte_sizes import GB, MB, human, parse_bytes

COMPONENTS = 6
RAW, RESULT = "raw.zarr", "result.zarr"
WARM = Size("warm", 32, 24, 64, slices=2)


@dataclass
class Stage:
    """What one stage took."""

    name: str
    planned: int
    """Bytes that one task was to hold, beside a worker's own; 0 where there is no plan."""
    seconds: float = 0.0
    peak: int = 0
    """Most resident memory of any worker, in bytes."""
    read: int = 0
    written: int = 0


@dataclass
class Report:
    """All stages, and what went wrong."""

    limit: int
    stages: list[Stage] = field(default_factory=list)
    spilled: int = 0
    paused: int = 0
    restarted: int = 0
    client: int = 0
    """Most resident memory of client and scheduler, which are one process, in bytes."""

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak(self) -> int:
        return max(stage.peak for stage in self.stages)

    @property
    def failures(self) -> list[str]:
        found = {
            f"spilled {human(self.spilled)}": self.spilled,
            f"paused {self.paused} times": self.paused,
            f"restarted {self.restarted} times": self.restarted,
            f"a worker held {human(self.peak)} of {human(self.limit)}":
                self.peak > self.limit,
        }  # fmt: skip
        return [words for words, happened in found.items() if happened]


def scan_size(nbytes: int, *, size: int, angles: int, channels: int) -> Size:
    """Give the scan as many slices as make it at least ``nbytes`` large."""
    one = Size("out of core", size, angles, channels)
    return Size(one.name, size, angles, channels, slices=max(1, math.ceil(nbytes / one.nbytes)))


def run(scan: Size, folder: Path, *, workers: int, memory: str) -> Report:
    """Process a simulated scan from end to end; return what it took."""
    with nd.connect("local", workers=workers, memory=memory, scratch=str(folder)) as client:
        watch = WorkerWatch(client)
        report = Report(parse_bytes(memory))
        try:
            process(scan, folder, watch, report)
        finally:
            report.spilled, report.paused, report.restarted = watch.incidents()
            client.cluster.close()
    report.client = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return report


def process(
    scan: Size, folder: Path, watch: WorkerWatch | NoWatch, report: Report, *, keep: bool = False
) -> None:
    """Do all stages on the cluster that is connected."""
    _simulate(scan, folder, watch, report)
    _reconstruct(folder, watch, report)
    if not keep:
        shutil.rmtree(folder / RAW)
    _find_components(folder, watch, report)


def timed_stages(scan: Size, folder: str | None) -> dict[str, float]:
    """Seconds of each stage of the job, on the cluster that is connected; a tiny scan warms it."""
    for size in (WARM, scan):
        where, report = Path(tempfile.mkdtemp(prefix="stages_", dir=folder)), Report(0)
        try:
            with redirect_stdout(StringIO()):
                process(size, where, NoWatch(), report)
        finally:
            shutil.rmtree(where, ignore_errors=True)
    return {stage.name: stage.seconds for stage in report.stages}


@contextmanager
def _stage(
    name: str, watch: WorkerWatch | NoWatch, report: Report, planned: int = 0
) -> Iterator[None]:
    stage = Stage(name, planned)
    report.stages.append(stage)
    before, start = watch.begin(), time.perf_counter()
    try:
        yield
    finally:
        stage.seconds = time.perf_counter() - start
        stage.peak, stage.read, stage.written = watch.end(before)
        print(_row(stage), flush=True)


def _simulate(scan: Size, folder: Path, watch: WorkerWatch | NoWatch, report: Report) -> None:
    with _stage("simulate, save by projections", watch, report):
        ds = scan.simulate(counts=200.0)
        nd.save(ds[["sinogram"]], folder / RAW)


def _reconstruct(folder: Path, watch: WorkerWatch | NoWatch, report: Report) -> None:
    ds = nd.open_scan(folder / RAW, layout="images")
    planned = _planned_correction(ds.sinogram)
    with _stage("find air", watch, report, planned):
        ds = nd.remove_air(ds, nd.find_air(ds))
    with _stage("find flux", watch, report, planned):
        ds = nd.normalize_projections(ds, nd.find_projection_scale(ds))
    with _stage("find rotation center", watch, report, planned):
        ds = nd.set_rotation_center(ds, nd.find_rotation_center(ds))
    with _stage("correct, reconstruct, save", watch, report, _planned_fbp(ds.sinogram)):
        nd.save(nd.reconstruct(ds)[["volume"]], folder / RESULT)


def _find_components(folder: Path, watch: WorkerWatch | NoWatch, report: Report) -> None:
    ds = nd.open_scan(folder / RESULT, layout="spectra")
    planned = _planned_components(ds.volume)
    with _stage("find PCA components", watch, report, planned):
        nd.find_components(ds, method="pca", components=COMPONENTS)
    with _stage("find NMF components", watch, report, planned):
        found = nd.find_components(ds, method="nmf", components=COMPONENTS)
    with _stage("map components, save", watch, report, planned):
        mapped = nd.map_components(ds, found)
        nd.save(mapped[["component_map", "component_spectrum"]], folder / RESULT)


def _sizes(array: xr.DataArray) -> dict[str, int]:
    return {str(dim): size for dim, size in array.sizes.items()}


def _planned_correction(array: xr.DataArray) -> int:
    made = plan.correct(
        "find", _sizes(array), block_of(array), array.dtype.itemsize,
        allowed_mem=allowed_memory(None),
    )  # fmt: skip
    return made.projected_mem


def _planned_fbp(array: xr.DataArray) -> int:
    made = plan.reconstruct(
        _sizes(array), array.dtype.itemsize, method="fbp", block=block_of(array),
        allowed_mem=allowed_memory(None),
    )  # fmt: skip
    return made.projected_mem


def _planned_components(array: xr.DataArray) -> int:
    made = plan.find_components(
        _sizes(array), array.dtype.itemsize, components=COMPONENTS, passes=1,
        block=block_of(array), allowed_mem=allowed_memory(None),
    )  # fmt: skip
    return made.projected_mem


HEADER = (
    f"{'stage':<30} {'time':>8} {'peak':>8} {'planned':>8} {'read':>8} {'written':>8} {'speed':>10}"
)


def _row(stage: Stage) -> str:
    planned = human(machine.RESERVED_MEM + stage.planned) if stage.planned else "-"
    speed = (stage.read + stage.written) / stage.seconds / MB
    return (
        f"{stage.name:<30} {stage.seconds:>6.1f} s {human(stage.peak):>8} {planned:>8} "
        f"{human(stage.read):>8} {human(stage.written):>8} {speed:>5.0f} MB/s"
    )


def _parse(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.out_of_core",
        description="From raw counts to component maps on two workers smaller than the scan.",
    )
    parser.add_argument("--size", default="8GB", help="of the raw scan, at least (8GB)")
    parser.add_argument("--pixels", type=int, default=256, help="translations (256)")
    parser.add_argument("--angles", type=int, default=256, help="projections (256)")
    parser.add_argument("--channels", type=int, default=1024, help="channels (1024)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--memory", default="1GB", help="limit of each worker (1GB)")
    parser.add_argument("--folder", type=Path, help="where the stores go (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the store of results")
    parser.add_argument("--series", help="several sizes, such as 1GB,4GB,10GB")
    return parser.parse_args(arguments)


def measure(size: str, given: Any) -> tuple[int, Report]:
    """Take a scan of one size through all stages, and print their table; return its bytes too."""
    scan = scan_size(
        parse_bytes(size),
        size=given.pixels,
        angles=given.angles,
        channels=given.channels,
    )
    folder = Path(tempfile.mkdtemp(prefix="out_of_core_", dir=given.folder))
    print(f"{human(scan.nbytes)} raw: {scan.words}; {given.workers} × {given.memory}")
    print("peak: most resident memory of any worker; planned: a task's, and a worker's own")
    print(HEADER, flush=True)
    try:
        report = run(scan, folder, workers=given.workers, memory=given.memory)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    of = f"{human(report.peak)} of {human(report.limit)}"
    print(f"in all {report.seconds:.1f} s; peak {of}")
    print(f"client and scheduler, in one process beside the workers: {human(report.client)}")
    print(
        "FAILED: " + "; ".join(report.failures) if report.failures else "no spill, pause, restart",
        flush=True,
    )
    return scan.nbytes, report


def measure_series(given: Any) -> list[Report]:
    """Measure each size in a fresh process, and print how the peaks depend on the size."""
    found = []
    for size in given.series.split(","):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            found.append(fresh.submit(measure, size, given).result())
    print(f"{'raw':>8} {'a worker':>9} {'client':>8} {'time':>10} {'per GB':>10}")
    for nbytes, report in found:
        print(
            f"{human(nbytes):>8} {human(report.peak):>9} "
            f"{human(report.client):>8} {report.seconds:>8.0f} s "
            f"{report.seconds / nbytes * GB:>8.1f} s"
        )
    return [report for _, report in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print its tables, and return its exit code."""
    given = _parse(arguments)
    reports = measure_series(given) if given.series else [measure(given.size, given)[1]]
    return int(any(report.failures for report in reports))


if __name__ == "__main__":
    sys.exit(main())
