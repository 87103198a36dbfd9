"""The main job on a simulated scan: from a beamline's file to a report with errors in numbers."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
import yaml
from scipy.optimize import linear_sum_assignment

from ndtomo_dask import plan
from ndtomo_dask.errors import StoreError
from ndtomo_dask.io import export
from ndtomo_dask.io.scan import open_scan
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from ndtomo_dask.report import write_report
from ndtomo_dask.runtime import connect
from ndtomo_dask.synthetic import simulate_scan, true_peaks

COUNTS = 40000.0
GRAINS = 50
PEAKS = {"Cu 200": ("Cu", 1), "Zn 102": ("Zn", 3)}
"""Peaks that are fitted: the phase each belongs to, and the number of its reflection."""
STEPS = [
    {"find_air": {"width": 4}},
    "remove_air",
    "find_projection_scale",
    "normalize_projections",
    "find_projection_shifts",
    "align_projections",
    "find_rotation_center",
    "set_rotation_center",
    {"reconstruct": {"method": "fbp", "filter": "shepp-logan"}},
    {"find_components": {"method": "pca", "components": 8}},
    {"find_components": {"method": "nmf", "components": 6}},
    "map_components",
    {
        "fit_peaks": {
            "windows": {"Cu 200": [3.33, 3.62], "Zn 102": [3.58, 3.87]},
            "axis": "q",
            "shape": "pseudo_voigt",
        }
    },
]
LEAST_CORRELATION = 0.95
LARGEST_AREA_ERROR = 0.05
LARGEST_POSITION_ERROR = 0.2
SIGNAL = 0.2
"""A pixel has signal where the true area is this share of the largest."""


@dataclass(frozen=True)
class DemoResult:
    """How close the demo came to the truth."""

    component_correlation: dict[str, float]
    """Of each phase's true map with the component matched to it."""
    area_error: dict[str, float]
    """Median relative error of each peak's area, over pixels with signal."""
    position_error: dict[str, float]
    """Median error of each peak's position, in channels."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether it is as accurate as it should be."""
        return (
            min(self.component_correlation.values()) >= LEAST_CORRELATION
            and max(self.area_error.values()) <= LARGEST_AREA_ERROR
            and max(self.position_error.values()) <= LARGEST_POSITION_ERROR
        )

    def numbers(self) -> dict[str, object]:
        """Give the figures as the report shows them."""
        rows: dict[str, object] = {
            f"correlation of a component with {name}": f"{value:.3f}"
            for name, value in self.component_correlation.items()
        }
        rows |= {f"{name}: area error (median)": f"{v:.1%}" for name, v in self.area_error.items()}
        rows |= {
            f"{name}: position error (median)": f"{value:.3f} channels"
            for name, value in self.position_error.items()
        }
        return rows | {"time": f"{self.seconds:.0f} s"}


def run_demo(folder: Path, *, size: int = 128, say: Callable[[str], None]) -> DemoResult:
    """Simulate a scan, write it as a beamline would, run the main job on it, and report.

    Leaves ``scan.nxs``, ``recipe.yaml``, ``result.zarr`` and ``report.html`` in ``folder``; what
    an earlier demo left there is replaced.
    """
    start = time.monotonic()
    if folder.exists() and any(folder.iterdir()) and not (folder / "recipe.yaml").exists():
        raise StoreError(f"{folder} is not empty and holds no demo. Name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    scan, recipe_file = folder / "scan.nxs", folder / "recipe.yaml"
    output = folder / "result.zarr"

    with connect("local"):
        say(f"Simulating an XRD-CT scan of {size} translations into {scan}")
        truth = simulate_scan(size=size, angles=size * 3 // 2, counts=COUNTS, grains=GRAINS)
        export(truth, scan, variable="sinogram", overwrite=True)
        content = {"input": str(scan), "output": str(output), "steps": STEPS, "save": SAVED}
        recipe_file.write_text(yaml.safe_dump(content, sort_keys=False))

        recipe = read_recipe(recipe_file)
        say(f"Running {recipe_file}")
        say(plan.table(plan_recipe(recipe)))
        run_recipe(recipe, overwrite=True)

    maps = true_peaks(truth, PEAKS, counts=COUNTS).merge(truth[["true_phase_map"]])
    result = score(open_scan(output), maps, seconds=time.monotonic() - start)
    title = "XRD-CT demo: five phases in a capillary"
    write_report(output, folder / "report.html", truth=maps, numbers=result.numbers(), title=title)
    for name, value in result.numbers().items():
        say(f"  {name}: {value}")
    say(_closing_words(folder, output))
    return result


SAVED = ["sinogram", "volume", "missing_samples", "component_spectrum", "component_map",
         "peak_area", "peak_area_error", "peak_position", "peak_position_error", "peak_fwhm",
         "peak_status"]  # fmt: skip


def score(result: xr.Dataset, truth: xr.Dataset, *, seconds: float) -> DemoResult:
    """Compare a result with the truth: phases matched to components, peaks pixel by pixel."""
    channel = float(result["q"].diff("channel").mean())
    areas, positions = {}, {}
    for peak in PEAKS:
        true = truth.sel(peak=peak)
        fitted = result[["peak_area", "peak_position"]].sel(peak=peak)
        area = true["true_peak_area"].values
        signal = area > SIGNAL * area.max()
        # A pixel with signal that was not fitted counts as wholly wrong.
        errors = np.abs(fitted["peak_area"].values[signal] / area[signal] - 1)
        areas[peak] = float(np.median(np.nan_to_num(errors, nan=np.inf)))
        off = np.abs((fitted["peak_position"] - true["true_peak_position"]).values[signal])
        positions[peak] = float(np.median(np.nan_to_num(off, nan=np.inf)) / channel)
    return DemoResult(_match(result, truth), areas, positions, seconds)


def _match(result: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    phases = truth["true_phase_map"].values.reshape(-1, truth.sizes["phase"])
    components = result["component_map"].values.reshape(-1, result.sizes["component"])
    correlation = np.corrcoef(phases.T, components.T)[: phases.shape[1], phases.shape[1] :]
    rows, columns = linear_sum_assignment(-correlation)
    names = truth["phase"].values[rows]
    return {
        str(name): float(correlation[i, j]) for name, i, j in zip(names, rows, columns, strict=True)
    }


def _closing_words(folder: Path, output: Path) -> str:
    return (
        f"\nLook at {folder / 'report.html'}. Query the result with xarray:\n\n"
        f"    import ndtomo_dask as nd\n"
        f'    ds = nd.open_scan("{output}", layout="spectra")\n'
        f'    ds.volume.sel(q=slice(3.4, 3.55)).mean("channel").plot()\n'
    )
