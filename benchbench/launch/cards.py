"""Pictures and cards of the tasks, put beside a suite's results where their data are here."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import imageio.v3 as imageio
import numpy as np

from benchbench.core.errors import UserError
from benchbench.core.files import replaced
from benchbench.data.store import Dataset, is_here, open_dataset
from benchbench.results.cards import TaskCard, card_path, write_card
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)

SHOWN = 6
"""Frames of an episode on a task's picture."""

TALL = 96
"""A picture is enlarged to at least this many pixels of height."""


def keep_cards(store: Store, cells: Sequence[Cell]) -> None:
    """Write what is missing of the cards of the cells' data sets.

    Nothing is computed from cards, so a missing or damaged set has none, and a full disk is not
    reported here.
    """
    for identity in dict.fromkeys(c.data for c in cells if c.seed == cells[0].seed):
        try:
            if card_path(store.folder, identity.key).exists() or not is_here(identity):
                continue
            dataset = open_dataset(identity)
            card = TaskCard(
                env=identity.env,
                source=identity.source.source,
                rows=len(dataset),
                episodes=int(dataset.card["episodes"]),
                actions=dataset.actions.shape[1],
                size=identity.size,
                return_mean=float(dataset.card["return"]["mean"]),
                key=identity.key,
                sha256=dataset.sha256,
            )
            with replaced(store.folder / card.picture) as file:
                file.write(imageio.imwrite("<bytes>", strip(dataset), extension=".png"))
            write_card(store.folder, card)
        except (OSError, UserError) as error:
            log.info("no picture of %s: %s", identity.env, error)


def strip(dataset: Dataset) -> np.ndarray:
    """Frames of the first episode, side by side, enlarged: (H, W, 3) uint8."""
    ends = np.flatnonzero(dataset.episode_ends)
    last = int(ends[0]) if len(ends) else len(dataset) - 1
    rows = np.unique(np.linspace(0, last, SHOWN).astype(int))
    size = dataset.frames.shape[1]
    gap = np.full((size, max(1, size // 32), 3), 255, np.uint8)
    pieces = [piece for row in rows for piece in (np.asarray(dataset.frames[row]), gap)][:-1]
    return enlarged(np.concatenate(pieces, axis=1), TALL)


def enlarged(image: np.ndarray, tall: int) -> np.ndarray:
    """The image with every pixel a block, at least ``tall`` pixels high."""
    times = max(1, -(-tall // image.shape[0]))
    return image.repeat(times, axis=0).repeat(times, axis=1)
