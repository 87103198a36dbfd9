import csv

import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import cli, derive_axes, export, export_patterns, open_scan, reconstruct, save
from ndtomo_dask.errors import OptionError, SchemaError, StoreError
from tests.tolerances import STATISTICAL

CHANNELS = 40
TTH = np.linspace(2.0, 6.0, CHANNELS)
DIGITS = 1e-8
"""Relative: nine digits are written."""


@pytest.fixture
def volume(rng):
    """Counts on a smooth pattern, with their variance."""
    mean = 50 + 200 * np.exp(-(((TTH - 4) / 0.5) ** 2))
    counts = rng.poisson(mean, (5, 12, CHANNELS)).astype(np.float32)
    about = {"units": "count/mm"}
    ds = xr.Dataset({"volume": (("y", "x", "channel"), counts, about),
                     "volume_variance": (("y", "x", "channel"), counts + 1, about)})  # fmt: skip
    ds = ds.assign_coords(tth=("channel", TTH), y=np.arange(5) * 0.1, wavelength=0.2)
    return derive_axes(ds.chunk(y=2, x=5))


def read(path):
    return np.loadtxt(path).T


def index_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_pixel_has_a_pattern_and_a_line_of_the_index(volume, tmp_path):
    rows = index_of(export_patterns(volume, tmp_path / "patterns"))
    assert len(rows) == 60
    assert len(list((tmp_path / "patterns").iterdir())) == 61
    row = next(row for row in rows if row["file"] == "y3_x07.xye")
    assert (row["y"], row["x"], row["y_position"], row["pixels"]) == (
        "3",
        "7",
        "0.30000000000000004",
        "1",
    )
    x, y, error = read(tmp_path / "patterns" / row["file"])
    expected = volume.volume[3, 7].values
    np.testing.assert_allclose(x, TTH, rtol=DIGITS)
    np.testing.assert_allclose(y, expected, rtol=DIGITS)
    np.testing.assert_allclose(error, np.sqrt(volume.volume_variance[3, 7]), rtol=1e-6)
    assert float(row["intensity"]) == pytest.approx(float(expected.sum()), rel=1e-6)


def test_blocks_do_not_matter(volume, tmp_path):
    for number, chunks in enumerate([{"y": 1}, {"y": 5, "x": 12}]):
        export_patterns(volume.chunk(chunks), tmp_path / str(number))
    export_patterns(volume.load(), tmp_path / "2")
    for file in sorted(path.name for path in (tmp_path / "0").iterdir()):
        texts = {(tmp_path / str(number) / file).read_text() for number in range(3)}
        assert len(texts) == 1


def test_regions_are_means_with_the_errors_of_means(volume, tmp_path):
    left = xr.DataArray(np.arange(12) < 5, dims="x")
    regions = {"left": left, "right": ~left}
    rows = index_of(export_patterns(volume.chunk(channel=7), tmp_path / "r", regions=regions))
    assert [row["file"] for row in rows] == ["left.xye", "right.xye"]
    assert [row["pixels"] for row in rows] == ["25", "35"]
    _, y, error = read(tmp_path / "r" / "left.xye")
    chosen = volume.isel(x=slice(0, 5))
    np.testing.assert_allclose(y, chosen.volume.mean(("y", "x"), dtype=float), rtol=DIGITS)
    expected = np.sqrt(chosen.volume_variance.sum(("y", "x"), dtype=float)) / 25
    np.testing.assert_allclose(error, expected, rtol=DIGITS)
    numbers = xr.where(left, 3, 0)
    again = export_patterns(volume, tmp_path / "n", regions=numbers)
    assert [row["file"] for row in index_of(again)] == ["region_3.xye"]
    assert (tmp_path / "n/region_3.xye").read_text() == (tmp_path / "r/left.xye").read_text()


@pytest.mark.parametrize("errors", ["variance", "counts", "noise"])
def test_errors_are_as_large_as_the_scatter(errors, volume, tmp_path):
    export_patterns(volume, tmp_path / "p", errors=errors)
    mean = 50 + 200 * np.exp(-(((TTH - 4) / 0.5) ** 2))
    _, y, error = np.stack([read(path) for path in (tmp_path / "p").glob("*.xye")], axis=1)
    pulls = (y - mean) / error
    assert 0.8 < pulls.std() < 1.3
    if errors != "noise":
        assert abs(pulls.std() - 1) < STATISTICAL / np.sqrt(2 * pulls.size) + 0.03


def test_counts_of_a_sinogram_need_no_variance(scan, tmp_path):
    export_patterns(scan.isel(angle=[0]), tmp_path / "s", variable="sinogram")
    _, y, error = read(tmp_path / "s" / "angle0_translation16.xye")
    np.testing.assert_allclose(error, np.sqrt(np.maximum(y, 1)), rtol=1e-6)


