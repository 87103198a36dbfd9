"""From raw frames to a volume: throughput beside bare pyFAI, and a run that is killed and resumed.

``python -m benchmarks.integrate`` prints frames per second of the block kernel (reading,
decompressing and integrating compressed frames) beside those of pyFAI on frames in memory, in turn,
on one core. With ``--workers 1,2`` it integrates the whole scan on so many workers and stores it,
beside pyFAI on one core, in turn. With ``--road`` it runs a recipe from 2,000 frames to a volume
on two workers of 1 GB, kills it in the middle, resumes it, and compares every shard with those of a
run left alone.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import ndtomo_dask as nd
from benchmarks.integrate_rates import on_workers, throughput

PONI = """poni_version: 2
Detector: Detector
Detector_config: {{"pixel1": {pixel}, "pixel2": {pixel}, "max_shape": [{size}, {size}]}}
Distance: 0.5
Poni1: 0.1
Poni2: 0.1
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 1.2398e-11
"""
PATIENCE = 900
"""Seconds until a run is given up."""


def write_frames(folder: Path, *, angles: int, translations: int, size: int) -> tuple[Path, Path]:
    """Write a simulated scan in the ESRF style; return its master and its calibration."""
    poni = folder / "detector.poni"
    poni.write_text(PONI.format(pixel=0.2 / size, size=size))
    scan = nd.simulate_scan(size=translations, angles=angles, channels=250, counts=500.0).load()
    ds = nd.simulate_frames(scan, poni, scale=0.1, polarization=0.95)
    return nd.export_frames(ds, folder / "frames"), poni


def road(master: Path, poni: Path, folder: Path) -> dict[str, float]:
    """Run a recipe from frames to a volume twice: once left alone, once killed and resumed."""
    cluster = folder / "cluster.yaml"
    cluster.write_text(yaml.safe_dump({"kind": "local", "workers": 2, "memory": "1GB"}))
    recipes = {}
    for name in ("alone", "killed"):
        recipes[name] = folder / f"{name}.yaml"
        recipes[name].write_text(yaml.safe_dump(_recipe(master, poni, folder / f"{name}.zarr")
                                                | {"cluster": str(cluster)}))  # fmt: skip
    start = time.perf_counter()
    _finish(_start(recipes["alone"]))
    seconds = time.perf_counter() - start
    process, half = _start(recipes["killed"]), _blocks(folder / "alone.zarr") // 2
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and _blocks(folder / "killed.zarr") < half:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    at_kill = _blocks(folder / "killed.zarr")
    _finish(_start(recipes["killed"], "--resume"))
    shards = [_shards(folder / f"{name}.zarr") for name in recipes]
    return {"seconds alone": seconds, "blocks": _blocks(folder / "alone.zarr"),
            "blocks when killed": at_kill, "shards": len(shards[0]),
            "the same bits": float(shards[0] == shards[1])}  # fmt: skip


def _recipe(master: Path, poni: Path, output: Path) -> dict[str, Any]:
    integrate = {"calibration": str(poni), "points": 400, "limits": [2.1, 4.6],
                 "polarization": 0.95, "method": "mean"}  # fmt: skip
    steps = [{"integrate": integrate}, {"remove_air": {"width": 2}}, "normalize_projections",
             "find_rotation_center", "set_rotation_center", "reconstruct"]  # fmt: skip
    return {"input": str(master), "output": str(output), "steps": steps,
            "save": ["sinogram", "volume"]}  # fmt: skip


def _start(recipe: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ndtomo_dask.cli", "run", str(recipe), *options]
    return subprocess.Popen(command, start_new_session=True)


def _finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait(timeout=PATIENCE):
        raise RuntimeError("the run failed; its message stands above.")


def _blocks(store: Path) -> int:
    return sum(path.is_file() for path in (store / "integrated/sinogram/c").rglob("0"))


def _shards(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("c/**/*"))
        if path.is_file()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrate", description=__doc__)
    parser.add_argument("--angles", type=int, default=50)
    parser.add_argument("--translations", type=int, default=40)
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the detector")
    parser.add_argument("--workers", help="numbers of workers, such as 1,2")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--road", action="store_true", help="run the whole recipe, killed once")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="integrate-") as name:
        folder = Path(name)
        sizes = {"angles": given.angles, "translations": given.translations, "size": given.size}
        master, poni = write_frames(folder, **sizes)
        stored = sum(path.stat().st_size for path in master.parent.rglob("*.h5"))
        count = given.angles * given.translations
        print(f"{count} frames of {given.size} × {given.size}, {stored / 1e6:.0f} MB compressed")
        if given.workers:
            for workers in map(int, given.workers.split(",")):
                _print(
                    f"{workers} workers", on_workers(master, poni, folder, workers, given.rounds)
                )
        elif given.road:
            _print("the road", road(master, poni, folder))
        else:
            _print("one core", throughput(master, poni, given.rounds))


def _print(title: str, figures: dict[str, float]) -> None:
    print(title)
    for name, value in figures.items():
        print(f"{name:>28}  {value:.3g}", flush=True)


if __name__ == "__main__":
    main()
