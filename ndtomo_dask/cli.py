"""The command line: ``ndtomo-dask COMMAND``, the same verbs under the same names."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from ndtomo_dask import plan, runtime
from ndtomo_dask.demo import run_demo
from ndtomo_dask.errors import NdtomoError, OptionError, SchemaError, Stopped, StoreError
from ndtomo_dask.io import convert, export, export_patterns, open_scan, save
from ndtomo_dask.io.blocks import Share
from ndtomo_dask.io.verify import verify_store
from ndtomo_dask.recipes.follow import Following
from ndtomo_dask.recipes.planner import least_memory, plan_recipe
from ndtomo_dask.recipes.recipe import Recipe, read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from ndtomo_dask.report import write_report
from ndtomo_dask.schema import package_version
from ndtomo_dask.survey import survey_scan
from ndtomo_dask.synthetic import simulate_scan
from ndtomo_dask.synthetic.sizes import plan_scan, scan_sizes, seconds_per_block

EXIT_DAMAGED, EXIT_USER_ERROR = 1, 2
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or after one sentence on what happened another exit code.

    That is 1 if a store is not whole, 2 for what the user can mend, 75 if the run was stopped by
    a signal and can be resumed.
    """
    options = _parser().parse_args(arguments)
    try:
        with runtime.stoppable():
            return options.command(options) or 0
    except NdtomoError as error:
        said = (
            str(error).replace("overwrite=True", "--overwrite").replace("resume=True", "--resume")
        )
        print(f"ndtomo-dask: {said}", file=sys.stderr)
        return runtime.EXIT_STOPPED if isinstance(error, Stopped) else EXIT_USER_ERROR
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = error.filename or "the output"
        print(
            f"ndtomo-dask: {where} cannot be written: {error.strerror}. Free space there, and run "
            f"again; what was begun is finished with --resume.",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ndtomo-dask",
        description="Hyperspectral tomography out of core: from scans to labelled chemistry.",
    )
    parser.add_argument("--version", action="version", version=package_version())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_simulate(commands)
    _add_info(commands)
    _add_survey(commands)
    _add_plan(commands)
    _add_run(commands)
    _add_verify(commands)
    _add_convert(commands)
    _add_export(commands)
    _add_settings(commands)
    _add_demo(commands)
    return parser


def _add_simulate(commands: "Commands") -> None:
    parser = commands.add_parser("simulate", help="simulate an XRD-CT scan with known truth")
    parser.add_argument("output", type=Path, help="where to write: scan.nxs, or a store scan.zarr")
    parser.add_argument(
        "--size", default="64", help="translations (default 64), or bytes of the scan, such as 1TB"
    )
    parser.add_argument("--angles", type=int, help="projections (default 96)")
    parser.add_argument("--channels", type=int, help="points of 2θ (default 250)")
    parser.add_argument("--slices", type=int, help="slices along z (default: no z)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--plan", action="store_true", help="say what it will cost; write nothing")
    parser.add_argument("--resume", action="store_true", help="finish an interrupted store")
    parser.add_argument("--overwrite", action="store_true", help="replace the output")
    parser.set_defaults(command=_simulate)


def _simulate(options: argparse.Namespace) -> None:
    words = str(options.size).isdecimal()
    sizes: dict[str, Any] = {"size": int(options.size)} if words else scan_sizes(options.size)
    given = {name: getattr(options, name) for name in ("angles", "channels", "slices")}
    sizes |= {name: value for name, value in given.items() if value is not None}
    ds = simulate_scan(**sizes, seed=options.seed)
    if options.plan:
        _print_plan(ds)
        return
    with runtime.progress():
        if options.output.suffix == ".zarr":
            save(ds, options.output, overwrite=options.overwrite, resume=options.resume)
        else:
            export(ds, options.output, variable="sinogram", overwrite=options.overwrite)


def _print_plan(ds: xr.Dataset) -> None:
    made = plan_scan(ds)
    print(", ".join(f"{size} {dim}" for dim, size in ds["sinogram"].sizes.items()))
    print(plan.table([made]))
    hours = made.tasks * seconds_per_block(ds) / 3600
    print(f"About {hours:.2g} hours of one core, by the time that one block took.")


