"""A data set to look at: some of its frames, how its returns are spread, and its card as a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchbench.data.format import episode_returns
from benchbench.data.store import Dataset
from benchbench.report.style import style

EPISODES, STEPS = 4, 8
"""Rows and columns of the contact sheet."""


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
        figure.savefig(path, dpi=150)


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
