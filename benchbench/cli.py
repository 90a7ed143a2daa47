"""The command line: one function a verb. It parses, calls and prints; the work is elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from benchbench import __version__
from benchbench.errors import UserError
from benchbench.grid import Cell, expand, select
from benchbench.routing import LOSSES, REGISTRY
from benchbench.suite_file import load_suite, suite_schema

if TYPE_CHECKING:
    from benchbench.run.executors.slurm import Slurm
    from benchbench.run.store import Store

suite_argument = click.argument("suite", type=click.Path(path_type=Path))
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Folder that holds a folder for each suite's results.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override any key of the suite, such as train.updates=500 or envs.0.pixels.size=48.",
)
suite_state_argument = click.argument("suite", metavar="SUITE")
only_option = click.option(
    "--only",
    multiple=True,
    metavar="NAME=VALUE",
    help="Run a part of the grid: env=…, variant=… or seed=…; repeat it to name several.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, or cuda:0,2; auto takes every CUDA device, or the CPU.",
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Cells at a time in all; by default as many as CPUs.",
)
per_device_option = click.option(
    "--jobs-per-device",
    default="auto",
    show_default=True,
    metavar="N|auto",
    callback=lambda context, option, value: _count_or_auto(option.opts[0], value),
    help="Cells at a time on a device; auto fills its memory, as cells that are done have told.",
)

WATCH_SECONDS = 2.0
"""How often ``status --watch`` looks."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Which loss should train the pixel encoder of an offline RL agent?

    A suite file names environments, seeds and routing variants; benchbench trains one shared agent
    on every combination, measures what each variant learns, and answers with a table and plots.

    \b
    benchbench plan   suites/quickstart.yaml    what would be run, and how long it takes
    benchbench run    suites/quickstart.yaml    run what is missing, then report
    benchbench report quickstart                the report again
    benchbench audit  suites/quickstart.yaml    where each loss's gradient goes
    """


@main.command()
@suite_argument
@only_option
@set_option
@device_option
@jobs_option
@per_device_option
@results_option
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Try a failed cell so often again without its getting further; one that diverged, never.",
)
@click.option(
    "--keep-going/--fail-fast",
    default=True,
    show_default=True,
    help="After a cell has failed for good: go on with the others, or stop.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="A killed cell loses at most so much; 'inf' for no checkpoints.",
)
@click.option(
    "--silence",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Kill a cell that gives no sign of life for so long.",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "slurm"]),
    default="local",
    show_default=True,
    help="Run on this machine, or as jobs of a Slurm cluster that shares the results folder.",
)
@click.option(
    "--cluster",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --executor slurm: a YAML file of what a job asks for, such as partition: gpu.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; the same as 'plan'.")
def run(
    suite: Path,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    jobs: int | None,
    jobs_per_device: int | None,
    results: Path,
    retries: int,
    keep_going: bool,
    checkpoint_every: float,
    silence: float,
    executor: str,
    cluster: Path | None,
    dry_run: bool,
) -> None:
    """Run the cells of SUITE that have no results yet, then write the report.

    The same command again goes on where the last one stopped: finished cells are kept, and an
    edited suite runs the cells that the edit has changed. Ctrl-C stops cleanly: cells at work leave
    a checkpoint, and go on from it the next time.

    Exit code: 0 all cells done, 1 a cell failed, 2 a mistake in the suite or the command, 130
    stopped by Ctrl-C, 143 by SIGTERM.
    """
    from benchbench.run.devices import choose_devices
    from benchbench.run.local import Interrupted, RunOptions
    from benchbench.run.placing import Slots
    from benchbench.run.runner import Executor, run_grid
    from benchbench.run.store import Store

    loaded = load_suite(suite, overrides)
    cells = expand(loaded)
    wanted = select(cells, _parse_only(only))
    store = Store(results, loaded.name)
    options = RunOptions(checkpoint_every, silence, retries, fail_fast=not keep_going)
    where: Slots | Executor
    if executor == "slurm":
        where = _slurm(cluster, device, jobs, jobs_per_device)
    elif cluster is not None:
        _fail("--cluster: is for --executor slurm; add that, or leave it out")
    else:
        where = Slots.choose(choose_devices(device), jobs, len(cells), jobs_per_device)
    if dry_run:
        from benchbench.run.plan import plan_text

        if not isinstance(where, Slots):
            _fail("--dry-run: plans this machine's runs; leave --executor slurm out")
        click.echo(plan_text(wanted, store, where))
        return
    try:
        failures = run_grid(loaded, cells, wanted, store, where, options)
    except Interrupted as stopped:
        click.echo(
            "\nStopped. Finished cells are kept; the same command again does what is missing.",
            err=True,
        )
        sys.exit(128 + stopped.signum)
    _print_report(store.folder)
    for cell, failure, log in failures:
        click.secho(f"failed: {cell.label}: {failure} (log: {log})", fg="red", err=True)
    if failures:
        sys.exit(1)


@main.command()
@suite_argument
@only_option
@set_option
@device_option
@jobs_option
@per_device_option
@results_option
@click.pass_context
def plan(context: click.Context, **options: object) -> None:
    """Show what 'run' would do: the grid, what is done, the data, the devices, the time."""
    context.invoke(run, dry_run=True, **options)


@main.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@results_option
@click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Language of the pages: zh writes REPORT.zh.md and report.zh.html.",
)
def report(suites: tuple[str, ...], results: Path, lang: Literal["en", "zh"]) -> None:
    """Write and print the report of SUITE: its file, or its name under the results folder.

    Without SUITE: of every suite that has results.
    """
    if suites:
        folders = [results / _suite_name(suite) for suite in suites]
    else:
        folders = sorted(path.parent for path in results.glob("*/suite.json"))
        if not folders:
            _fail(f"{results}: holds no results; make some with 'benchbench run SUITE'")
    for folder in folders:
        _print_report(folder, lang)


@main.command()
@suite_state_argument
@set_option
@results_option
@click.option("--watch", is_flag=True, help="Keep it fresh until the grid is done or Ctrl-C.")
def status(suite: str, overrides: tuple[str, ...], results: Path, watch: bool) -> None:
    """Show how SUITE's grid is getting on, from another terminal or afterwards.

    Done, running (where, since when, how far), failed (why), missing.
    """
    from benchbench.run.status import grid_status, status_text

    store, cells = _grid_of(suite, overrides, results)
    while watch:
        click.clear()
        click.echo(status_text(store, cells))
        if all(one.state == "done" for one in grid_status(store, cells)):
            return
        time.sleep(WATCH_SECONDS)
    click.echo(status_text(store, cells))


@main.command()
@suite_state_argument
@set_option
@results_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(suite: str, overrides: tuple[str, ...], results: Path, yes: bool) -> None:
    """List what SUITE's results folder can do without, with sizes, ask, and remove it.

    Cells that left the suite, logs and checkpoints of published cells, and what killed processes
    left behind. Results of the suite's own cells stay.
    """
    from benchbench.run.clean import find_litter, remove
    from benchbench.run.runner import held

    store, cells = _grid_of(suite, overrides, results)
    if not store.folder.is_dir():
        _fail(f"{store.folder}: holds no results, so there is nothing to clean")
    with held(store):
        litter = find_litter(store, {cell.key for cell in cells})
        for one in litter:
            click.echo(f"{_size(one.size)}  {one.path}  ({one.why})")
        total = _size(sum(one.size for one in litter)).strip()
        if not litter:
            click.echo(f"{store.folder}: nothing to remove")
        elif yes or click.confirm(f"Remove these {len(litter)}, {total} in all?"):
            for one in litter:
                remove(one)
            click.echo(f"removed {len(litter)}, {total} in all")


@main.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="FOLDER...",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)
def merge(target: Path, folders: tuple[Path, ...]) -> None:
    """Join results folders of one suite, from several machines, into the folder TARGET.

    Each is a folder such as results/quickstart. A cell that is there twice must have come to the
    same, except for times and machine, or nothing is merged.
    """
    from benchbench.run.merge import merge as merge_folders
    from benchbench.run.runner import held
    from benchbench.run.store import Store

    with held(Store(target.parent, target.name)):
        new = merge_folders(target, folders)
    click.echo(f"{target}: {len(new)} new cells")


@main.command()
@results_option
def doctor(results: Path) -> None:
    """Say what this machine offers a run, what is wrong with it, and the cure.

    Exit code: 0 nothing that keeps a run from working, 1 a problem.
    """
    from benchbench.run.doctor import examine

    colours = {"ok": "green", "warning": "yellow", "problem": "red"}
    problems = 0
    for found in examine(results):
        level = click.style(found.level.ljust(8), fg=colours[found.level])
        click.echo(f"{level} {found.what:<9} {found.text}")
        if found.cure:
            click.echo(f"{'':<18} -> {found.cure}")
        problems += found.level == "problem"
    sys.exit(1 if problems else 0)


@main.command()
def variants() -> None:
    """List the variants that a suite may name: who holds the encoder, what each loss does to it."""
    for routing in REGISTRY.values():
        holders = ", ".join(routing.encoder_in) or "nobody"
        flows = ", ".join(f"{loss} {routing.flow(loss)}" for loss in LOSSES)
        click.echo(f"{routing.name:<16}encoder in: {holders}; {flows}\n{'':<16}{routing.why}")


@main.command()
@suite_argument
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="Audit this variant, of the suite or of benchbench's own; repeat it to name several.",
)
@set_option
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the flows too, as a .png, .svg or .pdf.",
)
def audit(
    suite: Path, variants: tuple[str, ...], overrides: tuple[str, ...], figure: Path | None
) -> None:
    """Show where each loss's gradient goes, as measured in three real updates of each variant.

    On the suite's first environment and seed: which gradient is computed, kept, dropped, and
    applied by which optimizer.

    Exit code: 0 all variants do what their definitions say, 1 one does not, 2 a mistake in the
    suite or the command.
    """
    from benchbench.run.audit import audit_suite, flow, variant_text
    from benchbench.run.audit_figure import figure_format, save_flows

    if figure:
        figure_format(figure)
    found = audit_suite(load_suite(suite, overrides), variants)
    click.echo("\n\n".join(variant_text(one) for one in found))
    if figure:
        save_flows([flow(one) for one in found], figure)
        click.echo(f"\nfigure  {figure}")
    if any(one.mismatch for one in found):
        sys.exit(1)


@main.command()
def schema() -> None:
    """Print the JSON schema of suite files, for editors."""
    click.echo(suite_schema(), nl=False)


def _slurm(cluster: Path | None, device: str, jobs: int | None, per_device: int | None) -> Slurm:
    if device != "auto" or jobs is not None:
        _fail("--device and --jobs: are for --executor local; a job's stand in the cluster file")
    from benchbench.run.executors.slurm import Slurm, load_cluster

    return Slurm(load_cluster(cluster), per_device)


def _print_report(folder: Path, lang: Literal["en", "zh"] = "en") -> None:
    from benchbench.report import report_files, write_report

    click.echo(write_report(folder, lang))
    click.echo(f"\nresults  {folder}/cells.parquet, evaluations.parquet, training.parquet, …")
    click.echo(f"report   {' and '.join(str(path) for path in report_files(folder, lang))}")


def _grid_of(suite: str, overrides: tuple[str, ...], results: Path) -> tuple[Store, list[Cell]]:
    """The results folder and the cells of a suite: by its file, or as it was last run by its name.

    A suite's name stands for the overrides that it was run with, too.
    """
    from benchbench.results import read_suite
    from benchbench.run.store import Store

    if Path(suite).suffix in (".yaml", ".yml"):
        loaded = load_suite(Path(suite), overrides)
    elif overrides:
        _fail("--set needs the suite's file; its name stands for the suite as it was last run")
    else:
        loaded = read_suite(results / Path(suite).name)[0]
    return Store(results, loaded.name), expand(loaded)


def _size(size: int) -> str:
    return f"{size / 1e6:>9,.2f} MB"


def _count_or_auto(option: str, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) == 0:
        _fail(f"{option} {value}: choose auto, or a count such as 4")
    return int(value)


def _parse_only(only: tuple[str, ...]) -> dict[str, set[str]]:
    wanted: dict[str, set[str]] = {}
    for item in only:
        name, equals, value = item.partition("=")
        if not equals or not value:
            _fail(f"--only {item}: write it as NAME=VALUE, such as variant=after")
        wanted.setdefault(name, set()).add(value)
    return wanted


def _suite_name(suite: str) -> str:
    path = Path(suite)
    return load_suite(path).name if path.suffix in (".yaml", ".yml") else path.name


def _fail(message: str) -> NoReturn:
    raise UserError(message)
