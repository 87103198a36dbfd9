"""The plan of a recipe is what the run then does."""

from dataclasses import replace

import dask
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask import machine
from ndtomo_dask.byte_sizes import GB, MB
from ndtomo_dask.errors import OptionError, PlanError, RecipeError, SchemaError
from ndtomo_dask.recipes.planner import least_memory, plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe, read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import STEPS, write_recipe, write_scan


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory):
    """Large enough for several shards of each kind."""
    path = tmp_path_factory.mktemp("scan") / "scan.nxs"
    return write_scan(path, size=48, angles=64, channels=1200)


@pytest.fixture
def recipe(scan_file, tmp_path):
    return read_recipe(write_recipe(tmp_path / "recipe.yaml", scan_file, tmp_path / "out.zarr"))


def shards(store, name):
    return [path for path in (store / name / "c").rglob("*") if path.is_file()]


def test_a_run_writes_what_was_planned(recipe):
    plans = {plan.step: plan for plan in plan_recipe(recipe)}
    result = run_recipe(recipe)
    for name in ("sinogram", "volume"):
        plan = plans[f"save {name}"]
        assert len(shards(recipe.output, name)) == plan.tasks > 1
        assert result[name].nbytes == plan.written_bytes
    images = nd.open_scan(recipe.output, layout="images").sinogram
    assert images.data.npartitions == plans["reconstruct (fbp)"].tasks
    assert (
        dict(images.chunksizes)["channel"][0] == dict(plans["reconstruct (fbp)"].block)["channel"]
    )
    assert images.nbytes == plans["reconstruct (fbp)"].read_bytes
    maps = [name for name in result.data_vars if str(name).startswith("peak_")]
    assert maps
    assert plans["map_components"].written_bytes >= result.component_map.nbytes
    assert result.volume.data.npartitions == plans["fit_peaks"].tasks


def test_every_step_that_reads_data_is_planned_within_the_memory(recipe):
    plans = plan_recipe(recipe, allowed_mem="200MB")
    names = [plan.step.split(" ")[0] for plan in plans]
    expected = [step if isinstance(step, str) else next(iter(step)) for step in STEPS]
    untouched = ("align_projections", "set_rotation_center")
    assert [name for name in names if name != "save"] == [n for n in expected if n not in untouched]
    for made in plans:
        assert made.projected_mem <= made.allowed_mem == 200_000_000
        assert str(made).startswith(f"{made.step}: {made.tasks} tasks of ")


def test_less_memory_makes_more_and_smaller_tasks(recipe):
    rich = {plan.step: plan for plan in plan_recipe(recipe, allowed_mem="1GB")}
    poor = {plan.step: plan for plan in plan_recipe(recipe, allowed_mem="90MB")}
    assert poor["reconstruct (fbp)"].tasks >= rich["reconstruct (fbp)"].tasks
    assert poor["reconstruct (fbp)"].written_bytes == rich["reconstruct (fbp)"].written_bytes


def test_too_little_memory_is_refused_before_anything_runs(recipe):
    with pytest.raises(PlanError, match=r"would hold .* in one task, but allowed_mem is 1 MB"):
        plan_recipe(recipe, allowed_mem="1MB")
    with pytest.raises(OptionError, match=r"'lots' is not a size in bytes\. Write it as '2GB'"):
        plan_recipe(recipe, allowed_mem="lots")
    assert not recipe.output.exists()


@pytest.mark.usefixtures("no_compute")
def test_a_plan_computes_nothing(recipe):
    assert plan_recipe(recipe)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"fit_peaks": {"windows": {"Cu": [9.0, 9.5]}, "axis": "q"}}, SchemaError,
         r"window 'Cu' \(9, 9\.5\) lies outside axis 'q', which covers 2\.1 to 4\.59792 1/an"),
        ({"fit_peaks": {"windows": {"Cu": [3.3, 3.6]}, "axis": "energy"}}, SchemaError,
         r"asked for axis 'energy', but the data have tth, q, d"),
        ({"fit_peaks": {"windows": {"Cu": [3.3, 3.6]}, "axis": "q", "shape": "gausian"}},
         OptionError, r"shape='gausian' is not known. Did you mean 'gaussian'"),
        ({"reconstruct": {"filter": "ramp"}}, OptionError, r"filter='ramp' is not known"),
        ("normalize_monitor", SchemaError, r"normalize_monitor needs 'monitor', which the dataset"),
    ],
    ids=["window", "axis", "shape", "filter", "monitor"],
)  # fmt: skip
def test_options_that_do_not_suit_the_data_are_refused_before_anything_runs(
    recipe, scan_file, change, error, words
):
    """A wrong window of the last step is not found out after a night of reconstruction."""
    name = change if isinstance(change, str) else next(iter(change))
    steps = [change] if name == "normalize_monitor" else ["reconstruct"]
    steps += [change] if name == "fit_peaks" else []
    steps = [change] if name == "reconstruct" else steps
    wrong = make_recipe({"input": str(scan_file), "output": str(recipe.output), "steps": steps})
    with pytest.raises(error, match=words) as refused:
        run_recipe(wrong)
    assert "\n" not in str(refused.value)
    assert not recipe.output.exists()