def _add_info(commands: "Commands") -> None:
    parser = commands.add_parser("info", help="say what a file or store holds")
    _add_input(parser)
    parser.set_defaults(command=_info)


def _info(options: argparse.Namespace) -> None:
    print(_open(options))


def _add_survey(commands: "Commands") -> None:
    parser = commands.add_parser("survey", help="say what a scan is, and what is wrong with it")
    _add_input(parser)
    parser.add_argument(
        "--dims", help="dimensions of the data in the file's order, such as angle,translation"
    )
    parser.add_argument("--output", type=Path, help="write a recipe to be confirmed here")
    parser.add_argument("--json", action="store_true", help="print it for programs")
    parser.add_argument("--overwrite", action="store_true", help="replace the output")
    parser.set_defaults(command=_survey)


def _survey(options: argparse.Namespace) -> None:
    if options.output is not None and options.output.exists() and not options.overwrite:
        raise StoreError(f"{options.output} exists. Name another file, or pass --overwrite.")
    dims = options.dims and options.dims.split(",")
    found = survey_scan(options.input, group=options.group, dims=dims, **_datasets(options.dataset))
    if options.output is not None and found.recipe is not None:
        options.output.write_text(found.recipe, encoding="utf-8")
    print(found.to_json() if options.json else found)
    if options.output is not None and found.recipe is None:
        raise SchemaError(f"{options.output} is not written: the scan has no angles or dimensions "
                          f"yet. Name them with --dataset and --dims.")  # fmt: skip


def _add_plan(commands: "Commands") -> None:
    parser = commands.add_parser("plan", help="say what a recipe will cost, without running it")
    parser.add_argument("recipe", type=Path, help="recipe.yaml")
    parser.add_argument("input", nargs="?", help="scan to plan for, instead of the recipe's input")
    parser.set_defaults(output=None)
    parser.add_argument("--allowed-mem", help="bytes one task may hold, such as 2GB")
    parser.add_argument("--follow", action="store_true", help="the scan is still being written")
    parser.set_defaults(command=_plan)


def _plan(options: argparse.Namespace) -> None:
    recipe = replace(_recipe(options), follow=options.follow)
    print(plan.table(plan_recipe(recipe, allowed_mem=options.allowed_mem)))


def _add_run(commands: "Commands") -> None:
    parser = commands.add_parser("run", help="run a recipe on a cluster")
    parser.add_argument("recipe", type=Path, help="recipe.yaml")
    parser.add_argument("input", nargs="?", help="scan to run on, instead of the recipe's input")
    parser.add_argument("--output", help="store to write, instead of the recipe's output")
    parser.add_argument(
        "--cluster", help="local, scheduler address, or file (default: the recipe's)"
    )
    parser.add_argument("--resume", action="store_true", help="finish an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="start again")
    parser.add_argument(
        "--share", metavar="I/N", help="one of N runs at once: do the I-th part, then help others"
    )
    _add_follow(parser)
    parser.add_argument("--report", type=Path, help="write a report here, such as report.html")
    parser.set_defaults(command=_run)


def _add_follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--follow",
        action="store_true",
        help="the scan is still being written: do each slice when it is complete",
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=Following.settle,
        metavar="SECONDS",
        help="with --follow: without a change, until a scan that is all there counts as ended "
        f"(default {Following.settle:g})",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=Following.patience,
        metavar="SECONDS",
        help="with --follow: without a change, until the scan is given up (default "
        f"{Following.patience:g})",
    )


def _following(options: argparse.Namespace) -> Following | None:
    if not options.follow:
        return None
    return Following(options.settle, options.patience, runtime.WaitingLine())


def _run(options: argparse.Namespace) -> None:
    recipe = replace(_recipe(options), follow=options.follow)
    following = _following(options)
    share = None if options.share is None else Share.parse(options.share)
    where = options.cluster or recipe.cluster
    with runtime.connect(where, least_memory=least_memory(recipe)), runtime.progress():
        print(plan.table(plan_recipe(recipe)))
        result = run_recipe(
            recipe,
            resume=options.resume,
            overwrite=options.overwrite,
            share=share,
            following=following,
        )
    if options.report is not None and (share is None or share.number == 1):
        write_report(recipe.output, options.report)
    print(f"{recipe.output} holds {', '.join(map(str, result.data_vars))}")


