"""What data there are, getting what is lacking, and what their pictures leave to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from benchbench.core.errors import UserError
from benchbench.core.files import SILENT_SECONDS, cache_folder
from benchbench.core.text import NONE, number, plain_table
from benchbench.data.catalogue import SetHere, damage, sets_here
from benchbench.data.sources import maker_of
from benchbench.data.store import (
    format_bytes,
    is_here,
    lacking,
    open_dataset,
    prepare,
    room_for,
    set_folder,
)
from benchbench.launch.progress import DataProgress
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import KNOWN_ENVS
from benchbench.suite.grid import Cell, expand
from benchbench.suite.model import Suite

if TYPE_CHECKING:
    from benchbench.diagnostics.reference_encoder import Rating

_SIZE = 84
"""Of the frames, where it is only asked whether a set could be made."""


def list_text(identities: Sequence[DataIdentity] | None) -> str:
    """A line for each set; without ``identities`` one for each known environment, or set of it.

    Below them, for those of ``identities`` that can be neither opened nor made, what to do.
    """
    here = {one.folder: one for one in sets_here()}
    rows: list[_Row] = []
    if identities is not None:
        for identity in identities:
            made = here.get(set_folder(identity))
            rows.append(_made(made) if made else _not_made(identity))
    else:
        for env in KNOWN_ENVS:
            of_env = [_made(one) for one in here.values() if one.env == env]
            rows += of_env or [_not_made(DataIdentity.of(env, None, _SIZE))]
        rows += [_made(one) for one in here.values() if one.env not in set(KNOWN_ENVS)]
    header = _Row("environment", "state", "size", "where from")
    widths = [max(len(row[:3][i]) for row in (header, *rows)) for i in range(3)]
    lines = [
        "  ".join((*(text.ljust(w) for text, w in zip(row[:3], widths, strict=True)), row.origin))
        for row in (header, *rows)
    ]
    told = dict.fromkeys(row.cure for row in rows if row.cure) if identities is not None else ()
    return "\n".join([*lines, "", f"data folder  {cache_folder()}", *told])


def fetch(identity: DataIdentity) -> None:
    """Get what the set is lacking, with a bar. Raises ``UserError``."""
    maker = maker_of(identity)
    if maker.lacking(identity) is not None:
        with DataProgress(f"fetch {identity.env}", unit="B") as progress:
            maker.fetch(identity, progress)


class _Row(NamedTuple):
    """A line of the list."""

    env: str
    state: str
    size: str
    origin: str
    cure: str | None = None


def _made(one: SetHere) -> _Row:
    if not one.is_readable:
        return _Row(one.env, "damaged", format_bytes(one.bytes), f"key {one.key}", damage(one))
    identity = one.card["identity"]
    seed = identity["source"].get("seed")
    return _Row(
        f"{one.env} seed {seed}" if seed else one.env,
        "here",
        format_bytes(one.bytes),
        f"source {identity['source']['source']}; {identity['size']} pixels, key {one.key}",
    )


def _not_made(identity: DataIdentity) -> _Row:
    maker = maker_of(identity)
    origin, lacking = maker.origin(identity), maker.lacking(identity)
    if lacking is not None:
        return _Row(identity.label, "missing", "", origin, lacking)
    try:
        size = format_bytes(room_for(identity, maker.count(identity)))
    except UserError as error:  # a file of its source is damaged
        return _Row(identity.label, "damaged", "", origin, error.message)
    return _Row(identity.label, "can be made", size, f"{origin}; in {identity.size} pixels")


RATING_HEADER = ("environment", "distractions", "untrained", "trained on the state", "room", "")


def rating_text(suite: Suite) -> tuple[str, bool]:
    """A line for each environment, and what is wrong with those that leave no room.

    Also whether all could be rated that the suite does not call optional.
    """
    import torch

    from benchbench.diagnostics.reference_encoder import oracle_identity, rate
    from benchbench.launch.plan import no_room

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    optional = {env.id for env in suite.envs if env.when == "available"}
    rows, told, all_rated = [], [], True
    kinds = {str(oracle_identity(cell)): cell for cell in expand(suite)}
    updates = [cell.diagnose.oracle_updates for cell in kinds.values()]
    with tqdm(
        total=sum(updates),
        unit="update",
        dynamic_ncols=True,
        delay=SILENT_SECONDS,
        leave=False,
        disable=None,
    ) as bar:

        def count() -> None:
            bar.update()

        for done, cell in enumerate(kinds.values(), 1):
            bar.set_description(cell.env, refresh=False)
            try:
                if cell.env in optional and (missing := lacking(cell.data)):
                    raise UserError(missing)
                if not is_here(cell.data):
                    fetch(cell.data)
                    with DataProgress(f"data {cell.env}") as progress:
                        prepare(cell.data, progress)
                rating = rate(cell, open_dataset(cell.data), device, count)
            except UserError as error:
                rows.append(
                    [cell.env, _distractions(cell), NONE, NONE, NONE, "not rated: see below"]
                )
                told.append(error.message)
                all_rated &= cell.env in optional
            else:
                warning = no_room(cell, rating, suite.deltas.r2) if rating else None
                told += [warning] if warning else []
                rows.append([cell.env, _distractions(cell), *_numbers(rating, bool(warning))])
            bar.update(sum(updates[:done]) - bar.n)
    return "\n".join([plain_table(RATING_HEADER, rows), *told]), all_rated


def _distractions(cell: Cell) -> str:
    parts = cell.pixels.distract.identity() if cell.pixels.distract else {}
    named = [f"{name} {part['strength']:g}" for name, part in parts.items() if name != "seed"]
    return ", ".join(named) or NONE


def _numbers(rating: Rating | None, warned: bool) -> list[str]:
    if rating is None:
        why = "no pixels, no state, too few episodes, or diagnose.oracle_updates: 0"
        return [NONE, NONE, NONE, f"cannot be rated: {why}"]
    three = (rating.untrained, rating.trained, rating.room)
    found = [NONE if value is None else number(value, "R²") for value in three]
    return [*found, "no room" if warned else ""]
