"""The command line: one function a verb. It parses, calls and prints; the work is elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from benchbench import __version__
from benchbench.errors import UserError
from benchbench.grid import expand, select
from benchbench.routing import LOSSES, REGISTRY
from benchbench.suite_file import load_suite, suite_schema

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
    help="Cells at a time; by default one a CPU, or one a CUDA device.",
)


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
    """


@main.command()
@suite_argument
@only_option
@set_option
@device_option
@jobs_option
@results_option
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; the same as 'plan'.")
def run(
    suite: Path,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    jobs: int | None,
    results: Path,
    dry_run: bool,
) -> None:
    """Run the cells of SUITE that have no results yet, then write the report.

    The same command again goes on where the last one stopped: finished cells are kept, and an
    edited suite runs the cells that the edit has changed. Ctrl-C stops cleanly.

    Exit code: 0 all cells done, 1 a cell failed, 2 a mistake in the suite or the command, 130
    stopped.
    """
    from benchbench.run.devices import choose_devices
    from benchbench.run.runner import Slots, run_grid
    from benchbench.run.store import Store

    loaded = load_suite(suite, overrides)
    cells = expand(loaded)
    wanted = select(cells, _parse_only(only))
    store = Store(results, loaded.name)
    slots = Slots.choose(choose_devices(device), jobs, len(cells))
    if dry_run:
        from benchbench.run.plan import plan_text

        click.echo(plan_text(wanted, store, slots))
        return
    try:
        failures = run_grid(loaded, cells, wanted, store, slots)
    except KeyboardInterrupt:
        click.echo(
            "\nStopped. Finished cells are kept; the same command again does what is missing.",
            err=True,
        )
        sys.exit(130)
    _print_report(store.folder)
    for cell, error, log in failures:
        click.secho(f"failed: {cell.label}: {error} (log: {log})", fg="red", err=True)
    if failures:
        sys.exit(1)


@main.command()
@suite_argument
@only_option
@set_option
@device_option
@jobs_option
@results_option
@click.pass_context
def plan(context: click.Context, **options: object) -> None:
    """Show what 'run' would do: the grid, what is done, the data, the devices, the time."""
    context.invoke(run, dry_run=True, **options)


@main.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@results_option
def report(suites: tuple[str, ...], results: Path) -> None:
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
        _print_report(folder)


@main.command()
def variants() -> None:
    """List the variants that a suite may name: who holds the encoder, what each loss does to it."""
    for routing in REGISTRY.values():
        holders = ", ".join(routing.encoder_in) or "nobody"
        flows = ", ".join(f"{loss} {routing.flow(loss)}" for loss in LOSSES)
        click.echo(f"{routing.name:<16}encoder in: {holders}; {flows}\n{'':<16}{routing.why}")


@main.command()
def schema() -> None:
    """Print the JSON schema of suite files, for editors."""
    click.echo(suite_schema(), nl=False)


@main.command()
@click.argument("baseline", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--gate", "gated", is_flag=True, help="Let the exit code say the decision.")
@click.option("--markdown", is_flag=True, help="Print a markdown page instead of the table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def compare(baseline: Path, candidate: Path, gated: bool, markdown: bool, as_json: bool) -> None:
    """Compare the run CANDIDATE with BASELINE, series by series.

    Both are results folders, such as results/nightly, or stored baselines, such as
    results/baselines/nightly. Where $GITHUB_STEP_SUMMARY is set, the page goes there too.

    Exit code with --gate: 0 pass, 1 regression, 2 cannot compare; without it 0, or 2 for a
    mistake.
    """
    from benchbench.gate import gate, load_snapshot
    from benchbench.gate.text import json_text, markdown_text, terminal_text

    if markdown and as_json:
        _fail("--markdown and --json: choose one")
    sides = (load_snapshot(baseline), load_snapshot(candidate))
    found = gate(*sides)
    page = markdown_text(*found, sides)
    if as_json:
        click.echo(json_text(*found))
    else:
        click.echo(page if markdown else terminal_text(*found))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(page)
    if gated:
        sys.exit(found[2].exit_code)


baselines_option = click.option(
    "--baselines",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/baselines"),
    show_default=True,
    help="Folder that holds a folder for each suite's baseline.",
)


@main.group()
def baseline() -> None:
    """The stored runs that 'compare' measures later ones by."""


@baseline.command("update")
@click.argument("run_folder", metavar="RESULTS", type=click.Path(path_type=Path))
@baselines_option
def baseline_update(run_folder: Path, baselines: Path) -> None:
    """Make the run in RESULTS, such as results/nightly, the baseline of its suite.

    Refused where a cell is failed or missing, or the code was not one clean commit. Commit the
    files that it writes: a baseline changes by review.
    """
    from benchbench.gate.baseline import update_baseline

    folder = update_baseline(run_folder, baselines)
    click.echo(f"baseline {folder}: review and commit it")


@baseline.command("show")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@baselines_option
def baseline_show(names: tuple[str, ...], baselines: Path) -> None:
    """Show where the baselines NAME, or all, come from, and their key."""
    from benchbench.gate.baseline import stored_baselines
    from benchbench.gate.text import baseline_text

    for snapshot in stored_baselines(baselines, names):
        click.echo(baseline_text(snapshot))


@main.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the series into this file (.png, .svg or .pdf).",
)
@click.option(
    "--csv", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here."
)
def history(folders: tuple[Path, ...], plot: Path | None, csv: Path | None) -> None:
    """Show the gated series over the nights in FOLDERS, and the steps found in them."""
    from benchbench.gate import load_snapshot
    from benchbench.gate.history import nights, steps
    from benchbench.gate.text import history_text

    table = nights([load_snapshot(folder) for folder in folders])
    if table.empty:
        _fail(f"{folders[0]}: no finished cell in it or the others; there is no history yet")
    found = steps(table)
    click.echo(history_text(table, found))
    if csv:
        table.to_csv(csv, index=False)
    if plot:
        from benchbench.gate.history_plot import plot_history

        plot_history(table, found, plot)


def _print_report(folder: Path) -> None:
    from benchbench.report import write_report

    click.echo(write_report(folder))
    click.echo(f"\nresults  {folder}/cells.parquet, evaluations.parquet, training.parquet, …")
    click.echo(f"report   {folder}/REPORT.md")


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
