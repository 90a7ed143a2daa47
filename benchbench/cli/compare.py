"""Verbs of the nightly benchmark: comparing with a baseline, keeping it, looking back."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbench.cli.as_json import json_option
from benchbench.cli.options import FIGURES, check_output
from benchbench.cli.verbs import mute_output
from benchbench.core.errors import UserError
from benchbench.core.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from benchbench.gate import Decision

gate_option = click.option(
    "--gate", "gated", is_flag=True, help="Let the exit code say the decision."
)
markdown_option = click.option(
    "--markdown", is_flag=True, help="Print a markdown page instead of the table."
)


def refuse_two_forms(markdown: bool, as_json: bool) -> None:
    """Raise :class:`UserError` where both forms are asked for; before anything is measured."""
    if markdown and as_json:
        raise UserError("--markdown and --json: choose one")


def show(
    found: tuple[pd.DataFrame, pd.DataFrame, Decision],
    title: str,
    origins: Sequence[str],
    markdown: bool,
    as_json: bool,
) -> None:
    """Print the table, the keys and the decision; the page goes to GitHub's summary, if any."""
    from benchbench.gate.text import json_text, markdown_text, terminal_text

    page = markdown_text(*found, title, origins)
    told = json_text(*found) if as_json else page if markdown else terminal_text(*found)
    # The decision is known. An output that takes no more text must not change the exit code.
    try:
        click.echo(told)
    except OSError as error:
        mute_output()
        _warn(f"the comparison cannot be printed ({error.strerror})")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(page)
        except OSError as error:
            _warn(f"GITHUB_STEP_SUMMARY: {summary} cannot be written ({error.strerror})")


def _warn(message: str) -> None:
    with suppress(OSError):
        click.echo(f"warning: {message}; the decision stands", err=True)


@click.command()
@click.argument("baseline", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@gate_option
@markdown_option
@json_option
def compare(baseline: Path, candidate: Path, gated: bool, markdown: bool, as_json: bool) -> None:
    """Compare the run CANDIDATE with BASELINE, series by series.

    Both are results folders, such as results/nightly, archives of 'pack', or stored baselines, such
    as results/baselines/nightly. Where $GITHUB_STEP_SUMMARY is set, the page goes there too.

    Exit code with --gate: 0 pass, 1 regression, 2 cannot compare; without it 0, or 2 for a
    mistake.
    """
    from benchbench.gate import gate, load_snapshot
    from benchbench.gate.text import origin
    from benchbench.results.pack import unpacked

    refuse_two_forms(markdown, as_json)
    with unpacked(baseline) as first, unpacked(candidate) as second:
        sides = [load_snapshot(first), load_snapshot(second)]
    for number, (named, read) in enumerate(((baseline, first), (candidate, second))):
        if read != named:  # an archive, unpacked for as long as it was read
            sides[number] = replace(sides[number], source=str(named))
    found = gate(sides[0], sides[1])
    show(found, sides[1].suite.name, [origin(side) for side in sides], markdown, as_json)
    if gated:
        sys.exit(found[2].exit_code)


baselines_option = click.option(
    "--baselines",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/baselines"),
    show_default=True,
    help="Folder that holds a folder for each suite's baseline.",
)


@click.group()
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
    from benchbench.gate.snapshot import update_baseline

    folder = update_baseline(run_folder, baselines)
    click.echo(f"baseline {folder}: review and commit it")


@baseline.command("show")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@baselines_option
def baseline_show(names: tuple[str, ...], baselines: Path) -> None:
    """Show where the baselines NAME, or all, come from, and their key."""
    from benchbench.gate.snapshot import stored_baselines
    from benchbench.gate.text import baseline_text

    for snapshot in stored_baselines(baselines, names):
        click.echo(baseline_text(snapshot))


@click.command()
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

    check_output("--plot", plot, FIGURES)
    check_output("--csv", csv)
    table = nights([load_snapshot(folder) for folder in folders])
    if table.empty:
        raise UserError(
            f"{folders[0]}: no finished cell in it or the others; there is no history yet"
        )
    found = steps(table)
    click.echo(history_text(table, found))
    if csv:
        write_text(csv, table.to_csv(index=False))
    if plot:
        from benchbench.gate.history import plot_history

        plot_history(table, found, plot)