def _recipe(options: argparse.Namespace) -> Recipe:
    recipe = read_recipe(options.recipe)
    return recipe.with_paths(input=options.input, output=options.output)


def _add_verify(commands: "Commands") -> None:
    parser = commands.add_parser("verify", help="read a store, say what is damaged or missing")
    parser.add_argument("store", type=Path, help="result.zarr")
    parser.add_argument("--cluster", help="scheduler address or file (default: this machine)")
    parser.set_defaults(command=_verify)


def _verify(options: argparse.Namespace) -> int:
    where = nullcontext() if options.cluster is None else runtime.connect(options.cluster)
    with where, runtime.progress():
        verification = verify_store(options.store)
    for line in verification.lines():
        print(line)
    print(verification)
    return EXIT_DAMAGED if verification.damages else 0


def _add_convert(commands: "Commands") -> None:
    parser = commands.add_parser("convert", help="copy a scan into a store")
    _add_input(parser)
    parser.add_argument("store", type=Path, help="scan.zarr")
    parser.add_argument("--resume", action="store_true", help="finish an interrupted copy")
    parser.add_argument("--overwrite", action="store_true", help="replace what the store has")
    parser.set_defaults(command=_convert)


def _convert(options: argparse.Namespace) -> None:
    with runtime.progress():
        convert(
            options.input,
            options.store,
            resume=options.resume,
            overwrite=options.overwrite,
            group=options.group,
            **_datasets(options.dataset),
        )


def _add_export(commands: "Commands") -> None:
    parser = commands.add_parser(
        "export", help="write for other programs: .h5, .nxs, .xy, .xye, .png"
    )
    _add_input(parser)
    parser.add_argument("output", type=Path, help="file to write; its suffix is the format")
    parser.add_argument("--variable", help="what to write (default: the volume, or what there is)")
    parser.add_argument(
        "--each-pixel", action="store_true", help="the output is a folder, with an .xye per pixel"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output")
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> None:
    given = {"variable": options.variable, "overwrite": options.overwrite}
    if not options.each_pixel:
        export(_open(options), options.output, **given)
        return
    scan = _open(options, layout="spectra")
    with runtime.progress():
        export_patterns(scan, options.output, **given | {"variable": options.variable or "volume"})


def _add_settings(commands: "Commands") -> None:
    parser = commands.add_parser("settings", help="print Dask's, for a job script to evaluate")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of the kernels in a worker (default 1)"
    )
    parser.set_defaults(command=_settings)


def _settings(options: argparse.Namespace) -> None:
    print(runtime.shell_exports(options.threads))


def _add_demo(commands: "Commands") -> None:
    parser = commands.add_parser("demo", help="simulate a scan, run the main job, show the result")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo"), help="default: demo")
    parser.add_argument("--size", type=int, default=128, help="translations (default 128)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> None:
    with nullcontext() if options.quiet else runtime.progress():
        result = run_demo(options.folder, size=options.size, say=print)
    if not result.passed:
        raise NdtomoError("the demo ran, but its result is less accurate than it should be.")


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="a file or a store")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="which dataset is what, such as sinogram=entry/data/data; may be repeated",
    )
    parser.add_argument("--group", help="which scan or entry of the file, such as 2.1")


def _open(options: argparse.Namespace, *, layout: str | None = None) -> xr.Dataset:
    named = {"layout": layout, "group": options.group, **_datasets(options.dataset)}
    return open_scan(options.input, **named)


def _datasets(pairs: Sequence[str]) -> dict[str, Any]:
    """Read the map of datasets; a name that is given several times is in as many pieces."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        if "=" not in pair:
            raise OptionError(f"--dataset {pair} must be NAME=PATH, such as angle=entry/theta.")
        name, place = pair.split("=", 1)
        found.setdefault(name, []).append(place)
    return {name: places[0] if len(places) == 1 else places for name, places in found.items()}


if __name__ == "__main__":
    sys.exit(main())
