"""Maps that follow from fitted peaks, in recipes."""

import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, RecipeError
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import write_scan

WINDOWS = {"Cu 200": [3.3, 3.65], "Al 220": [4.2, 4.55]}
MAPS = [
    {"lattice_parameter": {"hkl": {"Al 220": [2, 2, 0]}}},
    {"strain": {"reference": {"Cu 200": 3.478}}},
    {"crystallite_size": {"instrument_fwhm": 0.02}},
    {"williamson_hall": {"peaks": ["Cu 200", "Al 220"], "profile": "gaussian"}},
]
SAVED = ["moment_area", "lattice_parameter", "peak_strain", "peak_crystallite_size", "microstrain"]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nxs")


def recipe_of(scan, output, maps=MAPS, saved=SAVED):
    peaks = [{verb: {"windows": WINDOWS, "axis": "q"}} for verb in ("fit_peaks", "peak_moments")]
    steps = ["reconstruct", *peaks, *maps]
    return make_recipe({"input": str(scan), "output": str(output), "steps": steps, "save": saved})


def test_a_recipe_makes_the_same_maps_as_the_verbs(scan, tmp_path):
    recipe = recipe_of(scan, tmp_path / "result.zarr")
    assert [plan.step for plan in plan_recipe(recipe)][-2:] == ["fit_peaks", "peak_moments"]
    made = run_recipe(recipe)
    ds = nd.reconstruct(nd.open_scan(scan).load())
    ds = nd.fit_peaks(ds, windows=WINDOWS, axis="q")
    ds = nd.peak_moments(ds, windows=WINDOWS, axis="q")
    ds = nd.lattice_parameter(ds, {"Al 220": (2, 2, 0)})
    ds = nd.strain(ds, {"Cu 200": 3.478})
    ds = nd.crystallite_size(ds, 0.02)
    ds = nd.williamson_hall(ds, peaks=["Cu 200", "Al 220"], profile="gaussian")
    for name in SAVED:
        np.testing.assert_array_equal(made[name], ds[name])
    assert np.isfinite(made.lattice_parameter).any()


def test_a_recipe_fits_peaks_together_as_the_verb_does(scan, tmp_path):
    options = {"axis": "q", "windows": {"pair": [2.9, 3.3]}, "background": "none",
               "peaks": {"pair": {"Cu 111": 3.01, "Al 200": 3.1}}, "ties": {"fwhm": "equal"},
               "bounds": {"fwhm": [0.03, 0.12], "Cu 111": {"position": [2.95, 3.05]}}}  # fmt: skip
    content = {"input": str(scan), "output": str(tmp_path / "result.zarr"),
               "steps": ["reconstruct", {"fit_peaks": options}],
               "save": ["peak_area", "peak_fwhm", "peak_background"]}  # fmt: skip
    made = run_recipe(make_recipe(content))
    ds = nd.fit_peaks(nd.reconstruct(nd.open_scan(scan).load()), **options)
    for name in content["save"]:
        np.testing.assert_array_equal(made[name], ds[name])
    assert np.isfinite(made.peak_area).any()
    wrong = options | {"ties": {"fwhm": ["Cu 111", "Al 2000"]}}
    steps = ["reconstruct", {"fit_peaks": wrong}]
    with pytest.raises(OptionError, match=r"names peak 'Al 2000'. Did you mean 'Al 200'"):
        plan_recipe(make_recipe(content | {"steps": steps}))


def test_wrong_maps_are_refused_before_anything_runs(scan, tmp_path):
    with pytest.raises(RecipeError, match="lattice_parameter needs option 'hkl'"):
        recipe_of(scan, tmp_path / "x.zarr", ["lattice_parameter"])
    with pytest.raises(RecipeError, match=r"strain has no option 'refs'"):
        recipe_of(scan, tmp_path / "x.zarr", [{"strain": {"refs": 1}}])
    wrong = recipe_of(
        scan, tmp_path / "x.zarr", [{"lattice_parameter": {"hkl": {"Cu": [1, 1, 1]}}}], []
    )
    with pytest.raises(OptionError, match=r"hkl has peak 'Cu'. Known are: Al 220, Cu 200"):
        plan_recipe(wrong)
