"""Strong and weak scaling of the main job: one command, one CSV, one plot.

``python -m benchmarks.scaling`` takes a simulated scan from raw counts to component maps on 1, 2, …
workers: always the same scan (strong), then one that grows with the workers (weak). With
``--cluster cluster.yaml --folder /a/shared/folder`` it does so on a cluster; ``--grow jobs`` where
workers come in jobs. A tiny scan first warms every cluster up; simulating is not counted.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ndtomo_dask as nd
from benchmarks.out_of_core import scan_size, timed_stages
from benchmarks.sizes import Size
from ndtomo_dask.byte_sizes import human, parse_bytes

FIELDS = ("scaling", "workers", "raw_bytes", "stage", "seconds")
SIMULATION = "simulate"


@dataclass(frozen=True)
class Point:
    """One run: which scaling, on how many workers, of how large a scan, and its stages' seconds."""

    scaling: str
    workers: int
    nbytes: int
    stages: dict[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())

    def efficiency(self, first: "Point") -> float:
        """Part of the speed per worker of ``first``."""
        work = self.nbytes / first.nbytes
        return work * first.seconds * first.workers / (self.seconds * self.workers)


def run(scaling: str, scan: Size, workers: int, given: Any) -> Point:
    """Do the main job on so many workers, after a tiny one that is not counted."""
    options = {given.grow: workers}
    if given.cluster == "local":
        options |= {"threads": 1, "memory": given.memory}
    with nd.connect(given.cluster, **options) as client:
        client.wait_for_workers(workers if given.grow == "workers" else 1)
        stages = timed_stages(scan, given.folder)
    counted = {name: each for name, each in stages.items() if not name.startswith(SIMULATION)}
    return Point(scaling, workers, scan.nbytes, counted)


def report_row(point: Point, first: Point) -> str:
    return (
        f"{point.scaling:<8} {point.workers:>7} {human(point.nbytes):>8} "
        f"{point.seconds:>8.1f} s {point.efficiency(first):>10.0%}"
    )


def write_csv(points: Iterable[Point], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for point in points:
            for stage, seconds in point.stages.items():
                one = (point.scaling, point.workers, point.nbytes, stage, f"{seconds:.3f}")
                writer.writerow(one)


def draw(points: Sequence[Point], path: Path) -> None:
    """Draw times beside the ideal, strong on the left, weak on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for axis, scaling in zip(axes, ("strong", "weak"), strict=True):
        some = [point for point in points if point.scaling == scaling]
        workers = [point.workers for point in some]
        first = some[0]
        ideal = [
            first.seconds * point.nbytes / first.nbytes * first.workers / point.workers
            for point in some
        ]
        axis.plot(workers, ideal, "k--", lw=1, label="ideal")
        axis.plot(workers, [point.seconds for point in some], "o-", label="measured")
        for point in some:
            label = f" {point.efficiency(first):.0%}"
            axis.annotate(label, (point.workers, point.seconds), va="bottom")
        axis.set(title=f"{scaling} scaling", xlabel="workers", ylabel="seconds")
        axis.set(xscale="log", ylim=(0, None), xticks=workers, xticklabels=workers)
        axis.minorticks_off()
        axis.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _parse(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--workers", default="1,2", help="numbers of workers (1,2)")
    parser.add_argument("--size", default="500MB", help="of the scan, per worker if weak (500MB)")
    parser.add_argument("--pixels", type=int, default=256, help="translations (256)")
    parser.add_argument("--angles", type=int, default=256, help="projections (256)")
    parser.add_argument("--channels", type=int, default=512, help="channels (512)")
    parser.add_argument("--memory", default="1GB", help="limit of each local worker (1GB)")
    parser.add_argument("--cluster", default="local", help="a kind, a file or an address (local)")
    parser.add_argument("--grow", default="workers", help="the option that grows (workers)")
    parser.add_argument("--folder", help="where the stores go; all workers must see it")
    parser.add_argument("--csv", type=Path, default=Path("scaling.csv"), help="(scaling.csv)")
    parser.add_argument("--plot", type=Path, default=Path("scaling.png"), help="(scaling.png)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parse(arguments)
    counts = [int(count) for count in given.workers.split(",")]
    shape = {"size": given.pixels, "angles": given.angles, "channels": given.channels}
    nbytes, points = parse_bytes(given.size), list[Point]()
    print(f"{'':<8} {'workers':>7} {'raw':>8} {'time':>10} {'efficiency':>10}")
    for scaling in ("strong", "weak"):
        of_kind: list[Point] = []
        for count in counts:
            grown = count * nbytes // counts[0] if scaling == "weak" else nbytes
            of_kind.append(run(scaling, scan_size(grown, **shape), count, given))
            print(report_row(of_kind[-1], of_kind[0]), flush=True)
        points += of_kind
    write_csv(points, given.csv)
    draw(points, given.plot)
    print(f"wrote {given.csv} and {given.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
