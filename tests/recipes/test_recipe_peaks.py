"""Tables of peaks in recipes: found on the way, or read from a file; and models of the fits."""

import numpy as np
import pytest
import xarray as xr
import yaml

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, PlanError, SchemaError, StoreError
from ndtomo_dask.io.peak_tables import read_peak_table
from ndtomo_dask.io.store import FOUND_GROUP
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import write_scan

FIT = {"shape": "gaussian", "ties": {"fwhm": "equal"}}
SAVED = ["peak_area", "peak_status", "fitted_model", "fitted_residual", "fitted_component"]
PARTS = ["model", "residual", "components"]
ROWS = """peak,position,window_low,window_high,note
Cu 200,3.478,3.3,3.65,strong
Al 220,4.39,4.2,4.55,
"""


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nxs")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "peaks.csv"
    path.write_text(ROWS)
    return path


def recipe_of(scan, output, *steps, saved=("peak_area",)):
    steps = ["reconstruct", *steps]
    content = {"input": str(scan), "output": str(output), "steps": steps, "save": [*saved]}
    return make_recipe(content)


def fit_of(table):
    return {"fit_peaks": {"axis": "q", "peaks": str(table), **FIT | {"ties": {}}}}


def test_peaks_that_a_recipe_finds_are_fitted_and_evaluated_as_by_hand(scan, tmp_path):
    found = {"find_peaks": {"axis": "q", "peaks": 3}}
    recipe = recipe_of(scan, tmp_path / "result.zarr", found, {"fit_peaks": FIT},
                       {"evaluate_peaks": {"parts": PARTS}}, saved=SAVED)  # fmt: skip
    made = run_recipe(recipe)
    ds = nd.reconstruct(nd.open_scan(scan).load())
    peaks = nd.find_peaks(ds, axis="q", peaks=3)
    typed = nd.evaluate_peaks(nd.fit_peaks(ds, peaks, **FIT), PARTS)
    for name in SAVED:
        np.testing.assert_array_equal(made[name], typed[name], name)
    assert made.sizes["peak"] == 3
    assert np.isfinite(made.fitted_residual).any()
    kept = nd.open_scan(recipe.output / FOUND_GROUP / "01_find_peaks")
    assert kept.peak.values.tolist() == made.peak.values.tolist()
    stored = fit_of(recipe.output / FOUND_GROUP / "01_find_peaks")
    again = run_recipe(recipe_of(scan, tmp_path / "again.zarr", stored))
    assert again.peak.values.tolist() == made.peak.values.tolist()


def test_windows_stand_in_place_of_peaks_that_were_found(scan, tmp_path):
    fit = {"fit_peaks": {"axis": "q", "windows": {"Cu 200": [3.3, 3.65]}}}
    recipe = recipe_of(scan, tmp_path / "result.zarr", {"find_peaks": {"axis": "q"}}, fit)
    assert run_recipe(recipe).peak.values.tolist() == ["Cu 200"]


def test_a_table_in_a_file_is_fitted_as_by_hand(scan, tmp_path, table):
    made = run_recipe(recipe_of(scan, tmp_path / "result.zarr", fit_of(table)))
    columns, _ = read_peak_table(table)
    ds = nd.reconstruct(nd.open_scan(scan).load())
    rows = {name: ("peak", values) for name, values in columns.items() if name != "peak"}
    of_xarray = xr.Dataset(rows, {"peak": columns["peak"]})
    for peaks in (columns, of_xarray):
        typed = nd.fit_peaks(ds, peaks, axis="q", shape="gaussian")
        np.testing.assert_array_equal(made.peak_area, typed.peak_area)
    assert made.peak.values.tolist() == ["Cu 200", "Al 220"]


