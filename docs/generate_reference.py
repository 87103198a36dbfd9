"""Write the reference pages that follow from the code: ``python docs/generate_reference.py``.

``docs/reference/variables.md`` comes from the tables of `ndtomo_dask.variables`, and
``docs/reference/api.md`` from the docstrings and signatures of the public functions.
"""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

import ndtomo_dask as nd
from ndtomo_dask.kernels.fitting.levenberg_marquardt import FitStatus
from ndtomo_dask.variables import COORDINATES, VARIABLES

REFERENCE = Path(__file__).parent / "reference"

GROUPS = {
    "Open, save, export": (
        "open_scan", "survey_scan", "save", "verify", "convert", "export", "export_patterns",
        "derive_axes",
    ),
    "Frames": ("open_frames", "integrate", "simulate_frames", "export_frames"),
    "Simulate": (
        "simulate_scan", "simulate_maps", "simulate_spectra", "simulate_volume",
        "pattern_from_reflections", "simulate_defects", "simulate_acquisition",
        "simulate_measurement", "simulate_fluorescence", "animate_acquisition",
    ),
    "Correct sinograms": (
        "find_air", "remove_air", "find_projection_scale", "normalize_projections",
        "normalize_monitor", "flat_field", "absorption_correction", "self_absorption_correction",
        "mask_circle",
        "find_bad_channels", "mask_channels",
        "interpolate_masked", "remove_outliers", "find_translation_scale",
        "normalize_translations", "remove_rings",
        "subtract_background",
    ),
    "Cut and bin": (
        "crop", "pad", "rebin", "rebin_axis",
    ),
    "Geometry": (
        "find_rotation_center", "set_rotation_center", "find_projection_shifts",
        "align_projections",
    ),
    "Reconstruct": (
        "reconstruct", "project", "find_iterations", "find_regularization", "find_spectral_basis",
        "compress_channels", "expand_channels",
    ),
    "Components": (
        "find_components", "map_components", "find_clusters", "map_clusters",
        "find_spectral_moments", "find_rank",
    ),
    "Peaks": (
        "find_peaks", "windows_of", "fit_peaks", "evaluate_peaks", "peak_moments",
        "position_from_moments",
    ),
    "Maps of rays": ("sinogram_from_maps", "maps_from_volume"),
    "Crystals": ("lattice_parameter", "strain", "crystallite_size", "williamson_hall"),
    "Known spectra": ("fit_references", "phase_fractions", "line_patterns"),
    "Look": ("image", "spectrum", "to_polar", "to_cartesian"),
    "Run": ("connect",),
}  # fmt: skip
"""The public functions by what they are for; whatever is missing here stands under the last."""
COMPUTES = ("find_", "survey_scan", "save", "convert", "export")

API_HEAD = """# The public functions

All take a `Dataset` first and return one, unless said otherwise; options are keyword-only.
**Computes** means that data are read and worked on before the call returns; everything else is
lazy. `help(nd.reconstruct)` has the parameters, shapes, units and errors.
"""
VARIABLES_PAGE = """# Dimensions, coordinates and variables

What every name in a dataset means. Leading dimensions `time` and `z` may stand before the others.

## Coordinates

{coordinates}
`wavelength` (angstrom) is a scalar coordinate; with it `tth`, `q` and `d` follow from one another.
`component` is a number, `peak` a name.

## Variables

Units are those of a scan in counts. A reconstruction puts its sinogram's unit in place of count.
Peak areas, positions and widths carry the unit of the axis on which they were fitted.

{variables}
## Outcomes of a fit

{outcomes}"""


def api_page() -> str:
    """Every public function: its signature, and its first sentence."""
    listed = {name for names in GROUPS.values() for name in names}
    rest = tuple(name for name in nd.__all__ if name not in listed)
    groups = GROUPS | ({"Others": rest} if rest else {})
    sections = [_section(title, names) for title, names in groups.items()]
    return "\n".join([API_HEAD, *sections])


def _section(title: str, names: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(_entry(name) for name in names)


def _entry(name: str) -> str:
    function = getattr(nd, name)
    computes = " **Computes.**" if name.startswith(COMPUTES) else ""
    summary = first_paragraph(function).replace("``", "`")
    return f"### `{name}`\n\n{summary}{computes}\n\n```text\n{_call(name, function)}\n```\n"


def first_paragraph(function: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def _call(name: str, function: Callable[..., object]) -> str:
    """Write a signature, one option a line where it is long."""
    parameters = inspect.signature(function).parameters.values()
    words, keyword_only = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            words.append("*")
            keyword_only = True
        words.append(_word(parameter))
    line = f"{name}({', '.join(words)})"
    return line if len(line) <= 90 else f"{name}(\n    " + ",\n    ".join(words) + ",\n)"


def _word(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    default = parameter.default
    return parameter.name if default is parameter.empty else f"{parameter.name}={default!r}"


def variables_page() -> str:
    """Tables of the data model, and of the outcomes of a fit."""
    coordinates = _table(
        ("Coordinate", "Dimension", "Unit", "Meaning"),
        (
            (f"`{name}`", f"`{about.dimension}`", about.units, about.long_name)
            for name, about in COORDINATES.items()
        ),
    )
    variables = _table(
        ("Variable", "Dimensions", "Unit", "Adds along a ray", "Meaning"),
        (
            (f"`{name}`", ", ".join(about.dims) or "none", about.units,
             "yes" if about.additive else "no", about.long_name)
            for name, about in VARIABLES.items()
        ),
    )  # fmt: skip
    outcomes = _table(
        ("`peak_status`", "Name", "Meaning"),
        ((str(int(one)), one.name.lower(), one.meaning) for one in FitStatus),
    )
    return VARIABLES_PAGE.format(coordinates=coordinates, variables=variables, outcomes=outcomes)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


PAGES = {"api.md": api_page, "variables.md": variables_page}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())


if __name__ == "__main__":
    main()
