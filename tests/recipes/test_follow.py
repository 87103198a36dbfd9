"""Following a scan: each slice is done while later ones are measured, in the same bits.

A writer process holds its last piece back until the test has seen what was made of the others.
"""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import RecipeError, Stopped, StoreError
from ndtomo_dask.recipes.follow import Following
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from ndtomo_dask.runtime import EXIT_STOPPED
from tests.recipe_cases import write_recipe

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds until what should have come is given up."""
FOLLOWING = Following(settle=1.5, patience=PATIENCE)
SLICES, LAST = 3, 2
STEPS = [
    "remove_air",
    "normalize_projections",
    {"set_rotation_center": {"center": 22.5}},
    "reconstruct",
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A scan of which a slice is read in several blocks where 4 MB are allowed."""
    ds = nd.simulate_scan(size=48, angles=40, channels=160, slices=SLICES, seed=7).load()
    path = tmp_path_factory.mktemp("measured") / "scan.npz"
    np.savez(
        path, **{name: ds[name].values for name in ("sinogram", "z", "angle", "translation", "tth")}
    )
    return path


@contextmanager
def writer(kind, measured, target):
    """Start writing a scan; at the end the writer is gone, however the test ends."""
    script = [sys.executable, str(ROOT / "tests/scan_writer.py"), kind, str(measured), str(target)]
    process = subprocess.Popen([*script, str(target.parent)])
    try:
        wait_for((target.parent / "begun").exists)
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(reached, running=None):
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        assert running is None or running.poll() is None, running.communicate()
        time.sleep(0.05)


def let_it_end(process, folder):
    (folder / "go").touch()
    assert process.wait(PATIENCE) == 0


def recipe_for(target, tmp_path, **changes):
    source = {"path": str(target), "allowed_mem": "4MB"}
    content = {"input": source, "output": str(tmp_path / "out.zarr"), "steps": STEPS}
    return make_recipe(content | {"save": ["volume"]} | changes)


def has_volume(store, number):
    return lambda: any((store / "volume/c" / str(number)).rglob("[0-9]*"))


class Background(threading.Thread):
    """A run in a thread, whose exception is raised when it is waited for."""

    def __init__(self, recipe, **options):
        super().__init__()
        self.error = None
        self.call = lambda: run_recipe(recipe, following=FOLLOWING, **options)
        self.start()

    def run(self):
        try:
            self.call()
        except BaseException as error:
            self.error = error

    def poll(self):
        return None if self.is_alive() else self.error

    def communicate(self):
        return self.error

    def end(self):
        self.join(PATIENCE)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


def assert_same(store, recipe, *names):
    """Compare with what an ordinary run makes of the finished scan."""
    plain = replace(recipe, output=store.with_name("plain.zarr"))
    expected, made = run_recipe(plain), nd.open_scan(store, layout="spectra")
    for name in names or ("volume",):
        np.testing.assert_array_equal(made[name], expected[name], name)
        assert made[name].attrs["units"] == expected[name].attrs["units"]


@pytest.mark.parametrize(
    ("kind", "name"), [("swmr", "s.nxs"), ("closing", "c.nxs"), ("store", "s.zarr")]
)
def test_a_slice_is_reconstructed_while_the_next_are_measured(kind, name, measured, tmp_path):
    target = tmp_path / name
    recipe = recipe_for(target, tmp_path)
    with writer(kind, measured, target) as process:
        run = Background(recipe)
        wait_for(has_volume(recipe.output, 0), run)
        assert process.poll() is None
        assert not (tmp_path / "done").exists()
        assert not has_volume(recipe.output, LAST)()
        let_it_end(process, tmp_path)
        run.end()
    assert_same(recipe.output, recipe)


def test_a_single_slice_is_reconstructed_when_all_its_angles_are_there(measured, tmp_path):
    target = tmp_path / "angles.nxs"
    recipe = recipe_for(target, tmp_path)
    with writer("angles", measured, target) as process:
        run = Background(recipe)
        wait_for((recipe.output / "zarr.json").exists, run)
        assert not (recipe.output / "volume").exists()
        let_it_end(process, tmp_path)
        run.end()
    assert_same(recipe.output, recipe)