def test_what_no_step_makes_cannot_be_saved(scan_file):
    content = {"input": str(scan_file), "output": "never.zarr", "steps": ["reconstruct"]}
    with pytest.raises(RecipeError, match=r"saves 'volum', which no step makes. Did you mean 'vol"):
        plan_recipe(make_recipe(content | {"save": ["volum"]}))


def test_a_volume_is_not_reconstructed_again(recipe, tmp_path):
    nd.save(
        nd.reconstruct(nd.open_scan(recipe.input["path"]))[["volume"]], tmp_path / "volume.zarr"
    )
    content = {"input": str(tmp_path / "volume.zarr"), "output": "x.zarr"}
    with pytest.raises(SchemaError, match=r"reconstruct needs 'sinogram'"):
        plan_recipe(make_recipe(content | {"steps": ["reconstruct"]}))
    steps = [{"fit_peaks": {"windows": {"Cu": [3.3, 3.6]}, "axis": "q"}}]
    assert [plan.step for plan in plan_recipe(make_recipe(content | {"steps": steps}))] == [
        "fit_peaks"
    ]


def test_a_scan_larger_than_a_task_may_hold_is_planned_and_run(recipe):
    """Reading by parts, as the workers of a terabyte must: 15 MB where a task may hold 40."""
    end = [step.verb for step in recipe.steps].index("reconstruct") + 1
    recipe = replace(recipe, steps=recipe.steps[:end], save=("volume",))
    with dask.config.set({"ndtomo_dask.allowed_mem": 40 * 10**6}):
        plans = {plan.step: plan for plan in plan_recipe(recipe)}
        result = run_recipe(recipe)
    assert plans["find_projection_shifts"].tasks > 1
    assert max(plan.projected_mem for plan in plans.values()) <= 40 * 10**6
    assert np.isfinite(result.volume).all()


def test_the_least_memory_is_just_enough(recipe):
    least = least_memory(recipe)
    assert all(made.projected_mem <= least for made in plan_recipe(recipe, allowed_mem=least))


def test_components_of_many_channels_take_fewer_and_larger_workers(tmp_path):
    scan = write_scan(tmp_path / "scan.nxs", size=64, angles=24, channels=3000)
    recipe = read_recipe(write_recipe(tmp_path / "recipe.yaml", scan, tmp_path / "out.zarr"))
    least = least_memory(recipe)
    with pytest.raises(PlanError, match="find_components would hold"):
        plan_recipe(recipe, allowed_mem=least - MB)
    usual = machine.worker_layout(16, 8 * GB)
    larger = machine.worker_layout(16, 8 * GB, least=least)
    assert larger.workers < usual.workers
    assert larger.threads >= usual.threads
    assert machine.task_mem(usual.memory) < least <= machine.task_mem(larger.memory)


def test_the_randomized_solver_is_planned_without_all_products(scan_file, tmp_path):
    content = {"input": str(scan_file), "output": str(tmp_path / "out.zarr")}
    found = {"method": "pca", "components": 3}

    def planned(**options):
        step = {"find_components": found | {"variable": "volume"} | options}
        steps = {"steps": ["reconstruct", step], "save": ["volume"]}
        return plan_recipe(make_recipe(content | steps))[-1]

    exact, randomized = planned(), planned(solver="randomized")
    assert randomized.read_bytes == 3 * exact.read_bytes
    assert randomized.scratch_mem < exact.scratch_mem
    assert planned(scaling="poisson").read_bytes == 2 * exact.read_bytes


def test_a_store_with_true_maps_is_planned_like_its_sinogram(tmp_path):
    """A simulated scan has images already, on the grid of those to be reconstructed."""
    nd.save(nd.simulate_scan(size=16, angles=12, channels=20), tmp_path / "scan.zarr")
    content = {"input": str(tmp_path / "scan.zarr"), "output": str(tmp_path / "out.zarr")}
    content["steps"] = ["normalize_projections", "reconstruct"]
    recipe = make_recipe(content | {"save": ["volume", "true_phase_map"]}, name="recipe.yaml")
    assert "save volume" in [made.step for made in plan_recipe(recipe)]


@pytest.mark.parametrize("steps", [["reconstruct"], ["normalize_projections", "reconstruct"]])
def test_counts_of_two_bytes_are_planned_as_the_floats_they_become(tmp_path, steps):
    scan = nd.simulate_scan(size=32, angles=24, channels=64)
    plans = {}
    for kind in ("uint16", "float32"):
        store = tmp_path / f"{kind}.zarr"
        nd.save(scan.assign(sinogram=scan.sinogram.astype(kind)), store)
        content = {"input": str(store), "output": str(tmp_path / "out.zarr"), "save": ["volume"]}
        found = {made.step: made for made in plan_recipe(make_recipe(content | {"steps": steps}))}
        plans[kind] = found["reconstruct (fbp)"], found["save volume"]
    assert plans["uint16"] == plans["float32"]
