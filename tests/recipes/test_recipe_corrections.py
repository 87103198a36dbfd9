"""Recipes with corrections that need more than the sinogram, and with images made round."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe

SIZE = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Fluorescence by projections, and the map of what absorbs it."""
    maps = nd.simulate_maps(size=SIZE, components=2, cells=30, step=0.04)
    lines = xr.DataArray(np.ones((2, 20), dtype="float32"), dims=("component", "channel"))
    sample = nd.simulate_volume(maps, lines.to_dataset(name="component_spectrum"))
    mu = (maps.component_map.sum("component") > 0) * 2.0
    sample = sample.assign(attenuation=mu.assign_attrs(units="1/mm", long_name="μ"))
    seen = nd.simulate_fluorescence(sample, angles=np.arange(0, 180, 6.0))
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    scan = seen[["sinogram"]].assign(attenuation=sample.attenuation)
    nd.save(scan.load().chunk(angle=8), path)
    return path


def test_self_absorption_and_polar_images_in_a_recipe(store, tmp_path):
    steps = [
        {"self_absorption_correction": {"ratio": 2.0, "iterations": 1}},
        "reconstruct",
        {"to_polar": {"azimuths": 90}},
        "to_cartesian",
    ]
    content = {"input": str(store), "output": str(tmp_path / "out.zarr"), "steps": steps}
    recipe = make_recipe(content | {"save": ["volume", "polar_volume", "cartesian_volume"]})
    planned = [made.step.split(" ")[0] for made in plan_recipe(recipe)]
    for verb in ("self_absorption_correction", "reconstruct", "to_polar", "to_cartesian"):
        assert verb in planned
    made = run_recipe(recipe)
    scan = nd.open_scan(store).load()
    corrected = nd.self_absorption_correction(scan, ratio=2.0, iterations=1)
    expected = nd.to_cartesian(nd.to_polar(nd.reconstruct(corrected), azimuths=90))
    for name in ("volume", "polar_volume", "cartesian_volume"):
        np.testing.assert_array_equal(made[name], expected[name])
