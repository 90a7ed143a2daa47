"""Writing a report and printing what it says; judging the scores of other code with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import click

from benchbench.cli.as_json import report_json, show
from benchbench.cli.options import check_folder
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
        return  # the user's own code is not here; the report says so
    keep_cards(Store(folder.parent, folder.name), cells)


@click.command()
@click.argument("scores", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--delta",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="The smallest difference of interest, in the score's units: fix it before you look.",
)
@click.option(
    "--contrast",
    "contrasts",
    multiple=True,
    metavar="A:B",
    help="Compare A with the control B; repeat it. By default every variant with the first.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Results folder to write; by default results/<file's name>.",
)
def judge(scores: Path, delta: float, contrasts: tuple[str, ...], out: Path | None) -> None:
    """Judge the SCORES of other code, a CSV file, with the same statistics and page.

    Columns: environment, seed, variant, step and score, also under the names of CleanRL and W&B; or
    W&B's export of a chart, a column a run. Runs of one environment and seed are a pair.
    """
    from benchbench.results.foreign import read_scores, write_foreign

    pairs = [tuple(text.partition(":")[::2]) for text in contrasts]
    if bad := next((c for c, (of, against) in zip(contrasts, pairs, strict=True)
                    if not of or not against), None):  # fmt: skip
        raise UserError(f"--contrast {bad}: write it as A:B")
    check_folder("--out", out)
    name = re.sub(r"[^\w.-]+", "-", scores.stem).strip("-.") or "scores"
    folder = out or Path("results") / name
    if (folder / "cells").exists():
        raise UserError(f"{folder}: holds results of benchbench's own; name another with --out")
    write_foreign(folder, read_scores(scores), delta, [(of, against) for of, against in pairs])
    print_report(folder)
