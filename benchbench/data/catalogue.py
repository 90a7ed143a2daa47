"""The data sets on this machine: finding them by name, verifying their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbench.core.folders import cache_folder, file_sha256
from benchbench.data.card import CARD, FILES, read_card


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
