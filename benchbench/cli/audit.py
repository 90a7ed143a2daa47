"""The verb that shows where gradients go, in a suite's variants or in anyone's script."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchbench.cli.as_json import audit_json, json_option, show
from benchbench.cli.options import FIGURES, check_output, set_option
from benchbench.core.errors import UserError

PAGES = (".html", ".json", ".md", ".txt")


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("target", metavar="SUITE.yaml|SCRIPT.py", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="Audit this variant, of the suite or of benchbench's own; repeat it to name several.",
)
@set_option
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=3,
    show_default=True,
    help="Of a script: training steps to watch at least, before it is stopped.",
)
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of a suite: draw the flows too, as a .png, .svg or .pdf.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of a script: write the audit too, as .html, .json, .md or .txt.",
)
@json_option
def audit(
    target: Path,
    arguments: tuple[str, ...],
    variants: tuple[str, ...],
    overrides: tuple[str, ...],
    steps: int,
    figure: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show where each loss's gradient goes, as measured in a few real updates.

    Of a suite, on its first environment and seed: a part for each variant. Of a Python script that
    trains: it runs under watch, with the ARGUMENTS after "--", and is stopped after a few steps.

    Exit code: 0 all variants do what their definitions say, or the script's audit has no warnings
    and nothing unknown; 1 not so; 2 a mistake in the suite, the script or the command.
    """
    if target.suffix == ".py":
        if variants or overrides or figure:
            raise UserError("--variant, --set and --figure are for suites; a script takes --output")
        _audit_script(target, arguments, steps, output, as_json)
    else:
        if arguments or output:
            raise UserError(f"{target} is taken for a suite, which takes no arguments and no "
                            "--output; name a script that ends in .py")  # fmt: skip
        _audit_suite(target, variants, overrides, figure, as_json)


def _audit_suite(
    target: Path,
    variants: tuple[str, ...],
    overrides: tuple[str, ...],
    figure: Path | None,
    as_json: bool,
) -> None:
    from benchbench.cli.suite_audit import audit_suite, flow, save_flows, variant_text
    from benchbench.suite.load import load_suite

    check_output("--figure", figure, FIGURES)
    found = audit_suite(load_suite(target, overrides), variants)
    if as_json:
        show(audit_json(found))
    else:
        click.echo("\n\n".join(variant_text(one) for one in found))
    if figure:
        save_flows([flow(one) for one in found], figure)
        click.echo(f"\nfigure  {figure}", err=as_json)
    if any(one.mismatch for one in found):
        sys.exit(1)


def _audit_script(
    target: Path, arguments: tuple[str, ...], steps: int, output: Path | None, as_json: bool
) -> None:
    from benchbench.gradients.script import ScriptFailed, audit_script

    check_output("--output", output, PAGES)
    if not target.is_file():
        raise UserError(f"{target}: there is no such script")
    try:
        found = audit_script(target, arguments, steps)
    except ScriptFailed as error:
        raise UserError(f"{error}; run the script without the audit to see where") from error
    if as_json:
        show(found.to_dict())
    else:
        click.echo(str(found))
    if output:
        found.save(output)
        click.echo(f"\nwritten  {output}", err=as_json)
    if not found.ok:
        sys.exit(1)
