"""How long large scans take on many nodes, worked out from rates measured here.

``python -m benchmarks.scaling_model`` measures the rates of the kernels, of reading and writing on
a small scan, and works out the time of each stage of the main job, and what limits it: the cores,
the file system of a node or of all, the scheduler, or the client. ``--check 1GB`` runs the job on
this machine instead, on a scan of another size and shape than that of the rates, and prints what
was predicted beside what was measured. ``--plot model.png`` draws the times over the nodes.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ndtomo_dask as nd
from benchmarks.model import ITEM, Center, Prediction, limits, predict
from benchmarks.out_of_core import scan_size, timed_stages
from benchmarks.rates import RANK, Rates, measure_rates
from benchmarks.sizes import TERABYTE, Size
from ndtomo_dask.byte_sizes import GB, human, parse_bytes

CALIBRATION = Size("calibration", 160, 128, 512, slices=2)
NODES = (1, 10, 100, 1000)
YEAR_SCANS = 200 * 10
"""A beamline's year: 200 days of 10 scans of a terabyte, 2 PB."""


def slices_for(nbytes: float) -> Size:
    """Slices of 512 × 512 × 2048 that make so many bytes."""
    one = replace(TERABYTE, slices=1)
    return replace(one, slices=math.ceil(nbytes / one.nbytes))


def words(seconds: float) -> str:
    """Write a time as people say it.

    >>> words(5400), words(30), words(1e6), words(1e8)
    ('1.5 h', '30 s', '12 d', '1157 d')
    """
    for name, unit in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * unit:
            value = seconds / unit
            return f"{value:.2g} {name}" if value < 99.5 else f"{value:.0f} {name}"
    return f"{seconds:.0f} s"


def total(predictions: Sequence[Prediction]) -> float:
    return sum(one.seconds for one in predictions)


def best(size: Size, scans: int, rates: Rates, center: Center, nodes: int) -> tuple[float, str]:
    """Seconds for some scans, as many side by side as is best, and what limits most of them."""
    found = []
    for group in {each for each in NODES if each <= nodes} | {nodes}:
        beside = min(scans, nodes // group)
        shared = replace(center, shared_io=center.shared_io / beside)
        predictions = predict(size, rates, shared, group)
        found.append((math.ceil(scans / beside) * total(predictions), limits(predictions)))
    return min(found)


def header(first: str) -> list[str]:
    names = "".join(f" {nodes} node{'s' * (nodes > 1)} |" for nodes in NODES)
    return [f"| {first} |{names}", "| --- |" + " --- |" * len(NODES)]


def overview(center: Center, rates: Rates) -> str:
    """Write the time of each amount of data on each number of nodes, and what limits most of it."""
    lines = header("data")
    for name, size, scans in AMOUNTS:
        found = [best(size, scans, rates, center, nodes) for nodes in NODES]
        lines.append(f"| {name} |" + "".join(f" {words(t)} ({limit}) |" for t, limit in found))
    return "\n".join(lines)


def stages(size: Size, center: Center, rates: Rates) -> str:
    """Write the time of each stage, and what limits it."""
    by_nodes = [predict(size, rates, center, nodes) for nodes in NODES]
    lines = header("stage")
    for some in zip(*by_nodes, strict=True):
        cells = "".join(f" {words(one.seconds)} ({one.limit}) |" for one in some)
        lines.append(f"| {some[0].stage} |{cells}")
    return "\n".join(lines)


AMOUNTS = (
    ("1 TB", slices_for(1e12), 1),
    ("100 TB, one scan", slices_for(1e14), 1),
    ("2 PB, a year of 1 TB scans", slices_for(1e12), YEAR_SCANS),
)
"""Names of amounts of data: the size of a scan, and how many of them."""


def check(given: Any, rates: Rates, center: Center) -> str:
    """Run the job here, and write what was predicted beside what was measured."""
    size = scan_size(parse_bytes(given.check), size=256, angles=256, channels=1024)
    with nd.connect("local", workers=given.workers, threads=1, memory="1GB") as client:
        stages = timed_stages(size, given.folder)
        client.cluster.close()
    found = {one.stage: one.seconds for one in predict(size, rates, center, 1)}
    measured = {name: seconds for name, seconds in stages.items() if name in found}
    rows = {name: (found[name], seconds) for name, seconds in measured.items()}
    rows["in all"] = (sum(found[name] for name in measured), sum(measured.values()))
    lines = [f"{human(size.nbytes)} raw: {size.words}"]
    lines += ["| stage | predicted | measured | ratio |", "| --- | --- | --- | --- |"]
    lines += [f"| {n} | {p:.1f} s | {m:.1f} s | {p / m:.2f} |" for n, (p, m) in rows.items()]
    return "\n".join(lines)


def draw(path: Path, center: Center, rates: Rates) -> None:
    """Draw the time of each amount of data over the number of nodes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    nodes = [round(10 ** (n / 4)) for n in range(13)]
    for name, size, scans in AMOUNTS:
        times = [best(size, scans, rates, center, n)[0] / 3600 for n in nodes]
        (line,) = axes.loglog(nodes, times, "o-", ms=3, label=name)
        axes.loglog(nodes, [times[0] / n for n in nodes], "--", lw=0.8, color=line.get_color())
    axes.set(xlabel="nodes", ylabel="hours", title="Predicted; dashed: ideal")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _parse(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling_model", description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes of this machine (2)")
    parser.add_argument("--cores", type=int, default=32, help="workers of a node (32)")
    parser.add_argument("--node-io", default="1GB", help="a node's file bandwidth per s (1GB)")
    parser.add_argument("--shared-io", default="50GB", help="of all nodes together per s (50GB)")
    parser.add_argument("--task", type=float, default=1.0, help="ms of the scheduler's (1.0)")
    parser.add_argument("--round-trip", type=float, default=20.0, help="ms of the client's (20)")
    parser.add_argument("--sampled", type=int, default=64, help="slices for components (64)")
    parser.add_argument("--check", help="run a scan of this size here instead, such as 1GB")
    parser.add_argument("--plot", type=Path, help="draw the times over the nodes")
    parser.add_argument("--folder", help="where stores go (a temporary folder)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parse(arguments)
    folder = None if given.folder is None else Path(given.folder)
    rates = measure_rates(CALIBRATION, given.workers, folder)
    print(f"rates measured on {CALIBRATION.words}: {rates}")
    node, shared = (parse_bytes(each) for each in (given.node_io, given.shared_io))
    task, round_trip = given.task / 1e3, given.round_trip / 1e3
    if given.check:
        here = Center(given.workers, math.inf, math.inf, task, round_trip, GB)
        print(check(given, rates, here))
        return 0
    center = Center(given.cores, node, shared, task, round_trip, sampled=given.sampled)
    print(f"assumed: {center}")
    for sampled in (0, given.sampled):
        print(f"components found in {sampled or 'all'} slices")
        print(overview(replace(center, sampled=sampled), rates))
    held = slices_for(1e12).slices * TERABYTE.size**2 * RANK * ITEM
    print(f"for NMF of all slices of 1 TB the workers hold {human(held)}")
    print(f"1 TB, stage by stage, components found in {given.sampled} slices")
    print(stages(slices_for(1e12), center, rates))
    if given.plot:
        draw(given.plot, center, rates)
    return 0


if __name__ == "__main__":
    sys.exit(main())
