"""Verbs about suites: which ones benchbench ships, a copy to edit, what their seeds can show."""

from __future__ import annotations

from pathlib import Path

import click

from benchbench.cli.options import check_folder, results_option, set_option, suite_argument
from benchbench.core.errors import UserError
from benchbench.core.files import write_text
from benchbench.core.settings import suggest
from benchbench.suite.file import SCHEMA, describe, shipped_folder, shipped_suites
from benchbench.suite.load import load_suite


@click.group(invoke_without_command=True)
@click.pass_context
def suites(context: click.Context) -> None:
    """List the suites that benchbench ships; 'run', 'plan' and the others take their names."""
    if context.invoked_subcommand is not None:
        return
    found = shipped_suites()
    width = max(map(len, found))
    for name, path in found.items():
        click.echo(f"{name:<{width}}  {describe(path)}".rstrip())


@suites.command()
@click.argument("name")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder to write into; by default the current one.",
)
def copy(name: str, to: Path) -> None:
    """Write the shipped suite NAME as NAME.yaml, to edit; the schema for editors beside it."""
    if name not in shipped_suites():
        raise UserError(
            f"{name}: is not a suite that benchbench ships{suggest(name, shipped_suites())}"
        )
    check_folder("--to", to)
    target = to / f"{name}.yaml"
    if target.exists():
        raise UserError(f"{target}: is there already; move it, or choose another folder with --to")
    try:
        write_text(target, shipped_suites()[name].read_text(encoding="utf-8"))
        if not (to / SCHEMA).exists():
            write_text(to / SCHEMA, (shipped_folder() / SCHEMA).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); see --to") from None
    click.echo(
        f"{target}: results of the same 'name' share a folder, so give it a name of its own; then "
        f"'benchbench run {target}'"
    )


@click.command()
@suite_argument
@set_option
@results_option
@click.option(
    "--pilot",
    metavar="NAME",
    help="Take the spreads from these results, a folder's name under --results.",
)
def power(suite: Path, overrides: tuple[str, ...], results: Path, pilot: str | None) -> None:
    """Say what SUITE can show: per claim and environment the smallest effect and the pairs needed.

    From the suite's own finished pairs; where it has none, from other results of the same
    environments, and it says which.
    """
    from benchbench.analysis.pilot import plan_power, power_text

    click.echo(power_text(plan_power(load_suite(suite, overrides), results, pilot)))
