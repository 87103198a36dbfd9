"""The command line: every command, and one sentence for whatever is wrong."""

import pytest

import ndtomo_dask as nd
from ndtomo_dask.cli import EXIT_USER_ERROR, main
from tests.recipe_cases import write_recipe, write_scan

COMMANDS = ["simulate", "info", "survey", "plan", "run", "convert", "export", "settings", "demo"]


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nxs")


def refused(capsys, *arguments):
    """Run a command that must fail; return the one line that it says."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == EXIT_USER_ERROR == 2
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, output.err
    assert lines[0].startswith("ndtomo-dask: ")
    assert "Traceback" not in output.out
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"ndtomo-dask {command}" in capsys.readouterr().out


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments", [[], ["reconstruct"], ["run"], ["simulate", "x.nxs", "--sise=3"]]
)
def test_a_mistyped_command_ends_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: ndtomo-dask" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["scan.nxs", "scan.h5", "scan.zarr"])
def test_simulate_writes_what_info_shows(name, tmp_path, capsys):
    sizes = ["--size", "16", "--angles", "12", "--channels", "20", "--seed", "3"]
    assert main(["simulate", str(tmp_path / name), *sizes]) == 0
    ds = nd.open_scan(tmp_path / name)
    assert dict(ds.sinogram.sizes) == {"angle": 12, "translation": 16, "channel": 20}
    capsys.readouterr()
    assert main(["info", str(tmp_path / name)]) == 0
    shown = capsys.readouterr().out
    assert "sinogram" in shown
    assert "angle: 12" in shown
    assert "exists" in refused(capsys, "simulate", tmp_path / name, *sizes) or name == "scan.zarr"
    assert main(["simulate", str(tmp_path / name), *sizes, "--overwrite"]) == 0


def test_info_takes_a_map(scan_file, capsys):
    pairs = ["sinogram=entry/data/sinogram", "angle=entry/data/angle"]
    flags = [word for pair in pairs for word in ("--dataset", pair)]
    assert main(["info", str(scan_file), *flags]) == 0
    assert "sinogram" in capsys.readouterr().out
    assert "must be NAME=PATH" in refused(capsys, "info", scan_file, "--dataset", "entry/data")
    assert "Did you mean 'sinogram'" in refused(
        capsys, "info", scan_file, "--dataset", "sinogran=x"
    )


def test_plan_says_what_a_run_costs_and_starts_nothing(scan_file, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "recipe.yaml", tmp_path / "later.nxs", tmp_path / "out.zarr")
    assert main(["plan", str(recipe), str(scan_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("save volume ") for line in lines)
    assert lines[-1].startswith("A task may hold ")
    assert not (tmp_path / "out.zarr").exists()
    assert "does not exist" in refused(capsys, "plan", recipe)
    assert "allowed_mem is" in refused(capsys, "plan", recipe, scan_file, "--allowed-mem", "1MB")


def test_run_makes_the_store_and_the_report(scan_file, tmp_path, capsys, client):
    recipe = write_recipe(tmp_path / "recipe.yaml", scan_file, tmp_path / "out.zarr",
                          cluster=client.scheduler.address)  # fmt: skip
    assert main(["run", str(recipe), "--report", str(tmp_path / "report.html")]) == 0
    output = capsys.readouterr()
    assert "out.zarr holds" in output.out
    assert "█" not in output.out
    assert "save volume" in output.err  # progress goes where it does not spoil the output
    assert "Rotation center" in (tmp_path / "report.html").read_text()
    assert "--resume" in refused(capsys, "run", recipe)
    assert main(["run", str(recipe), "--resume"]) == 0


def test_convert_and_export(scan_file, tmp_path, capsys):
    store = tmp_path / "scan.zarr"
    assert main(["convert", str(scan_file), str(store)]) == 0
    assert "save sinogram" in capsys.readouterr().err
    said = refused(capsys, "convert", scan_file, store)
    assert "already has 'sinogram'. Pass --resume" in said
    assert "--overwrite to replace it" in said
    assert main(["convert", str(scan_file), str(store), "--resume"]) == 0
    assert main(["export", str(store), str(tmp_path / "again.h5"), "--variable", "sinogram"]) == 0
    again, first = nd.open_scan(tmp_path / "again.h5"), nd.open_scan(scan_file)
    assert (again.sinogram.values == first.sinogram.values).all()
    said = refused(capsys, "export", store, tmp_path / "again.h5", "--variable", "sinogram")
    assert "exists" in said
    assert "'volume'" in refused(capsys, "export", store, tmp_path / "x.h5", "--variable", "volume")
    assert ".foo" in refused(capsys, "export", store, tmp_path / "x.foo", "--variable", "sinogram")


def test_what_is_wrong_is_said_in_one_sentence(scan_file, tmp_path, capsys):
    assert "does not exist" in refused(capsys, "info", tmp_path / "none.h5")
    assert "does not exist" in refused(capsys, "run", tmp_path / "none.yaml")
    (tmp_path / "text.h5").write_text("not HDF5")
    assert "is not an HDF5 file" in refused(capsys, "info", tmp_path / "text.h5")
    recipe = write_recipe(tmp_path / "r.yaml", scan_file, tmp_path / "o.zarr", steps=["recontruct"])
    assert "Did you mean 'reconstruct'" in refused(capsys, "run", recipe)
    recipe = write_recipe(tmp_path / "r.yaml", scan_file, tmp_path / "o.zarr")
    assert "cluster 'slrum' is not known" in refused(capsys, "run", recipe, "--cluster", "slrum")
    said = refused(capsys, "simulate", tmp_path / "s.nxs", "--size", "2")
    assert "simulate_scan needs size >= 8" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    assert "is not empty and holds no demo" in refused(capsys, "demo", tmp_path / "full")
