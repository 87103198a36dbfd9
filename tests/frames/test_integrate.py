import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import BackendError, OptionError, SchemaError, StoreError
from ndtomo_dask.runtime.settings import worker_environment
from tests.frame_cases import SHAPE, write_poni

CERIA = (3.708, 4.282, 6.056, 7.103, 7.419, 8.569, 9.340, 9.583, 10.500, 11.139)
"""Lines of CeO2 in 2θ, from the README of the data."""
LINE = 0.003
"""Degrees within which they must be found."""


def _centroid(tth, intensity, line, reach=0.04):
    near = np.abs(tth - line) < reach
    height = intensity[near] - np.nanmin(intensity[near])
    height[height < height.max() / 2] = 0
    return float((height * tth[near]).sum() / height.sum())


@pytest.mark.parametrize("method", ["mean", "trimmed"])
def test_the_lines_of_ceria_are_where_they_belong(shared_data, method):
    frames = nd.open_frames(shared_data("ceria_pilatus2m.hdf5"))
    ds = nd.integrate(
        frames, shared_data("ceria_pilatus2m.poni"), unit="tth", threshold=9e5, method=method,
        angles=[0], translations=[0],
    )  # fmt: skip
    pattern = ds.sinogram.values[0, 0]
    found = [_centroid(ds.tth.values, pattern, line) for line in CERIA]
    np.testing.assert_allclose(found, CERIA, atol=LINE)


def test_ceria_is_integrated_bit_by_bit_as_pyfai_does(shared_data):
    import pyFAI

    path, poni = shared_data("ceria_pilatus2m.hdf5"), shared_data("ceria_pilatus2m.poni")
    with h5py.File(path) as file:
        image = file["imageseries/images"][0]
    peer = pyFAI.load(str(poni)).integrate1d_ng(
        image, 2000, unit="q_A^-1", mask=(image < 0) | (image >= 9e5),
        method=("bbox", "csr", "cython"),
    )  # fmt: skip
    ds = nd.integrate(nd.open_frames(path), poni, threshold=9e5, angles=[0], translations=[0])
    np.testing.assert_array_equal(ds.q, peer.radial)
    seen = peer.count > 0
    np.testing.assert_array_equal(
        ds.sinogram.values[0, 0][seen], peer.intensity[seen].astype(np.float32)
    )
    assert np.isnan(ds.sinogram.values[0, 0][~seen]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two lines\nof prose\n", "has no 'Distance', so it is no .poni file: make one with"),
        ("Distance: far\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\nPixelSize1: 1e-4\n"
         "PixelSize2: 1e-4\n", "cannot be understood: could not convert string to float: 'far'"),
        ("Distance: 1\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\n",
         "names no detector and no size of its pixels"),
        ("Detector: Pilatus1M\nDistance: 1\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\n",
         "is of a detector of 1043 × 981 pixels, but the frames have 1679 × 1475: pass the .poni"),
    ],
)  # fmt: skip
def test_a_wrong_calibration_is_refused(shared_data, tmp_path, text, message):
    poni = tmp_path / "wrong.poni"
    poni.write_text(text)
    frames = nd.open_frames(shared_data("ceria_pilatus2m.hdf5"))
    with pytest.raises(SchemaError, match=message):
        nd.integrate(frames, poni, angles=[0], translations=[0])


def test_what_is_asked_for_must_be_there(shared_data, tmp_path):
    path, poni = shared_data("ceria_pilatus2m.hdf5"), shared_data("ceria_pilatus2m.poni")
    frames = nd.open_frames(path)
    with pytest.raises(SchemaError, match=r"no motor that is known to be the angle.*Name one: op"):
        nd.integrate(frames, poni)
    with pytest.raises(SchemaError, match=r"2 angle × 3 translation = 6 positions, but there are"):
        nd.integrate(frames, poni, angles=[0, 1], translations=[0, 1, 2])
    with pytest.raises(StoreError, match=r"nowhere.poni does not exist: pass the .poni file"):
        nd.integrate(frames, tmp_path / "nowhere.poni")
    with pytest.raises(SchemaError, match=r"takes what open_frames returns, not 'scan.h5'"):
        nd.integrate("scan.h5", poni)
    with pytest.raises(OptionError, match="method='mode' is not known"):
        nd.integrate(frames, poni, method="mode", angles=[0], translations=[0])
    with pytest.raises(SchemaError, match="mask has 3 × 3 pixels, but the frames have 1679 × 1475"):
        nd.integrate(frames, poni, mask=np.zeros((3, 3)), angles=[0], translations=[0])


@pytest.mark.parametrize("method", ["mean", "trimmed"])
def test_a_task_holds_no_more_than_its_plan_says(shared_data, tmp_path, method):
    script = """
import sys
import dask
import ndtomo_dask as nd
from ndtomo_dask import plan
from ndtomo_dask.frames.integrate import COST

def status(name):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

method, paths = sys.argv[1], sys.argv[2:]

def integrated(path, poni):
    ds = nd.integrate(nd.open_frames(path), poni, angles=[0], translations=[0], method=method)
    with dask.config.set(scheduler="sync"):
        ds.compute()
    return ds

integrated(*paths[2:])  # which imports and compiles
base = status("VmRSS")
ds = integrated(*paths[:2])
held = status("VmHWM") - base
block = {"angle": 1, "translation": 1, "channel": 2000}
made = plan.integrate(block, block, 4, cost=ds.encoding[COST], allowed_mem=10**10)
print(held, made.projected_mem)
"""
    paths = [shared_data(f"ceria_pilatus2m.{suffix}") for suffix in ("hdf5", "poni")]
    with h5py.File(tmp_path / "small.h5", "w") as file:
        file["data"] = np.ones((1, *SHAPE), dtype=np.int32)
    paths += [tmp_path / "small.h5", write_poni(tmp_path / "small.poni")]
    done = subprocess.run(
        [sys.executable, "-c", script, method, *map(str, paths)],
        check=True, capture_output=True, text=True, env=os.environ | worker_environment(1),
    )  # fmt: skip
    held, planned = map(int, done.stdout.split())
    assert held <= planned


def test_without_pyfai_the_extra_is_named(shared_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyFAI", None)
    frames = nd.open_frames(shared_data("ceria_pilatus2m.hdf5"))
    with pytest.raises(BackendError, match=r"needs pyFAI.*pip install 'ndtomo-dask\[frames\]'"):
        nd.integrate(frames, shared_data("ceria_pilatus2m.poni"), angles=[0], translations=[0])
