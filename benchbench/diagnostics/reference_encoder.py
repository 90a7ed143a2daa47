"""The reference encoder's state probe, computed once and kept beside the data sets.

The reference has the same architecture as a cell's encoder but is trained on nothing but the
simulator's state, through the same bottleneck, and read by the same ridge probe. It bounds what
features can hold: an encoder is placed between an untrained one and this one.

It depends on the data, the frames and the encoder only, so all variants and seeds of a suite
share it: ``<data folder>/<environment>/oracle-<key>.json``. The first cell makes it before it
trains, under a lock, while the others train; they wait for it at their ends if it is not published
yet, by a rename. If the folder cannot be written, each cell computes its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.nn import functional as F

from benchbench.agent.networks import PixelEncoder, make_encoder
from benchbench.core.files import cache_folder, from_json, write_text
from benchbench.data.sampler import Sampler
from benchbench.data.store import Dataset, halve_episodes, split_episodes
from benchbench.diagnostics.features import encode, moving, probe_r2
from benchbench.diagnostics.held_out import mean_r2
from benchbench.envs import imaged_columns
from benchbench.envs.distraction import data_layer
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)

BATCH_SIZE = 64
LEARNING_RATE = 1e-3

VERSION = 1
"""Raised when the same settings would give another reference."""

LEAST_EPISODES = 10
"""Fewer than these cannot be divided: some to train on, some to fit the probe on, some held out."""

HALVED = 4
"""The fewest held-out episodes that probes are both fitted and scored on, two each."""


def oracle_state_r2(
    cell: Cell,
    dataset: Dataset,
    device: torch.device,
    on_alive: Callable[[], None] = lambda: None,
    *,
    wait: bool = True,
) -> float | None:
    """State-probe R² of the cell's encoder trained on the state, over what only the image tells.

    ``on_alive`` is called while it is made or waited for. None without pixels, where
    ``oracle_updates`` is 0, where the data has too few episodes, or where proprioception tells the
    whole state; and without ``wait`` while another process makes it.
    """
    found = rate(cell, dataset, device, on_alive, wait=wait)
    return found.trained if found else None


@dataclass(frozen=True)
class Rating:
    """R² of the state probe without and with training: what a task's pictures leave to learn.

    Over the columns that only the image shows, on held-out episodes; None where they do not vary.
    """

    untrained: float | None
    trained: float | None
    """Of the encoder that was trained on the state."""

    @property
    def room(self) -> float:
        """How far training can lift the probe; NaN where that is not known."""
        if self.untrained is None or self.trained is None:
            return math.nan
        return self.trained - self.untrained


def rate(
    cell: Cell,
    dataset: Dataset,
    device: torch.device,
    on_alive: Callable[[], None] = lambda: None,
    *,
    wait: bool = True,
) -> Rating | None:
    """Rate the cell's pictures, or look up how they were rated; None as :func:`oracle_state_r2`."""
    if not _can_be_rated(cell) or not imaged_columns(cell.env, cell.proprio, dataset.state_names):
        return None
    if not _has_enough_episodes(cell, dataset):
        return None
    identity = oracle_identity(cell)
    path = _path(cell, identity)
    stored = _read(path, identity)
    if stored is not None:
        return stored
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        if not _acquire(lock, on_alive, wait):
            return None
    except OSError:
        return _rating(_make(identity, cell, dataset, device, on_alive))
    try:
        stored = _read(path, identity)
        if stored is None:
            made = _make(identity, cell, dataset, device, on_alive)
            stored = _rating(made)
            with contextlib.suppress(OSError):
                write_text(path, json.dumps(made, indent=1) + "\n")
    finally:
        lock.release()
    return stored


def _has_enough_episodes(cell: Cell, dataset: Dataset) -> bool:
    """Whether they can be divided: to train on, to fit the probe on, and to score it on."""
    count = int(dataset.episode[-1]) + 1
    held_out = round(cell.diagnose.holdout * count)
    return count >= LEAST_EPISODES and (cell.diagnose.probe_on != "held-out" or held_out >= HALVED)


def stored_rating(cell: Cell) -> Rating | None:
    """How the cell's pictures were rated on this machine; None where they were not yet."""
    if not _can_be_rated(cell):
        return None
    identity = oracle_identity(cell)
    return _read(_path(cell, identity), identity)


def missing_reference(cell: Cell) -> Path | None:
    """Where the cell's reference would be kept, if it has one that was not made on this machine."""
    if not _can_be_rated(cell) or stored_rating(cell):
        return None
    return _path(cell, oracle_identity(cell))


def _can_be_rated(cell: Cell) -> bool:
    return cell.observation == "pixels" and cell.diagnose.oracle_updates > 0


def _path(cell: Cell, identity: dict[str, Any]) -> Path:
    return cache_folder() / cell.data.folder / f"oracle-{_key(identity)}.json"


def _rating(stored: dict[str, Any]) -> Rating:
    return Rating(stored["untrained_state_r2"], stored["state_r2"])


