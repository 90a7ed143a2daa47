"""Verbs for numbers that travel: judging those of other code, packing one's own."""

from __future__ import annotations

import re
from pathlib import Path

import click

from benchbench.cli.options import check_folder, check_output
from benchbench.cli.report import print_report
from benchbench.core.errors import UserError


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


@click.command()
@click.argument(
    "folder",
    metavar="RESULTS",
    type=click.Path(
        path_type=Path,
        file_okay=False,
    ),
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="By default RESULTS.zip."
)
@click.option("--policies", is_flag=True, help="With the kept weights of every cell.")
def pack(folder: Path, out: Path | None, policies: bool) -> None:
    """Put RESULTS into one archive: tables, page, suite and versions, with checksums.

    'merge' and 'compare' take it where they take a results folder.
    """
    from benchbench.results.pack import pack as pack_folder

    check_output("--out", out, (".zip",))
    named = folder.resolve() if folder.name in ("", "..") else folder
    path = out or named.with_name(f"{named.name}.zip")
    size, sha256 = pack_folder(folder, path, policies)
    click.echo(f"{path}: {size / 1e6:,.2f} MB, sha256 {sha256}")
