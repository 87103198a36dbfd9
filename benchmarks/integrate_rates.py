"""Frames per second: pyFAI on frames in memory, our kernel, a whole scan on workers; in turn."""

import shutil
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import ndtomo_dask as nd
from ndtomo_dask.frames.block import integrate_block
from ndtomo_dask.frames.integrate import READER
from ndtomo_dask.kernels.instrument import Instrument
from ndtomo_dask.kernels.integration import Average, table_of

POINTS = 1000
FRAMES = 40
"""Frames that pyFAI integrates in a round."""


def throughput(master: Path, poni: Path, rounds: int = 5, frames: int = FRAMES) -> dict[str, float]:
    """Frames per second of pyFAI on frames in memory, and of our kernel from the disk, in turn."""
    scan = nd.open_frames(master)
    reader = scan["frames"].encoding[READER]
    about = (line.split(":", 1) for line in poni.read_text().splitlines())
    calibration = tuple((key.strip().lower(), value.strip()) for key, value in about)
    instrument = Instrument(calibration, reader.shape, POINTS, "q", polarization=0.95)
    numbers = np.arange(frames).reshape(1, frames, 1)
    options: dict[str, Any] = {"reader": reader, "instrument": instrument, "average": Average()}

    def ours() -> None:
        integrate_block(numbers, np.ones(numbers.shape), **options)

    def read() -> None:
        for _ in reader.read(range(frames)):
            pass

    work = {"pyFAI": bare(master, poni, frames), "ours": ours, "reading alone": read}
    taken: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, function in work.items():
            seconds = seconds_of(function)
            if round_:  # the first builds tables
                taken[name].append(seconds)
    rates = {name: frames / median(seconds) for name, seconds in taken.items()}
    pairs = zip(taken["pyFAI"], taken["ours"], strict=True)
    share = median(alone / mine for alone, mine in pairs)
    return rates | {"share of pyFAI": share, "table MB": table_of(instrument).lut.nbytes / 1e6}


def on_workers(
    master: Path, poni: Path, folder: Path, workers: int, rounds: int = 5, frames: int = FRAMES
) -> dict[str, float]:
    """Frames per second of a whole scan, integrated and stored on workers.

    Beside it pyFAI on one core, and pyFAI in all workers at once, which share the machine's memory;
    in turn, in the same run.
    """
    count = nd.open_frames(master).sizes["frame"]
    alone = bare(master, poni, frames)
    taken: dict[str, list[float]] = {"alone": [], "at once": [], "ours": []}
    with nd.connect("local", workers=workers, threads=1, memory="2GB") as client:
        client.wait_for_workers(workers)
        for round_ in range(rounds + 1):
            target = folder / f"round{round_}.zarr"
            measured = {
                "alone": seconds_of(alone),
                "at once": max(_in_all(client, master, poni, frames)),
                "ours": seconds_of(partial(_stored, master, poni, target)),
            }
            shutil.rmtree(target)
            for name, seconds in measured.items() if round_ else ():  # the first builds tables
                taken[name].append(seconds)
    ours = [count / seconds for seconds in taken["ours"]]
    pairs = zip(ours, taken["alone"], strict=True)
    shares = [mine * seconds / (frames * workers) for mine, seconds in pairs]
    return {
        "pyFAI on one core": frames / median(taken["alone"]),
        "pyFAI in all workers": workers * frames / median(taken["at once"]),
        "ours": median(ours),
        "share of pyFAI times workers": median(shares),
    }


def _stored(master: Path, poni: Path, target: Path) -> None:
    ds = nd.integrate(nd.open_frames(master), poni, points=POINTS, polarization=0.95)
    nd.save(ds, target)


def _in_all(client: Any, master: Path, poni: Path, frames: int) -> list[float]:
    """Seconds that pyFAI takes for as many frames in each worker, all at once."""
    addresses = list(client.scheduler_info(n_workers=-1)["workers"])
    futures = [client.submit(_bare_seconds, str(master), str(poni), frames, workers=[address],
                             pure=False) for address in addresses]  # fmt: skip
    return list(client.gather(futures))


def _bare_seconds(master: str, poni: str, frames: int) -> float:
    return seconds_of(bare(Path(master), Path(poni), frames))


@lru_cache(maxsize=1)
def bare(master: Path, poni: Path, frames: int) -> Callable[[], None]:
    """Return what integrates frames in memory by pyFAI alone, whose table is built."""
    import pyFAI

    reader = nd.open_frames(master)["frames"].encoding[READER]
    stack = [frame for _, frame in reader.read(range(frames))]
    integrator = pyFAI.load(str(poni))

    def work() -> None:
        for frame in stack:
            integrator.integrate1d_ng(
                frame, POINTS, unit="q_A^-1", error_model="poisson", polarization_factor=0.95,
                method=("bbox", "csr", "cython"),
            )  # fmt: skip

    work()
    return work


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that something takes, on one thread of its libraries."""
    with threadpool_limits(1):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
