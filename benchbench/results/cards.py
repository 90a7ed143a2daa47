"""Cards of the data sets and pictures of the tasks, beside a suite's results.

``tasks/<data key>.json`` and ``.png``, where distractions lie over the frames
``-<environment>.png`` too; films are ``films/<key>.json`` and ``.gif``. They are only shown:
nothing is computed from them, and a results folder without them is complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchbench.core.files import from_json, write_text


@dataclass(frozen=True)
class TaskCard:
    """What a report says of a task's data set."""

    env: str
    source: str
    rows: int
    episodes: int
    actions: int
    size: int
    return_mean: float
    key: str
    sha256: str

    @property
    def picture(self) -> str:
        """The strip of frames, beside the results."""
        return f"tasks/{self.key}.png"


def card_path(folder: Path, key: str) -> Path:
    """Where the card of a data set is."""
    return folder / "tasks" / f"{key}.json"


def laid_picture(key: str, stratum: str) -> str:
    """The strip of a data set's frames as an environment under a condition shows them."""
    return f"tasks/{key}-{re.sub(r'[^A-Za-z0-9.-]+', '_', stratum)}.png"


def write_card(folder: Path, card: TaskCard) -> None:
    """Write the card; its picture is written where the frames are."""
    path = card_path(folder, card.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(card), indent=1) + "\n")


def read_cards(folder: Path) -> list[TaskCard]:
    """All cards there are that can be read."""
    found = []
    for path in sorted((folder / "tasks").glob("*.json")):
        try:
            found.append(TaskCard(**from_json(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue  # of a later version, or not ours
    return found


def films(folder: Path) -> Iterator[tuple[str, str, int, list[str]]]:
    """The films there are: path beside the results, environment, seed and variants."""
    for path in sorted((folder / "films").glob("*.json")):
        try:
            told = from_json(path.read_text(encoding="utf-8"))
            film = path.with_suffix(".gif")
            if film.is_file():
                yield (f"films/{film.name}", str(told["env"]), int(told["seed"]),
                       [str(v) for v in told["variants"]])  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            continue