def test_estimates_are_found_once_and_components_when_all_is_there(measured, tmp_path):
    target = tmp_path / "scan.nxs"
    steps = [*STEPS[:2], "find_rotation_center", "set_rotation_center", "reconstruct",
             {"find_components": {"method": "pca", "components": 2}}, "map_components"]  # fmt: skip
    recipe = recipe_for(target, tmp_path, steps=steps, save=["volume", "component_map"])
    found = recipe.output / "found"
    with writer("swmr", measured, target) as process:
        run = Background(recipe)
        wait_for(has_volume(recipe.output, 0), run)
        assert not (found / "05_find_components").exists()
        let_it_end(process, tmp_path)
        run.end()
    center = nd.open_scan(found / "02_find_rotation_center")
    assert center.attrs["found_in"] == "the first slice that was complete, z index 0"
    first = nd.open_scan(target).isel(z=[0])
    first = first.pipe(nd.remove_air).pipe(nd.normalize_projections)
    assert float(center.rotation_center) == float(nd.find_rotation_center(first).rotation_center)
    fixed = [*steps[:2], {"set_rotation_center": {"center": float(center.rotation_center)}}]
    plain = recipe_for(target, tmp_path, steps=[*fixed, *steps[4:]], save=list(recipe.save))
    assert_same(recipe.output, plain, "volume", "component_map")


@pytest.mark.slow
def test_a_run_on_workers_that_is_told_to_stop_goes_on_later(measured, tmp_path):
    target, cluster = tmp_path / "scan.nxs", tmp_path / "cluster.yaml"
    cluster.write_text("{kind: local, workers: 1, threads: 1, memory: 1GB}")
    recipe = recipe_for(target, tmp_path)
    file = write_recipe(
        tmp_path / "recipe.yaml", target, recipe.output, steps=STEPS, save=["volume"],
        input=dict(recipe.input), cluster=str(cluster),
    )  # fmt: skip
    command = [sys.executable, "-m", "ndtomo_dask.cli", "run", str(file)]
    command += ["--follow", "--settle", "2"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    with writer("swmr", measured, target) as process:
        with subprocess.Popen(command, **piped) as run:
            try:
                wait_for(has_volume(recipe.output, 0), run)
                assert any("waiting for slice 2 of 3 of scan.nxs" in line for line in run.stderr)
            finally:
                run.send_signal(signal.SIGTERM)
            said = run.communicate(timeout=PATIENCE)
            assert run.returncode == EXIT_STOPPED, said
        assert not has_volume(recipe.output, LAST)()
        with pytest.raises(StoreError, match=r"open for writing .* Follow it: ndtomo-dask run --f"):
            run_recipe(recipe, resume=True)
        let_it_end(process, tmp_path)
    with pytest.raises(StoreError, match=r"of a scan that was followed\. Pass --follow --resume"):
        run_recipe(recipe, resume=True)
    done = subprocess.run([*command, "--resume"], **piped, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done
    assert_same(recipe.output, recipe)


def test_a_writer_that_died_is_given_up_and_an_interrupted_waiting_can_go_on(measured, tmp_path):
    target = tmp_path / "scan.nxs"
    recipe = recipe_for(target, tmp_path)
    with writer("swmr", measured, target):
        pass
    little = Following(settle=0.2, patience=0.5)
    with pytest.raises(Stopped, match=r"gave up waiting for slice \d of 3 of scan.nxs, which has"):
        run_recipe(recipe, following=little)

    def interrupt(what, idle):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped, match=r"interrupted while waiting .* again with --follow --resume"):
        run_recipe(recipe, following=replace(FOLLOWING, say=interrupt), resume=True)


def test_a_plan_is_for_the_scan_as_it_will_be(measured, tmp_path):
    target = tmp_path / "scan.nxs"
    recipe = recipe_for(target, tmp_path)
    with writer("swmr", measured, target) as process:
        plans = plan_recipe(replace(recipe, follow=True))
        let_it_end(process, tmp_path)
    assert [plan.row()[:5] for plan in plans][-1] == [p.row()[:5] for p in plan_recipe(recipe)][-1]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (
            ["find_air", *STEPS],
            r"find_air needs every slice, .* Leave it out: remove_air estimates",
        ),
        (["normalize_monitor", *STEPS], r"normalize_monitor compares all slices"),
    ],
)
def test_what_needs_the_whole_scan_first_is_refused(steps, reason, measured, tmp_path):
    target = tmp_path / "scan.nxs"
    with writer("closing", measured, target) as process:
        let_it_end(process, tmp_path)
    with pytest.raises(RecipeError, match=reason):
        run_recipe(recipe_for(target, tmp_path, steps=steps), following=FOLLOWING)
    assert not (tmp_path / "out.zarr").exists()
