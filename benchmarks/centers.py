"""How well the rotation center is found: 200 simulated scans whose axis is known by formula.

``python -m benchmarks.centers [--scans 200] [--method auto] [--markdown]``. Sizes are from 64 to
512 translations, odd and even, over 180° or 360°; the mean signal is 3 to 100 times the noise.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.center_scans import NOISE, Scan, scan_number
from ndtomo_dask.kernels.centering import METHODS, Method, find_center


@dataclass(frozen=True)
class Found:
    """One scan, and how far off its center was found."""

    scan: Scan
    miss: float
    error: float
    """What the method itself says about its error."""


def search(numbers: Iterable[int], method: Method = "auto") -> list[Found]:
    """Find the centers of some scans."""
    results = []
    for number in numbers:
        scan = scan_number(number)
        found = find_center(scan.image, scan.angles, method=method)
        results.append(Found(scan, found.center - scan.center, found.error))
    return results


HEAD = ("span", "signal to noise", "scans", "median error", "largest error", "error as told")


def rows(results: Sequence[Found]) -> list[tuple[str, ...]]:
    """Give the figures of each span and noise, and of all."""
    made = [
        _row(
            f"{span}°", f"{snr:g}", [r for r in results if (r.scan.span, r.scan.snr) == (span, snr)]
        )
        for span in (180, 360)
        for snr in NOISE
    ]
    return [*made, _row("all", "", results)]


def _row(span: str, snr: str, some: Sequence[Found]) -> tuple[str, ...]:
    if not some:
        return (span, snr, "0", "", "", "")
    misses = np.abs([found.miss for found in some])
    told = np.median([found.error for found in some])
    figures = (f"{np.median(misses):.3f}", f"{misses.max():.2f}", f"{told:.3f}")
    return (span, snr, str(len(some)), *figures)


def _print(table: Sequence[Sequence[str]], *, markdown: bool) -> None:
    if markdown:
        lines = [HEAD, ("---",) * len(HEAD), *table]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    for line in (HEAD, *table):
        print("  ".join(f"{word:>15}" for word in line))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the scans, and print the table of errors, in translation steps."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.centers", description=__doc__)
    parser.add_argument("--scans", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, help="number of the first scan (0)")
    parser.add_argument("--method", choices=METHODS, default="auto")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    given = parser.parse_args(arguments)
    begun = time.perf_counter()
    results = search(range(given.first, given.first + given.scans), given.method)
    seconds = time.perf_counter() - begun
    _print(rows(results), markdown=given.markdown)
    apart = [found.miss / found.error for found in results]
    print(
        f"\nroot mean square of error over error as told: {np.sqrt(np.mean(np.square(apart))):.2f}"
    )
    print(f"over 1 step: {sum(abs(found.miss) > 1 for found in results)} of {len(results)} scans")
    print(f"{seconds / max(1, len(results)):.2f} s a scan")


if __name__ == "__main__":
    main()
