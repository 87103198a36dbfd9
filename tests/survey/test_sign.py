"""The sign of the rotation: by vectors of NXtransformations, and else undetermined."""

from itertools import pairwise

import h5py
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import load_projector
from tests.io.files import write_hdf5

PLACE = "entry/sample/transformations"


@pytest.fixture(scope="module")
def scan():
    return nd.simulate_scan(size=24, angles=30, channels=12, grains=8, jitter=0, seed=4).load()


def write(path, scan, vector, *, angles=None, unit="deg", **rides_on):
    """Write a scan with its rotation as a transformation, on others of (vector, degrees)."""
    angles = scan.angle.values if angles is None else angles
    write_hdf5(path, entry__data__counts=scan.sinogram.values, entry__data__theta=angles,
               entry__data__tth=scan.tth.values)  # fmt: skip
    names = ["omega", *rides_on, "."]
    with h5py.File(path, "a") as file:
        file["entry/data"].attrs.update(NX_class="NXdata", signal="counts",
                                        axes=["theta", "translation", "tth"])  # fmt: skip
        file["entry/data/theta"].attrs["units"] = unit
        chain = {"omega": (vector, angles), **rides_on}
        for name, below in pairwise(names):
            about, turned = chain[name]
            file[f"{PLACE}/{name}"] = turned
            file[f"{PLACE}/{name}"].attrs.update(transformation_type="rotation", vector=about,
                                                 depends_on=below, units=unit)  # fmt: skip
    return path


def sign_of(path):
    return nd.survey_scan(path)["rotation sign"]


@pytest.mark.parametrize(
    ("vector", "answer", "level"),
    [
        ((0, 1, 0), "counterclockwise, seen from above", "look"),
        ((0, -1, 0), "clockwise, seen from above", "fine"),
        ((0, 2.0, 0.1), "counterclockwise, seen from above", "look"),
        ((1, 0, 0), "undetermined", "open"),
    ],
)
def test_the_vector_of_the_rotation_tells_its_sign(tmp_path, scan, vector, answer, level):
    found = sign_of(write(tmp_path / "scan.h5", scan, vector))
    assert (found.answer, found.level) == (answer, level)
    assert "entry/sample/transformations/omega turns about" in found.evidence


def test_downward_angles_and_radians_do_not_change_the_sign(tmp_path, scan):
    down = scan.isel(angle=slice(None, None, -1))
    assert sign_of(write(tmp_path / "a.h5", down, (0, 1, 0))).level == "look"
    radians = np.deg2rad(scan.angle.values)
    found = sign_of(write(tmp_path / "b.h5", scan, (0, 1, 0), angles=radians, unit="rad"))
    assert found.level == "look"


def test_a_stage_that_hangs_upside_down_turns_the_vector(tmp_path, scan):
    over = write(tmp_path / "a.h5", scan, (0, 1, 0), tilt=((0, 0, 1), 180.0))
    assert sign_of(over).answer == "clockwise, seen from above"
    beside = write(tmp_path / "b.h5", scan, (0, 1, 0), tilt=((0, 0, 1), 90.0))
    assert "its axis is not upright" in sign_of(beside).evidence
    rocks = write(tmp_path / "c.h5", scan, (0, 1, 0), tilt=((0, 0, 1), np.linspace(0, 9, 30)))
    assert sign_of(rocks).answer == "undetermined"


def test_without_a_vector_or_with_that_of_another_motor_nothing_is_said(tmp_path, scan):
    path = write(tmp_path / "scan.h5", scan, (0, 1, 0))
    with h5py.File(path, "a") as file:
        del file[PLACE]["omega"].attrs["vector"]
    assert "names no vector of the rotation" in sign_of(path).evidence
    with h5py.File(path, "a") as file:
        file[PLACE]["phi"] = np.linspace(0, 40, 30)
        file[PLACE]["phi"].attrs.update(transformation_type="rotation", vector=(0, 1, 0))
    assert sign_of(path).answer == "undetermined"


def test_images_are_seen_along_the_vector():
    """A grain turned counterclockwise about the vertical, seen from above, in our geometry."""
    angles = np.deg2rad(np.arange(0, 180, 6.0))
    right, ahead = 9.0, 5.0  # of the axis at 0°, seen from above; the translation runs to the right
    place = 16 + right * np.cos(angles) - ahead * np.sin(angles)
    sinogram = np.exp(-((np.arange(33) - place[:, None]) ** 2) / 4)[..., None]
    image = load_projector("cpu", ParallelGeometry.centered(angles, 33)).fbp(sinogram)[..., 0]
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert (row, column) == (16 + 5, 16 + 9)  # below the middle: mirrored, as seen from below
