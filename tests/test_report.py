"""Reports: one file, with what was found, made, missing and spent."""

import base64
import re

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.demo import COUNTS, PEAKS
from ndtomo_dask.errors import BackendError, StoreError
from ndtomo_dask.recipes.recipe import read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from ndtomo_dask.report import write_report
from ndtomo_dask.synthetic import simulate_scan, true_peaks
from tests.recipe_cases import SIZES, write_recipe, write_scan

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    scan = write_scan(folder / "scan.nxs")
    run_recipe(read_recipe(write_recipe(folder / "recipe.yaml", scan, folder / "out.zarr")))
    return folder / "out.zarr"


def written(store, path, **options):
    write_report(store, path, **options)
    return path.read_text(encoding="utf-8")


def pictures(page):
    found = [base64.b64decode(data) for data in re.findall(r"base64,([^']+)'", page)]
    assert all(data.startswith(PNG) for data in found)
    return found


def test_a_report_shows_every_part_of_a_run(result, tmp_path):
    page = written(result, tmp_path / "report.html", numbers={"area <error>": "2 %"}, title="A & B")
    sections = re.findall(r"<h2>([^<]*)</h2>", page)
    assert sections == [
        "In numbers", "Sinogram", "Rotation center", "Slices", "Components", "Peaks", "Faults",
        "Plan and timings", "History",
    ]  # fmt: skip
    assert len(pictures(page)) == 6
    assert "area &lt;error&gt;" in page
    assert "<h1>A &amp; B</h1>" in page
    assert "Assumed: no self-absorption" in page
    center = float(nd.open_scan(result / "found" / "04_find_rotation_center").rotation_center)
    assert f"translation index {center:.2f}" in page
    assert "<td>save volume</td>" in page
    assert "fit_peaks(" in page


def test_a_report_stands_alone(result, tmp_path):
    page = written(result, tmp_path / "report.html")
    assert not re.findall(r"(?:src|href)=['\"](?!data:)", page)


def test_fits_are_counted_by_how_they_ended(result, tmp_path):
    page = written(result, tmp_path / "report.html")
    status = nd.open_scan(result).peak_status.values
    row = re.search(r"<tr><td>Cu 200</td>(.*?)</tr>", page).group(1)
    numbers = [int(number) for number in re.findall(r"<td>(\d+)</td>", row)]
    assert sum(numbers) == status.size
    assert numbers[0] == (status == 0).sum()


def test_the_truth_of_a_simulation_is_shown_beside(result, tmp_path):
    simulated = simulate_scan(**SIZES)
    peak = {"Cu 200": PEAKS["Cu 200"]}
    truth = true_peaks(simulated, peak, counts=COUNTS).merge(simulated[["true_phase_map"]])
    with_truth = pictures(written(result, tmp_path / "truth.html", truth=truth))
    assert len(with_truth) == 1 + len(pictures(written(result, tmp_path / "report.html")))


@pytest.mark.parametrize("lead", [{}, {"z": 3}, {"time": 2, "z": 2}])
def test_any_store_has_a_report(lead, tmp_path, rng):
    shape = (*lead.values(), 8, 8, 5)
    volume = xr.DataArray(rng.random(shape, dtype=np.float32), dims=(*lead, "y", "x", "channel"))
    volume[..., 0, 0, :] = np.nan
    nd.save(volume.to_dataset(name="volume"), tmp_path / "volume.zarr")
    page = written(tmp_path / "volume.zarr", tmp_path / "report.html")
    assert re.findall(r"<h2>([^<]*)</h2>", page) == ["Slices", "History"]
    assert len(pictures(page)) == 1


def test_what_cannot_be_reported_is_refused_in_words(result, tmp_path, monkeypatch):
    with pytest.raises(StoreError, match=r"none\.zarr does not exist"):
        write_report(tmp_path / "none.zarr", tmp_path / "report.html")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(
        BackendError, match=r"needs 'matplotlib'.*pip install 'ndtomo-dask\[plot\]'"
    ):
        write_report(result, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
