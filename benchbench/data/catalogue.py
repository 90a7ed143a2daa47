"""The data sets on this machine: their cards, finding them by name, verifying their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchbench.core.files import cache_folder, file_sha256, from_json

CARD = "card.json"
FILES = ("transitions.hdf5", "frames.npy")

_MAZE_STATE = ("x", "y", "vx", "vy")
"""Keys of the first cards, when mazes were the only environments."""


class _Source(BaseModel):
    source: str


class _Identity(BaseModel):
    env: str
    source: _Source
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


@dataclass(frozen=True)
class SetHere:
    """A data set that is made."""

    folder: Path
    card: dict[str, Any]

    @property
    def env(self) -> str:
        """The environment's id."""
        return str(self.card["identity"]["env"])

    @property
    def key(self) -> str:
        """The key of its identity."""
        return self.folder.name

    @property
    def is_readable(self) -> bool:
        """Whether its card says what it is."""
        return "unreadable" not in self.card

    @property
    def bytes(self) -> int:
        """What its files take on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is its environment's id or its key."""
        return name in (self.env, self.key)


def sets_here() -> Iterator[SetHere]:
    """Every set in the data folder, by environment and key."""
    for folder in sorted(cache_folder().glob(f"*/{'[0-9a-f]' * 12}/")):
        try:
            card = read_card(folder)
        except (OSError, ValueError):
            card = {"identity": {"env": folder.parent.name}, "unreadable": True}
        yield SetHere(folder, card)


def damage(found: SetHere) -> str | None:
    """What is wrong with a set's bytes, with the file and the cure; None if nothing is."""
    cure = f"delete the folder {found.folder} and run 'benchbench data prepare {found.env}'"
    if not found.is_readable:
        return f"{found.folder / CARD}: is missing or cannot be read; {cure}"
    for name in FILES:
        path = found.folder / name
        try:
            fits = file_sha256(path) == found.card["files"][name]["sha256"]
        except OSError as error:
            return f"{path}: {error.strerror}; {cure}"
        if not fits:
            return f"{path}: has other bytes than its card says; {cure}"
    return None
