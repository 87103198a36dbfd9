"""Every method against the truth, beside ASTRA and scikit-image on the same data.

    python -m benchmarks.accuracy [--write]

prints the tables; with ``--write`` it also writes ``docs/explanation/accuracy.md`` and its picture.
The sinogram of the head phantom is known by formula, so no program is tested with its own model of
a ray. The size is odd, because scikit-image takes the axis to be at the pixel ``size // 2`` and all
others in the middle: of an odd size they are one. What a method must be told is found by
projections held out, not by the truth but where a row says so, and peers take as many steps as we
do.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import ndtomo_dask as nd
from benchmarks import other_programs
from benchmarks.accuracy_models import compare_models, models_table
from benchmarks.accuracy_page import write_page
from benchmarks.accuracy_scans import ANGLES, Data, Row, judge, make_data, table

STEPS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 100)
MOST = {"os_sirt": 20, "sart": 5, "osem": 20}
"""Steps that are tried of methods that go through the projections in parts."""
PENALTIES = (0.01, 0.03, 0.1, 0.3)
"""Candidates of α, as shares of the largest sample."""
VARIATION_STEPS, TRIAL_STEPS = 150, 80


def ours(data: Data) -> Iterator[Row]:
    """Reconstruct by every method of the verb."""
    for window in ("ram-lak", "hann"):
        yield _made(data, "fbp", window, filter=window)
    bound: dict[str, Any] = {"nonnegative": True}
    for method, options in [
        ("sirt", {}), ("sirt", bound), ("os_sirt", bound), ("sart", bound), ("cgls", {}),
        ("mlem", {}), ("osem", {}),
    ]:  # fmt: skip
        count = find_steps(data, method, options)
        yield _made(data, method, f"{count} steps", iterations=count, **options)
    bound["iterations"] = TRIAL_STEPS
    weight = find_penalty(data, bound)
    best = min(_penalized(data, bound), key=lambda row: row.rmse)
    bound["iterations"] = VARIATION_STEPS
    yield _made(data, "tv", f"α = {weight:.2g}", regularization=weight, **bound)
    if data.noise:
        weight = data.noise * data.theta.size**0.5
        yield _made(data, "tv", f"α = σ √P = {weight:.2g}", regularization=weight, **bound)
    yield replace(best, name="`tv`, the best α tried")
    shared = weight * data.ds.sizes["channel"] ** 0.5
    for method in ("vectorial_tv", "nuclear"):
        yield _made(data, method, f"α = {shared:.2g}", regularization=shared, **bound)


def _penalized(data: Data, options: dict[str, Any]) -> Iterator[Row]:
    for share in PENALTIES:
        weight = share * float(data.sinogram.max())
        yield _made(data, "tv", f"α = {weight:.2g}", regularization=weight, **options)


def _made(data: Data, method: Any, told: str, **options: Any) -> Row:
    made = nd.reconstruct(data.ds, method=method, **options)
    bound = ", nonnegative" if "nonnegative" in options and method == "sirt" else ""
    return judge(data, f"`{method}`{bound}", told, made["volume"].values)


def find_steps(data: Data, method: Any, options: dict[str, Any]) -> int:
    """Number of steps that foresees projections held out best."""
    candidates = [count for count in STEPS if count <= MOST.get(method, STEPS[-1])]
    found = nd.find_iterations(
        data.ds, method=method, candidates=candidates, options=options, channels=2
    )
    return int(found["best_iterations"])


def find_penalty(data: Data, options: dict[str, Any]) -> float:
    """Weight of the total variation that foresees projections held out best."""
    candidates = [share * float(data.sinogram.max()) for share in PENALTIES]
    found = nd.find_regularization(
        data.ds, method="tv", candidates=candidates, options=options, channels=2
    )
    return float(found["best_regularization"])


def peers(data: Data, steps: dict[str, int]) -> Iterator[Row]:
    """Reconstruct by other programs, channel by channel, in as many steps as we took."""
    by_channel = np.ascontiguousarray(np.moveaxis(data.sinogram, -1, 0))
    angles, size = by_channel.shape[1:]
    volume = other_programs.iradon(data.theta, by_channel)()
    yield judge(data, "scikit-image iradon", "ramp", volume)
    counts = {"FBP": 1} | {name: steps[f"`{name.lower()}`"] for name in ("SIRT", "SART", "CGLS")}
    for name, count in counts.items():
        sweep = angles if name == "SART" else 1
        work = other_programs.astra_loop(name, data.theta, size, by_channel, 1, count * sweep)
        told = "ram-lak" if name == "FBP" else f"{count} steps"
        yield judge(data, f"ASTRA {name}", told, work())
    swept = _iradon_sart(data, steps["`sart`"])
    yield judge(data, "scikit-image iradon_sart", f"{steps['`sart`']} steps", swept)


def _iradon_sart(data: Data, sweeps: int) -> np.ndarray:
    """Sweep over the projections with the relaxation that scikit-image takes by itself."""
    from skimage import transform

    sweep: Any = transform.iradon_sart  # carries no types
    images = []
    for channel in np.moveaxis(data.sinogram.astype(float), -1, 0):
        image = None
        for _ in range(sweeps):
            image = sweep(channel.T, np.rad2deg(data.theta), image=image)
        images.append(image)
    return np.stack(images, axis=-1)


def compare(data: Data) -> list[Row]:
    """Rows of all methods, peers after ours."""
    rows = list(ours(data))
    steps = {row.name: int(row.told.split()[0]) for row in rows if row.told.endswith("steps")}
    return rows + list(peers(data, steps))


def models(data: Data) -> str:
    """Write the table of the models of a ray."""

    def judged(volume: np.ndarray) -> tuple[float, float]:
        row = judge(data, "", "", volume)
        return row.rmse, row.ssim

    return models_table(compare_models(data.theta, data.sinogram, judged))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables, and write the page if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page of the documentation")
    given = parser.parse_args(arguments)
    found: dict[str, dict[int, list[Row]]] = {}
    rays: dict[str, str] = {}
    for title, noisy in (("Without noise", False), ("With noise", True)):
        scans = {angles: make_data(angles, noisy) for angles in ANGLES}
        found[title] = {angles: compare(data) for angles, data in scans.items()}
        rays[title] = models(scans[ANGLES[0]])
        print(f"{title}\n\n{table(found[title])}\n\n{rays[title]}\n", flush=True)
    if given.write:
        write_page(found, rays, scans[ANGLES[0]].image)


if __name__ == "__main__":
    main()
