"""Cropped and padded: labels and the rotation axis go along."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_lazy, relative_error
from tests.tolerances import ROUNDING

CHUNKS = [{"angle": 7}, {"channel": 13}]
F32 = ROUNDING[np.dtype("float32")]


def test_crop_keeps_what_lies_in_the_ranges(scan):
    q, place = scan.q.values, scan.translation.values
    ranges = {"q": (q[10], q[19]), "translation": (place[4], place[29])}
    made = nd.crop(scan, ranges=ranges, indices={"angle": (0, -4)})
    expected = scan.sinogram[:36, 4:30, 10:20]
    np.testing.assert_array_equal(made.sinogram, expected)
    for name in ("q", "tth", "translation", "angle"):
        np.testing.assert_array_equal(made[name], expected[name])
    assert set(made.xindexes) == set(scan.xindexes)
    assert float(made.rotation_center) == 15.5 - 4
    assert ": crop(" in made.attrs["history"].splitlines()[-1]


def test_a_cropped_scan_has_its_axis_where_it_was(clean_scan):
    scan = nd.set_rotation_center(clean_scan[["sinogram"]], 16.2)
    narrow = nd.crop(scan, indices={"translation": (3, 32)})
    place = np.interp(16.2, np.arange(32), scan.translation)
    again = np.interp(float(narrow.rotation_center), np.arange(29), narrow.translation)
    assert abs(place - again) < 1e-9


def test_padding_with_nothing_changes_nothing_inside(clean_scan):
    scan = nd.set_rotation_center(clean_scan[["sinogram"]], 15.5)
    scan = scan.assign(sinogram=scan.sinogram.where(np.abs(scan.translation) < 0.25, 0.0))
    plain = nd.reconstruct(scan).volume
    wide = nd.reconstruct(nd.pad(scan, translation=6, fill="zero")).volume
    inside = wide[6:-6, 6:-6]
    np.testing.assert_allclose(inside.y, plain.y, atol=1e-12)
    seen = np.hypot(plain.y, plain.x) < 0.28  # every projection has a ray through it
    assert relative_error(inside.where(seen), plain.where(seen)) < 1e-5


def test_padded_rays_are_those_at_the_edge(scan):
    monitor = xr.DataArray(
        np.arange(40.0)[:, None] + np.arange(32.0), dims=("angle", "translation")
    )
    mask = xr.DataArray(np.arange(32) == 0, dims="translation")
    ds = scan.assign(sinogram_variance=scan.sinogram + 1, monitor=monitor, mask=mask)
    made = nd.pad(ds, translation=(2, 3))
    for place, source in [(0, 0), (1, 0), (2, 0), (33, 31), (36, 31)]:
        np.testing.assert_array_equal(made.sinogram[:, place], scan.sinogram[:, source])
        np.testing.assert_array_equal(made.monitor[:, place], monitor[:, source])
    np.testing.assert_array_equal(np.flatnonzero(made.mask), [2])
    unknown = np.isnan(made.sinogram_variance).all(["angle", "channel"])
    np.testing.assert_array_equal(np.flatnonzero(unknown), [0, 1, 34, 35, 36])
    np.testing.assert_allclose(np.diff(made.translation), np.diff(scan.translation)[0])
    assert float(made.rotation_center) == 17.5
    assert made.sinogram.attrs == scan.sinogram.attrs


@pytest.mark.parametrize("name", ["crop", "pad"])
def test_extents_do_not_depend_on_the_chunks_and_the_input_stays(name, scan):
    verbs = {
        "crop": lambda ds: nd.crop(ds, indices={"angle": (3, 30), "channel": (5, 50)}),
        "pad": lambda ds: nd.pad(ds, translation=2),
    }
    before = scan.copy(deep=True)
    assert_lazy(verbs[name], scan.chunk(CHUNKS[0]))
    xr.testing.assert_identical(scan, before)
    assert_chunk_invariant(verbs[name], scan, CHUNKS)


def test_bad_extents_are_refused(scan):
    with pytest.raises(OptionError, match="crop was told nothing to keep: give ranges="):
        nd.crop(scan)
    with pytest.raises(OptionError, match=r"crop has no coordinate 'qq'. Did you mean 'q'"):
        nd.crop(scan, ranges={"qq": (1, 2)})
    with pytest.raises(OptionError, match=r"crop has no dimension 'angles'. Did you mean 'angle'"):
        nd.crop(scan, indices={"angles": (1, 2)})
    with pytest.raises(OptionError, match="crop leaves nothing: 'q' from 90 to 91, but the data"):
        nd.crop(scan, ranges={"q": (90, 91)})
    with pytest.raises(OptionError, match="crop leaves nothing of 'angle'"):
        nd.crop(scan, indices={"angle": (5, 5)})
    with pytest.raises(OptionError, match="crop takes two numbers for 'angle'"):
        nd.crop(scan, indices={"angle": (5,)})
    turned = scan.isel(angle=[0, 5, 2, 7])
    with pytest.raises(OptionError, match="would leave pieces, since it is not in order"):
        nd.crop(turned, ranges={"angle": (0, 10)})
    with pytest.raises(OptionError, match="translation=-1 must be 0 or more rays"):
        nd.pad(scan, translation=-1)
    with pytest.raises(SchemaError, match="pad needs whole images"):
        nd.pad(scan.chunk(translation=8), translation=1)


def test_a_recipe_crops_pads_and_is_planned_with_the_new_sizes(scan, tmp_path):
    nd.save(scan[["sinogram"]].chunk(angle=10), tmp_path / "scan.zarr")
    cut = {"indices": {"translation": [4, 30], "channel": [0, 40]}}
    content = {
        "input": str(tmp_path / "scan.zarr"),
        "output": str(tmp_path / "out.zarr"),
        "steps": [{"crop": cut}, {"pad": {"translation": 2}}, "reconstruct"],
        "save": ["volume"],
    }
    recipe = make_recipe(content)
    plans = {plan.step: plan for plan in plan_recipe(recipe)}
    made = run_recipe(recipe)
    typed = nd.pad(nd.crop(scan[["sinogram"]], **cut), translation=2)
    assert made.volume.shape == (30, 30, 40)
    assert made.volume.nbytes == plans["save volume"].written_bytes
    assert relative_error(made.volume, nd.reconstruct(typed).volume) < F32
