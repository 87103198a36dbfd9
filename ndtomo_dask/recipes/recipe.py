"""A recipe: a list of verbs as YAML, validated against the verbs' own signatures."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import xarray as xr
import yaml

from ndtomo_dask import correct
from ndtomo_dask.apply import unlimited_memory
from ndtomo_dask.components.clusters import find_clusters, map_clusters
from ndtomo_dask.components.decompose import find_components, find_spectral_moments, map_components
from ndtomo_dask.components.references import fit_references, phase_fractions
from ndtomo_dask.errors import RecipeError, nearest
from ndtomo_dask.frames.integrate import integrate
from ndtomo_dask.io.frames import open_frames
from ndtomo_dask.io.nexus import KEYS as MAP_KEYS
from ndtomo_dask.io.pattern_tables import inline_patterns
from ndtomo_dask.io.peak_tables import inline_table
from ndtomo_dask.io.scan import open_scan
from ndtomo_dask.peaks import crystal
from ndtomo_dask.peaks.evaluate import evaluate_peaks
from ndtomo_dask.peaks.fit import fit_peaks
from ndtomo_dask.peaks.moments import peak_moments
from ndtomo_dask.peaks.table import find_peaks
from ndtomo_dask.recipes.patterns import drawn_patterns
from ndtomo_dask.reconstruction import align
from ndtomo_dask.reconstruction.compress import find_spectral_basis
from ndtomo_dask.reconstruction.polar import to_cartesian, to_polar
from ndtomo_dask.reconstruction.reconstruct import reconstruct


@dataclass(frozen=True)
class Verb:
    """A verb that a recipe may name."""

    function: Callable[..., xr.Dataset]
    needs: tuple[str, str] | Callable[[Mapping[str, Any]], tuple[str, str]] | None = None
    """Variable and layout it must have, or how these follow from its options; None where any blocks
    will do."""
    applies: str | None = None
    """Variable of a ``find_`` result that it applies, where it takes one."""
    instead: str | None = None
    """Option that stands in place of that result."""
    required: bool = False
    """Whether it cannot do without that result."""
    replaces: str | None = None
    """Variable of which it makes another version."""
    sized: tuple[str, ...] = ()
    """Dimensions of which it needs all entries even where it only rehearses."""


def _whole_along(options: Mapping[str, Any]) -> tuple[str, str]:
    """Tell in which layout a sinogram is whole along a dimension."""
    return "sinogram", "spectra" if options.get("along", "channel") == "channel" else "images"


def _whole_spectra(options: Mapping[str, Any]) -> tuple[str, str]:
    """Tell whose spectra must be whole."""
    return options.get("variable", "sinogram"), "spectra"


INTEGRATE = "integrate"
"""The verb that can only be the first step: then the input is frames."""
_ALL = ("time", "z", "angle", "y", "x")
_IMAGES, _SPECTRA = ("sinogram", "images"), ("volume", "spectra")
VERBS = {
    INTEGRATE: Verb(integrate),
    "find_air": Verb(correct.find_air),
    "remove_air": Verb(correct.remove_air, applies="air", replaces="sinogram"),
    "find_projection_scale": Verb(correct.find_projection_scale),
    "normalize_projections": Verb(
        correct.normalize_projections, applies="projection_scale", replaces="sinogram"
    ),
    "normalize_monitor": Verb(correct.normalize_monitor, replaces="sinogram"),
    "flat_field": Verb(correct.flat_field, replaces="sinogram"),
    "absorption_correction": Verb(correct.absorption_correction, replaces="sinogram"),
    "self_absorption_correction": Verb(
        correct.self_absorption_correction, _IMAGES, replaces="sinogram", sized=("angle", "y", "x")
    ),
    "mask_circle": Verb(correct.mask_circle),
    "find_bad_channels": Verb(correct.find_bad_channels),
    "mask_channels": Verb(correct.mask_channels, applies="bad_channel"),
    "interpolate_masked": Verb(
        correct.interpolate_masked, _whole_along, replaces="sinogram", sized=("angle",)
    ),
    "remove_outliers": Verb(
        correct.remove_outliers, _IMAGES, replaces="sinogram", sized=("angle",)
    ),
    "find_translation_scale": Verb(correct.find_translation_scale),
    "normalize_translations": Verb(
        correct.normalize_translations,
        applies="translation_scale",
        replaces="sinogram",
        required=True,
    ),
    "remove_rings": Verb(correct.remove_rings, _IMAGES, replaces="sinogram", sized=("angle",)),
    "crop": Verb(correct.crop, replaces="sinogram", sized=_ALL),
    "pad": Verb(correct.pad, replaces="sinogram", sized=_ALL),
    "rebin": Verb(correct.rebin, replaces="sinogram", sized=_ALL),
    "rebin_axis": Verb(correct.rebin_axis, _whole_spectra, replaces="sinogram", sized=_ALL),
    "subtract_background": Verb(correct.subtract_background, _whole_spectra, replaces="sinogram"),
    "find_projection_shifts": Verb(align.find_projection_shifts),
    "align_projections": Verb(align.align_projections, None, "projection_shift", required=True),
    "find_rotation_center": Verb(align.find_rotation_center),
    "set_rotation_center": Verb(align.set_rotation_center, None, "rotation_center", required=True),
    "find_spectral_basis": Verb(find_spectral_basis),
    "reconstruct": Verb(reconstruct, _IMAGES, "spectral_basis"),
    "to_polar": Verb(to_polar, ("volume", "images"), sized=("y", "x")),
    "to_cartesian": Verb(to_cartesian, sized=("y", "x")),
    "find_spectral_moments": Verb(find_spectral_moments, _SPECTRA),
    "find_components": Verb(find_components, _SPECTRA, "spectral_gram"),
    "map_components": Verb(map_components, _SPECTRA, "component_spectrum", required=True),
    "find_clusters": Verb(find_clusters, _SPECTRA, "spectral_gram"),
    "map_clusters": Verb(map_clusters, _SPECTRA, "cluster_spectrum", required=True),
    "line_patterns": Verb(drawn_patterns),
    "fit_references": Verb(fit_references, _SPECTRA, "reference_pattern", required=True),
    "phase_fractions": Verb(phase_fractions),
    "find_peaks": Verb(find_peaks, _SPECTRA),
    "fit_peaks": Verb(fit_peaks, _SPECTRA, "window_low", "windows"),
    "evaluate_peaks": Verb(evaluate_peaks, _SPECTRA),
    "peak_moments": Verb(peak_moments, _SPECTRA),
    "lattice_parameter": Verb(crystal.lattice_parameter),
    "strain": Verb(crystal.strain),
    "crystallite_size": Verb(crystal.crystallite_size),
    "williamson_hall": Verb(crystal.williamson_hall),
}
FOUND = {
    "find_air": {"air"},
    "find_bad_channels": {"bad_channel"},
    "find_projection_scale": {"projection_scale"},
    "find_translation_scale": {"translation_scale"},
    "find_projection_shifts": {"projection_shift", "rotation_center"},
    "find_rotation_center": {"rotation_center"},
    "find_spectral_basis": {"spectral_basis"},
    "find_spectral_moments": {"spectral_gram"},
    "find_components": {"component_spectrum"},
    "find_clusters": {"cluster_spectrum"},
    "find_peaks": {"window_low"},
    "line_patterns": {"reference_pattern"},
}
"""What each verb returns that another may apply: what it finds, or makes of the axis alone."""
INLINED = {"fit_peaks": inline_table, "fit_references": inline_patterns}
"""Verbs that take a table, whose file is read with the recipe."""
KEYS = ("input", "output", "steps", "save", "cluster")


@dataclass(frozen=True)
class Step:
    """One line of a recipe: a verb and its options."""

    verb: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def definition(self) -> Verb:
        """What is known of the verb."""
        return VERBS[self.verb]

    @property
    def needs(self) -> tuple[str, str] | None:
        """Variable and layout that it must have."""
        needs = self.definition.needs
        return needs(self.options) if callable(needs) else needs

    @property
    def finds(self) -> bool:
        """Whether the verb computes an estimate, rather than add to the dataset."""
        return self.verb in FOUND

    @property
    def is_given(self) -> bool:
        """Whether what the verb applies stands among its options."""
        if self.definition.applies is None:
            return False
        parameters = [*inspect.signature(self.definition.function).parameters]
        return bool({parameters[1], self.definition.instead} & {*self.options})


@dataclass(frozen=True)
class Recipe:
    """What to read, what to do, what to keep, and where to run."""

    input: Mapping[str, Any]
    """``path``, and options of `open_scan`."""
    output: Path
    steps: tuple[Step, ...]
    save: tuple[str, ...]
    """Variables to keep; empty means all that the steps make."""
    cluster: str = "local"
    follow: bool = False
    """Whether the input is still being written; does not change the result."""

    @property
    def starts_with_frames(self) -> bool:
        """Whether the input is detector frames, which the first step integrates."""
        return self.steps[0].verb == INTEGRATE

    @property
    def source(self) -> dict[str, Any]:
        """Options of `open_scan`, or of `open_frames`."""
        return {**self.input, "follow": True} if self.follow else dict(self.input)

    def with_paths(
        self,
        *,
        input: str | Path | None = None,
        output: str | Path | None = None,
    ) -> "Recipe":
        """Return the same recipe for another input, another output, or both."""
        source = self.input if input is None else {**self.input, "path": str(input)}
        return replace(self, input=source, output=Path(output or self.output))

    @property
    def text(self) -> str:
        """The recipe as YAML, in one fixed form."""
        steps = [{step.verb: dict(step.options)} for step in self.steps]
        content = {"input": dict(self.input), "steps": steps, "save": list(self.save)}
        return yaml.safe_dump(content, sort_keys=True)

    @property
    def digest(self) -> str:
        """Hash of what decides the result; where it is written and run does not."""
        return blake2b(self.text.encode(), digest_size=16).hexdigest()


def read_recipe(path: str | Path) -> Recipe:
    """Read and validate a recipe file.

    Raises
    ------
    RecipeError
        The file is missing or is no YAML, or it names a key, verb or option that does not exist;
        the message has the nearest name.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"recipe {path} does not exist.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not text, so it is no recipe.") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" near line {where.line + 1}" if where is not None else ""
        raise RecipeError(f"{path} is not valid YAML{line}. Check its indentation.") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} must have the keys {', '.join(KEYS)}.")
    return make_recipe(content, name=str(path))


