"""Checks, before a grid's first cell starts, that its data allow the measures."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from benchbench.core.errors import UserError
from benchbench.data.returns import known, why_unknown
from benchbench.data.store import Dataset, open_dataset, split_episodes
from benchbench.diagnostics.features import moving
from benchbench.diagnostics.reference_encoder import HALVED
from benchbench.envs import imaged_columns, proprio_columns
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)

FITTED, SCORED = 2, 1
"""The fewest episodes that probes are fitted on, and the fewest held-out ones for their score."""


def refuse_unmeasurable(cells: Sequence[Cell]) -> None:
    """Raise :class:`UserError` where a cell's data hold no reward, or too few returns to probe for.

    Also where a data set is damaged, or lacks the states or the ``proprio`` that the agent sees.
    The sets must be on this machine.
    """
    asked = {
        (
            c.data,
            c.agent.discount,
            c.agent.algorithm,
            c.diagnose,
            c.seed,
            c.proprio,
            c.observation,
        ): c
        for c in cells
    }
    seen: set[DataIdentity] = set()
    opened: dict[tuple[DataIdentity, float], tuple[Dataset, np.ndarray]] = {}
    for cell in asked.values():
        identity, discount = cell.data, cell.agent.discount
        if (identity, discount) not in opened:
            dataset = open_dataset(identity)
            opened[identity, discount] = dataset, known(dataset, discount)
        dataset, is_known = opened[identity, discount]
        proprio_columns(cell.env, cell.proprio, dataset.state_names)
        if cell.observation == "state" and not dataset.state_names:
            raise UserError(
                f"{cell.env}: observation: state, but the data have no states; add 'states' to the "
                "file, or take observation: pixels"
            )
        if identity not in seen:
            seen.add(identity)
            _name_still(cell, dataset)
        try:
            split = split_episodes(dataset, cell.diagnose.holdout, cell.stream("holdout"))
        except UserError as error:
            raise UserError(f"{identity.env}: {error}") from None
        if not dataset.rewards[split[0]].any():
            if cell.agent.algorithm == "cloning":
                continue
            raise UserError(
                f"{identity.env}: the training episodes hold no reward, so there is nothing to "
                "learn from; take other data or more, or imitate it (agent: {algorithm: cloning})"
            )
        held_out = len(np.unique(dataset.episode[split[1][is_known[split[1]]]]))
        if cell.diagnose.probe_on == "held-out" and held_out < HALVED:
            raise UserError(
                f"{identity.env}: diagnose.probe_on: held-out needs {HALVED} held-out episodes "
                f"whose returns are known, and there are {held_out}; raise diagnose.holdout, or "
                "take more data"
            )
        for rows, needed in zip(split, (FITTED, SCORED), strict=True):
            if len(np.unique(dataset.episode[rows[is_known[rows]]])) < needed:
                raise UserError(why_unknown(identity.env, dataset, discount))


def _name_still(cell: Cell, dataset: Dataset) -> None:
    """Say which columns of the states no probe is fitted to."""
    columns = imaged_columns(cell.env, cell.proprio, dataset.state_names)
    kept = set(moving(columns, dataset.states, dataset.episode))
    if still := [dataset.state_names[c] for c in columns if c not in kept]:
        log.warning(
            "%s: the state probes leave out %s, which never change within an episode",
            cell.env,
            ", ".join(still),
        )
