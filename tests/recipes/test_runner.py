"""Runs of recipes: the same as the verbs by hand, whatever happens on the way."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.lock import locked
from ndtomo_dask.io.store import FOUND_GROUP
from ndtomo_dask.recipes.recipe import VERBS, make_recipe, read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import SAVED, hashes, write_recipe, write_scan

PATIENCE = 120
"""Seconds until a run that should have come to some point is given up."""


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nxs")


@pytest.fixture
def recipe(scan_file, tmp_path):
    return read_recipe(write_recipe(tmp_path / "recipe.yaml", scan_file, tmp_path / "out.zarr"))


def by_hand(path):
    """What ``tests.recipes.STEPS`` says, typed."""
    ds = nd.open_scan(path)
    ds = ds.pipe(nd.remove_air, width=2).pipe(nd.normalize_projections)
    ds = ds.pipe(nd.align_projections, nd.find_projection_shifts(ds))
    ds = ds.pipe(nd.set_rotation_center, nd.find_rotation_center(ds))
    ds = nd.reconstruct(ds, method="fbp", filter="hann")
    components = nd.find_components(ds, method="nmf", components=3, iterations=30)
    ds = ds.pipe(nd.map_components, components)
    windows = {"Cu 200": (3.3, 3.65)}
    return nd.fit_peaks(ds, windows=windows, axis="q", shape="gaussian")


def test_a_recipe_makes_the_same_bits_as_its_verbs_by_hand(recipe, scan_file):
    made, typed = run_recipe(recipe), by_hand(scan_file)
    assert set(SAVED) <= set(made.data_vars)
    for name in SAVED:
        assert made[name].dims == typed[name].dims
        assert made[name].attrs["units"] == typed[name].attrs["units"]
        np.testing.assert_array_equal(made[name], typed[name], name)
    for name in ("angle", "translation", "q", "tth", "y", "x", "rotation_center"):
        np.testing.assert_array_equal(made[name], typed[name], name)
    steps = [line.split(": ")[1].split("(")[0] for line in made.attrs["history"].splitlines()]
    assert steps == [line.split(": ")[1].split("(")[0] for line in typed.history.splitlines()]


def test_workers_make_the_same_bits_as_one_process(recipe, client):
    run_recipe(recipe)
    with dask.config.set(scheduler="threads"):
        other = replace(recipe, output=recipe.output.with_name("threads.zarr"))
        run_recipe(other)
    assert hashes(recipe.output) == hashes(other.output)


def test_a_recipe_mixes_channels_as_the_verb_does(scan_file, tmp_path):
    saved = ["volume", "spectral_map", "spectral_basis", "kept_channel"]
    for asked in ({"spectral_rank": 5}, {}):
        first = [] if asked else [{"find_spectral_basis": {"rank": 5}}]
        content = {
            "input": str(scan_file), "output": str(tmp_path / f"{len(first)}.zarr"), "save": saved,
            "steps": [*first, {"reconstruct": {"filter": "hann", **asked}}],
        }  # fmt: skip
        made = run_recipe(make_recipe(content))
        typed = nd.reconstruct(nd.open_scan(scan_file), spectral_rank=5, filter="hann")
        for name in saved:
            np.testing.assert_array_equal(made[name], typed[name], name)
    assert made.sizes["component"] == 5 + int(made.kept_channel.sum())


def test_a_run_says_what_it_did(recipe):
    run_recipe(recipe)
    record = json.loads(recipe.output.with_suffix(".run.json").read_text())
    assert record["recipe"] == recipe.text
    assert [stage["stage"] for stage in record["stages"]] == [
        *(step.verb for step in recipe.steps),
        "save",
    ]
    assert all(stage["seconds"] >= 0 for stage in record["stages"])
    assert [row[0] for row in record["plan"] if "volume" in row[0]] == ["save volume"]


def counted(monkeypatch):
    calls = {}

    def counting(name, function):
        @functools.wraps(function)
        def counts(*args, **options):
            calls[name] = calls.get(name, 0) + 1
            return function(*args, **options)

        return counts

    for name, verb in VERBS.items():
        if name.startswith("find_"):
            monkeypatch.setitem(VERBS, name, replace(verb, function=counting(name, verb.function)))
    return calls


def test_what_was_found_is_kept_and_not_found_again(recipe, monkeypatch):
    calls = counted(monkeypatch)
    run_recipe(recipe)
    assert calls == {"find_projection_shifts": 1, "find_rotation_center": 1, "find_components": 1}
    before = hashes(recipe.output)
    run_recipe(recipe, resume=True)
    assert sum(calls.values()) == 3
    assert hashes(recipe.output) == before
    kept = nd.open_scan(recipe.output / FOUND_GROUP / "04_find_rotation_center")
    assert "score" in kept
    run_recipe(recipe, overwrite=True)
    assert sum(calls.values()) == 6
    assert hashes(recipe.output) == before


@pytest.mark.parametrize(
    "lost", ["sinogram/c/3/0/0", "volume/c/0/0/0", "peak_area/c/0/0/0", "found/07_find_components"]
)
def test_what_is_missing_is_made_again(recipe, lost):
    run_recipe(recipe)
    before = hashes(recipe.output)
    path = recipe.output / lost
    if path.is_dir():
        path.rename(path.with_name("07_find_components.partial"))
    else:
        path.write_bytes(path.read_bytes()[:-7])
    run_recipe(recipe, resume=True)
    assert hashes(recipe.output) == before


def test_a_raw_sinogram_that_was_stored_by_half_is_finished(tmp_path):
    """Without a correction the scan itself is stored, to be read in another layout."""
    scan_file = write_scan(tmp_path / "scan.nxs", size=48, angles=64, channels=200)
    steps = [{"set_rotation_center": {"center": 15.5}}, "reconstruct"]
    path = tmp_path / "recipe.yaml"
    recipe = read_recipe(
        write_recipe(path, scan_file, tmp_path / "out.zarr", steps=steps, save=["volume"],
                     input={"path": str(scan_file), "allowed_mem": "4MB"})
    )  # fmt: skip
    run_recipe(recipe)
    before = hashes(recipe.output)
    (recipe.output / "sinogram/c/2/0/0").unlink()
    (recipe.output / "volume/c/0/0/0").unlink()
    run_recipe(recipe, resume=True)
    assert hashes(recipe.output) == before


def test_an_output_that_exists_is_left_alone(recipe):
    run_recipe(recipe)
    before = hashes(recipe.output)
    with pytest.raises(
        StoreError, match=r"out\.zarr exists\. Pass --resume to finish .*--overwrit"
    ):
        run_recipe(recipe)
    other = replace(recipe, steps=recipe.steps[:7], save=("volume",))
    with pytest.raises(StoreError, match=r"was made by another recipe, so it cannot be resumed"):
        run_recipe(other, resume=True)
    assert hashes(recipe.output) == before
    run_recipe(other, overwrite=True)
    assert not (recipe.output / "peak_area").exists()


def test_a_folder_that_is_no_store_is_neither_resumed_nor_replaced(recipe):
    recipe.output.mkdir()
    (recipe.output / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"is not a store, so it is not removed"):
        run_recipe(recipe, overwrite=True)
    with pytest.raises(StoreError, match=r"cannot be resumed"):
        run_recipe(recipe, resume=True)
    assert (recipe.output / "thesis.tex").read_text() == "years of work"


def test_a_changed_input_is_not_taken_for_the_old_one(recipe, scan_file, tmp_path):
    copy = tmp_path / "scan.nxs"
    copy.write_bytes(scan_file.read_bytes())
    recipe = recipe.with_paths(input=copy)
    run_recipe(recipe)
    os.utime(copy, ns=(1, 1))
    with pytest.raises(StoreError, match=r"was made from other input, so it cannot be resumed"):
        run_recipe(recipe, resume=True)


def test_a_run_killed_before_its_first_word_can_be_resumed(recipe):
    (recipe.output / FOUND_GROUP).mkdir(parents=True)
    assert "volume" in run_recipe(recipe, resume=True)


def has_shards(store, name, count):
    return lambda: sum(path.is_file() for path in (store / name / "c").rglob("*")) >= count


def start(recipe_file, *flags):
    command = [sys.executable, "-m", "ndtomo_dask.cli", "run", str(recipe_file), *flags]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def kill_when(process, reached):
    """Send SIGKILL to command, scheduler and workers at once, which must still be running."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    in_time = process.poll() is None
    if in_time:
        os.killpg(process.pid, signal.SIGKILL)
    output, _ = process.communicate()
    assert in_time, output