def oracle_identity(cell: Cell) -> dict[str, Any]:
    """All that the reference depends on, as plain JSON values; neither variant nor seed."""
    probes = {} if cell.diagnose.probe_on == "training" else {"probe_on": cell.diagnose.probe_on}
    distract = cell.pixels.identity().get("distract")
    distracted = {"distract": distract, "pictures": dict(cell.pictures)} if distract else {}
    return probes | {
        "version": VERSION,
        "data": cell.data.settings(),
        "proprio": list(cell.proprio),
        "stack": cell.pixels.stack,
        "spacing": cell.pixels.spacing,
        "centre": cell.pixels.centre,
        "encoder": cell.agent.encoder,
        "feature_dim": cell.agent.feature_dim,
        "holdout": cell.diagnose.holdout,
        "probe_frames": cell.diagnose.probe_frames,
        "updates": cell.diagnose.oracle_updates,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        **distracted,
    }


def _key(identity: dict[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _acquire(lock: FileLock, on_alive: Callable[[], None], wait: bool) -> bool:
    """Whether the lock is this process's now; without ``wait`` it may not be."""
    while True:
        on_alive()
        try:
            lock.acquire(timeout=1 if wait else 0)
        except Timeout:
            if not wait:
                return False
            continue
        return True


def _make(
    identity: dict[str, Any],
    cell: Cell,
    dataset: Dataset,
    device: torch.device,
    on_alive: Callable[[], None],
) -> dict[str, Any]:
    """Train and probe the reference; all its random streams come from its own key."""
    updates = cell.diagnose.oracle_updates
    log.info("training the encoder's reference on the state: %d updates", updates)
    seed = int(_key(identity)[:7], 16)
    rng = np.random.default_rng(seed)
    known, held_out = split_episodes(dataset, cell.diagnose.holdout, seed)
    # An encoder encodes its training frames better than any others: velocities, which a single
    # frame does not show, it memorises. A probe fitted there would rely on that.
    if cell.diagnose.probe_on == "held-out":
        train, (held_out, fresh) = known, halve_episodes(dataset, held_out, rng)
    else:
        train, fresh = halve_episodes(dataset, known, rng)
    sampler = Sampler(
        dataset,
        # All rows: they set z-scores and the mean image only, and rewards are not used.
        np.arange(len(dataset)),
        observation="pixels",
        proprio=(),
        batch_size=BATCH_SIZE,
        stack=cell.pixels.stack,
        spacing=cell.pixels.spacing,
        n_step=1,
        discount=cell.agent.discount,
        seed=seed,
        device=device,
        layer=data_layer(cell, device),
    )
    train, fresh, held_out = (sampler.transitions(rows) for rows in (train, fresh, held_out))
    imaged = imaged_columns(cell.env, cell.proprio, dataset.state_names)
    imaged = moving(imaged, dataset.states, dataset.episode)
    states = sampler.state_normalizer.normalize(dataset.states)[:, imaged]
    fit, score = (
        np.sort(rng.choice(rows, min(cell.diagnose.probe_frames, len(rows)), replace=False))
        for rows in (fresh, held_out)
    )

    whole = cell.diagnose.probe_on == "held-out"
    variance = states.astype(np.float64).var(axis=0) if whole else None

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        on_alive()
        rows = rng.choice(train, BATCH_SIZE)
        return sampler.batch(rows).obs, torch.from_numpy(states[rows]).to(device)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        encoder = make_encoder(
            cell.agent.encoder,
            3 * cell.pixels.stack,
            cell.pixels.size,
            cell.agent.feature_dim,
            sampler.mean_image() if cell.pixels.centre else None,
        ).to(device)

        def by_state() -> np.ndarray:
            features, new = (encode(encoder, sampler.batch(rows).obs)[0] for rows in (fit, score))
            return probe_r2(
                features, states[fit], dataset.episode[fit], new, states[score], variance
            )

        untrained = by_state()
        train_on_state(encoder, cell.agent.feature_dim, states.shape[1], draw, updates)
        trained = by_state()
    return {
        "identity": identity,
        "state_r2": mean_r2(trained),
        "untrained_state_r2": mean_r2(untrained),
        "by_state": {
            dataset.state_names[column]: mean_r2(r2[None])
            for column, r2 in zip(imaged, trained, strict=True)
        },
    }


def _read(path: Path, identity: dict[str, Any]) -> Rating | None:
    """What is kept for this identity; None where there is nothing whole."""
    try:
        stored = from_json(path.read_text(encoding="utf-8"))
        return _rating(stored) if stored["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def train_on_state(
    encoder: PixelEncoder,
    feature_dim: int,
    state_dim: int,
    draw: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    updates: int,
) -> None:
    """Train the encoder, in place, to predict the z-scored state through one linear layer.

    ``draw`` gives a batch: frames uint8 (B, C, H, W) and states float32 (B, D). Mean squared error
    and Adam, for ``updates`` steps. Draws from torch's global stream: seed it around the call.
    """
    head = nn.Linear(feature_dim, state_dim).to(next(encoder.parameters()).device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=LEARNING_RATE)
    for _ in range(updates):
        obs_BCHW, state_BD = draw()
        optimizer.zero_grad()
        F.mse_loss(head(encoder(obs_BCHW)), state_BD).backward()
        optimizer.step()
