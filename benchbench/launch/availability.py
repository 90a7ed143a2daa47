"""Which of a grid's cells have their data here, or can have them made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchbench.core.errors import UserError
from benchbench.data.store import lacking
from benchbench.results.store import Store
from benchbench.suite.grid import Cell
from benchbench.suite.model import Suite


def leave_out(
    suite: Suite, cells: Sequence[Cell], wanted: Sequence[Cell], store: Store
) -> dict[str, str]:
    """Why each environment with ``when: available`` whose data are missing has to be left out.

    Raises :class:`UserError` where the data of another environment are missing and its cells
    wanted, or where nothing wanted is left.
    """
    optional = {env.id for env in suite.envs if env.when == "available"}
    needed = {cell.env for cell in wanted}
    why: dict[str, str] = {}
    for identity in dict.fromkeys(c.data for c in cells if not store.is_done(c.key)):
        missing = lacking(identity)
        if missing is not None and identity.env in optional:
            why[identity.env] = missing
        elif missing is not None and identity.env in needed:
            raise UserError(
                f"{missing}; or write 'when: available' for {identity.env}, to run without it"
            )
    if wanted and not without(wanted, why, store):
        raise UserError("no environment of the suite has its data here: " + "; ".join(why.values()))
    return why


def without(cells: Sequence[Cell], left_out: Mapping[str, str], store: Store) -> list[Cell]:
    """The cells but those of left-out environments; what is done stays."""
    return [cell for cell in cells if cell.env not in left_out or store.is_done(cell.key)]


def left_out_lines(left_out: Mapping[str, str]) -> list[str]:
    """A line for each left-out environment."""
    return [f"left out {env}: {why}" for env, why in left_out.items()]
