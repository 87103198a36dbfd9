"""nDTomo's experiment of one peak per pixel: a phantom without noise, through ``fit_peaks``.

``python -m benchmarks.map_one_peak [--size N] [--subset N] [--repeat N]``. Five patterns of 250
channels on maps of 200² pixels, of which the Zn peak at q = 2.5409/Å is fitted in 22 channels from
2.70° to 2.95°. Beside it, the way of nDTomo's tutorial on the same data: a line through the end
channels is taken away, then SciPy's ``curve_fit`` finds a Gaussian. The maps are our own drawings
of those of the tutorial, whose circles are drawn at random.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import dask
import numpy as np
import xarray as xr

import ndtomo_dask as nd
from benchmarks.contest import threads
from ndtomo_dask.axes import tth_from_q
from ndtomo_dask.kernels.simulation.phantoms import FWHM, REFLECTIONS, disc

WAVELENGTH = 0.12398
Q = 2.10 + 0.01 * np.arange(250)
BASELINE = 0.01
WINDOW = (2.70, 2.95)
LINE = 2.5409
"""Position of the Zn reflection that is fitted, 1/Å."""
LEAST = 1e-3
"""Intensity above its own line below which nDTomo skips a pixel."""


def maps(size: int) -> dict[str, np.ndarray]:
    """Amounts of five materials: a star, circles, squares, a triangle, a face."""
    half, around = (size - 1) / 2, np.mgrid[:size, :size]
    y, x = (around - half) / size
    sample = disc((size, size), size / 2)
    triangle = (abs(x) < 0.25 * (y + 0.3)) & (y < 0.3)
    face = np.where(sample & ~triangle, 1.0, 0.0)
    for side in (-0.22, 0.22):
        face[np.hypot(y + 0.15, x - side) < 0.1] = 2
    return {
        "Al": np.where(sample & (np.floor(np.arctan2(y, x) * 32 / np.pi) % 2 == 0), 1.0, 0.0),
        "Cu": ((np.hypot(y % 0.2 - 0.1, x % 0.2 - 0.1) < 0.06) & sample).astype(float),
        "Fe": (((x + 0.27 * y) % 0.15 < 0.1) & ((y - 0.27 * x) % 0.15 < 0.1) & sample).astype(
            float
        ),
        "Pt": triangle.astype(float),
        "Zn": face / face.max(),
    }


def phantom(size: int) -> tuple[xr.Dataset, np.ndarray]:
    """The volume over 2θ, and the amount of the fitted line in every pixel."""
    volume, amounts = np.zeros((size, size, Q.size)), maps(size)
    sigma = FWHM / np.sqrt(8 * np.log(2))
    for name, amount in amounts.items():
        pattern = np.full(Q.size, BASELINE)
        for place, height in REFLECTIONS[name]:
            pattern += height * np.exp(-((Q - place) ** 2) / (2 * sigma**2))
        volume += amount[..., None] * pattern
    tth = tth_from_q(Q, wavelength=WAVELENGTH)
    ds = xr.Dataset(
        {"volume": (("y", "x", "channel"), volume)},
        coords={"tth": ("channel", tth, {"units": "degree"})},
    )
    return ds, amounts["Zn"]


def truth(amount: np.ndarray) -> dict[str, np.ndarray | float]:
    """Area, position and fwhm of the line over 2θ, which is stretched evenly over its width."""
    edges = tth_from_q(LINE + 1e-4 * np.array([-1, 0, 1]), wavelength=WAVELENGTH)
    stretch = float(edges[2] - edges[0]) / 2e-4
    height = dict(REFLECTIONS["Zn"])[LINE]
    gaussian = np.sqrt(np.pi / (4 * np.log(2)))
    return {
        "area": amount * height * FWHM * gaussian * stretch,
        "position": float(edges[1]), "fwhm": FWHM * stretch,
    }  # fmt: skip


def ours(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Fit every pixel by the verb."""
    fitted = nd.fit_peaks(ds, windows={"Zn": WINDOW}, axis="tth", shape="gaussian")
    names = [f"peak_{name}" for name in ("area", "position", "fwhm")]
    with dask.config.set(scheduler="synchronous"):
        found = fitted[names].isel(peak=0).compute()
    return {name.removeprefix("peak_"): found[name].values for name in names}