def test_bad_samples_and_empty_pixels_are_left_out(volume, tmp_path):
    volume = volume.load()
    volume.volume[1, 2, 5], volume.volume[0, 0] = np.nan, np.nan
    rows = index_of(export_patterns(volume, tmp_path / "p"))
    assert len(rows) == 59
    x, _, _ = read(tmp_path / "p" / "y1_x02.xye")
    np.testing.assert_allclose(x, np.delete(TTH, 5), rtol=DIGITS)


def test_one_file_is_the_mean_of_everything(volume, tmp_path):
    export(volume, tmp_path / "mean.xye")
    x, y, error = read(tmp_path / "mean.xye")
    np.testing.assert_allclose(y, volume.volume.mean(("y", "x"), dtype=float), rtol=DIGITS)
    np.testing.assert_allclose(error, np.sqrt(y / 60), rtol=0.05)
    assert (np.diff(x) > 0).all()
    export(volume.volume[0, 0].to_dataset(name="spectrum"), tmp_path / "one.xye")
    assert read(tmp_path / "one.xye").shape == (3, CHANNELS)


def test_the_text_is_what_rietveld_programs_read(volume, tmp_path):
    """GSAS-II: three numbers a line; a comment with the letter q would be a wavelength."""
    export(volume, tmp_path / "mean.xye")
    lines = (tmp_path / "mean.xye").read_text().splitlines()
    assert len(lines) == CHANNELS
    assert all(len([float(word) for word in line.split()]) == 3 for line in lines)


def test_the_command_line_writes_a_folder(clean_scan, tmp_path):
    save(reconstruct(clean_scan)[["volume"]], tmp_path / "result.zarr")
    words = ["export", str(tmp_path / "result.zarr"), str(tmp_path / "p"), "--each-pixel"]
    assert cli.main(words) == 0
    assert len(index_of(tmp_path / "p" / "index.csv")) == 32 * 32
    assert cli.main(words) == 2
    assert cli.main([*words, "--overwrite"]) == 0
    volume = open_scan(tmp_path / "result.zarr").volume[16, 16].values
    np.testing.assert_allclose(read(tmp_path / "p" / "y16_x16.xye")[1], volume, rtol=1e-7)


def test_a_folder_is_replaced_only_if_asked_and_only_if_ours(volume, tmp_path):
    small = volume.isel(y=slice(0, 1), x=slice(0, 2))
    export_patterns(small, tmp_path / "p")
    with pytest.raises(StoreError, match=r"p exists. Pass overwrite=True"):
        export_patterns(small, tmp_path / "p")
    export_patterns(small.isel(x=[0]), tmp_path / "p", overwrite=True)
    assert len(list((tmp_path / "p").iterdir())) == 2
    (tmp_path / "mine").mkdir()
    with pytest.raises(StoreError, match=r"no folder of patterns, because it has no index.csv"):
        export_patterns(small, tmp_path / "mine", overwrite=True)
    with pytest.raises(StoreError, match=r"nowhere does not exist. Create it first"):
        export_patterns(small, tmp_path / "nowhere" / "p")
    assert {path.name for path in tmp_path.iterdir()} == {"p", "mine"}


def test_a_failed_export_leaves_the_old_folder_and_nothing_else(volume, tmp_path):
    small = volume.isel(y=slice(0, 1), x=slice(0, 2)).load()
    export_patterns(small, tmp_path / "p")
    small["volume"] = small.volume * np.nan
    with pytest.raises(SchemaError, match=r"found no pixel, or region, with a finite value"):
        export_patterns(small, tmp_path / "p", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"p"}
    assert len(list((tmp_path / "p").iterdir())) == 3


def test_bad_input_is_refused_in_words(volume, tmp_path):
    nowhere = xr.DataArray(np.zeros(12, bool), dims="x", name="hole")
    by_q = volume.drop_vars(["tth", "wavelength", "d"])
    cases = [
        ({"ds": volume.chunk(channel=5)}, r"whole spectra.*layout='spectra'"),
        ({"ds": by_q}, r"read by 2θ, but the data have no 'tth'"),
        ({"ds": volume.drop_vars("volume_variance"), "errors": "variance"}, "variance=True"),
        ({"errors": "poisson"}, r"errors='poisson' is not known"),
        ({"regions": nowhere}, r"region 'hole' has no pixel with a finite value"),
        ({"regions": {"a/b": ~nowhere}}, r"the region 'a/b' cannot name a file"),
        ({"regions": xr.zeros_like(nowhere, dtype=int)}, r"regions without a pixel"),
        ({"variable": "volum"}, r"Did you mean 'volume'"),
    ]
    for options, message in cases:
        with pytest.raises((SchemaError, OptionError), match=message):
            export_patterns(**({"ds": volume, "folder": tmp_path / "p"} | options))
    with pytest.raises(SchemaError, match=r"an .xye file holds a pattern, but 'image' has"):
        export(
            volume.volume.mean("channel").to_dataset(name="image"),
            tmp_path / "a.xye",
            variable="image",
        )
    export_patterns(by_q, tmp_path / "q", axis="q")
    assert list(tmp_path.iterdir()) == [tmp_path / "q"]
