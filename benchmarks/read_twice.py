"""NMF of a stored volume larger than its workers, beside the time it takes to read it.

``python -m benchmarks.read_twice --size 20GB`` stores a volume of a few phases and noise by channel
slabs, as a reconstruction does, opens it by pixels on two workers of 1 GB, and takes turns: it sums
all values, which is a reading and little more, and it finds NMF components. It prints the time of
NMF over that of two readings, and the peaks of memory. What the page cache holds is the same for
both; a volume several times as large as the machine's memory leaves it out.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

import ndtomo_dask as nd
from benchmarks.out_of_core import HEADER, Report, _stage
from benchmarks.watch import WorkerWatch
from ndtomo_dask.byte_sizes import human, parse_bytes

PHASES, SIZE, CHANNELS, SLAB = 6, 256, 1024, 128


def volume(nbytes: int) -> xr.Dataset:
    """Lazy slices of some phases with noise, of at least ``nbytes`` together, cut in slabs."""
    slices = max(1, -(-nbytes // (SIZE * SIZE * CHANNELS * 4)))
    rng = np.random.default_rng(0)
    places, widths = rng.uniform(0, 1, (PHASES, 8, 1)), rng.uniform(0.003, 0.01, (8, 1))
    patterns = np.exp(-(((np.linspace(0, 1, CHANNELS) - places) / widths) ** 2)).sum(axis=1) + 0.05
    amounts = rng.gamma(0.5, 40.0, (SIZE, SIZE, PHASES))
    chunks = ((1,) * slices, (SIZE,), (SIZE,), (SLAB,) * (CHANNELS // SLAB))
    data = da.map_blocks(
        _block, chunks=chunks, dtype=np.float32, meta=np.empty((0,) * 4, dtype=np.float32),
        amounts=amounts.astype(np.float32), patterns=patterns.astype(np.float32),
    )  # fmt: skip
    about = {"units": "count/mm", "long_name": "reconstructed intensity"}
    return xr.Dataset({"volume": (("z", "y", "x", "channel"), data, about)})


def _block(amounts: np.ndarray, patterns: np.ndarray, block_info: Any = None) -> np.ndarray:
    z, _, _, slab = block_info[None]["chunk-location"]
    rng = np.random.default_rng([z, slab])
    clean = np.roll(amounts, 3 * z, axis=0) @ patterns[:, slab * SLAB : (slab + 1) * SLAB]
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    noise *= np.sqrt(clean + 1)
    return np.asarray((clean + noise)[None])


def contest(store: Path, client: Any, repeat: int, report: Report) -> float:
    """Take turns; return the time of NMF over that of two readings."""
    watch = WorkerWatch(client)
    ds = nd.open_scan(store, layout="spectra")
    works: dict[str, Callable[[], Any]] = {
        "read once": lambda: ds.volume.sum().compute(),
        "find PCA components, one reading": lambda: nd.find_components(
            ds, method="pca", components=PHASES
        ),
        "find NMF components": lambda: nd.find_components(ds, components=PHASES),
    }
    for _ in range(repeat):
        for name, work in works.items():
            with _stage(name, watch, report):
                work()
    report.spilled, report.paused, report.restarted = watch.incidents()
    once, nmf = (
        statistics.median(stage.seconds for stage in report.stages if stage.name == name)
        for name in ("read once", "find NMF components")
    )
    return nmf / (2 * once)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print what it found, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.read_twice", description=__doc__)
    parser.add_argument("--size", default="20GB", help="of the volume, at least (20GB)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--memory", default="1GB", help="limit of each worker (1GB)")
    parser.add_argument("--repeat", type=int, default=3, help="turns (3)")
    parser.add_argument("--folder", type=Path, help="where the store goes (a temporary folder)")
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="read_twice_", dir=given.folder))
    report = Report(parse_bytes(given.memory))
    try:
        options = {"workers": given.workers, "memory": given.memory, "scratch": str(folder)}
        with nd.connect("local", **options) as client:
            ds = volume(parse_bytes(given.size))
            print(f"{human(ds.volume.nbytes)} in memory, {given.workers} × {given.memory}")
            nd.save(ds, folder / "volume.zarr")
            print(HEADER, flush=True)
            ratio = contest(folder / "volume.zarr", client, given.repeat, report)
            client.cluster.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"NMF takes {ratio:.2f} times as long as two readings")
    print(
        "FAILED: " + "; ".join(report.failures) if report.failures else "no spill, pause, restart"
    )
    return int(bool(report.failures))


if __name__ == "__main__":
    raise SystemExit(main())
