import inspect
import subprocess
import sys

import pytest

import ndtomo_dask as nd

HEAVY = {"distributed", "matplotlib", "torch", "cupy", "astra", "sklearn", "skimage"}
FUNCTIONS = [name for name in nd.__all__ if inspect.isfunction(getattr(nd, name))]


def test_all_is_sorted_and_exact():
    assert list(nd.__all__) == sorted(set(nd.__all__))
    public = {name for name, value in vars(nd).items()
              if not name.startswith("_") and not inspect.ismodule(value)}  # fmt: skip
    assert public == {name for name in nd.__all__ if not name.startswith("_")}


def test_importing_pulls_in_nothing_heavy():
    code = "import sys, ndtomo_dask; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert not HEAVY & set(done.stdout.split())
    assert "xarray" in done.stdout


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_verb_says_what_it_does_and_what_it_takes(name):
    function = getattr(nd, name)
    text = inspect.getdoc(function)
    assert text, name
    assert text.splitlines()[0].endswith("."), "the first line is one sentence"
    if "Parameters\n---" in text:
        parts = text.split("Parameters\n----------\n")[1].split("\n\n")[0]
        described = {word.strip() for line in parts.splitlines() if not line.startswith(" ")
                     for word in line.split(",")}  # fmt: skip
        given = set(inspect.signature(function).parameters)
        assert described == given


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keywords_and_typed(name):
    parameters = list(inspect.signature(getattr(nd, name)).parameters.values())
    free = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(free) <= 2
    assert all(p.annotation is not p.empty for p in parameters)
    assert all(p.default is not p.empty or p.name in ("windows", "method", "store", "fwhm")
               for p in parameters if p.kind is p.KEYWORD_ONLY)  # fmt: skip
