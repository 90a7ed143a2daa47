"""The verb that shows where gradients go."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchbench.cli.options import set_option, suite_argument
from benchbench.suite.load import load_suite


@click.command()
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
    from benchbench.cli.audit_figure import figure_format, save_flows
    from benchbench.launch.suite_audit import audit_suite, flow, variant_text

    if figure:
        figure_format(figure)
    found = audit_suite(load_suite(suite, overrides), variants)
    click.echo("\n\n".join(variant_text(one) for one in found))
    if figure:
        save_flows([flow(one) for one in found], figure)
        click.echo(f"\nfigure  {figure}")
    if any(one.mismatch for one in found):
        sys.exit(1)
