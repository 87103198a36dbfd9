"""A survey finds each defect that is simulated, and raises no alarm where there is none."""

import h5py
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.survey import survey_scan

SEEDS = 20
NEAR = 0.5
"""Translation steps, for the center found in a sample: measured 0.1."""


def steady(seed=0, **options):
    """A scan without defects: Poisson counts, and an axis off the middle."""
    plain = {"size": 32, "angles": 48, "channels": 24, "grains": 12, "jitter": 0, "decay": 1}
    return nd.simulate_scan(**plain | options, seed=seed).load()


@pytest.fixture(scope="module")
def half():
    return steady(size=40, angles=60, channels=30)


@pytest.fixture(scope="module")
def full():
    return steady(size=40, angles=90, channels=30, span=360.0)


def write(path, scan, values=None, *, angles=None, unit="degree", dtype="f4", **beside):
    """Write a scan as a plain NeXus file, with what lies beside it."""
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        data.attrs.update(NX_class="NXdata", signal="counts", axes=["theta", "x", "tth"])
        data["counts"] = (scan.sinogram.values if values is None else values).astype(dtype)
        data["theta"] = scan.angle.values if angles is None else angles
        if unit is not None:
            data["theta"].attrs["units"] = unit
        data["x"], data["tth"] = scan.translation.values, scan.tth.values
        for name, numbers in beside.items():
            file[name.replace("__", "/")] = numbers
    return path


@pytest.mark.parametrize("span", [180.0, 360.0])
def test_a_scan_without_defects_raises_no_alarm(tmp_path, span):
    for seed in range(SEEDS):
        scan = steady(seed, span=span)
        found = survey_scan(write(tmp_path / "scan.h5", scan))
        assert found.alarms == (), seed
        assert {found[name].answer for name in ("zigzag", "zigzag in angle")} <= {
            "no",
            "undetermined",
        }
        assert found["contrast"].answer == "emission"
        truth = float(scan.true_rotation_center)
        assert abs(found["rotation center"].figures["center"] - truth) < NEAR, seed


def test_the_turn_is_told_from_the_angles(tmp_path, half, full):
    found = survey_scan(write(tmp_path / "half.h5", half))
    assert found["angle span"].answer == "half turn"
    assert found["opposite projections"].answer == "undetermined"
    found = survey_scan(write(tmp_path / "full.h5", full))
    assert found["angle span"].answer == "full turn"
    assert found["opposite projections"].answer == "agree"
    assert found["rotation sign"].answer == "undetermined"
    twice = np.linspace(0, 180, 60)
    found = survey_scan(write(tmp_path / "end.h5", half, angles=twice))
    assert found["angle span"].answer == "half turn, with its end point"
    found = survey_scan(write(tmp_path / "wedge.h5", half, angles=np.linspace(0, 118, 60)))
    assert "limited" in found["angle span"].answer
    assert found["angle span"].level == "alarm"


@pytest.mark.parametrize(
    ("factor", "unit", "answer", "level"),
    [
        (np.pi / 180, None, "radian", "look"),
        (np.pi / 180, "degree", "radian", "alarm"),
        (1, None, "degree", "look"),
        (1, "degree", "degree", "fine"),
        (100, None, "undetermined", "open"),
    ],
)
def test_the_unit_of_the_angles_is_told_by_their_span(tmp_path, half, factor, unit, answer, level):
    angles = half.angle.values * factor
    found = survey_scan(write(tmp_path / "scan.h5", half, angles=angles, unit=unit))
    assert (found["angle unit"].answer, found["angle unit"].level) == (answer, level)
    if answer == "radian":
        assert "units: {angle: rad}" in found.recipe
        assert found["angle span"].answer == "half turn"


def zigzag(values):
    values[1::2] = values[1::2, ::-1]


def zigzag_in_angle(values):
    values[:, 1::2] = values[::-1, 1::2]


def not_finite(values):
    values[7, 3, 2] = np.nan
    values[50] = np.inf


def clipped(values):
    np.minimum(values, 0.3 * values.max(), out=values)


def dead_translation(values):
    values[:, 17] = 0


def dead_channel(values):
    values[..., 11] = 5


def dead_projection(values):
    values[23] = 0


def first_frame(values):
    values[0] *= 0.2


def first_point(values):
    values[:, 0] += 5 * values.mean()


def decay(values):
    values *= np.linspace(1, 0.7, len(values))[:, None, None]


DEFECTS = [
    (zigzag, "zigzag", "every other line is backward", ""),
    (zigzag_in_angle, "zigzag in angle", "every other line is backward", ""),
    (not_finite, "NaN", "1201 samples", "in projections 7, 50"),
    (clipped, "saturated points", "or more samples", "exactly the largest value"),
    (dead_translation, "dead points", "translations 17", "one value throughout"),
    (dead_channel, "dead points", "channels 11", "one value throughout"),
    (dead_projection, "dead points", "projections 23", "one value throughout"),
    (first_frame, "throw-away first frames", "projections 0", "% of the intensity of the next"),
    (first_point, "throw-away first points", "translation 0", "off the line"),
    (decay, "flux", "varies", "totals of projections scatter by 10"),
]


@pytest.mark.parametrize(("defect", "question", "answer", "evidence"), DEFECTS)
def test_a_defect_is_found(tmp_path, half, defect, question, answer, evidence):
    values = half.sinogram.values.copy()
    defect(values)
    found = survey_scan(write(tmp_path / "scan.h5", half, values))
    assert found[question].level == "alarm"
    assert answer in found[question].answer
    assert evidence in found[question].evidence
    assert [one.question for one in found.alarms if one.question != question] in ([], ["flux"])


