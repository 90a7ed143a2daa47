"""Which of a grid's cells have their data here, or can have them made here."""

from __future__ import annotations

from benchbench.core.errors import UserError
from benchbench.data.store import lacking
from benchbench.results.store import Store
from benchbench.suite.grid import Grid


def leave_out_unavailable(grid: Grid, store: Store) -> Grid:
    """The grid without the environments whose data are missing and that say ``when: available``.

    Raises :class:`UserError` where the data of another wanted environment are missing, or where
    nothing wanted is left.
    """
    optional = {env.id for env in grid.suite.envs if env.when == "available"}
    needed = {cell.env for cell in grid.wanted}
    why: dict[str, str] = {}
    for identity in dict.fromkeys(c.data for c in grid.cells if not store.is_done(c.key)):
        missing = lacking(identity)
        if missing is not None and identity.env in optional:
            why[identity.env] = missing
        elif missing is not None and identity.env in needed:
            raise UserError(
                f"{missing}; or write 'when: available' for {identity.env}, to run without it"
            )
    left = grid.without(why, store)
    if grid.wanted and not left.wanted:
        raise UserError("no environment of the suite has its data here: " + "; ".join(why.values()))
    return left