def assert_ends_well(process):
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output


@pytest.mark.slow
def test_a_run_killed_at_any_stage_ends_with_the_same_bits(tmp_path):
    """The whole process tree is killed three times; the store ends as if nothing had been."""
    scan = write_scan(tmp_path / "scan.nxs", size=48, angles=64, channels=1200)
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("{kind: local, workers: 2, threads: 1, memory: 2GB}")
    whole, broken = tmp_path / "whole.zarr", tmp_path / "broken.zarr"
    assert_ends_well(start(write_recipe(tmp_path / "r.yaml", scan, whole, cluster=str(cluster))))
    recipe = write_recipe(tmp_path / "broken.yaml", scan, broken, cluster=str(cluster))

    moments = [
        has_shards(broken, "sinogram", 2),
        has_shards(broken, "volume", 1),
        (broken / FOUND_GROUP / "07_find_components" / "zarr.json").is_file,
    ]
    for moment in moments:
        kill_when(start(recipe, "--resume"), moment)
        assert hashes(broken) != hashes(whole)
    assert_ends_well(start(recipe, "--resume"))
    assert hashes(broken) == hashes(whole)


def test_a_second_run_on_one_store_is_refused(recipe):
    with locked(recipe.output), pytest.raises(StoreError, match="is being written by process"):
        run_recipe(recipe, resume=True)
    assert not recipe.output.exists()
