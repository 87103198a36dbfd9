"""Recipes: what is understood, and what is refused in words."""

import inspect

import pytest
import yaml

from ndtomo_dask.errors import RecipeError
from ndtomo_dask.recipes.recipe import FOUND, VERBS, make_recipe, read_recipe

STEPS = [
    "remove_air",
    "find_rotation_center",
    "set_rotation_center",
    {"reconstruct": {"method": "sirt"}},
]
GOOD = {"input": "scan.nxs", "output": "result.zarr", "steps": STEPS}


def with_steps(*steps):
    return GOOD | {"steps": list(steps)}


def test_a_recipe_is_a_list_of_verbs_with_options(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(GOOD | {"save": ["volume"], "cluster": "tcp://host:8786"}))
    recipe = read_recipe(path)
    assert [step.verb for step in recipe.steps] == [*STEPS[:3], "reconstruct"]
    assert recipe.steps[3].options == {"method": "sirt"}
    assert recipe.input == {"path": "scan.nxs"}
    assert recipe.save == ("volume",)
    assert recipe.cluster == "tcp://host:8786"
    assert read_recipe(path) == recipe


def test_every_verb_named_by_a_recipe_has_what_is_said_of_it():
    for name, verb in VERBS.items():
        assert verb.function.__name__ == name
        parameters = [*inspect.signature(verb.function).parameters.values()]
        assert parameters[0].name == "ds"
        applied = [p for p in parameters[1:] if p.kind is p.POSITIONAL_OR_KEYWORD
                   and "Dataset" in str(p.annotation)]  # fmt: skip
        assert len(applied) == (verb.applies is not None)
        if verb.applies is not None:
            assert verb.required == (applied[0].default is applied[0].empty)
            assert any(verb.applies in made for made in FOUND.values())
    assert set(FOUND) == {name for name in VERBS if name.startswith("find_")} | {"line_patterns"}


@pytest.mark.parametrize(
    "change",
    [
        {"input": "other.nxs"},
        {"input": {"path": "scan.nxs", "layout": "images"}},
        {"steps": STEPS[:3]},
        {"steps": [*STEPS[:3], {"reconstruct": {"method": "cgls"}}]},
        {"save": ["volume"]},
    ],
    ids=["input", "input option", "fewer steps", "option", "save"],
)
def test_the_digest_tells_what_decides_the_result(change):
    assert make_recipe(GOOD | change).digest != make_recipe(GOOD).digest


@pytest.mark.parametrize("change", [{"output": "elsewhere.zarr"}, {"cluster": "tcp://host:1"}])
def test_the_digest_does_not_tell_where_it_is_run_and_written(change):
    assert make_recipe(GOOD | change).digest == make_recipe(GOOD).digest


