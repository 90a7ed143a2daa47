"""Writing a report and printing what it says, for every verb that ends in one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from benchbench.cli.as_json import report_json, show
from benchbench.core.errors import UserError

Lang = Literal["en", "zh", "both"]


def print_report(
    folder: Path, lang: Lang = "en", paper: bool = False, as_json: bool = False
) -> None:
    """Write the report of a results folder; print its table and where it is."""
    from benchbench.report import report_files, write_report
    from benchbench.report.language import LANGS

    keep_cards_of(folder)
    try:
        text = write_report(folder, lang, paper)
    except OSError as error:
        raise UserError(
            f"{folder}: the report cannot be written ({error.strerror}); the results are safe; "
            "make room or mend it, then 'benchbench report'"
        ) from None
    if as_json:
        show(report_json(folder))
        return
    click.echo(text)
    click.echo(f"\nresults  {folder}/cells.parquet, evaluations.parquet, training.parquet, …")
    files = [str(path) for each in LANGS if lang in (each, "both")
             for path in report_files(folder, each)]  # fmt: skip
    click.echo(f"report   {', '.join(files)}")
    if paper:
        click.echo(f"paper    {folder}/figures/*.pdf, figures/make.py and tables/*.tex")


def keep_cards_of(folder: Path) -> None:
    """Put pictures of the tasks beside results whose data are on this machine."""
    from benchbench.launch.cards import keep_cards
    from benchbench.results.store import Store
    from benchbench.results.tables import read_suite
    from benchbench.suite.grid import expand

    try:
        cells = expand(read_suite(folder)[0])
    except UserError:
        return  # code of the user's own that is not here; the report says the rest
    keep_cards(Store(folder.parent, folder.name), cells)
