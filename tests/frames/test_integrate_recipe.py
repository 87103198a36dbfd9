"""Recipes that begin with detector frames: planned, run, killed, resumed, holes reported."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

import ndtomo_dask as nd
from ndtomo_dask.errors import PlanError, RecipeError, StoreError
from ndtomo_dask.recipes.planner import plan_recipe
from ndtomo_dask.recipes.recipe import make_recipe, read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.frame_cases import write_scan
from tests.recipe_cases import hashes

PATIENCE = 120
"""Seconds until a run that should have come to some point is given up."""


def _content(path, poni, output, **changes):
    integrate = {"calibration": str(poni), "points": 48, "unit": "tth", "limits": [1.0, 6.0]}
    steps = [{"integrate": integrate}, "normalize_monitor", "remove_air", "reconstruct"]
    return {"input": str(path), "output": str(output), "steps": steps, "save": ["volume"]} | changes


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path)


def test_a_recipe_makes_the_same_bits_as_its_verbs_by_hand(scan, tmp_path):
    path, poni = scan
    made = run_recipe(make_recipe(_content(path, poni, tmp_path / "out.zarr")))
    ds = nd.integrate(nd.open_frames(path), poni, points=48, unit="tth", limits=(1.0, 6.0)).load()
    integrated = nd.open_scan(tmp_path / "out.zarr", group="integrated")
    np.testing.assert_array_equal(integrated.sinogram, ds.sinogram)
    np.testing.assert_array_equal(integrated.sinogram_variance, ds.sinogram_variance)
    ds = nd.reconstruct(nd.remove_air(nd.normalize_monitor(ds.drop_vars("mask"))))
    np.testing.assert_array_equal(made.volume, ds.volume)
    assert "integrate(calibration='detector.poni'" in made.attrs["history"]


def test_a_recipe_of_frames_is_planned_without_reading_any(scan, tmp_path, no_compute):
    recipe = make_recipe(_content(*scan, tmp_path / "out.zarr"))
    plans = plan_recipe(recipe)
    assert [made.step for made in plans][:2] == ["integrate", "normalize_monitor"]
    assert plans[0].read_bytes == 40 * 90 * 110 * 4
    with pytest.raises(PlanError, match=r"integrate would hold .* in one task, but allowed_mem"):
        plan_recipe(recipe, allowed_mem=250_000)


def test_integrate_is_the_first_step_or_none(scan, tmp_path):
    path, poni = scan
    steps = ["normalize_monitor", {"integrate": {"calibration": str(poni)}}]
    with pytest.raises(RecipeError, match="integrate takes frames, so it must be the first step"):
        make_recipe(_content(path, poni, tmp_path / "out.zarr", steps=steps))
    with pytest.raises(RecipeError, match="integrate needs option 'calibration'"):
        make_recipe(_content(path, poni, tmp_path / "out.zarr", steps=["integrate"]))
    source = {"path": str(path), "sinogram": "x"}
    with pytest.raises(RecipeError, match="input has no option 'sinogram'"):
        make_recipe(_content(path, poni, tmp_path / "out.zarr", input=source))


def test_a_frame_that_is_damaged_is_masked_named_and_does_not_end_the_run(scan, tmp_path, caplog):
    path, poni = scan
    whole = run_recipe(make_recipe(_content(path, poni, tmp_path / "whole.zarr", save=["mask"])))
    assert "mask" not in whole
    _damage(path.parent / "scan0002/detector_0000.h5", frame=3)
    run_recipe(make_recipe(_content(path, poni, tmp_path / "out.zarr")))
    assert (
        "1 of 40 frames could not be read and are masked: scan0002/detector_0000.h5:" in caplog.text
    )
    assert "[3]" in caplog.text
    ds = nd.open_scan(tmp_path / "out.zarr", group="integrated")
    ((angle, translation),) = np.argwhere(ds.mask.values)
    assert (angle, translation) == (4, 1)  # the fourth of the line that was scanned backwards
    assert np.isnan(ds.sinogram[4, 1]).all()
    assert np.isfinite(ds.sinogram).sum() == 39 * 48


def _damage(path: Path, *, frame: int) -> None:
    """Overwrite the compressed bytes of a frame."""
    with h5py.File(path) as file:
        info = file["entry_0000/measurement/data"].id.get_chunk_info(frame)
    content = bytearray(path.read_bytes())
    content[info.byte_offset : info.byte_offset + info.size] = b"\xff" * info.size
    path.write_bytes(content)


def test_no_frame_at_all_ends_the_run(scan, tmp_path):
    path, poni = scan
    recipe = make_recipe(_content(path, poni, tmp_path / "out.zarr"))
    nd.open_frames(path)
    for file in path.parent.glob("scan*/*.h5"):
        content = bytearray(file.read_bytes())
        with h5py.File(file) as opened:
            data = opened["entry_0000/measurement/data"].id
            found = [data.get_chunk_info(number) for number in range(data.get_num_chunks())]
        for info in found:
            content[info.byte_offset : info.byte_offset + info.size] = b"\xff" * info.size
        file.write_bytes(content)
    with pytest.raises(StoreError, match="none of the 40 frames could be read, the first being"):
        run_recipe(recipe)


RUN = """
import sys
from ndtomo_dask.recipes.recipe import read_recipe
from ndtomo_dask.recipes.runner import run_recipe
import ndtomo_dask.block_sizes as sizes
sizes.FRAMES_PER_TASK = 2
run_recipe(read_recipe(sys.argv[1]))
"""


def _stored(store: Path) -> int:
    return sum(path.is_file() for path in (store / "integrated/sinogram/c").rglob("0"))


def test_a_run_that_is_killed_while_it_integrates_is_resumed_to_the_same_bits(
    scan, tmp_path, monkeypatch
):
    monkeypatch.setattr("ndtomo_dask.block_sizes.FRAMES_PER_TASK", 2)
    content = _content(*scan, tmp_path / "killed.zarr")
    whole = make_recipe(content | {"output": str(tmp_path / "whole.zarr")})
    run_recipe(whole)

    (tmp_path / "killed.yaml").write_text(yaml.safe_dump(content))
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "killed.yaml")])
    try:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and _stored(tmp_path / "killed.zarr") < 2:
            assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain for two blocks"
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    run_recipe(read_recipe(tmp_path / "killed.yaml"), resume=True)
    found, wanted = (hashes(tmp_path / f"{name}.zarr") for name in ("killed", "whole"))
    assert {n: h for n, h in found.items() if "/c/" in n} == {
        n: h for n, h in wanted.items() if "/c/" in n
    }