def test_a_recipe_can_be_put_on_another_scan_and_keeps_its_map():
    recipe = make_recipe(GOOD | {"input": {"path": "a.h5", "sinogram": "entry/data"}})
    assert recipe.with_paths(input="b.h5").input == {"path": "b.h5", "sinogram": "entry/data"}
    assert recipe.input["path"] == "a.h5"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD | {"ouput": "x"}, r"recipe has key 'ouput'\. Did you mean 'output'\?"),
        (GOOD | {3: "x"}, r"has key 3\. Known are: cluster, input, output, save, steps"),
        ({k: GOOD[k] for k in ("output", "steps")}, r"the recipe has no 'input'\."),
        ({k: GOOD[k] for k in ("input", "steps")}, r"the recipe has no 'output'\."),
        (GOOD | {"steps": []}, r"the recipe has no 'steps'\."),
        (GOOD | {"input": {"sinogram": "entry/data"}}, r"needs input: \{path: scan\.h5\}"),
        (GOOD | {"input": ["scan.h5"]}, r"needs input: \{path: scan\.h5\}"),
        (
            GOOD | {"input": {"path": "a.h5", 1: 2}},
            r"input has no option 1\. Known are: allowed_mem, angle",
        ),
        (
            GOOD | {"input": {"path": "a.h5", "sinogramm": "x"}},
            r"option 'sinogramm'\. Did you mean 'sinog",
        ),
        (GOOD | {"steps": "reconstruct"}, r"'steps' is a list, each entry '- verb'"),
        (GOOD | {"save": "volume"}, r"'save' is a list of variables, such as \[volume\], not 'vol"),
        (GOOD | {"output": 3}, r"'output' is the path of a store, such as result\.zarr, not 3"),
        (
            with_steps("recontruct"),
            r"verb 'recontruct' is not known\. Did you mean 'reconstruct'\?",
        ),
        (with_steps("fbp9000"), r"verb 'fbp9000' is not known\. Known are: absorption_correction"),
        (
            with_steps({"reconstruct": {"metod": "fbp"}}),
            r"no option 'metod'\. Did you mean 'method'\?",
        ),
        (
            with_steps({"reconstruct": {3: "fbp"}}),
            r"reconstruct has no option 3\. Known are: accelerated, allowed_mem",
        ),
        (
            with_steps({"reconstruct": "fbp"}),
            r"options of reconstruct are written \{option: value\}",
        ),
        (with_steps({"reconstruct": {}, "remove_air": {}}), r"a step is 'verb' or 'verb: \{option"),
        (
            with_steps({"reconstruct": {"method": "fpb"}}),
            r"method='fpb' of reconstruct is not known\. Did you mean 'fbp'\?",
        ),
        (
            with_steps({"reconstruct": {"iterations": "many"}}),
            r"iterations='many' of reconstruct is not int \| None\.",
        ),
        (with_steps({"remove_air": {"width": True}}), r"width=True of remove_air is not int\."),
        (
            with_steps({"fit_peaks": {"windows": {"a": [1, 2]}, "significance": "6 sigma"}}),
            r"significance='6 sigma' of fit_peaks is not float\.",
        ),
        (with_steps(7), r"a step is 'verb' or 'verb: \{option: value\}', not 7"),
        (
            with_steps("set_rotation_center"),
            r"set_rotation_center needs 'rotation_center': put a find_",
        ),
        (
            with_steps("align_projections"),
            r"align_projections needs 'projection_shift': put a find_",
        ),
        (
            with_steps("map_components"),
            r"map_components needs 'component_spectrum': put a find_ step",
        ),
        (
            with_steps("map_components", "find_components"),
            r"map_components needs 'component_spectrum'",
        ),
        (with_steps("peak_moments"), r"peak_moments needs option 'windows'"),
    ],
)
def test_a_wrong_recipe_is_refused_in_words(content, words):
    with pytest.raises(RecipeError, match=words) as refused:
        make_recipe(content)
    assert "\n" not in str(refused.value)


def test_an_estimate_may_be_given_as_an_option_instead():
    recipe = make_recipe(with_steps({"set_rotation_center": {"center": 31.5}}))
    assert recipe.steps[0].is_given


def test_a_file_that_is_no_recipe_is_refused_in_words(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe .*none\.yaml does not exist"):
        read_recipe(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("input: scan.nxs\nsteps: [reconstruct\noutput: x.zarr\n")
    with pytest.raises(RecipeError, match=r"bad\.yaml is not valid YAML near line 3\.") as refused:
        read_recipe(bad)
    assert "\n" not in str(refused.value)
    bad.write_text("- reconstruct\n")
    with pytest.raises(RecipeError, match=r"must have the keys input, output, steps"):
        read_recipe(bad)
    bad.write_bytes(b"\x89HDF\r\n\x1a\n\x00\xff\xfe")
    with pytest.raises(RecipeError, match=r"bad\.yaml is not valid YAML|is not text"):
        read_recipe(bad)
    with pytest.raises(RecipeError, match=r"does not exist"):
        read_recipe(tmp_path)


def test_messages_name_the_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(with_steps("recontruct")))
    with pytest.raises(RecipeError, match=r"recipe\.yaml: verb 'recontruct'"):
        read_recipe(path)