HARD = [
    (zigzag_in_angle, "zigzag in angle", (2, 10, 12, 13)),
    (clipped, "saturated points", (8, 15)),
]
"""Defects that are hard to see, and samples in which they are: much air, few counts."""


@pytest.mark.parametrize(("defect", "question", "seeds"), HARD)
def test_a_defect_that_is_hard_to_see_is_found(tmp_path, defect, question, seeds):
    for seed in seeds:
        scan = steady(seed)
        values = scan.sinogram.values.copy()
        defect(values)
        found = survey_scan(write(tmp_path / "scan.h5", scan, values))
        assert found[question].level == "alarm", seed


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_a_limit_is_found_however_many_samples_reach_it(tmp_path, half, share):
    values = np.minimum(half.sinogram.values, share * half.sinogram.values.max())
    found = survey_scan(write(tmp_path / "scan.h5", half, values))["saturated points"]
    assert found.level == "alarm"
    assert found.figures["at_largest"] == (values == values.max()).sum()


@pytest.mark.parametrize("mean", [0.01, 0.3, 2, 30])
def test_counts_that_repeat_by_chance_are_no_limit(tmp_path, half, rng, mean):
    counts = rng.poisson(mean, half.sinogram.shape)
    found = survey_scan(write(tmp_path / "scan.h5", half, counts, dtype="u2"))
    assert found["saturated points"].level == "fine"


def test_a_detector_that_reached_its_limit_is_found_by_its_type(tmp_path, half):
    values = half.sinogram.values.copy()
    values[5, 6, 7] = 65535
    found = survey_scan(write(tmp_path / "scan.h5", half, values, dtype="u2"))
    assert "the largest number of uint16" in found["saturated points"].evidence


def test_missing_and_repeated_projections_are_counted(tmp_path, half):
    kept = [*range(20), *range(23, 60), 59]
    part = half.isel(angle=kept)
    found = survey_scan(write(tmp_path / "scan.h5", part))
    assert found["missing projections"].answer == "3"
    assert found["missing projections"].evidence.startswith("gaps after 57°")
    assert found["duplicate projections"].evidence == "projections 57 repeat an angle"


def test_the_monitor_is_looked_for(tmp_path, half):
    flux = np.linspace(1, 0.7, 60)
    values = half.sinogram.values * flux[:, None, None]
    beam = np.repeat(1e5 * flux[:, None], 40, axis=1)
    found = survey_scan(write(tmp_path / "a.h5", half, values, entry__monitor__data=beam))
    assert found["monitor"].answer == "present"
    assert found["flux"].answer == "steady"
    assert "- normalize_monitor" in found.recipe
    found = survey_scan(write(tmp_path / "b.h5", half, values, entry__i0=beam))
    assert "monitor=entry/i0" in found["monitor"].evidence
    found = survey_scan(write(tmp_path / "c.h5", half, values, entry__i0=beam.ravel()[:-40]))
    assert found["monitor"].answer == "short"
    assert "2360 values, the scan 2400 points" in found["monitor"].evidence
    beam[3] = 0
    found = survey_scan(write(tmp_path / "d.h5", half, values, entry__monitor__data=beam))
    assert found["monitor"].answer == "40 of 2400 are missing"
    assert survey_scan(write(tmp_path / "e.h5", half)).alarms == ()


def test_estimates_of_the_center_disagree_where_the_sample_leaves_the_view(tmp_path):
    scan = steady(size=48, angles=72, center_offset=0).isel(translation=slice(16, 48))
    found = survey_scan(write(tmp_path / "scan.h5", scan))
    assert found["rotation center"].answer == "estimates disagree"
    assert "steps apart" in found["rotation center"].evidence


def test_a_wandering_sample_is_seen(tmp_path):
    scan = steady(angles=60, jitter=0.5)
    found = survey_scan(write(tmp_path / "scan.h5", scan))
    assert found["projection shifts"].answer == "seen"
    assert "- align_projections" in found.recipe


def test_transmission_is_told_from_emission(tmp_path, half):
    path = half.sinogram.sum("channel").values
    passed = 1e4 * np.exp(-path / path.max())[..., None]
    one = half.isel(channel=[0])
    found = survey_scan(write(tmp_path / "scan.h5", one, passed))
    assert found["contrast"].answer == "absorption"
    assert "- flat_field" in found.recipe
    center = found["rotation center"].figures["center"]
    assert abs(center - float(half.true_rotation_center)) < NEAR


def test_an_energy_in_the_wrong_unit_is_noticed(tmp_path, half):
    with h5py.File(write(tmp_path / "scan.h5", half), "a") as file:
        data = file["entry/data"]
        data.attrs["axes"] = ["theta", "x", "energy"]
        data["energy"] = np.linspace(8000, 9000, 30)
    found = survey_scan(tmp_path / "scan.h5")
    assert "units: {energy: eV}" in found["channel axis"].evidence
    assert found["channel axis"].level == "alarm"


def test_the_center_is_found_though_lines_go_back_and_forth(tmp_path, half):
    values = half.sinogram.values.copy()
    zigzag(values)
    found = survey_scan(write(tmp_path / "scan.h5", half, values))
    center = found["rotation center"].figures["center"]
    assert abs(center - float(half.true_rotation_center)) < NEAR
    assert found["projection shifts"].answer == "none"


def test_noise_alone_has_no_center(tmp_path, half, rng):
    values = rng.poisson(50, half.sinogram.shape)
    found = survey_scan(write(tmp_path / "scan.h5", half, values))
    assert found["rotation center"].answer in ("undetermined", "estimates disagree")
    assert found["zigzag"].answer == "undetermined"
    assert found["contrast"].answer == "undetermined"
