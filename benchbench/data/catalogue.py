"""The data sets on this machine: finding them by what a person calls them, checking their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbench.data.draft import CARD, FILES
from benchbench.data.places import cache_folder, file_sha256


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
    def bytes(self) -> int:
        """What its files take on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is its environment's id or its key."""
        return name in (self.env, self.key)


def sets_here() -> Iterator[SetHere]:
    """Every set in the data folder, by environment and key."""
    for path in sorted(cache_folder().glob(f"*/[!.]*/{CARD}")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            found = SetHere(path.parent, card)
            assert found.env
        except (OSError, ValueError, KeyError, TypeError, AssertionError):
            card = {"identity": {"env": path.parent.parent.name}, "unreadable": True}
            found = SetHere(path.parent, card)
        yield found


def damage(found: SetHere) -> str | None:
    """What is wrong with a set's bytes, with the file and the cure; None if nothing is."""
    cure = f"delete the folder {found.folder} and run 'benchbench data prepare {found.env}'"
    if "unreadable" in found.card:
        return f"{found.folder / CARD}: cannot be read; {cure}"
    for name in FILES:
        path = found.folder / name
        try:
            fits = file_sha256(path) == found.card["files"][name]["sha256"]
        except OSError as error:
            return f"{path}: {error.strerror}; {cure}"
        except (KeyError, TypeError):
            return f"{found.folder / CARD}: says nothing of {name}; {cure}"
        if not fits:
            return f"{path}: has other bytes than its card says; {cure}"
    return None
