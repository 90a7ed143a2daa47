"""How a comparison is shown, in all the forms that it may be asked for in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbench.cli.verbs import mute_output
from benchbench.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from benchbench.gate import Decision

gate_option = click.option(
    "--gate", "gated", is_flag=True, help="Let the exit code say the decision."
)
markdown_option = click.option(
    "--markdown", is_flag=True, help="Print a markdown page instead of the table."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")


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
