"""How much of the error that a defect causes its correction takes back.

``python -m benchmarks.corrections`` simulates each defect by itself, corrects it with the public
verbs, reconstructs by FBP and prints a table; ``--write`` writes it, and its picture, to
``docs/explanation/corrections.md``.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import xarray as xr

import ndtomo_dask as nd

CLEAN = {"air": 0.0, "decay": 1.0, "center_offset": 0.0, "jitter": 0.0}
"""A scan without any defect."""
SIZES = {"size": 128, "angles": 192, "channels": 120, "grains": 60, "counts": 1e5}
BAR = 0.9
"""Share of the error that a correction must take back, or say why not."""

Correct = Callable[[xr.Dataset], xr.Dataset]


@dataclass(frozen=True)
class Case:
    """A defect, what mends it, and how well it must."""

    name: str
    defect: Mapping[str, float]
    told: str
    """The correction as the table tells it."""
    correct: Correct
    bar: float = BAR
    why: str = ""
    """Why it is not more, where it is less than `BAR`."""
    with_truth: Correct | None = None
    """The same correction, told the truth: what is lost beyond it is lost by the estimate."""
    also_clean: bool = False
    """Whether the clean scan is corrected too, because it has some of the same."""
    simulate: Callable[..., xr.Dataset] = nd.simulate_scan


@dataclass(frozen=True)
class Row:
    """What was found: errors of images, relative to the root mean square of the clean one."""

    case: Case
    floor: float
    """Of counting alone."""
    spoilt: float
    corrected: float
    known: float | None = None
    """Corrected with the truth."""
    images: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    """One channel: clean, with the defect, corrected."""

    @property
    def share(self) -> float:
        """Share of the error beyond counting noise that was taken back."""
        return self._taken(self.corrected)

    @property
    def best(self) -> float | None:
        """The same, if the truth were known."""
        return None if self.known is None else self._taken(self.known)

    def _taken(self, left: float) -> float:
        return (self.spoilt - left) / (self.spoilt - self.floor)


def remove_air(ds: xr.Dataset) -> xr.Dataset:
    """Subtract what is seen beside the sample."""
    return nd.remove_air(ds, width=4)


def divide_transmission(ds: xr.Dataset) -> xr.Dataset:
    """Divide by what a diode behind the sample saw."""
    return nd.absorption_correction(ds.assign(transmission=ds["true_transmission"]))


def center(ds: xr.Dataset) -> xr.Dataset:
    """Find the rotation center, and set it."""
    return nd.set_rotation_center(ds, nd.find_rotation_center(ds))


def align(ds: xr.Dataset) -> xr.Dataset:
    """Find the shift of each projection, and the center that is left."""
    shifts = nd.find_projection_shifts(ds)
    return nd.set_rotation_center(nd.align_projections(ds, shifts), shifts)


def fill_channels(ds: xr.Dataset) -> xr.Dataset:
    """Find hot and dead channels and fill them from their neighbors."""
    return nd.interpolate_masked(nd.mask_channels(ds, nd.find_bad_channels(ds)))


def fill_projections(ds: xr.Dataset) -> xr.Dataset:
    """Make projections without counts NaN, and fill them from those before and after."""
    return nd.interpolate_masked(nd.normalize_projections(ds), along="angle")


def divide_gains(ds: xr.Dataset) -> xr.Dataset:
    """Find the gains that all channels share, and divide them out."""
    return nd.normalize_translations(ds, nd.find_translation_scale(ds))


def remove_rings(ds: xr.Dataset) -> xr.Dataset:
    """Remove stripes channel by channel, by the filter that did best here."""
    return nd.remove_rings(ds, method="wavelet", level=2)


def fluorescence(
    *,
    size: int,
    angles: int,
    grains: int,
    counts: float,
    noise: str,
    ratio: float = 0.0,
    **_: float,
) -> xr.Dataset:
    """Three lines, absorbed ``ratio`` times as strongly as the beam, drawn on smaller pixels."""
    step = 0.02
    maps = nd.simulate_maps(size=2 * size, components=3, cells=grains, step=step / 2)
    maps = maps.assign(component_map=counts * maps.component_map)
    lines = xr.Dataset({"component_spectrum": (("component", "channel"), np.eye(3, dtype="f4"))})
    mu = (maps["component_map"].sum("component") > 0) * (0.8 / (size * step))
    sample = nd.simulate_volume(maps, lines).assign(attenuation=mu.assign_attrs(units="1/mm"))
    place = (np.arange(size) - (size - 1) / 2) * step
    rays = {"angle": np.arange(angles) * 180 / angles, "translation": place}
    scan = nd.simulate_fluorescence(sample.assign_coords(rays), ratio=ratio)
    if not ratio:
        scan = scan.assign(sinogram=scan["true_sinogram"])
    coarse = sample["attenuation"].coarsen(y=2, x=2).mean()
    return nd.simulate_defects(scan, noise=noise).assign(attenuation=coarse)


def remove_self_absorption(ds: xr.Dataset) -> xr.Dataset:
    """Divide by the share of the fluorescence that gets out."""
    return nd.self_absorption_correction(ds, ratio=3.0)


def remove_background(ds: xr.Dataset) -> xr.Dataset:
    """Subtract the diffuse scatter under the reflections."""
    return nd.subtract_background(ds, width=16)


def true_center(ds: xr.Dataset) -> xr.Dataset:
    """Set the true center."""
    return nd.set_rotation_center(ds, float(ds["true_rotation_center"]))


def true_shifts(ds: xr.Dataset) -> xr.Dataset:
    """Set the true center and shifts."""
    shifts = ds["true_projection_shift"].rename("projection_shift").to_dataset()
    return nd.align_projections(true_center(ds), shifts)


def true_gain(ds: xr.Dataset) -> xr.Dataset:
    """Divide by the true gain of each ray."""
    return ds.assign(sinogram=ds["sinogram"] / ds["true_stripe_gain"])


JITTER = """Even with the true shifts no more can be had than the table says: what is measured
between the steps is interpolated, and grains have sharp edges. The rest is the image as a whole,
displaced: a shift that follows a sine of the angle is that of a sample which was mounted elsewhere,
and no correction can tell the two apart."""
STRIPES = """The filters take one channel at a time, as they must where gains differ from channel to
channel. They know a stripe by being narrower than what the sample shows, and a packed powder of
grains a few steps wide shows nothing wider; a gain that drifts is no straight line either."""

CASES = (
    Case("air scatter", {"air": 1000.0}, "`remove_air`", remove_air),
    Case("beam decay, two top-ups", {"decay": 0.6}, "`normalize_projections`",
         nd.normalize_projections),
    Case("center 2.3 steps off", {"center_offset": 2.3}, "`find_rotation_center`", center,
         with_truth=true_center),
    Case("jitter of 0.5 steps", {"jitter": 0.5}, "`find_projection_shifts`", align,
         bar=0.65, why=JITTER, with_truth=true_shifts),
    Case("stripes of 5 %", {"stripes": 0.05}, "`normalize_translations`", divide_gains,
         with_truth=true_gain),
    Case("the same stripes", {"stripes": 0.05}, "`remove_rings`, wavelet", remove_rings,
         bar=0.35, why=STRIPES),
    Case("4 hot and 4 dead channels", {"hot_channels": 4, "dead_channels": 4},
         "`find_bad_channels`, `interpolate_masked`", fill_channels),
    Case("400 single-crystal spots", {"spots": 400}, "`remove_outliers`", nd.remove_outliers),
    Case("19 projections lost", {"missing": 19},
         "`normalize_projections`, `interpolate_masked`", fill_projections),
    Case("absorbance of 1.5", {"absorption": 1.5}, "`absorption_correction`, with a diode",
         divide_transmission),
    Case("fluorescence absorbed, 2.4 across", {"ratio": 3.0},
         "`self_absorption_correction`, with the map", remove_self_absorption,
         simulate=fluorescence),
    Case("amorphous matrix", {"amorphous": 0.3}, "`subtract_background`", remove_background,
         also_clean=True),
)  # fmt: skip


def image_of(ds: xr.Dataset) -> np.ndarray:
    """Reconstruct a scan."""
    return np.asarray(nd.reconstruct(ds, method="fbp")["volume"].compute())


@lru_cache(maxsize=2)
def reference_images(
    options: tuple[tuple[str, float], ...], simulate: Callable[..., xr.Dataset]
) -> tuple[np.ndarray, np.ndarray]:
    """Images without a defect: as they should be, and from counts."""
    scans = (simulate(**dict(options), noise=noise) for noise in ("none", "poisson"))
    clean, counted = (image_of(scan.load()) for scan in scans)
    return clean, counted


def measure(case: Case, **sizes: float) -> Row:
    """Simulate, spoil, correct and reconstruct one case."""
    options = SIZES | sizes | CLEAN
    clean, counted = reference_images(tuple(options.items()), case.simulate)
    scan = case.simulate(**options | dict(case.defect), noise="poisson").load()
    spoilt, corrected = image_of(scan), image_of(case.correct(scan))
    known = None if case.with_truth is None else image_of(case.with_truth(scan))
    target = clean
    if case.also_clean:
        target = image_of(case.correct(case.simulate(**options, noise="none").load()))
    seen = np.abs(spoilt - clean).sum(axis=(0, 1)) * np.abs(target).sum(axis=(0, 1))
    shown = int(seen.argmax())
    named = {"clean": target, "with the defect": spoilt, "corrected": corrected}
    return Row(
        case,
        error(counted, clean),
        error(spoilt, clean),
        error(corrected, target),
        None if known is None else error(known, clean),
        {name: image[..., shown] for name, image in named.items()},
    )


def error(image: np.ndarray, clean: np.ndarray) -> float:
    """Root mean square difference, over that of the clean image."""
    return float(np.sqrt(np.mean((image - clean) ** 2) / np.mean(clean**2)))


def table(rows: Sequence[Row]) -> str:
    """Write the rows in Markdown."""
    head = ("defect", "correction", "counting alone", "with the defect", "corrected",
            "taken back", "with the truth")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    errors = (f"{value:.3f}" for value in (row.floor, row.spoilt, row.corrected))
    best = "" if row.best is None else f"{row.best:.0%}"
    return [row.case.name, row.case.told, *errors, f"**{row.share:.0%}**", best]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corrections", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page and its picture")
    parser.add_argument("--only", default="", help="cases whose names begin so")
    given = parser.parse_args(arguments)
    rows = [measure(case) for case in CASES if case.name.startswith(given.only)]
    print(table(rows))
    if given.write:
        from benchmarks.corrections_page import write_page

        write_page(rows)


if __name__ == "__main__":
    main()
