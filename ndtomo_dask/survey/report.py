"""All questions of a survey, asked one after the other."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.errors import OptionError, nearest
from ndtomo_dask.io.pieces import Place
from ndtomo_dask.survey.angles import LARGEST_SPAN, survey_angles
from ndtomo_dask.survey.axis import survey_channels
from ndtomo_dask.survey.center import additive, survey_center, survey_contrast
from ndtomo_dask.survey.content import look_exchanged
from ndtomo_dask.survey.counts import survey_counts
from ndtomo_dask.survey.finding import MARKS, WORDS, Finding, undetermined
from ndtomo_dask.survey.head import recipe_head
from ndtomo_dask.survey.lines import survey_lines, turn_back
from ndtomo_dask.survey.monitors import stray_monitor
from ndtomo_dask.survey.opening import Opened, open_for_survey
from ndtomo_dask.survey.page import survey_page
from ndtomo_dask.survey.sample import BUDGET, Sample, take_sample
from ndtomo_dask.survey.sign import survey_sign
from ndtomo_dask.variables import ANGLE


@dataclass(frozen=True, repr=False)
class Survey:
    """What was found of a scan: ``found["rotation center"]`` is one of ``found.findings``.

    It prints as a list, and notebooks show it as a table. ``found.alarms`` are to be mended,
    ``found.recipe`` is the head of a recipe, and ``found.to_json()`` is for programs.
    """

    path: str
    findings: tuple[Finding, ...]
    recipe: str | None
    """YAML to be confirmed; None where too little is known."""
    read: str
    """How much of the scan was read."""

    def __getitem__(self, question: str) -> Finding:
        """Return the finding of a question.

        Raises
        ------
        OptionError
            The survey did not ask that.
        """
        found = {finding.question: finding for finding in self.findings}
        if question not in found:
            raise OptionError(f"a survey does not ask {question!r}. {nearest(question, found)}")
        return found[question]

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """What is to be mended."""
        return tuple(one for one in self.findings if one.level == "alarm")

    def __str__(self) -> str:
        """All findings, for the terminal."""
        lines = [f"{self.path}: {self.read}", "", *(one.line for one in self.findings)]
        marks = (f"{MARKS[level]} {words}" for level, words in WORDS.items() if level != "fine")
        return "\n".join([*lines, "", "   ".join(marks)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return survey_page(self.path, self.read, self.findings, self.recipe)

    def to_json(self) -> str:
        """All findings, for programs."""
        content = {"path": self.path, "read": self.read, "recipe": self.recipe}
        found = {one.question: asdict(one) for one in self.findings}
        return json.dumps({**content, "findings": found}, indent=2, default=float)


def survey_scan(
    path: str | Path,
    *,
    group: str | None = None,
    dims: Sequence[str] | None = None,
    units: dict[str, str] | None = None,
    budget: int = BUDGET,
    **datasets: Place,
) -> Survey:
    """Say what a scan is and what is wrong with it, from a sample of its data.

    Its dimensions, angles, lines, counts and rotation center are looked at. What is read is a
    sample of at most ``budget`` bytes and two projections more, block by block.

    Parameters
    ----------
    path, group, dims, units, datasets
        As in `open_scan`.
    budget
        Bytes to read, decompressed.

    Returns
    -------
        A `Survey`: its ``findings``, each a question, an answer, the evidence and a level,
        ``"fine"``, ``"look"``, ``"alarm"`` or ``"open"``; those that are ``alarms``; and a
        ``recipe`` to be confirmed, or None. It prints as a list, and notebooks show it as a table.

    Raises
    ------
    StoreError
        The file is missing, truncated or empty, or it is no HDF5 file and no store.
    """
    path = Path(path)
    opened = open_for_survey(path, {"group": group, "dims": dims, "units": units, **datasets})
    if opened.ds is None:
        return Survey(str(path), (opened.finding,), None, "not opened")
    sample = take_sample(opened.ds, budget=budget)
    sign = survey_sign(path, opened.numbers, opened.ds)
    findings = [*_findings(opened, opened.ds, sample), sign]
    known = {one.question: one for one in findings}
    flats = "flat" in opened.ds
    head = recipe_head(path, opened.options, known, flats=flats) if ANGLE in opened.ds else None
    return Survey(str(path), tuple(findings), head, f"read {sample.words}")


def _findings(opened: Opened, ds: xr.Dataset, sample: Sample) -> list[Finding]:
    findings = [_dimensions(opened, sample), survey_channels(ds)]
    degrees, angle_findings = _angles(opened, ds)
    findings += angle_findings
    findings += survey_lines(sample, degrees)
    turn_back(sample, findings)
    monitor = _beside(ds, "monitor", sample)
    counted = survey_counts(sample, monitor, stored=opened.stored)
    if monitor is None:
        counted = [stray_monitor(opened, ds) or one if one.question == "monitor" else one
                   for one in counted]  # fmt: skip
    findings += counted
    flat, dark = (_field(ds, name) for name in ("flat", "dark"))
    contrast = survey_contrast(sample, flats=flat is not None)
    image = additive(_steady(sample.image, monitor), contrast, flat, dark)
    if not degrees.size:
        center = [undetermined(name, "the angles are not known")
                  for name in ("rotation center", "projection shifts")]  # fmt: skip
        return [*findings, contrast, *center]
    spread = sample.spread
    return [*findings, contrast, *survey_center(image[spread], degrees[sample.rows[spread]])]


def _dimensions(opened: Opened, sample: Sample) -> Finding:
    exchanged, told = look_exchanged(sample.image)
    found = opened.finding
    if not exchanged:
        return found
    return Finding(found.question, found.answer, f"{found.evidence}; but {told}, as if angle and "
                   f"translation were exchanged", "look", found.figures)  # fmt: skip


def _angles(opened: Opened, ds: xr.Dataset) -> tuple[np.ndarray, list[Finding]]:
    """Return the angles in degrees; none where they are not known."""
    if ANGLE not in ds.coords:
        missing = "the file has no angles beside the data: name them, angle=entry/..."
        return np.zeros(0), [Finding("angle span", "unknown", missing, "alarm")]
    angles = np.asarray(ds[ANGLE].values, dtype=float)
    findings = survey_angles(angles, unit_given=opened.says_angle_unit)
    unit = findings[0]
    if unit.answer == "radian":
        return np.rad2deg(angles), findings
    usable = np.isfinite(angles).all() and 0 < np.ptp(angles) < LARGEST_SPAN
    return (angles if usable else np.zeros(0)), findings


def _beside(ds: xr.Dataset, name: str, sample: Sample) -> np.ndarray | None:
    """Read what was measured beside the projections that were read."""
    if name not in ds:
        return None
    array = ds[name]
    middle = {dim: array.sizes[dim] // 2 for dim in array.dims if dim in ("time", "z")}
    array = array.isel(middle)
    if ANGLE in array.dims:
        array = array.isel({ANGLE: sample.rows}).transpose(ANGLE, ...)
    (found,) = compute_arrays([array], "survey")
    return np.asarray(found.values, dtype=float)


def _field(ds: xr.Dataset, name: str) -> np.ndarray | None:
    """Read a flat or a dark of the slice that was sampled, averaged over the channels."""
    if name not in ds:
        return None
    array: Any = ds[name]
    middle = {dim: array.sizes[dim] // 2 for dim in array.dims if dim in ("time", "z")}
    array = array.isel(middle)
    array = array.mean([dim for dim in array.dims if dim != "translation"])
    (found,) = compute_arrays([array], "survey")
    return np.asarray(found.values, dtype=float)


def _steady(image: np.ndarray, monitor: np.ndarray | None) -> np.ndarray:
    """Divide by the monitor where it is whole."""
    if monitor is None or not np.isfinite(monitor).all() or (monitor <= 0).any():
        return image
    relative = monitor / monitor.mean()
    return np.asarray(image / (relative[:, None] if relative.ndim == 1 else relative))
