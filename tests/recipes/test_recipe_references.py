"""Known spectra in recipes: drawn from lines, or read from a file; peaks of a part."""

import numpy as np
import pytest
import yaml

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, PlanError, RecipeError, SchemaError, StoreError
from ndtomo_dask.io.pattern_tables import read_patterns
from ndtomo_dask.io.store import FOUND_GROUP
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import write_scan

LINES = {"Cu": [[3.01, 100], [3.48, 46]], "Al/1": [[2.69, 100], [3.10, 47], [4.39, 22]]}
DRAWN = {"line_patterns": {"lines": LINES, "fwhm": 0.05, "axis": "q"}}
SAVED = ["reference_amount", "reference_status", "reference_fraction"]
ROUNDED = 1e-6
"""Relative: patterns that went through a file, and float32."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nxs", size=16, angles=20)


@pytest.fixture(scope="module")
def volume(scan):
    return nd.reconstruct(nd.open_scan(scan).load())


@pytest.fixture
def table(tmp_path, volume):
    path = tmp_path / "patterns.csv"
    drawn = nd.line_patterns(volume, LINES, fwhm=0.05, axis="q")
    columns = [volume.q.values, *(drawn[name].values for name in LINES)]
    rows = [",".join(f"{value:.12g}" for value in row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join(["q,Cu,Al/1", *rows]))
    return path


def recipe_of(scan, output, *steps, saved=SAVED):
    content = {"input": str(scan), "output": str(output), "steps": ["reconstruct", *steps]}
    return make_recipe(content | {"save": [*saved]})


def test_lines_of_a_recipe_are_mapped_as_by_hand(scan, volume, tmp_path):
    fit = {"fit_references": {"background": 0}}
    recipe = recipe_of(scan, tmp_path / "result.zarr", DRAWN, fit, "phase_fractions")
    made = run_recipe(recipe)
    drawn = nd.line_patterns(volume, LINES, fwhm=0.05, axis="q")
    typed = nd.phase_fractions(nd.fit_references(volume, drawn, background=0))
    for name in SAVED:
        np.testing.assert_array_equal(made[name], typed[name], name)
    assert made.reference.values.tolist() == [*LINES]
    stored = recipe.output / FOUND_GROUP / "01_line_patterns"
    assert [*read_patterns(stored)][-2:] == [*LINES]


def test_patterns_of_a_file_are_part_of_the_recipe(scan, volume, tmp_path, table):
    given = {"fit_references": {"patterns": str(table), "background": 0}}
    recipe = recipe_of(scan, tmp_path / "result.zarr", given, saved=SAVED[:2])
    text = table.read_text()
    table.unlink()
    assert make_recipe(yaml.safe_load(recipe.text) | {"output": "x"}).digest == recipe.digest
    made = run_recipe(recipe).reference_amount
    drawn = nd.line_patterns(volume, LINES, fwhm=0.05, axis="q")
    typed = nd.fit_references(volume, drawn, background=0).reference_amount
    np.testing.assert_allclose(made, typed, rtol=ROUNDED, atol=ROUNDED * float(typed.max()))
    table.write_text(text.replace("0,0", "0,1", 1))
    assert recipe_of(scan, tmp_path / "result.zarr", given).digest != recipe.digest


@pytest.mark.usefixtures("no_compute")
def test_the_fit_is_planned_within_the_memory(scan, tmp_path, table):
    for steps in ([DRAWN, "fit_references"], [{"fit_references": {"patterns": str(table)}}]):
        recipe = recipe_of(scan, tmp_path / "x.zarr", *steps, saved=SAVED[:2])
        (made,) = [plan for plan in plan_recipe(recipe) if plan.step == "fit_references"]
        assert made.projected_mem <= made.allowed_mem
        assert made.written_bytes == 16 * 16 * 4 * (2 * len(LINES) + 2)
        with pytest.raises(PlanError, match=r"would hold .* in one task, but allowed_mem is 1 MB"):
            plan_recipe(recipe, allowed_mem="1MB")


def test_what_is_wrong_is_refused_before_anything_runs(scan, tmp_path, table):
    output = tmp_path / "x.zarr"
    with pytest.raises(RecipeError, match=r"fit_references needs 'reference_pattern'"):
        recipe_of(scan, output, "fit_references")
    wrong = {"line_patterns": DRAWN["line_patterns"] | {"fwhm": 0}}
    with pytest.raises(OptionError, match=r"fwhm=0 makes no width above 0"):
        plan_recipe(recipe_of(scan, output, wrong, "fit_references"))
    with pytest.raises(SchemaError, match=r"phase_fractions needs 'reference_amount'"):
        plan_recipe(recipe_of(scan, output, "phase_fractions"))
    lists = {"fit_references": {"patterns": {"q": [1, 2], "Cu": [1]}}}
    with pytest.raises(SchemaError, match=r"lists of one length, but they have 'q' \(2,\)"):
        plan_recipe(recipe_of(scan, output, lists))
    for text, words in (
        ("Cu,Al\n1,2\n", r"needs a column with its axis, .*but has Cu, Al"),
        ("q,Cu\n1,two\n", r"the table of patterns .* has Cu='two' in row 1, which is no number"),
    ):
        table.write_text(text)
        with pytest.raises(StoreError, match=words):
            recipe_of(scan, output, {"fit_references": {"patterns": str(table)}})
    with pytest.raises(StoreError, match=r"table of patterns .*none.csv does not exist"):
        recipe_of(scan, output, {"fit_references": {"patterns": "none.csv"}})


def test_peaks_of_a_part_are_those_of_its_mean(scan, volume, tmp_path):
    region = {"y": [4, 9], "x": [2, 12]}
    found = {"find_peaks": {"axis": "q", "region": region, "peaks": 2}}
    recipe = recipe_of(scan, tmp_path / "x.zarr", found, saved=["volume"])
    part = nd.find_peaks(volume.isel(y=slice(4, 9), x=slice(2, 12)), axis="q", peaks=2)
    typed = nd.find_peaks(volume, axis="q", region=region, peaks=2)
    assert typed.peak.values.tolist() == part.peak.values.tolist()
    np.testing.assert_array_equal(typed.height, part.height)
    run_recipe(recipe)
    kept = nd.open_scan(recipe.output / FOUND_GROUP / "01_find_peaks")
    assert kept.peak.values.tolist() == part.peak.values.tolist()
    for wrong, words in (
        ({"z": [0, 1]}, r"region of find_peaks has 'z'"),
        ({"y": [4, 99]}, r"has y=\[4, 99\], but takes the first index and the one after the last"),
        (3, r"region=3 of find_peaks is neither a mask nor indices"),
    ):
        asked = {"find_peaks": {"axis": "q", "region": wrong}}
        with pytest.raises(OptionError, match=words):
            plan_recipe(recipe_of(scan, tmp_path / "y.zarr", asked, saved=["volume"]))
