"""Faults injected into runs: nothing is lost, nothing is done twice, the bits are the same."""

import errno
from pathlib import Path

import pytest

from benchmarks.faults.__main__ import ROWS, main
from benchmarks.faults.files import small_disk
from benchmarks.faults.runs import Bench, Outcome, RowFailed, RowSkipped
from ndtomo_dask.recipes.recipe import read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import hashes, write_recipe, write_scan

SIZES = {"channels": 64, "slices": 2}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.quick])
def test_a_run_is_finished_with_the_same_bits(name: str, bench: Bench) -> None:
    try:
        assert ROWS[name].inject(bench).same
    except RowSkipped as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A scan, and what a run makes of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    scan = write_scan(folder / "scan.nxs", **SIZES)
    run_recipe(read_recipe(write_recipe(folder / "recipe.yaml", scan, folder / "out.zarr")))
    return scan, hashes(folder / "out.zarr")


# Of about 150 files and folders: in the store's own metadata, an axis's, its attributes, a
# variable's, its shards, an estimate.
@pytest.mark.parametrize("files", [4, 7, 8, 10, 11, 12, 15, 16, 40, 93, 115, 131])
def test_a_disk_that_is_full_at_any_file_costs_nothing(
    files: int, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """Whatever file or folder a run comes to as it dies, the next goes on from there."""
    scan, expected = undisturbed
    store = tmp_path / "disk" / "out.zarr"
    recipe = read_recipe(write_recipe(tmp_path / "recipe.yaml", scan, store))
    try:
        with small_disk(store.parent, f"nr_inodes={files}") as remount:
            with pytest.raises(OSError, match="No space left on device") as full:
                run_recipe(recipe)
            assert full.value.errno == errno.ENOSPC
            remount("nr_inodes=100000")
            run_recipe(recipe, resume=True)
            assert hashes(store) == expected
    except RowSkipped as reason:
        pytest.skip(str(reason))


def test_a_row_that_fails_is_said_and_fails_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def lost(bench: Bench) -> Outcome:
        raise RowFailed("two blocks were lost")

    def other_bits(bench: Bench) -> Outcome:
        return Outcome("a bit flipped", "code 0", "nothing", same=False)

    def absent(bench: Bench) -> Outcome:
        raise RowSkipped("no such thing here")

    rows = list(ROWS)[:3]
    for name, inject in zip(rows, (lost, other_bits, absent), strict=True):
        monkeypatch.setitem(ROWS, name, type(ROWS[name])(name, inject))
    for name, code, words in zip(
        rows, (1, 1, 0), ("FAILED: two blocks were lost", "| NO |", "skipped: no"), strict=True
    ):
        assert main(["--rows", name, "--folder", str(tmp_path)]) == code
        assert words in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
