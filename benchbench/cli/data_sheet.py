"""A data set for people: some of its frames, the histogram of its returns, its card as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchbench.core.files import save_figure
from benchbench.data.format import episode_returns
from benchbench.data.store import Dataset
from benchbench.envs.distraction import Distraction, Layer, stream_of
from benchbench.report.style import style
from benchbench.suite.pixels import PRESETS, DistractSettings, Key

EPISODES, STEPS = 4, 8
"""Rows and columns of the contact sheet."""

SPAN = 140
"""Steps of an episode that the sheet of distractions covers."""


def draw_sheet(dataset: Dataset, path: Path) -> None:
    """Write the contact sheet and the histogram of returns as a PNG.

    A row of pictures is an episode, evenly spaced from its first frame to its last.
    """
    ends = np.flatnonzero(dataset.episode_ends | (np.arange(len(dataset)) == len(dataset) - 1))
    starts = np.concatenate([[0], ends[:-1] + 1])
    chosen = np.unique(np.linspace(0, len(ends) - 1, EPISODES).round().astype(int))
    with style():
        figure = Figure(figsize=(STEPS, len(chosen) + 2.6), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=[len(chosen), 2.6])
        axes = grid[0].subgridspec(len(chosen), STEPS).subplots(squeeze=False)
        for line, episode in zip(axes, chosen, strict=True):
            rows = np.linspace(starts[episode], ends[episode], STEPS).round().astype(int)
            for ax, row in zip(line, rows, strict=True):
                ax.imshow(dataset.frames[row])
                ax.set_axis_off()
                step = row - starts[episode]
                ax.set_title(f"ep. {episode}, step {step}", fontsize=6)
        ax = figure.add_subplot(grid[1])
        ax.hist(episode_returns(dataset.rewards, dataset.episode_ends), bins=30)
        ax.set_xlabel("undiscounted return of an episode")
        ax.set_ylabel("episodes")
        save_figure(figure, path, dpi=150)


def draw_presets(dataset: Dataset, key: Key | None, path: Path) -> None:
    """Write a contact sheet of the distractions: a line of pictures for each preset and each part.

    Every line shows the same rows of one episode; distractions that this set's frames do not allow
    are left out.
    """
    end = int(np.flatnonzero(dataset.episode_ends)[0])
    rows = np.unique(np.linspace(0, min(end, SPAN), STEPS).round().astype(int))
    frames = np.array(dataset.frames[rows])
    shown = {"clean": frames}
    for name, settings in _SHOWN.items():
        distract = DistractSettings.model_validate(settings)
        if key is None and distract.background:
            distract = distract.model_copy(update={"background": None})
            name = f"{name}, without background"
        if distract.identity():
            layer = Layer(Distraction(distract, frames.shape[1], key), stream_of("sheet"))
            shown[name] = layer.lay(frames, [0] * len(rows), rows.tolist())
    with style():
        figure = Figure(figsize=(STEPS, 1.15 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), len(rows), squeeze=False)
        for line, (name, pictures) in zip(axes, shown.items(), strict=True):
            for ax, row, picture in zip(line, rows, pictures, strict=True):
                ax.imshow(picture)
                ax.set_axis_off()
                ax.set_title(f"step {row}" if row else name, fontsize=6)
        save_figure(figure, path, dpi=150)


_SHOWN: dict[str, dict[str, Any]] = {
    **{preset: {"preset": preset} for preset in PRESETS},
    "tint 0.4": {"tint": {"strength": 0.4}},
    "background 1": {"background": {"strength": 1}},
    "objects 0.6": {"objects": {"strength": 0.6}},
    "camera 0.3": {"camera": {"strength": 0.3}},
    "noise 0.1": {"noise": {"strength": 0.1}},
}


def card_text(card: dict[str, Any]) -> str:
    """The data card for the terminal."""
    identity, returns = card["identity"], card["return"]
    source = dict(identity["source"])
    stated = ", ".join(f"{key} {value}" for key, value in source.items() if key != "source")
    score = card["normalized_score_mean"]
    lines = [
        ("environment", identity["env"]),
        ("source", f"{source['source']}{f' ({stated})' if stated else ''}"),
        ("frames", f"{identity['size']} x {identity['size']} pixels, camera {identity['camera']}"),
        ("rows", f"{card['transitions']:,} in {card['episodes']:,} episodes"),
        (
            "return",
            f"mean {returns['mean']:.2f}, least {returns['min']:.2f}, most {returns['max']:.2f}"
            + ("" if score is None else f"; normalised mean {score:.1f}"),
        ),
        ("state", ", ".join(card["state_names"]) or "not known"),
        *(
            (f"part {part['policy']}", f"{part['transitions']:,} rows, mean return "
             f"{part['mean_return']:.2f}, normalised {part['normalized_score_mean']:.1f}")
            for part in card.get("parts", ())
        ),
        ("sha256", card["sha256"]),
        ("made with", ", ".join(f"{name} {version}" for name, version in card["versions"].items())),
    ]  # fmt: skip
    return "\n".join(f"{name:<20}{value}" for name, value in lines)
