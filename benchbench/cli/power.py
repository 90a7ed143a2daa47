"""What a suite's seeds can show, said before they are run."""

from __future__ import annotations

from pathlib import Path

import click

from benchbench.cli.options import results_option, set_option, suite_argument
from benchbench.suite.load import load_suite


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