def make_recipe(content: Mapping[str, Any], *, name: str = "the recipe") -> Recipe:
    """Validate a recipe given as a mapping; ``name`` is for the messages."""
    for key in content:
        if key not in KEYS:
            raise RecipeError(f"{name} has key {key!r}. {nearest(str(key), KEYS)}")
    for key in ("input", "output", "steps"):
        if not content.get(key):
            raise RecipeError(f"{name} has no {key!r}.")
    _check_kinds(content, name)
    steps = tuple(step for entry in content["steps"] for step in _with_basis(_step(entry, name)))
    source = _source(content["input"], name, _options_of_input(steps))
    _check_order(steps, name)
    kept = tuple(content.get("save") or ())
    return Recipe(source, Path(content["output"]), steps, kept, content.get("cluster", "local"))


def _check_kinds(content: Mapping[str, Any], name: str) -> None:
    kinds = {
        "output": (str | Path, "the path of a store, such as result.zarr"),
        "steps": (list, "a list, each entry '- verb' or '- verb: {option: value}'"),
        "save": (list | None, "a list of variables, such as [volume]"),
        "cluster": (str, "'local', an address or the path of a YAML file"),
    }
    for key, (kind, wanted) in kinds.items():
        if key in content and not isinstance(content[key], kind):
            raise RecipeError(f"{name}: {key!r} is {wanted}, not {content[key]!r}.")


