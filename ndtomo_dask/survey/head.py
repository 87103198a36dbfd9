"""The head of a recipe, as a survey suggests it: YAML to be confirmed line by line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.survey.finding import Finding

WIDTH = 44
"""Column at which comments stand."""
COMMENT = 110
"""Longest comment."""
AIR = 0.02
"""Share of the brightest translation that the edges hold from which on air is to be removed."""


def recipe_head(
    path: Path, options: Mapping[str, Any], findings: Mapping[str, Finding], *, flats: bool
) -> str:
    """Write a recipe for a scan, each line with the reason for it, and check that it is one."""
    lines = [
        f"# Suggested by: ndtomo-dask survey {path.name}. Confirm each line, then:",
        "# ndtomo-dask plan recipe.yaml",
        "input:",
        *_input(path, options, findings),
        _line("output: " + _yaml(f"{path.stem}.zarr"), "where the result goes"),
        "steps:",
        *(_line(f"  - {step}", why) for step, why in _steps(findings, flats=flats)),
        "save: [volume]",
    ]
    lines += [f"# To be looked at: {one.question}: {one.answer}" for one in findings.values()
              if one.level == "alarm"]  # fmt: skip
    text = "\n".join(lines) + "\n"
    make_recipe(yaml.safe_load(text), name="the suggested recipe")
    return text


def _line(text: str, why: str) -> str:
    why = shorten(why, COMMENT, placeholder=" …")
    return f"{text:<{WIDTH}}  # {why}" if why else text


def _yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    )


def _input(
    path: Path, options: Mapping[str, Any], findings: Mapping[str, Finding]
) -> Iterable[str]:
    yield _line(f"  path: {_yaml(str(path))}", findings["dimensions"].answer)
    unit = findings.get("angle unit")
    options = dict(options)
    if unit is not None and unit.answer == "radian":
        options["units"] = {**options.get("units", {}), "angle": "rad"}
    reasons = {"dims": findings["dimensions"].evidence, "units": unit.evidence if unit else ""}
    for name, value in options.items():
        yield _line(f"  {name}: {_yaml(value)}", reasons.get(name, ""))


def _steps(findings: Mapping[str, Finding], *, flats: bool) -> Iterable[tuple[str, str]]:
    contrast, monitor, flux = (findings[name] for name in ("contrast", "monitor", "flux"))
    absorbs = contrast.answer == "absorption"
    if monitor.answer == "present" and not (absorbs and flats):
        yield "normalize_monitor", monitor.evidence
    if absorbs:
        yield "flat_field", contrast.evidence
    elif _has_air(contrast):
        yield "remove_air", contrast.evidence
    if not absorbs and flux.answer == "varies":
        yield "normalize_projections", flux.evidence
    if findings["projection shifts"].answer == "seen":
        yield "find_projection_shifts", findings["projection shifts"].evidence
        yield "align_projections", ""
    yield "find_rotation_center", findings["rotation center"].evidence
    yield "set_rotation_center", ""
    yield "reconstruct: {method: fbp}", findings["angle span"].answer


def _has_air(contrast: Finding) -> bool:
    edge, brightest = (contrast.figures.get(name, 0.0) for name in ("edge", "brightest"))
    return contrast.answer == "emission" and edge > AIR * brightest
