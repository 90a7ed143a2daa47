"""The verb ``data``: which data sets there are, getting them ready, checking and showing them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbench.cli.options import check_folder, set_option
from benchbench.core.errors import UserError
from benchbench.suite.file import is_suite
from benchbench.suite.grid import expand
from benchbench.suite.load import load_suite

if TYPE_CHECKING:
    from benchbench.suite.dataset_identity import DataIdentity

size_option = click.option(
    "--size",
    type=click.IntRange(min=16),
    default=84,
    show_default=True,
    help="Of the frames, pixels; for an id. A suite says its own.",
)


@click.group()
def data() -> None:
    """List, prepare, check and show data sets.

    A data set is made or drawn once and kept in ~/.cache/benchbench, or where BENCHBENCH_DATA says.

    \b
    benchbench data list    suites/pixel_d4rl.yaml   what a suite needs, and what is here
    benchbench data prepare hopper-medium-v2         get it, draw its frames, check it
    benchbench data show    hopper-medium-v2         look at it
    benchbench data rate    suites/quickstart.yaml   what its pictures leave to learn
    """


@data.command("list")
@click.argument("suite", required=False, type=click.Path(path_type=Path))
@set_option
def list_(suite: Path | None, overrides: tuple[str, ...]) -> None:
    """List what SUITE needs, or every environment: here or not, its size, where it comes from.

    Without SUITE, a set counts as here in whatever size of frames it was made.
    """
    from benchbench.cli.data_list import list_text

    identities = _of_suite(suite, overrides) if suite else None
    click.echo(list_text(identities))


@data.command()
@click.argument("target", metavar="SUITE|ID")
@set_option
@size_option
def prepare(target: str, overrides: tuple[str, ...], size: int) -> None:
    """Get the data of a suite or of one environment ready: fetch, make or draw, and check.

    What has to be downloaded is downloaded from its authors' own address. The same command again
    goes on where it was stopped.
    """
    from benchbench.cli.data_list import fetch
    from benchbench.data.store import is_here, open_dataset
    from benchbench.data.store import prepare as prepare_set
    from benchbench.launch.progress import DataProgress

    for identity in _targets(target, overrides, size):
        if is_here(identity):
            click.echo(f"{identity.label}: is here")
            continue
        fetch(identity)
        with DataProgress(f"data {identity.label}") as progress:
            folder = prepare_set(identity, progress)
        dataset = open_dataset(identity, verify=True)
        click.echo(f"{identity.label}: {len(dataset):,} rows in {folder}")


@data.command()
@click.argument("target", metavar="[ID]", required=False)
def verify(target: str | None) -> None:
    """Hash the files of every data set here again, or of one environment's.

    Exit code: 0 all are whole, 1 one is damaged; it is named with what to do.
    """
    from benchbench.data.catalogue import damage, sets_here

    found = [one for one in sets_here() if target is None or one.is_called(target)]
    if not found:
        _refuse_absent(target)
    damaged = 0
    for one in found:
        told = damage(one)
        damaged += told is not None
        state = click.style("damaged", fg="red") if told else click.style("whole  ", fg="green")
        click.echo(f"{state}  {told or f'{one.env}  {one.folder}'}")
    sys.exit(1 if damaged else 0)


@data.command()
@click.argument("suite", type=click.Path(path_type=Path))
@set_option
def rate(suite: Path, overrides: tuple[str, ...]) -> None:
    """Rate what the pictures of SUITE leave an encoder to learn; makes the data sets.

    R² of the state probe: of the untrained encoder, of one that is trained on the simulator's
    state, and the room between the two. Where that is under the suite's delta, nothing that trains
    an encoder can show there. Ratings are kept; 'plan' warns by them.
    """
    from benchbench.cli.data_list import rating_text

    text, all_rated = rating_text(load_suite(suite, overrides))
    click.echo(text)
    if not all_rated:
        raise UserError("not all environments could be rated; it says above why")


@data.command()
@click.argument("target", metavar="SUITE|ID")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the picture; by default the current one.",
)
def show(target: str, out: Path) -> None:
    """Print the card of each data set of SUITE or ID that is here, and draw it to a PNG.

    The picture has some frames of four episodes and the histogram of the returns. A second one
    shows frames under every preset and every part of pixels.distract.
    """
    from benchbench.cli.data_sheet import card_text, draw_presets, draw_sheet
    from benchbench.data.catalogue import sets_here
    from benchbench.data.store import open_folder, set_folder
    from benchbench.suite.pixels import key_of

    check_folder("--out", out)
    if is_suite(target):
        wanted = {set_folder(identity) for identity in _of_suite(Path(target), ())}
        found = [one for one in sets_here() if one.folder in wanted]
    else:
        found = [one for one in sets_here() if one.is_called(target)]
    if not found:
        _refuse_absent(target)
    for one in found:
        dataset = open_folder(one.folder)
        path = out / f"{one.folder.parent.name}-{one.key}.png"
        distracted = path.with_stem(f"{path.stem}-distracted")
        try:
            out.mkdir(parents=True, exist_ok=True)
            draw_sheet(dataset, path)
            draw_presets(dataset, key_of(one.env), distracted)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); see --out") from None
        places = {"folder": one.folder, "picture": path, "distracted": distracted}
        click.echo(card_text(dataset.card))
        click.echo("\n".join(f"{name:<20}{place}" for name, place in places.items()))


def _targets(target: str, overrides: tuple[str, ...], size: int) -> list[DataIdentity]:
    """The identities of a suite file's sets, or the one of an environment's own source."""
    if is_suite(target):
        return _of_suite(Path(target), overrides)
    from benchbench.suite.dataset_identity import DataIdentity

    try:
        return [DataIdentity.of(target, None, size)]
    except ValueError as error:
        raise UserError(f"{target}: {str(error).removeprefix('id: ')}") from None


def _of_suite(path: Path, overrides: tuple[str, ...]) -> list[DataIdentity]:
    cells = expand(load_suite(path, overrides))
    return list(dict.fromkeys(cell.data for cell in cells))


def _refuse_absent(target: str | None) -> None:
    named = f"of {target} " if target else ""
    raise UserError(f"no data set {named}is here; make one with 'benchbench data prepare SUITE|ID'")
