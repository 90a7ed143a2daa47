"""Verbs about what a run has kept: policies, films, and the numbers for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from benchbench.cli.maintain import grid_of
from benchbench.cli.options import (
    check_folder,
    check_output,
    only_option,
    parse_only,
    results_option,
    set_option,
    suite_state_argument,
)
from benchbench.core.errors import UserError
from benchbench.results.trackers import TRACKERS

if TYPE_CHECKING:
    from benchbench.suite.grid import Cell


@click.command()
@suite_state_argument
@set_option
@results_option
@click.option(
    "--pair",
    metavar="env=ID,seed=N",
    help="The episode's environment and seed; by default the first of the suite.",
)
@click.option(
    "--variants", metavar="A,B", help="Variants side by side; by default those compared first."
)
@click.option(
    "--size",
    type=click.IntRange(min=16),
    default=256,
    show_default=True,
    help="Height of a redrawn picture in pixels; 0 and --seen: what the agent sees.",
)
@click.option("--seen", is_flag=True, help="Show what the agent sees, enlarged.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .gif or .mp4; by default under the results folder's films/.",
)
def film(
    suite: str,
    overrides: tuple[str, ...],
    results: Path,
    pair: str | None,
    variants: str | None,
    size: int,
    seen: bool,
    out: Path | None,
) -> None:
    """Film an evaluation episode of SUITE's kept policies: variants side by side, one start."""
    from benchbench.launch.film import FILMS, check_codec, write_film
    from benchbench.launch.film import film as play

    check_output("--out", out, FILMS)
    if out:
        check_codec(out)
    store, cells = grid_of(suite, overrides, results)
    wanted = dict(part.partition("=")[::2] for part in (pair or "").split(",") if part)
    if unknown := set(wanted) - {"env", "seed"}:
        raise UserError(f"--pair {pair}: has no '{sorted(unknown)[0]}'; write env=ID,seed=N")
    env = wanted.get("env", cells[0].stratum)
    seed = wanted.get("seed", str(next((c.seed for c in cells if c.stratum == env), 0)))
    here = [cell for cell in cells if cell.stratum == env and str(cell.seed) == seed]
    names = variants.split(",") if variants else _compared(here)
    chosen = [cell for name in names for cell in here if cell.variant == name]
    if not chosen or len(chosen) != len(names):
        wanted_names = f" with {', '.join(names)}" if names else ""
        raise UserError(f"--pair env={env},seed={seed}: the suite has no such pair{wanted_names}")
    path = out or store.folder / "films" / f"{chosen[0].folder}-seed{seed}-{size}.gif"
    pictures = play(store, chosen, None if seen else size)
    write_film(path, pictures, tall=size, most=len(pictures))
    click.echo(f"{path}: {len(pictures)} steps of {', '.join(names)}")


def _compared(cells: list[Cell]) -> list[str]:
    names = [cell.variant for cell in cells]
    return ["before", "after"] if {"before", "after"} <= {*names} else names[:2]


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "tracker",
    type=click.Choice(sorted(TRACKERS)),
    help="SOURCE is a results folder: hand its tables to this tracker, one run a cell.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["torchscript", "onnx"]),
    help="SOURCE is a cell's folder, or a results folder with --only for one cell: its policy.",
)
@only_option
@click.option("--out", type=click.Path(path_type=Path), help="File or folder to write.")
def export(
    source: Path,
    tracker: str | None,
    form: Literal["torchscript", "onnx"] | None,
    only: tuple[str, ...],
    out: Path | None,
) -> None:
    """Hand the results in SOURCE to a tracker, or write a kept policy for other programs.

    An exported policy takes frames, uint8 (E, size, size, stack x 3), and proprioception, and
    returns the environment's actions; they are compared with the policy's own.
    """
    if (tracker is None) == (form is None):
        raise UserError("export: say either --to, for a tracker, or --format, for a policy")
    if not source.exists():
        raise UserError(f"{source}: is not there; name a results folder, or a cell's folder in one")
    if tracker:
        check_folder("--out", out)
        where = TRACKERS[tracker](source, out or source / tracker)
        click.echo(where)
        return
    from benchbench.cell.policy import export_policy, load_policy

    assert form is not None
    suffix = {"torchscript": ".pt", "onnx": ".onnx"}[form]
    check_output("--out", out)
    folder = _one_cell(source, only) if (source / "suite.json").exists() else source
    policy = load_policy(folder)
    card = policy.card
    path = out or Path(
        f"{card['env'].replace('/', '_')}-seed{card['seed']}-{card['variant']}{suffix}"
    )
    apart = export_policy(policy, path, form)
    click.echo(f"{path}: actions equal to the policy's to {apart:.1g} standard deviations")


def _one_cell(source: Path, only: tuple[str, ...]) -> Path:
    """The folder of the one cell of a results folder that ``--only`` leaves."""
    from benchbench.suite.grid import select

    store, cells = grid_of(source.name, (), source.parent)
    chosen = select(cells, parse_only(only))
    if len(chosen) != 1:
        raise UserError(f"--only: {len(chosen)} cells; name one with env=, seed= and variant=")
    return store.cell_folder(chosen[0].key)