def _options_of_input(steps: tuple[Step, ...]) -> list[str]:
    if steps[0].verb == INTEGRATE:
        return [*inspect.signature(open_frames).parameters]
    known = [*[*inspect.signature(open_scan).parameters][:-1], *MAP_KEYS]
    known.remove("follow")
    return known


def open_input(recipe: Recipe) -> xr.Dataset:
    """Open what a recipe starts from: a scan, or frames as the sinogram they integrate to."""
    if not recipe.starts_with_frames:
        return open_scan(**recipe.source)
    if recipe.follow:
        raise RecipeError("frames cannot be followed yet: run the recipe when the scan has ended.")
    with unlimited_memory():  # which the plan of the recipe limits
        return integrate(open_frames(**recipe.source), **recipe.steps[0].options)


def _source(given: Any, name: str, known: list[str]) -> dict[str, Any]:
    source = {"path": given} if isinstance(given, str) else given
    if not isinstance(source, dict) or not isinstance(source.get("path"), str):
        raise RecipeError(f"{name} needs input: {{path: scan.h5}}, not {given!r}.")
    for option in source:
        if option not in known:
            raise RecipeError(
                f"{name}: input has no option {option!r}. {nearest(str(option), known)}"
            )
    return source


def _step(entry: Any, name: str) -> Step:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise RecipeError(f"{name}: a step is 'verb' or 'verb: {{option: value}}', not {entry!r}.")
    ((verb, options),) = entry.items()
    if verb not in VERBS:
        raise RecipeError(f"{name}: verb {verb!r} is not known. {nearest(str(verb), VERBS)}")
    options = options or {}
    if not isinstance(options, dict):
        raise RecipeError(
            f"{name}: options of {verb} are written {{option: value}}, not {options!r}."
        )
    _check_options(verb, options, name)
    return Step(verb, INLINED[verb](options) if verb in INLINED else options)


