"""Fits of one to five peaks by us and by other programs, from one start, per core.

``python -m benchmarks.fit_peers [--spectra N] [--subset N] [--repeat N]``, or
``python -m benchmarks.peers --fit``. Ratios are medians of processor time per fit over ours, in one
process, in turn; programs that are not installed are named. Then misses, agreement with SciPy,
scatter over standard errors, and what is left of the kernel's rate through Dask from a store.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import ndtomo_dask as nd
from benchmarks.contest import threads
from benchmarks.fit_cases import CHANNELS, Case, agreement, misses, pulls, squares
from benchmarks.fit_rivals import PACKAGED, RIVALS, curve_fit
from ndtomo_dask.kernels.fitting.least_squares import fit_peak

Work = tuple[Callable[[], Any], int]


def per_fit(works: Sequence[Work], repeat: int) -> list[float]:
    """Return the median processor time of each work per fit, all in turn after a first round."""
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(repeat + 1):
        for (work, count), times in zip(works, seconds, strict=True):
            begin = time.process_time()
            work()
            if turn:
                times.append((time.process_time() - begin) / count)
    return [statistics.median(times) for times in seconds]


def race(peaks: int, spectra: int, subset: int, repeat: int) -> list[str]:
    """Race us against SciPy, and on one peak against all others; return lines of a table."""
    case = Case(peaks, spectra)
    rivals: dict[str, Callable[[], Any]] = {
        "SciPy trf, compiled derivatives": lambda: case.scipy(subset),
        "SciPy curve_fit": lambda: curve_fit(case, subset),
    }
    lines = []
    for name, rival in RIVALS.items() if peaks == 1 else ():
        try:
            apart = np.median(np.abs(rival(case, 2) / squares(case, case.ours(case.start))[:2] - 1))
        except ImportError:
            lines.append(f"  {name}: not installed")
            continue
        rivals[name] = partial(rival, case, subset)
        lines.append(f"  {name}: sums of squares {apart:.1e} from ours")
    for name, rival in PACKAGED.items() if peaks == 1 else ():
        try:
            apart = np.median(np.abs(rival(case, subset) - case.truth[:subset, 0, 1]))
        except ImportError:
            lines.append(f"  {name}: not installed")
            continue
        rivals[name] = partial(rival, case, subset)
        mine = np.median(np.abs(case.ours()["p0.position"][:subset] - case.truth[:subset, 0, 1]))
        lines.append(f"  {name}: positions off by {apart:.3f} channels (median), ours {mine:.3f}")
    works: list[Work] = [(lambda: case.ours(case.start), spectra), (case.ours, spectra)]
    ours, own, *theirs = per_fit([*works, *((work, subset) for work in rivals.values())], repeat)
    told = [f"{peaks} peaks, {case.x.size} channels: {1e6 * ours:.1f} us a fit, "
            f"{1e6 * own:.1f} without a start"]  # fmt: skip
    told += [f"  {name} / ours: {t / ours:.0f}" for name, t in zip(rivals, theirs, strict=True)]
    return told + lines


def through_dask(side: int, repeat: int, folder: Path) -> float:
    """Rate of the verb on two workers from a stored volume, over the kernel's on two threads."""
    case = Case(1, side * side)
    data = case.data.reshape(side, side, -1).astype(np.float32)
    volume = (("y", "x", "channel"), data, {"units": "count"})
    axis = ("channel", case.x, {"units": "1/angstrom"})
    ds = xr.Dataset({"volume": volume}).assign_coords(q=axis).set_xindex("q")
    nd.save(ds, folder / "volume.zarr")
    bounds = {"fwhm": (1.0, 40.0)}
    whole: list[float] = []
    bare: list[float] = []
    with nd.connect("local", workers=2, threads=1):
        for _ in range(repeat + 1):
            begin = time.perf_counter()
            stored = nd.open_scan(folder / "volume.zarr", layout="spectra")
            fitted = nd.fit_peaks(
                stored, windows={"peak": (case.x[0], case.x[-1])}, axis="q", bounds=bounds
            )
            fitted[["peak_area", "peak_area_error", "peak_position", "peak_status"]].compute()
            whole.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            with threads(2):
                fit_peak(data.reshape(side * side, -1), case.x, bounds=bounds)
            bare.append(time.perf_counter() - begin)
    return statistics.median(b / w for b, w in zip(bare[1:], whole[1:], strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print ratios, misses, agreement, pulls, and the rate through Dask."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_peers", description=__doc__)
    parser.add_argument("--spectra", type=int, default=20_000)
    parser.add_argument("--subset", type=int, default=100, help="spectra that others fit")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--side", type=int, default=600, help="of the stored image, in pixels")
    given = parser.parse_args(arguments)
    print_all(given.repeat, given.spectra, given.subset, given.side)


def print_all(repeat: int, spectra: int = 20_000, subset: int = 100, side: int = 600) -> None:
    """Print the whole table."""
    with threads(1):
        for peaks in CHANNELS:
            count = spectra if peaks == 1 else spectra // 5
            print("\n".join(race(peaks, count, subset, repeat)), flush=True)
            case = Case(peaks, count)
            print(f"  misses {misses(case):.3%}; within 0.01 standard errors of SciPy "
                  f"{agreement(case, subset):.2%}", flush=True)  # fmt: skip
        print(f"narrow peaks anywhere: misses {misses(Case(1, spectra, narrow=True)):.3%}")
        for likelihood, variance in (("gaussian", "counts"), ("poisson", None)):
            for height in (200, 500, 2000):
                table = pulls(likelihood, variance, height, min(spectra, 10_000))
                shown = ", ".join(f"{sd:.3f} ({share:.1%})" for sd, share in table)
                print(f"pulls (within one), {likelihood}, {height} counts: {shown}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rate = through_dask(side, repeat, Path(folder))
    print(f"fit_peaks from a store on two workers, over the kernel on two threads: {rate:.0%}")


if __name__ == "__main__":
    main()