def nested_loop(spectra: np.ndarray, tth: np.ndarray) -> dict[str, np.ndarray]:
    """Fit as nDTomo's tutorial does: a line through the ends, SciPy's curve_fit, pixel by pixel."""
    from scipy.optimize import curve_fit

    def gaussian(x: np.ndarray, area: float, position: float, fwhm: float) -> np.ndarray:
        scale = np.sqrt(4 * np.log(2) / np.pi) / fwhm
        return area * scale * np.exp(-4 * np.log(2) * ((x - position) / fwhm) ** 2)

    bounds = ([0, tth[0], 0.01], [np.inf, tth[-1], 1])
    share = (tth - tth[0]) / (tth[-1] - tth[0])
    found = np.full((len(spectra), 3), np.nan)
    for row, spectrum in zip(found, spectra, strict=True):
        above = spectrum - spectrum[0] - (spectrum[-1] - spectrum[0]) * share
        if above.max() >= LEAST:
            start = [above.max(), tth[above.argmax()], 0.02]
            row[:] = curve_fit(gaussian, tth, above, start, bounds=bounds)[0]
    return dict(zip(("area", "position", "fwhm"), found.T, strict=True))


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def errors(found: dict[str, np.ndarray], amount: np.ndarray) -> dict[str, float]:
    """Median relative errors of area and fwhm, and median error of the position in degrees."""
    known, real = truth(amount), np.isfinite(found["area"]) & (amount > 0)

    def off(name: str) -> np.ndarray:
        return np.abs(found[name] - known[name])[real]

    area = np.asarray(known["area"])[real]
    return {
        "area": float(np.median(off("area") / area)),
        "position": float(np.median(off("position"))),
        "fwhm": float(np.median(off("fwhm") / known["fwhm"])),
    }


def compare(size: int = 200, subset: int = 200, repeat: int = 3) -> dict[str, dict[str, float]]:
    """Time both in turn on one core; the loop on a part of the pixels. What each is off by."""
    ds, amount = phantom(size)
    inside = (ds.tth.values >= WINDOW[0]) & (ds.tth.values <= WINDOW[1])
    window, tth = ds.volume.values[..., inside], ds.tth.values[inside]
    share = (tth - tth[0]) / (tth[-1] - tth[0])
    above = window - window[..., :1] - (window[..., -1:] - window[..., :1]) * share
    fitted = above.max(axis=-1) >= LEAST
    chosen = np.flatnonzero((fitted & (amount > 0)).ravel())
    chosen = chosen[:: max(1, chosen.size // subset)][:subset]
    spectra = window.reshape(-1, tth.size)[chosen]
    with threads(1):
        maps_found, loop_found = ours(ds), nested_loop(spectra, tth)
        times = [(seconds(lambda: ours(ds)), seconds(lambda: nested_loop(spectra, tth)))
                 for _ in range(repeat)]  # fmt: skip
    count = int(np.isfinite(maps_found["area"]).sum())
    mine = statistics.median(one for one, _ in times)
    ratio = statistics.median((two / chosen.size) / (one / count) for one, two in times)
    told = errors(maps_found, amount), errors(loop_found, amount.ravel()[chosen])
    return {
        "ours": {"fits": count, "seconds": mine, "ratio": 1.0, **told[0]},
        "loop": {"fits": int(fitted.sum()), "seconds": ratio * mine * fitted.sum() / count,
                 "ratio": ratio, **told[1]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("size", 200), ("subset", 200), ("repeat", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, row in compare(**vars(parser.parse_args())).items():
        print(name, {key: float(f"{value:.3g}") for key, value in row.items()})


if __name__ == "__main__":
    main()
