"""A data set's card: what its maker wrote about it, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchbench.core.files import from_json

CARD = "card.json"
FILES = ("transitions.hdf5", "frames.npy")

_MAZE_STATE = ("x", "y", "vx", "vy")
"""Keys of the first cards, when mazes were the only environments."""


class _Identity(BaseModel):
    env: str
    source: dict[str, Any]
    size: int
    camera: str


class _File(BaseModel):
    sha256: str
    bytes: int


class _Returns(BaseModel):
    mean: float
    min: float
    max: float


class _Card(BaseModel):
    """What every card holds; sources add to it."""

    identity: _Identity
    transitions: int
    episodes: int
    returns: _Returns
    normalized_score_mean: float | None
    state_names: list[str]
    continuous: bool
    files: dict[str, _File]
    sha256: str
    versions: dict[str, str]


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a set's folder. Raises ``OSError``, or ``ValueError`` where it is no card."""
    card = from_json((folder / CARD).read_text(encoding="utf-8"))
    if not isinstance(card, dict):
        raise ValueError("no card")
    card.setdefault("state_names", list(_MAZE_STATE))
    _Card.model_validate(card | {"returns": card.get("return")}, strict=True)
    if set(card["files"]) != set(FILES):
        raise ValueError("of other files")
    return card
