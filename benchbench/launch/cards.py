"""Pictures and cards of the tasks, put beside a suite's results where their data are here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from benchbench.core.errors import UserError
from benchbench.core.files import replaced
from benchbench.data.store import Dataset, is_here, open_dataset
from benchbench.envs.distraction import Layer, data_layer
from benchbench.results.cards import TaskCard, card_path, laid_picture, write_card
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)

SHOWN = 6
"""Frames of an episode on a task's picture."""

TALL = 96
"""A picture is enlarged to at least this many pixels of height."""


def keep_cards(store: Store, cells: Sequence[Cell]) -> None:
    """Write what is missing of the cards of the cells' data sets, and of their distracted frames.

    Nothing is computed from cards, so a missing or damaged set has none, and a full disk is not
    reported here.
    """
    first = [cell for cell in cells if cell.seed == cells[0].seed]
    for identity in dict.fromkeys(cell.data for cell in first):
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
            _write(store.folder / card.picture, strip(dataset))
            write_card(store.folder, card)
        except (OSError, UserError) as error:
            log.info("no picture of %s: %s", identity.env, error)
    for cell in {cell.stratum: cell for cell in first}.values():
        path = store.folder / laid_picture(cell.data.key, cell.stratum)
        try:
            if path.exists() or not is_here(cell.data):
                continue
            if layer := data_layer(cell):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, strip(open_dataset(cell.data), layer))
        except (OSError, UserError) as error:
            log.info("no picture of %s: %s", cell.stratum, error)


def _write(path: Path, image: np.ndarray) -> None:
    with replaced(path) as file:
        file.write(imageio.imwrite("<bytes>", image, extension=".png"))


def strip(dataset: Dataset, layer: Layer | None = None) -> np.ndarray:
    """Frames of the first episode, under a ``layer``, side by side, enlarged: (H, W, 3) uint8."""
    ends = np.flatnonzero(dataset.episode_ends)
    last = int(ends[0]) if len(ends) else len(dataset) - 1
    rows = np.unique(np.linspace(0, last, SHOWN).astype(int))
    size = dataset.frames.shape[1]
    gap = np.full((size, max(1, size // 32), 3), 255, np.uint8)
    frames = np.stack([np.asarray(dataset.frames[row]) for row in rows])
    if layer:
        frames = layer.lay(frames, [0] * len(rows), [int(row) for row in rows])
    pieces = [piece for frame in frames for piece in (frame, gap)][:-1]
    return enlarged(np.concatenate(pieces, axis=1), TALL)


def enlarged(image: np.ndarray, tall: int) -> np.ndarray:
    """The image with every pixel a block, at least ``tall`` pixels high."""
    times = max(1, -(-tall // image.shape[0]))
    return image.repeat(times, axis=0).repeat(times, axis=1)