def _with_basis(step: Step) -> list[Step]:
    """Put the search for a basis, which is planned and stored, before who asks for a rank."""
    if step.verb != "reconstruct" or step.options.get("spectral_rank") is None:
        return [step]
    options = dict(step.options)
    found = {"rank": options.pop("spectral_rank")}
    return [Step("find_spectral_basis", found), Step("reconstruct", options)]


def _check_options(verb: str, options: Mapping[str, Any], name: str) -> None:
    known = dict([*inspect.signature(VERBS[verb].function).parameters.items()][1:])
    for option, value in options.items():
        if option not in known:
            raise RecipeError(
                f"{name}: {verb} has no option {option!r}. {nearest(str(option), known)}"
            )
        wanted = known[option].annotation
        if not _fits(value, wanted):
            choices = get_args(wanted) if get_origin(wanted) is Literal else ()
            kind = "known" if choices else getattr(wanted, "__name__", str(wanted))
            hint = nearest(str(value), choices) if choices else ""
            raise RecipeError(
                f"{name}: {option}={value!r} of {verb} is not {kind}. {hint}".rstrip()
            )
    for option, parameter in known.items():
        found = parameter.kind is not parameter.KEYWORD_ONLY and VERBS[verb].applies is not None
        needed = parameter.default is parameter.empty and not found
        if needed and option not in options:
            raise RecipeError(f"{name}: {verb} needs option {option!r}.")


def _fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value read from YAML is of an option's type; of types unknown here, all are.

    >>> _fits(3, int | None), _fits("three", int), _fits("fbpp", Literal["fbp", "sirt"])
    (True, False, False)
    """
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if isinstance(annotation, UnionType):
        return any(_fits(value, kind) for kind in get_args(annotation))
    if annotation in (int, float):
        return isinstance(value, int | annotation) and not isinstance(value, bool)
    return isinstance(value, annotation) if annotation in (str, bool, NoneType) else True


def _check_order(steps: tuple[Step, ...], name: str) -> None:
    """Refuse a verb whose estimate no earlier step finds."""
    found: set[str] = set()
    for number, step in enumerate(steps):
        verb = step.definition
        if step.verb == INTEGRATE and number:
            raise RecipeError(f"{name}: {INTEGRATE} takes frames, so it must be the first step.")
        if verb.required and verb.applies not in found and not step.is_given:
            raise RecipeError(
                f"{name}: {step.verb} needs {verb.applies!r}: put a find_ step before it, or give "
                f"it as an option."
            )
        found |= FOUND.get(step.verb, set())