def test_an_edited_table_is_another_recipe(scan, tmp_path, table):
    first = recipe_of(scan, tmp_path / "result.zarr", fit_of(table))
    run_recipe(first)
    table.write_text(ROWS.replace("strong", "weak"))  # a column that no fit knows
    same = recipe_of(scan, tmp_path / "result.zarr", fit_of(table))
    assert same.digest == first.digest
    run_recipe(same, resume=True)
    table.write_text(ROWS.replace("4.55", "4.5"))
    other = recipe_of(scan, tmp_path / "result.zarr", fit_of(table))
    with pytest.raises(StoreError, match=r"was made by another recipe, so it cannot be resumed"):
        run_recipe(other, resume=True)


def test_what_a_result_says_of_its_recipe_needs_no_file(scan, tmp_path, table):
    recipe = recipe_of(scan, tmp_path / "result.zarr", fit_of(table))
    table.unlink()
    again = make_recipe(yaml.safe_load(recipe.text) | {"output": "other.zarr"})
    assert again.digest == recipe.digest


def test_a_spreadsheets_file_is_read(tmp_path):
    path = tmp_path / "peaks.csv"
    text = "peak, position, window_low, window_high, shape\r\n0.10, 3.1,3,3.2,lorentzian\r\n"
    path.write_bytes(("\ufeff" + text).encode())
    assert read_peak_table(path) == (
        {"peak": ["0.10"], "position": [3.1], "window_low": [3.0], "window_high": [3.2],
         "shape": ["lorentzian"]}, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"the table of peaks .*peaks\.csv does not exist"),
        ("peak,position\na,3\n", r"has no column 'window_low'; it needs peak, position, window_l"),
        (ROWS.replace("4.39", "4,39"), r"has 6 values in row 2, but 5 columns"),
        (ROWS.replace("4.39", "four"), r"has position='four' in row 2, which is no number"),
        ("", r"has no column 'peak'"),
    ],
)
def test_a_wrong_table_is_refused_in_words(scan, tmp_path, text, words):
    path = tmp_path / "peaks.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreError, match=words):
        recipe_of(scan, tmp_path / "x.zarr", fit_of(path))


def test_lists_of_unequal_length_are_refused_in_words(scan):
    ds = nd.reconstruct(nd.open_scan(scan))
    wrong = {"peak": ["a", "b"], "position": [3.478]}
    with pytest.raises(OptionError, match=r"peaks has 2 names, but column 'position' is \[3.478\]"):
        nd.fit_peaks(ds, wrong, axis="q")


@pytest.mark.usefixtures("no_compute")
def test_evaluation_is_planned_within_the_memory(scan, tmp_path, table):
    last = {"evaluate_peaks": {"parts": PARTS}}
    recipe = recipe_of(scan, tmp_path / "x.zarr", fit_of(table), last, saved=SAVED)
    plans = {plan.step: plan for plan in plan_recipe(recipe)}
    parts = [plans[f"evaluate_peaks ({part})"] for part in PARTS]
    assert all(plan.projected_mem <= plan.allowed_mem for plan in parts)
    pixels, channels = 32 * 32, 96
    assert [plan.written_bytes for plan in parts] == [
        4 * pixels * channels * count for count in (1, 1, 2)
    ]
    assert parts[1].read_bytes > parts[0].read_bytes
    with pytest.raises(PlanError, match=r"would hold .* in one task, but allowed_mem is 1 MB"):
        plan_recipe(recipe, allowed_mem="1MB")


def test_wrong_options_of_peaks_are_refused_before_anything_runs(scan, tmp_path, table):
    output, found = tmp_path / "x.zarr", {"find_peaks": {"axis": "energy"}}
    with pytest.raises(SchemaError, match=r"axis 'energy', but the data have"):
        plan_recipe(recipe_of(scan, output, found, "fit_peaks"))
    with pytest.raises(OptionError, match=r"needs a window per peak"):
        plan_recipe(recipe_of(scan, output, "fit_peaks"))
    with pytest.raises(OptionError, match=r"parts='residuals' is not known. Did you mean 'resid"):
        plan_recipe(
            recipe_of(scan, output, fit_of(table), {"evaluate_peaks": {"parts": "residuals"}})
        )
    with pytest.raises(SchemaError, match=r"evaluate_peaks needs 'peak_background'"):
        plan_recipe(recipe_of(scan, output, "evaluate_peaks"))
