"""The documentation keeps its word: its code runs and prints what it says, its names exist."""

import contextlib
import doctest
import importlib.util
import inspect
import io
import re
import runpy
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml

import ndtomo_dask as nd
from ndtomo_dask import cli
from ndtomo_dask.plan import DEFAULT_ALLOWED_MEM
from ndtomo_dask.recipes.recipe import KEYS, VERBS, make_recipe, read_recipe
from ndtomo_dask.runtime import check_cluster

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
CHANGES = ("Added", "Changed", "Fixed", "Removed", "Known limits")
PROGRAMS = (
    "", "apptainer", "bash", "cd", "dask", "docker", "eval", "git", "grep", "helm", "kubectl",
    "mpirun", "pip", "pytest", "qsub", "sbatch", "sed", "source", "squeue", "ssh", "tail",
)  # fmt: skip
"""What pages may tell to type, besides the package's own command."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass
class Block:
    """A fenced block: its language, its text, where it stands, and whether one directly follows."""

    language: str
    text: str
    line: int
    follows: bool


def blocks(page: Path) -> list[Block]:
    text, end, found = page.read_text(), 0, []
    for match in FENCE.finditer(text):
        follows = not text[end : match.start()].strip()
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], line, follows))
        end = match.end()
    return found


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if any(b.language == language for b in blocks(page))]


def each_block(language: str) -> list[Any]:
    return [
        pytest.param(page, block, id=f"{title(page)}:{block.line}")
        for page in PAGES
        for block in blocks(page)
        if block.language == language
    ]


@pytest.mark.parametrize("page", pages_with("python"), ids=title)
def test_code_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with dask.config.set({"ndtomo_dask.allowed_mem": DEFAULT_ALLOWED_MEM}):
        run(page)


def run(page: Path) -> None:
    """Run the code of a page, top to bottom, and hold what it prints to what the page shows."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        if block.language == "bash" and not printed:
            simulate_what_is_used(block)
        if block.language == "python":
            out = io.StringIO()
            # Blank lines put the code on the line of its page, for tracebacks.
            code = compile("\n" * block.line + block.text, str(page), "exec")
            with contextlib.redirect_stdout(out):
                exec(code, namespace)
            printed = out.getvalue()
        elif block.language == "text" and block.follows:
            where = f"{title(page)}:{block.line} says\n{block.text}\nbut it is\n{printed}"
            assert doctest.OutputChecker().check_output(block.text, printed, FLAGS), where


def simulate_what_is_used(block: Block) -> None:
    for line in block.text.splitlines():
        program, *words = shlex.split(line, comments=True) or [""]
        if program == "ndtomo-dask" and words[0] == "simulate" and not Path(words[1]).exists():
            assert cli.main(words) == 0


@pytest.mark.parametrize(("page", "block"), each_block("bash"))
def test_commands_exist(page: Path, block: Block) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in block.text.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line, comments=True) or [""]
        if program == "ndtomo-dask":
            check_arguments(words)
        elif program == "make":
            assert set(words) <= targets, line
        elif program == "python" and words[0] == "-m":
            assert words[1] == "pytest" or importlib.util.find_spec(words[1]), line
        elif program == "python":
            assert (ROOT / words[0]).is_file(), line
        else:
            assert program in PROGRAMS, line


def check_arguments(words: list[str]) -> None:
    wrong = io.StringIO()
    with contextlib.redirect_stderr(wrong), contextlib.suppress(SystemExit):
        cli._parser().parse_args(words)
    assert not wrong.getvalue(), words


@pytest.mark.parametrize(("page", "block"), each_block("yaml"))
def test_recipes_and_cluster_files_are_valid(
    page: Path, block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("peaks.csv").write_text("peak,position,window_low,window_high\n111,3.1,3.0,3.2\n")
    content = yaml.safe_load(block.text)
    if "steps" in content:
        make_recipe(content, name=title(page))
    else:
        check_cluster(content, source=title(page))


@pytest.mark.parametrize("recipe", sorted((ROOT / "docs/examples").glob("*.yaml")), ids=title)
def test_examples_are_valid(recipe: Path) -> None:
    read_recipe(recipe)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(FENCE.sub("", page.read_text()))
    missing = [
        link for link in links if "://" not in link and not (page.parent / link).resolve().exists()
    ]
    assert not missing


def test_every_page_is_listed_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in LINK.findall(index.read_text())}
    assert {page for page in PAGES if page.parent != ROOT} - {index} <= listed


@pytest.mark.parametrize("name", ["api.md", "variables.md"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "generate_reference.py"))
    written = (script["REFERENCE"] / name).read_text()
    assert written == script["PAGES"][name](), "run: python docs/generate_reference.py"


def test_every_public_name_has_an_entry() -> None:
    entries = re.findall(
        r"^### `(\w+)`$", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE
    )
    assert sorted(entries) == sorted(nd.__all__)


def test_recipe_page_names_every_verb_option_and_key() -> None:
    text = (ROOT / "docs/reference/recipe.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert set(rows) == set(VERBS) | set(KEYS)
    for name, verb in VERBS.items():
        known = [*inspect.signature(verb.function).parameters][1:]
        assert re.findall(r"`(\w+)`", rows[name].split(" | ")[0]) == known, name


def test_house_page_names_every_module() -> None:
    text = (ROOT / "docs/explanation/design.md").read_text()
    package = ROOT / "ndtomo_dask"
    modules = {file.stem for file in package.rglob("*.py")} - {"__init__"}
    assert {name for name in modules if f"{name}.py`" not in text} == set()


def test_changelog_has_fixed_headings() -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / "docs/changelog.md").read_text(), re.MULTILINE)
    assert headings
    assert set(headings) <= set(CHANGES)
